//! What leaves waits for the decisions that it rests on, also for those of others.

use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::internal::v1::{AgentTask, AgentToMaster, LaunchPosition, Register, StatusUpdate};
use mezzo_proto::v1;
use mezzo_types::Position;
use prost::Message;

use super::cluster::{Cluster, framework_info, resources, task};
use crate::{Effect, Input, LinkId, RequestId};

/// Everything that an input leads to, in order.
fn effects(cluster: &mut Cluster, input: Input) -> Vec<Effect> {
    cluster.master.handle(cluster.now, input);
    std::iter::from_fn(|| cluster.master.poll_effect()).collect()
}

fn agent_says(link: LinkId, message: ToMaster) -> Input {
    Input::AgentMessage { link, message: Box::new(AgentToMaster { message: Some(message) }) }
}

fn register(id: Option<&str>, tasks: Vec<AgentTask>) -> ToMaster {
    ToMaster::Register(Box::new(Register {
        agent_info: Some(v1::AgentInfo {
            hostname: "host".to_owned(),
            resources: resources("cpus:8;mem:1024"),
            id: id.map(|value| v1::AgentId { value: value.to_owned() }),
            ..v1::AgentInfo::default()
        }),
        boot_id: "boot-1".to_owned(),
        last_launch: Some(LaunchPosition::default()),
        tasks,
        ..Register::default()
    }))
}

fn persisted(effects: &[Effect]) -> u64 {
    effects.iter().filter(|effect| matches!(effect, Effect::Persist(_))).count() as u64
}

#[test]
fn an_agent_is_offered_once_the_log_has_it() {
    let mut cluster = Cluster::new();
    cluster.framework(framework_info(true));
    let before = cluster.log.len() as u64;
    let led = effects(&mut cluster, agent_says(LinkId(1), register(None, vec![])));
    let admitted = Position(before + persisted(&led));
    let offered = led.iter().find_map(|effect| match effect {
        Effect::Event { event, after, .. } if event.offers.is_some() => Some(*after),
        _ => None,
    });
    assert_eq!(offered, Some(admitted));
}

#[test]
fn an_agent_ends_and_forgets_once_the_log_has_removed_the_framework() {
    let mut cluster = Cluster::new();
    let (_, id) = cluster.framework(framework_info(true));
    let (link, agent) = cluster.agent("cpus:8;mem:1024");
    cluster.input(Input::LinkClosed { link });
    let before = cluster.log.len() as u64;
    let teardown = Input::Teardown { request: RequestId(1), framework: (&id).into() };
    let removed = effects(&mut cluster, teardown);
    let removed = Position(before + persisted(&removed));

    let info = task("t", &agent, "cpus:1");
    let latest = v1::TaskStatus {
        task_id: info.task_id.clone(),
        state: v1::TaskState::TaskRunning as i32,
        uuid: Some(vec![1; 16].into()),
        ..v1::TaskStatus::default()
    };
    let known = AgentTask {
        framework_id: id.value.clone(),
        task_info: info.encode_to_vec().into(),
        latest: Some(latest.clone()),
    };
    let back = agent_says(LinkId(9), register(Some(&agent), vec![known]));
    let told = effects(&mut cluster, back).into_iter().find_map(|effect| match effect {
        Effect::Agent { message, after, .. } => {
            matches!(message.message, Some(ToAgent::ShutdownFramework(_))).then_some(after)
        }
        _ => None,
    });
    assert_eq!(told, Some(removed));

    let update =
        StatusUpdate { framework_id: id.value, latest_state: latest.state, status: Some(latest) };
    let update = agent_says(LinkId(9), ToMaster::StatusUpdate(Box::new(update)));
    let told = effects(&mut cluster, update).into_iter().find_map(|effect| match effect {
        Effect::Agent { message, after, .. } => {
            matches!(message.message, Some(ToAgent::Acknowledge(_))).then_some(after)
        }
        _ => None,
    });
    assert_eq!(told, Some(removed));
}

/// An ended task stays in the ledger until its end is acknowledged, so that for a new leader the
/// ledger may hold more than an agent has until the agent has spoken.
#[test]
fn a_ledger_that_holds_ended_tasks_breaks_no_invariant() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let (link, agent) = cluster.agent("cpus:8;mem:1024");
    for name in ["first", "second"] {
        let offers = cluster.take_offers(stream);
        cluster.launch(stream, &id, &[&offers[0]], vec![task(name, &agent, "cpus:8")]);
        cluster.take_messages(link);
        if name == "first" {
            cluster.update(link, &id, name, v1::TaskState::TaskFinished, 1);
            cluster.advance(std::time::Duration::from_secs(10));
            cluster.events.get_mut(&stream).expect("events").retain(|event| event.offers.is_some());
        }
    }
    assert_eq!(cluster.fail_over().master.check_invariants(), Ok(()));
}
