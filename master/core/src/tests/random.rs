//! Any order of inputs keeps the invariants, and the same inputs give the same outputs.

use std::time::Duration;

use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::{AgentTask, ExecutorExited, LaunchPosition, Pong, Unregister};
use mezzo_proto::storage::v1::Placement;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::scheduler::call;
use proptest::prelude::*;
use prost::Message;

use super::cluster::{Cluster, framework_info, resources, task};
use crate::{Input, LinkId, RateLimit, RequestId, StreamId};

#[derive(Debug, Clone)]
enum Step {
    Framework,
    Agent,
    Advance(u16),
    Launch {
        framework: usize,
        tasks: u8,
        cpus: u8,
    },
    Decline {
        framework: usize,
    },
    Update {
        framework: usize,
        task: u8,
        state: u8,
    },
    Acknowledge {
        framework: usize,
        task: u8,
    },
    DropStream {
        framework: usize,
    },
    DropLink {
        agent: usize,
    },
    Suppress {
        framework: usize,
    },
    Revive {
        framework: usize,
    },
    Teardown {
        framework: usize,
    },
    /// Minutes pass.
    Wait(u8),
    Pong {
        agent: usize,
    },
    /// Registers (again): with the tasks that the ledger has of it, or without, in this boot.
    Return {
        agent: usize,
        tasks: bool,
        boot: u8,
        cpus: u8,
    },
    Leave {
        agent: usize,
    },
    Gone {
        agent: usize,
    },
    /// An executor ends, or one that never was.
    ExecutorExits {
        agent: usize,
        framework: usize,
    },
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..4usize;
    prop_oneof![
        2 => Just(Step::Framework),
        2 => Just(Step::Agent),
        6 => (0..20_000u16).prop_map(Step::Advance),
        8 => (which.clone(), 1..4u8, 1..4u8)
            .prop_map(|(framework, tasks, cpus)| Step::Launch { framework, tasks, cpus }),
        2 => which.clone().prop_map(|framework| Step::Decline { framework }),
        8 => (which.clone(), 0..12u8, 0..6u8)
            .prop_map(|(framework, task, state)| Step::Update { framework, task, state }),
        4 => (which.clone(), 0..12u8)
            .prop_map(|(framework, task)| Step::Acknowledge { framework, task }),
        1 => which.clone().prop_map(|framework| Step::DropStream { framework }),
        1 => which.clone().prop_map(|agent| Step::DropLink { agent }),
        1 => which.clone().prop_map(|framework| Step::Suppress { framework }),
        1 => which.clone().prop_map(|framework| Step::Revive { framework }),
        1 => which.clone().prop_map(|framework| Step::Teardown { framework }),
        2 => (1..20u8).prop_map(Step::Wait),
        3 => which.clone().prop_map(|agent| Step::Pong { agent }),
        4 => (which.clone(), any::<bool>(), 0..2u8, 0..3u8)
            .prop_map(|(agent, tasks, boot, cpus)| Step::Return { agent, tasks, boot, cpus }),
        1 => which.clone().prop_map(|agent| Step::Leave { agent }),
        1 => which.clone().prop_map(|agent| Step::Gone { agent }),
        2 => (which.clone(), which)
            .prop_map(|(agent, framework)| Step::ExecutorExits { agent, framework }),
        1 => Just(Step::FailOver),
    ]
}

const STATES: [TaskState; 6] = [
    TaskState::TaskStarting,
    TaskState::TaskRunning,
    TaskState::TaskKilling,
    TaskState::TaskFinished,
    TaskState::TaskFailed,
    TaskState::TaskKilled,
];

fn for_executor(info: mezzo_proto::v1::TaskInfo) -> mezzo_proto::v1::TaskInfo {
    let executor = mezzo_proto::v1::ExecutorInfo {
        executor_id: mezzo_proto::v1::ExecutorId { value: "e".to_owned() },
        command: info.command.clone(),
        resources: resources("cpus:0.5;mem:10"),
        ..Default::default()
    };
    mezzo_proto::v1::TaskInfo { command: None, executor: Some(executor), ..info }
}

/// A placed task as its agent reports it.
fn running(placement: &Placement) -> AgentTask {
    let info = task(&placement.task_id, &placement.agent_id, "cpus:1");
    let info = mezzo_proto::v1::TaskInfo { resources: placement.resources.clone(), ..info };
    AgentTask {
        framework_id: placement.framework_id.clone(),
        task_info: info.encode_to_vec().into(),
        latest: Some(mezzo_proto::v1::TaskStatus {
            task_id: info.task_id.clone(),
            state: TaskState::TaskRunning as i32,
            ..Default::default()
        }),
    }
}

/// Plays the steps and returns a transcript of everything that came out.
fn play(steps: &[Step]) -> String {
    let mut cluster = Cluster::with(|config| {
        config.agent_removal_rate_limit =
            Some(RateLimit { permits: 1, per: Duration::from_secs(120) });
        config.registry_max_agent_count = 1;
        config.registry_max_agent_age = Duration::from_secs(3600);
    });
    // What the agents have at least, lest they shrink.
    let mut sizes = [8u8; 4];
    let mut frameworks: Vec<(StreamId, mezzo_proto::v1::FrameworkId)> = Vec::new();
    let mut agents: Vec<(LinkId, String)> = Vec::new();
    let mut offers: Vec<Vec<mezzo_proto::v1::Offer>> = Vec::new();
    let mut launched = 0u32;
    let mut transcript = String::new();
    for step in steps {
        match step {
            Step::Framework if frameworks.len() < 4 => {
                frameworks
                    .push(cluster.framework(framework_info(frameworks.len().is_multiple_of(2))));
                offers.push(Vec::new());
            }
            Step::Agent if agents.len() < 4 => agents.push(cluster.agent("cpus:8;mem:1024")),
            Step::Advance(ms) => cluster.advance(Duration::from_millis(u64::from(*ms))),
            Step::Launch { framework, tasks, cpus } => {
                let Some((stream, id)) = frameworks.get(*framework) else { continue };
                let Some(offer) = offers[*framework].pop() else { continue };
                let names = (0..*tasks).map(|_| {
                    launched += 1;
                    format!("t{}", launched % 12)
                });
                let agent = offer.agent_id.value.clone();
                // Every third kind of task is for an executor.
                let tasks = names.map(|n| {
                    let info = task(&n, &agent, &format!("cpus:{cpus}"));
                    match cpus % 3 {
                        0 => for_executor(info),
                        _ => info,
                    }
                });
                let tasks = tasks.collect();
                let known = cluster.master.streams.contains_key(stream);
                if known {
                    cluster.launch(*stream, id, &[&offer], tasks);
                }
            }
            Step::Decline { framework } => {
                let Some((stream, id)) = frameworks.get(*framework) else { continue };
                let offer_ids = offers[*framework].drain(..).map(|o| o.id).collect();
                let decline = call::Decline { offer_ids, filters: None };
                let kind = call::Type::Decline;
                let result = cluster.call(*stream, id, kind, |c| c.decline = Some(decline));
                transcript.push_str(&format!("{result:?}\n"));
            }
            Step::Update { framework, task, state } => {
                let Some((_, id)) = frameworks.get(*framework) else { continue };
                let state = STATES[usize::from(*state) % STATES.len()];
                for (link, _) in agents.clone() {
                    if cluster.master.links.contains_key(&link) {
                        cluster.update(link, id, &format!("t{task}"), state, *task + 1);
                    }
                }
            }
            Step::Acknowledge { framework, task } => {
                let Some((stream, id)) = frameworks.get(*framework) else { continue };
                if !cluster.master.streams.contains_key(stream) {
                    continue;
                }
                for (_, agent) in agents.clone() {
                    cluster.acknowledge(*stream, id, &agent, &format!("t{task}"), *task + 1);
                }
            }
            Step::DropStream { framework } => {
                let Some((stream, _)) = frameworks.get(*framework) else { continue };
                cluster.input(Input::StreamClosed { stream: *stream });
            }
            Step::DropLink { agent } => {
                let Some((link, _)) = agents.get(*agent) else { continue };
                cluster.input(Input::LinkClosed { link: *link });
            }
            Step::Suppress { framework } | Step::Revive { framework } => {
                let Some((stream, id)) = frameworks.get(*framework) else { continue };
                let kind = match step {
                    Step::Suppress { .. } => call::Type::Suppress,
                    _ => call::Type::Revive,
                };
                let result = cluster.call(*stream, id, kind, |_| {});
                transcript.push_str(&format!("{result:?}\n"));
            }
            Step::Teardown { framework } => {
                let Some((stream, id)) = frameworks.get(*framework) else { continue };
                let result = cluster.call(*stream, id, call::Type::Teardown, |_| {});
                transcript.push_str(&format!("{result:?}\n"));
            }
            Step::Wait(minutes) => cluster.advance(Duration::from_secs(u64::from(*minutes) * 60)),
            Step::Pong { agent } => {
                let Some((link, _)) = agents.get(*agent) else { continue };
                if cluster.master.links.contains_key(link) {
                    cluster.agent_says(*link, ToMaster::Pong(Pong {}));
                }
            }
            Step::Return { agent, tasks, boot, cpus } => {
                let Some((link, id)) = agents.get_mut(*agent) else { continue };
                if cluster.master.gone.contains_key(id.as_str()) {
                    continue;
                }
                let placed = cluster.registry.placements.values();
                let placed = placed.filter(|p| *tasks && p.agent_id == *id).map(running).collect();
                sizes[*agent] += cpus;
                let size = format!("cpus:{};mem:1024", sizes[*agent]);
                let last = LaunchPosition { term: 1, sequence: 1 };
                let boot = format!("boot-{boot}");
                *link = cluster.register(Some(id), &size, last, placed, &boot).0;
            }
            Step::Leave { agent } => {
                let Some((link, _)) = agents.get(*agent) else { continue };
                if cluster.master.links.contains_key(link) {
                    cluster.agent_says(*link, ToMaster::Unregister(Unregister {}));
                }
            }
            Step::Gone { agent } => {
                let Some((_, id)) = agents.get(*agent) else { continue };
                let request = RequestId(u64::MAX);
                cluster.input(Input::MarkAgentGone { request, agent: id.as_str().into() });
                let answer = cluster.replies.remove(&request);
                transcript.push_str(&format!("{answer:?}\n"));
            }
            Step::ExecutorExits { agent, framework } => {
                let Some((link, _)) = agents.get(*agent) else { continue };
                let Some((_, id)) = frameworks.get(*framework) else { continue };
                if cluster.master.links.contains_key(link) {
                    let exited = ExecutorExited {
                        framework_id: id.value.clone(),
                        executor_id: "e".to_owned(),
                        wait_status: 0,
                    };
                    cluster.agent_says(*link, ToMaster::ExecutorExited(exited));
                }
            }
            Step::FailOver => {
                cluster = cluster.fail_over();
                // Streams and links ended with the old master.
                for (stream, id) in &mut frameworks {
                    let aware = cluster.master.frameworks.get(id.value.as_str());
                    let Some(known) = aware.map(|f| f.info.clone()) else { continue };
                    *stream = cluster.subscribe(known);
                }
                offers.iter_mut().for_each(Vec::clear);
            }
            Step::Framework | Step::Agent => {}
        }
        for (index, (stream, _)) in frameworks.iter().enumerate() {
            for event in cluster.take_events(*stream) {
                transcript.push_str(&format!("{index} {event:?}\n"));
                if let Some(made) = event.offers {
                    offers[index].extend(made.offers);
                }
            }
        }
    }
    transcript
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// `Cluster` checks the invariants after every input.
    #[test]
    fn any_order_of_inputs_keeps_the_invariants(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let first = play(&steps);
        prop_assert_eq!(first, play(&steps), "same inputs, same outputs");
    }
}
