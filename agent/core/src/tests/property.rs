//! Random launches, kills, endings, losses, restarts and crashes against a model of a host and of a
//! framework. Whatever happens, every task that was launched is heard of in order and ends exactly once,
//! as the host knows it ended, and nothing is left over. Some tasks run in an executor, which comes, loses its
//! connection and what is on it, comes back, and crashes.

mod puppet;

use std::collections::{BTreeMap, BTreeSet};

use mezzo_types::{ContainerId, IdSource};
use proptest::prelude::*;

use self::puppet::{Play, Puppet};
use super::{World, config, framework, grace, task, update};
use crate::{Effect, Ending, Input, LinkId, Observed, Workload};

/// A container as the host knows it.
#[derive(Clone, Debug, PartialEq)]
enum Host {
    Launching,
    Running,
    Ended(i32),
}

struct Story {
    seed: IdSource,
    world: World,
    link: LinkId,
    connected: bool,
    host: BTreeMap<ContainerId, Host>,
    destroying: BTreeSet<ContainerId>,
    launched: u64,
    /// Ids of all tasks that were launched.
    names: Vec<String>,
    play: Play,
    /// Per task: uuids in the order of their first arrival, and the states.
    heard: BTreeMap<String, Vec<(Vec<u8>, mezzo_proto::v1::TaskState)>>,
    to_acknowledge: Vec<(String, Vec<u8>)>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut story = Story {
            seed: IdSource::new([seed, 1]),
            world: World::new(),
            link: LinkId(1),
            connected: false,
            host: BTreeMap::new(),
            destroying: BTreeSet::new(),
            launched: 0,
            names: Vec::new(),
            play: Play::default(),
            heard: BTreeMap::new(),
            to_acknowledge: Vec::new(),
        };
        story.reconnect();
        story
    }

    fn below(&mut self, n: usize) -> usize {
        (self.seed.next_u64() % n.max(1) as u64) as usize
    }

    fn reconnect(&mut self) {
        self.link = LinkId(self.link.0 + 1);
        self.connected = true;
        self.world.register(self.link, super::TERM);
        self.carry_out();
    }

    /// Carries out what the core ordered.
    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.world.effects) {
            match &effect {
                Effect::Launch { launch, .. } => {
                    if let Workload::Executor(_) = launch.workload {
                        let puppet = Puppet::default();
                        self.play.puppets.insert(launch.container.clone(), puppet);
                    }
                    self.host.insert(launch.container.clone(), Host::Launching);
                }
                Effect::Destroy { container, .. } => {
                    self.destroying.insert(container.clone());
                }
                Effect::Signal { container, .. } => {
                    if let Some(host @ Host::Running) = self.host.get_mut(container) {
                        *host = Host::Ended(15);
                    }
                }
                effect => {
                    if let Some(container) = self.play.take(effect) {
                        // Asked to end, it does.
                        if let Some(host @ Host::Running) = self.host.get_mut(&container) {
                            *host = Host::Ended(0);
                        }
                    }
                }
            }
            if let Some(update) = update(&effect) {
                self.hear(update.status.unwrap_or_default());
            }
        }
    }

    fn hear(&mut self, status: mezzo_proto::v1::TaskStatus) {
        // Answers to kills of unknown tasks are no part of a task's story.
        if status.reason() == mezzo_proto::v1::task_status::Reason::ExecutorTerminated
            && status.container_status.is_none()
            && status.executor_id.as_ref().is_some_and(|id| id.value == status.task_id.value)
        {
            return;
        }
        let uuid = status.uuid.as_deref().unwrap_or_default().to_vec();
        let id = status.task_id.value.clone();
        let heard = self.heard.entry(id.clone()).or_default();
        if !heard.iter().any(|(known, _)| *known == uuid) {
            let over = heard.last().is_some_and(|(_, state)| mezzo_types::is_terminal(*state));
            assert!(!over, "task {id}: {:?} after its ending", status.state());
            heard.push((uuid.clone(), status.state()));
        }
        self.to_acknowledge.push((id, uuid));
    }

    fn some_container(&mut self, wanted: impl Fn(&Host) -> bool) -> Option<ContainerId> {
        let ids: Vec<_> =
            self.host.iter().filter(|(_, host)| wanted(host)).map(|(id, _)| id.clone()).collect();
        let at = self.below(ids.len());
        ids.get(at).cloned()
    }

    fn step(&mut self) {
        match self.below(18) {
            0 | 1 if self.connected => {
                self.launched += 1;
                self.names.push(format!("t{}", self.launched));
                self.world.sequence += 1;
                let info = task(&format!("t{}", self.launched));
                let run = mezzo_proto::internal::v1::RunTask {
                    position: Some(mezzo_proto::internal::v1::LaunchPosition {
                        term: super::TERM,
                        sequence: self.world.sequence,
                    }),
                    framework_info: Some(framework(&[])),
                    task_info: prost::Message::encode_to_vec(&info).into(),
                    launch_executor: false,
                };
                let message =
                    mezzo_proto::internal::v1::master_to_agent::Message::RunTask(Box::new(run));
                self.world.master_on(self.link, message);
            }
            2 | 3 => self.progress(),
            4 => {
                if let Some(id) = self.some_container(|host| *host == Host::Running) {
                    let status = self.below(3) as i32 * 256;
                    self.host.insert(id, Host::Ended(status));
                }
            }
            5 if self.connected => {
                let at = self.below(self.names.len());
                let id = self.names.get(at).cloned().unwrap_or_default();
                let kill = mezzo_proto::internal::v1::KillTask {
                    framework_id: "f".into(),
                    task_id: id,
                    kill_policy: Some(grace(1.0)),
                };
                let message = mezzo_proto::internal::v1::master_to_agent::Message::KillTask(kill);
                self.world.master_on(self.link, message);
            }
            6 => {
                self.world.handle(Input::LinkDown { link: self.link });
                self.connected = false;
            }
            7 => self.reconnect(),
            8 => self.crash(),
            9 => self.clean_up(),
            10 => self.world.pass(0.7),
            12 | 13 if self.connected => self.launch_in_executor(),
            14 => self.subscribe(),
            15 | 16 => self.perform(),
            17 => self.confirm(),
            _ => self.acknowledge(),
        }
        self.carry_out();
    }

    /// The host tells of one container.
    fn progress(&mut self) {
        let Some(id) = self.some_container(|_| true) else { return };
        match self.host[&id].clone() {
            Host::Launching if self.below(5) == 0 => {
                self.host.remove(&id);
                let message = "no luck".to_owned();
                self.world.handle(Input::LaunchFailed { container: id, message });
            }
            Host::Launching => {
                self.host.insert(id.clone(), Host::Running);
                self.world.started(&id);
            }
            Host::Running if self.play.puppets.contains_key(&id) && self.below(4) == 0 => {
                // The connection breaks, and what is on it is lost.
                if let Some(stream) = self.play.cut(&id) {
                    self.world.handle(Input::ExecutorGone { stream });
                }
            }
            Host::Running => {}
            Host::Ended(status) => self.world.exited(&id, status),
        }
    }

    fn clean_up(&mut self) {
        let at = self.below(self.destroying.len());
        let Some(id) = self.destroying.iter().nth(at).cloned() else { return };
        self.destroying.remove(&id);
        match self.host.remove(&id) {
            Some(Host::Running) => self.world.exited(&id, 9),
            Some(Host::Ended(status)) => self.world.exited(&id, status),
            _ => {}
        }
        self.world.destroyed(&id);
    }

    /// The agent is killed and starts again; containers go on meanwhile.
    fn crash(&mut self) {
        self.connected = false;
        self.destroying.clear();
        self.play.lose_agent();
        let observed: Vec<_> = self
            .host
            .iter()
            .map(|(id, host)| {
                let found = match host {
                    // A launch that the launcher has goes on, another one is over.
                    Host::Launching if id.as_str().ends_with(char::is_alphabetic) => {
                        Observed::Launching
                    }
                    Host::Launching => Observed::NotStarted,
                    Host::Running => {
                        Observed::Running { pid: 42, start_time_ticks: 4200, limitation: None }
                    }
                    Host::Ended(status) => {
                        Observed::Ended { ending: Ending::Status(*status), limitation: None }
                    }
                };
                (id.clone(), found)
            })
            .collect();
        let observed: Vec<_> = observed.iter().map(|(id, found)| (id, found.clone())).collect();
        self.world.restart(config(), &observed);
    }

    fn acknowledge(&mut self) {
        for (id, uuid) in std::mem::take(&mut self.to_acknowledge) {
            if self.connected && self.below(3) > 0 {
                self.acknowledge_one(&id, uuid);
            }
        }
    }

    fn acknowledge_one(&mut self, id: &str, uuid: Vec<u8>) {
        let acknowledge = mezzo_proto::internal::v1::Acknowledge {
            framework_id: "f".into(),
            task_id: id.into(),
            uuid: uuid.into(),
        };
        let message = mezzo_proto::internal::v1::master_to_agent::Message::Acknowledge(acknowledge);
        self.world.master_on(self.link, message);
        self.carry_out();
    }

    /// Nothing fails any more: everything must come to its end.
    fn settle(&mut self) {
        self.crash();
        self.carry_out();
        self.reconnect();
        for _ in 0..10_000 {
            while !self.destroying.is_empty() {
                self.clean_up();
                self.carry_out();
            }
            for id in self.host.keys().cloned().collect::<Vec<_>>() {
                match self.host[&id].clone() {
                    Host::Launching => {
                        self.host.insert(id.clone(), Host::Running);
                        self.world.started(&id);
                    }
                    Host::Running => {
                        self.host.insert(id, Host::Ended(0));
                    }
                    Host::Ended(status) => self.world.exited(&id, status),
                }
                self.carry_out();
            }
            for (id, uuid) in std::mem::take(&mut self.to_acknowledge) {
                self.acknowledge_one(&id, uuid);
            }
            let records = &self.world.records;
            if records.tasks.is_empty()
                && records.containers.is_empty()
                && records.executors.is_empty()
            {
                return self.check_settled();
            }
        }
        panic!("left over: {:?}", self.world.records);
    }

    fn check_settled(&self) {
        for name in &self.names {
            let heard = &self.heard[name];
            let endings = heard.iter().filter(|(_, state)| mezzo_types::is_terminal(*state));
            assert_eq!(endings.count(), 1, "task {name}: {heard:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_task_is_heard_of_in_order_and_ends_once(seed: u64, steps in 1usize..300) {
        let mut story = Story::new(seed);
        for _ in 0..steps {
            story.step();
        }
        story.settle();
    }
}
