//! `mezzo agent repair`: a sound store out of a damaged one.
//!
//! What is saved must make sense: a record that cannot be read, or that names another thing than its key
//! does, is left out. What can be told from other records is put together from them; an agent keeps its id.

use std::path::Path;

use mezzo_proto::internal::v1::LaunchPosition;
use mezzo_proto::storage::v1::{
    AgentIdentity, ContainerRecord, ExecutorRecord, LastLaunch, OperationRecord, ResourcesRecord,
    TaskRecord,
};
use mezzo_proto::v1;
use mezzo_store::{Records as Saved, RepairReport, Salvage, SalvageError};
use prost::Message;

use crate::checkpoint::{
    AGENT, CONTAINERS, EXECUTORS, IDENTITY, LAST_LAUNCH, OPERATIONS, RESOURCES, TASKS,
    executor_key, layout, name, store_path, task_key,
};

const FAMILIES: [&str; 5] = [AGENT, TASKS, CONTAINERS, OPERATIONS, EXECUTORS];

/// Looks at the records in `work_dir`, whose agent must not run, and replaces them by what can be saved if
/// `replace` is set and anything is damaged.
///
/// # Errors
/// There are no records, they are in use, or the new ones cannot be written; nothing is changed then.
pub fn repair(work_dir: &Path, replace: bool) -> Result<RepairReport, SalvageError> {
    let dir = store_path(work_dir);
    let mut salvage = Salvage::read(&dir, &layout())?;
    let mut report = RepairReport {
        damage: salvage.damage().to_vec(),
        dir: dir.clone(),
        ..RepairReport::default()
    };
    let mut saved =
        FAMILIES.map(|family| salvage.family(family).map(std::mem::take).unwrap_or_default());
    mend(&mut saved, &mut report);
    for (family, records) in FAMILIES.into_iter().zip(saved) {
        if let Some(place) = salvage.family(family) {
            *place = records;
        }
    }
    if replace && !report.is_sound() {
        report.replaced = Some(salvage.replace(&dir, &layout())?);
    }
    Ok(report)
}

/// Leaves out what makes no sense, and puts together what is missing.
fn mend(
    [agent, tasks, containers, operations, executors]: &mut [Saved; 5],
    report: &mut RepairReport,
) {
    let unreadable = |value: &Vec<u8>| ResourcesRecord::decode(value.as_slice()).is_err();
    if agent.get(RESOURCES).is_some_and(unreadable) {
        agent.remove(RESOURCES);
        report.lost.push("the record of the agent's reservations and volumes".to_owned());
        report.consequences.push(
            "the agent has none any more; the data of its volumes stays in `volumes` of the work \
             directory, for a human to save"
                .to_owned(),
        );
    }
    retain(operations, OPERATIONS, report, |key, value| {
        let record = OperationRecord::decode(value).ok()?;
        (*record.operation_uuid == *key).then_some(())
    });
    retain(tasks, TASKS, report, |key, value| {
        let record = TaskRecord::decode(value).ok()?;
        let framework = record.framework_info.as_ref()?.id.as_ref()?;
        let task = v1::TaskInfo::decode(record.task_info.as_ref()).ok()?.task_id;
        (task_key(&framework.into(), &(&task).into()) == key).then_some(())
    });
    retain(containers, CONTAINERS, report, |key, value| {
        let record = ContainerRecord::decode(value).ok()?;
        (record.container_id.as_bytes() == key).then_some(())
    });
    retain(executors, EXECUTORS, report, |key, value| {
        let record = ExecutorRecord::decode(value).ok()?;
        let framework = record.framework_info.as_ref()?.id.as_ref()?;
        let executor = record.executor_info.as_ref()?.executor_id.clone();
        (executor_key(&framework.into(), &executor.into()) == key).then_some(())
    });
    if report.lost.iter().any(|lost| lost.contains(EXECUTORS)) {
        report.consequences.push(
            "tasks of lost executors end (TASK_FAILED), and the agent ends what still runs of them"
                .to_owned(),
        );
    }
    if report.lost.iter().any(|lost| lost.contains(TASKS)) {
        report.consequences.push(
            "the master tells the frameworks of lost tasks that they are gone (TASK_GONE, or TASK_LOST), \
             and the agent ends what still runs of them"
                .to_owned(),
        );
    }
    let last_launch = agent.get(LAST_LAUNCH).map(|value| LastLaunch::decode(value.as_slice()));
    let last_launch = match last_launch {
        Some(Ok(last)) => last.position.unwrap_or_default(),
        found => {
            agent.remove(LAST_LAUNCH);
            if found.is_some() || !tasks.is_empty() {
                report.lost.push("the position of the last launch".to_owned());
                report.consequences.push(
                    "of lost tasks the master may say that they never ran (TASK_DROPPED)"
                        .to_owned(),
                );
            }
            LaunchPosition::default()
        }
    };
    let identity = agent.get(IDENTITY).map(|value| AgentIdentity::decode(value.as_slice()));
    let known = |identity: &AgentIdentity| identity.info.as_ref().is_some_and(|i| i.id.is_some());
    match identity {
        Some(Ok(identity)) if known(&identity) => {}
        found => {
            agent.remove(IDENTITY);
            if let Some(identity) = identity_of(tasks, containers, &last_launch) {
                let id =
                    identity.info.as_ref().and_then(|info| info.id.clone()).unwrap_or_default();
                agent.insert(IDENTITY.to_vec(), identity.encode_to_vec());
                report.lost.push(format!(
                    "the agent's identity, except its id '{}', which its tasks tell",
                    id.value
                ));
            } else if found.is_some() || !tasks.is_empty() {
                report.lost.push("the agent's identity".to_owned());
                report.consequences.push(
                    "the agent joins as a new one, and ends what still runs of its tasks; the master \
                     waits for the old one and then tells the frameworks that its tasks are unreachable"
                        .to_owned(),
                );
            }
        }
    }
    report.kept = vec![
        ("tasks", tasks.len()),
        ("containers", containers.len()),
        ("executors", executors.len()),
    ];
}

/// Keeps the records that `check` passes.
fn retain(
    records: &mut Saved,
    family: &str,
    report: &mut RepairReport,
    check: impl Fn(&[u8], &[u8]) -> Option<()>,
) {
    records.retain(|key, value| {
        let sound = check(key, value).is_some();
        if !sound {
            report.lost.push(format!("the record {}", name(family, key)));
        }
        sound
    });
}

/// Who the agent was: every status names it, and every container its boot.
fn identity_of(
    tasks: &Saved,
    containers: &Saved,
    last_launch: &LaunchPosition,
) -> Option<AgentIdentity> {
    let mut records = tasks.values().filter_map(|value| TaskRecord::decode(value.as_slice()).ok());
    let id = records.find_map(|record| {
        record.latest.and_then(|latest| latest.agent_id).or_else(|| {
            let info = v1::TaskInfo::decode(record.task_info.as_ref()).ok()?;
            Some(info.agent_id)
        })
    })?;
    let mut boots =
        containers.values().filter_map(|value| ContainerRecord::decode(value.as_slice()).ok());
    let info = v1::AgentInfo { id: Some(id), ..v1::AgentInfo::default() };
    Some(AgentIdentity {
        info: Some(info),
        boot_id: boots.next().map(|record| record.boot_id).unwrap_or_default(),
        highest_term: last_launch.term,
    })
}

#[cfg(test)]
mod tests {
    use mezzo_proto::storage::v1::task_record;
    use mezzo_store::{Batch, Store};

    use super::*;

    fn task(id: &str, container: &str) -> TaskRecord {
        let info = v1::TaskInfo {
            task_id: v1::TaskId { value: id.to_owned() },
            agent_id: v1::AgentId { value: "c-S7".to_owned() },
            ..v1::TaskInfo::default()
        };
        let framework = v1::FrameworkInfo {
            id: Some(v1::FrameworkId { value: "f".to_owned() }),
            ..v1::FrameworkInfo::default()
        };
        TaskRecord {
            framework_info: Some(framework),
            task_info: info.encode_to_vec().into(),
            container_id: container.to_owned(),
            phase: task_record::Phase::Running as i32,
            ..TaskRecord::default()
        }
    }

    fn fill(work_dir: &Path, batch: Batch) {
        let store = Store::open(store_path(work_dir), &layout()).expect("opens");
        store.write_and_sync(batch).expect("writes");
    }

    #[test]
    fn a_sound_store_is_left_alone() {
        let work = tempfile::tempdir().expect("a directory");
        assert!(matches!(repair(work.path(), true), Err(SalvageError::Nothing { .. })));
        fill(work.path(), Batch::new().put(TASKS, &b"f\0t"[..], task("t", "1").encode_to_vec()));
        // No identity was written yet, but it had to be there before any task.
        let first = repair(work.path(), true).expect("repairs");
        assert_eq!(first.lost.len(), 2, "{first}");
        let again = repair(work.path(), true).expect("looks");
        assert_eq!(again.kept, [("tasks", 1), ("containers", 0), ("executors", 0)]);
        assert!(again.replaced.is_none() || !again.is_sound(), "{again}");
    }

    #[test]
    fn what_makes_no_sense_is_left_out_and_the_id_is_kept() {
        let work = tempfile::tempdir().expect("a directory");
        let launch = LastLaunch { position: Some(LaunchPosition { term: 5, sequence: 2 }) };
        let container = ContainerRecord {
            container_id: "1".to_owned(),
            boot_id: "boot".to_owned(),
            ..ContainerRecord::default()
        };
        let batch = Batch::new()
            .put(AGENT, IDENTITY, &b"\xff\xff"[..])
            .put(AGENT, LAST_LAUNCH, launch.encode_to_vec())
            .put(TASKS, &b"f\0good"[..], task("good", "1").encode_to_vec())
            .put(TASKS, &b"f\0bad"[..], &b"\xff\xff"[..])
            .put(TASKS, &b"f\0other"[..], task("stranger", "2").encode_to_vec())
            .put(CONTAINERS, &b"1"[..], container.encode_to_vec());
        fill(work.path(), batch);
        let dry = repair(work.path(), false).expect("looks");
        assert!(dry.replaced.is_none());
        let report = repair(work.path(), true).expect("repairs");
        assert_eq!(report.lost, dry.lost);
        let text = report.to_string();
        for part in ["tasks/f/bad", "tasks/f/other", "'c-S7'", "TASK_GONE", "1 tasks, 1 containers"]
        {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
        assert!(report.replaced.is_some_and(|kept| kept.is_dir()));
        let store = Store::open(store_path(work.path()), &layout()).expect("opens");
        let identity = store.get(AGENT, IDENTITY).expect("reads").expect("is there");
        let identity = AgentIdentity::decode(identity.as_slice()).expect("decodes");
        assert_eq!((identity.highest_term, identity.boot_id.as_str()), (5, "boot"));
        assert_eq!(store.scan(TASKS, []).count(), 1);
    }
}
