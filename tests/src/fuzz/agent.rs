use std::collections::BTreeMap;
use std::time::Duration;

use mezzo_agent_core::{
    CheckKind, CheckOutcome, Checkpoint, Config, Core, Effect, Ending, ExecutorStreamId, Input,
    LinkId, Observed, RequestId,
};
use mezzo_proto::internal::v1::MasterToAgent;
use mezzo_proto::storage::v1::{
    AgentIdentity, ContainerRecord, ExecutorRecord, LastLaunch, TaskRecord,
};
use mezzo_proto::v1;
use mezzo_proto::v1::executor;
use mezzo_types::{ContainerId, Now};
use prost::Message;

use super::pieces;

const NOW: Now = Now { mono_ns: 1_000_000_000, unix_ns: 1_700_000_000_000_000_000 };

fn config() -> Config {
    let info = v1::AgentInfo { hostname: "host".into(), ..v1::AgentInfo::default() };
    Config::new(info, "0.1.0", "boot", "10.0.0.1")
}

/// Whatever the records say, the agent comes up, or says why not. What they say is believed: an agent's own
/// records contradict each other only where the disk lies, and the store checks that.
pub(super) fn records(data: &[u8]) {
    let mut checkpoint = Checkpoint::default();
    let mut observed = BTreeMap::new();
    for (kind, piece) in pieces(data) {
        match kind % 5 {
            4 => checkpoint.executors.extend(ExecutorRecord::decode(piece)),
            0 => checkpoint.identity = AgentIdentity::decode(piece).ok(),
            1 => {
                let last = LastLaunch::decode(piece).unwrap_or_default();
                checkpoint.last_launch = last.position.unwrap_or_default();
            }
            2 => checkpoint.tasks.extend(TaskRecord::decode(piece)),
            _ => {
                let Ok(record) = ContainerRecord::decode(piece) else { continue };
                let seen = match kind / 4 % 4 {
                    0 => Observed::NotStarted,
                    1 => Observed::Running { pid: 7, start_time_ticks: 9, limitation: None },
                    2 => Observed::Ended { ending: Ending::Unknown, limitation: None },
                    _ => Observed::Ended { ending: Ending::Status(256), limitation: None },
                };
                observed.insert(ContainerId::from(record.container_id.as_str()), seen);
                checkpoint.containers.push(record);
            }
        }
    }
    if let Ok(mut core) = Core::recover(NOW, config(), checkpoint, &observed, [1, 2]) {
        drain(&mut core);
        let later = NOW.advanced(Duration::from_secs(1000));
        core.handle(later, Input::LinkUp { link: LinkId(1) });
        core.handle_timeout(later);
        drain(&mut core);
    }
}

/// Whatever a master says, the agent's state holds together.
pub(super) fn messages(data: &[u8]) {
    let checkpoint = Checkpoint::default();
    let recovered = Core::recover(NOW, config(), checkpoint, &BTreeMap::new(), [1, 2]);
    let mut core = recovered.expect("there is nothing to recover");
    let mut now = NOW;
    let link = LinkId(1);
    core.handle(now, Input::LinkUp { link });
    let mut containers = settle(&mut core);
    for (kind, piece) in pieces(data) {
        let container = containers.last().cloned();
        match (kind % 8, container) {
            (0, _) => {
                now = now.advanced(Duration::from_millis(u64::from(kind) * 1000));
                core.handle_timeout(now);
            }
            (1, Some(container)) => {
                core.handle(now, Input::Started { container, pid: 42, start_time_ticks: 4 });
            }
            (2, Some(container)) => {
                let ending = Ending::Status(i32::from(kind) << 8);
                core.handle(now, Input::Exited { container, ending });
            }
            (3, Some(container)) => core.handle(now, Input::Destroyed { container }),
            (6, Some(container)) => {
                let outcome = match piece.len() % 4 {
                    0 => CheckOutcome::Connected(kind < 128),
                    1 => CheckOutcome::Exited(i32::from(kind / 128)),
                    2 => CheckOutcome::Failed("it took too long".to_owned()),
                    _ => CheckOutcome::Unavailable("no launcher".to_owned()),
                };
                let kind = CheckKind::ALL[usize::from(kind / 8 % 2)];
                core.handle(now, Input::Checked { container, kind, outcome });
            }
            (4, _) => {
                let Ok(call) = executor::Call::decode(piece) else { continue };
                if mezzo_agent_core::validate_call(&call).is_ok() {
                    let (request, stream) = (RequestId(1), Some(ExecutorStreamId(u64::from(kind))));
                    core.handle(now, Input::ExecutorCall { request, stream, call: Box::new(call) });
                }
            }
            (5, _) => core.handle(now, Input::ExecutorGone { stream: ExecutorStreamId(4) }),
            _ => {
                let Ok(message) = MasterToAgent::decode(piece) else { continue };
                core.handle(now, Input::Master { link, message: Box::new(message) });
            }
        }
        containers.extend(settle(&mut core));
    }
}

fn settle(core: &mut Core) -> Vec<ContainerId> {
    if let Err(violation) = core.check_invariants() {
        panic!("{violation}");
    }
    drain(core)
}

/// Takes the effects; returns the containers that are to be launched.
fn drain(core: &mut Core) -> Vec<ContainerId> {
    let mut launched = Vec::new();
    while let Some(effect) = core.poll_effect() {
        if let Effect::Launch { launch, .. } = effect {
            launched.push(launch.container.clone());
        }
    }
    launched
}
