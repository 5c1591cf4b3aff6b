//! `mezzo master repair`: a sound store out of a damaged one.
//!
//! What is saved must make sense: a record that cannot be read, or that names another thing than its key
//! does, is left out. The cluster keeps its identity, and no id or term is ever given out twice.

use std::path::Path;

use mezzo_proto::storage::v1::{
    AgentRecord, Counters, FrameworkRecord, OperationPlacement, Placement, PutMaintenance,
};
use mezzo_proto::v1::WeightInfo;
use mezzo_proto::v1::quota::QuotaConfig;
use mezzo_store::{Records, RepairReport, Salvage, SalvageError};
use prost::Message;

use crate::log::NODE_ID;
use crate::registry_store::{
    APPLIED_KEY, COUNTERS_KEY, MAINTENANCE_KEY, layout, placement_key, store_path,
};

/// Numbers that are skipped where the record of the counters is lost, beyond the highest that is known.
const IDS_SKIPPED: u64 = 1000;

/// Looks at the store in `work_dir`, whose master must not run, and replaces it by what can be saved if
/// `replace` is set and anything is damaged.
///
/// # Errors
/// There is no store, it is in use, or the new one cannot be written; nothing is changed then.
pub fn repair(work_dir: &Path, replace: bool) -> Result<RepairReport, SalvageError> {
    let dir = store_path(work_dir);
    let mut salvage = Salvage::read(&dir, &layout())?;
    let mut report = RepairReport {
        damage: salvage.damage().to_vec(),
        dir: dir.clone(),
        ..RepairReport::default()
    };
    let families = layout().families;
    let mut saved: Vec<Records> = families
        .iter()
        .map(|family| salvage.family(family).map(std::mem::take).unwrap_or_default())
        .collect();
    if let [agents, frameworks, placements, operations, weights, quotas, meta, state, entries] =
        saved.as_mut_slice()
    {
        mend_registry(agents, frameworks, placements, meta, &mut report);
        mend_orders(operations, weights, quotas, meta, &mut report);
        mend_log(meta, state, entries, &mut report);
        report.kept = vec![
            ("agents", agents.len()),
            ("frameworks", frameworks.len()),
            ("placed tasks", placements.len()),
            ("entries of the log", entries.len()),
        ];
    }
    for (family, records) in families.into_iter().zip(saved) {
        if let Some(place) = salvage.family(family) {
            *place = records;
        }
    }
    if replace && !report.is_sound() {
        report.replaced = Some(salvage.replace(&dir, &layout())?);
    }
    Ok(report)
}

fn mend_registry(
    agents: &mut Records,
    frameworks: &mut Records,
    placements: &mut Records,
    meta: &mut Records,
    report: &mut RepairReport,
) {
    let lost = retain(agents, "agent", report, |key, value| {
        let id = AgentRecord::decode(value).ok()?.info?.id?.value;
        (id.as_bytes() == key).then_some(())
    });
    if lost {
        report.consequences.push(
            "a lost agent that lives registers again and keeps its tasks; of one that never comes back \
             nobody is told"
                .to_owned(),
        );
    }
    let lost = retain(frameworks, "framework", report, |key, value| {
        let id = FrameworkRecord::decode(value).ok()?.info?.id?.value;
        (id.as_bytes() == key).then_some(())
    });
    if lost {
        report.consequences.push(
            "a lost framework that lives subscribes again with its id; until then its tasks are unknown"
                .to_owned(),
        );
    }
    let lost = retain(placements, "placed task", report, |key, value| {
        let record = Placement::decode(value).ok()?;
        (placement_key(&record.framework_id, &record.task_id) == key).then_some(())
    });
    if lost {
        report.consequences.push(
            "a lost task that runs is learned again from its agent; of others the frameworks hear when they reconcile"
                .to_owned(),
        );
    }
    let counters = meta.get(COUNTERS_KEY).map(|value| Counters::decode(value.as_slice()));
    if matches!(&counters, Some(Ok(counters)) if !counters.cluster_id.is_empty()) {
        return;
    }
    let found = counters.is_some();
    meta.remove(COUNTERS_KEY);
    if let Some(counters) = counters_of(agents, frameworks) {
        report.lost.push(format!(
            "the counters of ids: those of cluster '{}' go on far above the highest that is known",
            counters.cluster_id
        ));
        meta.insert(COUNTERS_KEY.to_vec(), counters.encode_to_vec());
    } else if found {
        report.lost.push("the identity of the cluster".to_owned());
        report.consequences.push(
            "the master founds a new cluster, which the agents of the old one refuse to join"
                .to_owned(),
        );
    }
}

/// What is in flight on agents, and what operators decided.
fn mend_orders(
    operations: &mut Records,
    weights: &mut Records,
    quotas: &mut Records,
    meta: &mut Records,
    report: &mut RepairReport,
) {
    let lost = retain(operations, "operation", report, |key, value| {
        (OperationPlacement::decode(value).ok()?.operation_uuid == key).then_some(())
    });
    if lost {
        report.consequences.push(
            "of a lost operation its agent says what became of the resources; its framework is not told"
                .to_owned(),
        );
    }
    let weights = retain(weights, "weight of role", report, |key, value| {
        (WeightInfo::decode(value).ok()?.role?.as_bytes() == key).then_some(())
    });
    let quotas = retain(quotas, "quota of role", report, |key, value| {
        (QuotaConfig::decode(value).ok()?.role.as_bytes() == key).then_some(())
    });
    let schedule = meta.get(MAINTENANCE_KEY);
    let schedule = schedule.is_some_and(|value| PutMaintenance::decode(value.as_slice()).is_err());
    if schedule {
        meta.remove(MAINTENANCE_KEY);
        report.lost.push("the maintenance schedule".to_owned());
    }
    if weights || quotas || schedule {
        report.consequences.push(
            "what is lost of weights, quotas and maintenance is to be set again by an operator"
                .to_owned(),
        );
    }
}

/// Keeps the records that `check` passes; whether any was lost.
fn retain(
    records: &mut Records,
    kind: &str,
    report: &mut RepairReport,
    check: impl Fn(&[u8], &[u8]) -> Option<()>,
) -> bool {
    let before = records.len();
    records.retain(|key, value| {
        let sound = check(key, value).is_some();
        if !sound {
            let key = String::from_utf8_lossy(key).replace('\0', "/");
            report.lost.push(format!("{kind} '{}'", key.escape_debug()));
        }
        sound
    });
    records.len() < before
}

/// Every id begins with the cluster's: `<cluster>-S<number>` an agent's, `<cluster>-<number>` a framework's.
fn counters_of(agents: &Records, frameworks: &Records) -> Option<Counters> {
    let mut counters = Counters::default();
    for key in agents.keys() {
        let Some((cluster, number)) = std::str::from_utf8(key).ok()?.rsplit_once("-S") else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else { continue };
        counters.cluster_id = cluster.to_owned();
        counters.next_agent = counters.next_agent.max(number);
    }
    for key in frameworks.keys() {
        let Some((cluster, number)) = std::str::from_utf8(key).ok()?.rsplit_once('-') else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else { continue };
        if counters.cluster_id.is_empty() {
            counters.cluster_id = cluster.to_owned();
        }
        counters.next_framework = counters.next_framework.max(number);
    }
    counters.next_agent += IDS_SKIPPED;
    counters.next_framework += IDS_SKIPPED;
    (!counters.cluster_id.is_empty()).then_some(counters)
}

fn mend_log(
    meta: &mut Records,
    state: &mut Records,
    entries: &mut Records,
    report: &mut RepairReport,
) {
    let nothing = meta.is_empty() && state.is_empty() && entries.is_empty();
    if nothing && report.damage.is_empty() {
        return;
    }
    let applied = meta.get(APPLIED_KEY).and_then(|value| value.as_slice().try_into().ok());
    // Before the first entry is applied there is no index.
    let applied = applied.map(u64::from_be_bytes).or(meta.is_empty().then_some(0));
    let (applied, lost) = mezzo_replicated_log::mend(state, entries, NODE_ID, applied);
    if applied > 0 {
        meta.insert(APPLIED_KEY.to_vec(), applied.to_be_bytes().to_vec());
    }
    report.lost.extend(lost);
}

#[cfg(test)]
mod tests {
    use mezzo_proto::v1;
    use mezzo_store::{Batch, Store};

    use super::*;
    use crate::registry_store::{
        AGENTS, META, OPERATIONS, PLACEMENTS, QUOTAS, RegistryStore, WEIGHTS,
    };

    fn agent(id: &str) -> Vec<u8> {
        let info = v1::AgentInfo {
            id: Some(v1::AgentId { value: id.to_owned() }),
            ..v1::AgentInfo::default()
        };
        AgentRecord { info: Some(info), ..AgentRecord::default() }.encode_to_vec()
    }

    async fn founded(work_dir: &Path) -> String {
        let store = RegistryStore::open(work_dir).expect("opens");
        let (leading, recovered) = crate::log::lead(store).await.expect("leads");
        leading.end().await;
        recovered.registry.counters.cluster_id
    }

    #[tokio::test]
    async fn a_sound_master_is_left_alone() {
        let work = tempfile::tempdir().expect("a directory");
        let cluster = founded(work.path()).await;
        let report = repair(work.path(), true).expect("looks");
        assert!(report.is_sound() && report.replaced.is_none(), "{report}");
        assert_eq!(founded(work.path()).await, cluster);
    }

    #[tokio::test]
    async fn the_cluster_keeps_its_identity_and_leads_on() {
        let work = tempfile::tempdir().expect("a directory");
        let cluster = founded(work.path()).await;
        {
            let store = Store::open(store_path(work.path()), &layout()).expect("opens");
            let id = format!("{cluster}-S3");
            let batch = Batch::new()
                .put(AGENTS, id.as_str(), agent(&id))
                .put(AGENTS, "bad", &b"\xff\xff"[..])
                .put(PLACEMENTS, &b"f\0t"[..], &b"\xff\xff"[..])
                .put(OPERATIONS, &[7; 16][..], &b"\xff\xff"[..])
                .put(WEIGHTS, "eng", &b"\xff\xff"[..])
                .put(QUOTAS, "eng", &b"\xff\xff"[..])
                .put(META, MAINTENANCE_KEY, &b"\xff\xff"[..])
                .delete(META, COUNTERS_KEY)
                .delete("log_state", "hard_state");
            store.write_and_sync(batch).expect("writes");
        }
        let report = repair(work.path(), true).expect("repairs");
        let text = report.to_string();
        for part in [
            "agent 'bad'",
            "placed task 'f/t'",
            "counters",
            "the record of the terms",
            "operation '",
            "weight of role 'eng'",
            "quota of role 'eng'",
            "the maintenance schedule",
        ] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
        assert_eq!(founded(work.path()).await, cluster);
        let (registry, _) = RegistryStore::open(work.path()).expect("opens").load().expect("reads");
        assert!(registry.counters.next_agent > 1000);
        assert_eq!(registry.agents.len(), 1);
    }
}
