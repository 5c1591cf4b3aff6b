//! Frameworks of several tempers: what they know, and what they make of events.
//!
//! All but the lying ones keep Mesos' rules: they acknowledge every update, reconcile after each
//! subscription and again from time to time, in the end also implicitly, and give no task id twice.

mod acts;
mod lies;
mod stores;

use std::collections::{BTreeMap, BTreeSet};

use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::framework_info::capability::Type as Capability;
use mezzo_proto::v1::scheduler::{Call, Event, call, event};
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{FrameworkId, is_terminal};

use crate::describe;
use crate::fact::Fact;
use crate::network::{ConnId, End, Near};
use crate::rng::Rng;
use crate::world::{Happening, MS, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    /// Takes everything at once, and declines nothing.
    Greedy,
    /// Sits on offers and on updates.
    Slow,
    /// Dies and comes back under its id.
    Crashing,
    /// Says what is not so.
    Lying,
}

/// What a framework does of its own accord.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Subscribe,
    /// Whatever its temper suggests, if no other round began meanwhile.
    Live {
        round: u64,
    },
    /// Takes an offer.
    Take,
    Acknowledge {
        agent: String,
        task: String,
        uuid: bytes::Bytes,
    },
    AcknowledgeOperation {
        agent: String,
        operation: String,
        uuid: bytes::Bytes,
    },
}

/// A task as its framework knows it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) agent: String,
    pub(crate) state: TaskState,
    /// It hears no more of it.
    pub(crate) over: bool,
    /// A status was heard, or it was launched on an earlier subscription: it may be asked about.
    pub(crate) confirmed: bool,
    pub(crate) endless: bool,
    pub(crate) killed: bool,
}

pub(crate) struct Framework {
    pub(crate) temper: Temper,
    pub(crate) aware: bool,
    pub(crate) role: &'static str,
    pub(crate) failover_s: f64,
    pub(crate) rng: Rng,
    pub(crate) id: Option<FrameworkId>,
    pub(crate) stream: Option<ConnId>,
    pub(crate) subscribed: bool,
    /// Counts processes: what an earlier one was about to do is not done.
    pub(crate) life: u64,
    /// It will not come back.
    pub(crate) gone: bool,
    /// It is to be torn down, and leaves its tasks to that.
    pub(crate) doomed: bool,
    pub(crate) suppressed: bool,
    pub(crate) tasks: BTreeMap<String, Known>,
    pub(crate) offers: BTreeMap<String, v1::Offer>,
    pub(crate) next_task: u64,
    pub(crate) next_operation: u64,
    /// Operations whose ending it has not heard of.
    pub(crate) asked: BTreeSet<String>,
    /// The master cannot be reached until then.
    pub(crate) cut_until: u64,
    /// Its calls share one connection, so that they arrive in order.
    ordered: bool,
    last_call: u64,
    latency_ns: u64,
    /// Uuids heard of, for lies.
    heard: Vec<bytes::Bytes>,
    /// Counts rounds of its life.
    round: u64,
}

/// How many tasks a framework launches in a run.
const TASKS_MAX: u64 = 40;

impl Framework {
    pub(crate) fn new(
        mut rng: Rng,
        temper: Temper,
        aware: bool,
        role: &'static str,
        failover_s: f64,
    ) -> Self {
        let (ordered, latency_ns) = (rng.chance(50), rng.skewed(MS / 10, 100 * MS));
        Framework {
            temper,
            aware,
            role,
            failover_s,
            rng,
            id: None,
            stream: None,
            subscribed: false,
            life: 0,
            gone: false,
            doomed: false,
            suppressed: false,
            tasks: BTreeMap::new(),
            offers: BTreeMap::new(),
            next_task: 0,
            next_operation: 0,
            asked: BTreeSet::new(),
            cut_until: 0,
            ordered,
            last_call: 0,
            latency_ns,
            heard: Vec::new(),
            round: 0,
        }
    }

    pub(crate) fn honest(&self) -> bool {
        self.temper != Temper::Lying
    }

    #[allow(deprecated, reason = "frameworks without MULTI_ROLE name their role in the old field")]
    fn info(&self) -> v1::FrameworkInfo {
        let aware = self.aware.then_some(Capability::PartitionAware);
        let refined = [Capability::ReservationRefinement, Capability::TaskKillingState];
        v1::FrameworkInfo {
            user: "nobody".to_owned(),
            name: format!("{:?}", self.temper),
            id: self.id.as_ref().map(Into::into),
            role: Some(self.role.to_owned()),
            failover_timeout: Some(self.failover_s),
            capabilities: refined
                .into_iter()
                .chain(aware)
                .map(|kind| v1::framework_info::Capability { r#type: Some(kind as i32) })
                .collect(),
            ..v1::FrameworkInfo::default()
        }
    }

    /// It forgets who it was: a new framework to the cluster.
    fn start_over(&mut self) {
        self.id = None;
        self.tasks.clear();
        self.asked.clear();
        self.offers.clear();
    }
}

impl World {
    pub(crate) fn act_later(&mut self, number: usize, delay_ns: u64, act: Act) {
        let life = self.frameworks[number].life;
        let happening = Happening::Framework { framework: number, life, act };
        self.queue.push(self.now_ns + delay_ns, happening);
    }

    pub(crate) fn live_later(&mut self, number: usize, delay_ns: u64) {
        self.frameworks[number].round += 1;
        let round = self.frameworks[number].round;
        self.act_later(number, delay_ns, Act::Live { round });
    }

    /// The process dies; another takes its place, `away_ns` later, and knows what was written down:
    /// the id and the tasks.
    pub(crate) fn crash_framework(&mut self, number: usize, away_ns: u64) {
        self.note(format_args!("framework {number} dies"));
        for conn in self.network.of_near(Near::Framework(number)) {
            self.close(conn, End::Near);
        }
        let framework = &mut self.frameworks[number];
        framework.life += 1;
        framework.unsubscribe();
        self.act_later(number, away_ns, Act::Subscribe);
    }

    pub(crate) fn subscribe(&mut self, number: usize) {
        let now_ns = self.now_ns;
        let framework = &self.frameworks[number];
        if framework.stream.is_some() || framework.gone {
            return;
        }
        let Some(master) = self.leader.filter(|_| framework.cut_until <= now_ns) else {
            return self.act_later(number, 300 * MS, Act::Subscribe);
        };
        let info = framework.info();
        let call = Call {
            framework_id: info.id.clone(),
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(Box::new(call::Subscribe {
                framework_info: info,
                ..call::Subscribe::default()
            })),
            ..Call::default()
        };
        let conn = self.network.open(Near::Framework(number), master);
        self.note(format_args!("framework {number} dials master {master}: stream {conn}"));
        let framework = &mut self.frameworks[number];
        framework.stream = Some(conn);
        framework.subscribed = false;
        framework.suppressed = false;
        if let Some(at) = self.network.send(self.now_ns, conn, End::Master) {
            self.queue.push(at, Happening::Subscribe { conn, call: Box::new(call) });
        }
    }

    /// The framework's end of its stream is over.
    pub(crate) fn stream_down(&mut self, number: usize, conn: ConnId) {
        let framework = &mut self.frameworks[number];
        if framework.stream != Some(conn) {
            return;
        }
        framework.unsubscribe();
        let pause = framework.rng.skewed(10 * MS, 2_000 * MS);
        self.act_later(number, pause, Act::Subscribe);
    }

    pub(crate) fn framework_hears(&mut self, number: usize, conn: ConnId, event: Event) {
        let framework = &mut self.frameworks[number];
        if framework.stream != Some(conn) {
            return;
        }
        let kind = event.r#type();
        if kind != event::Type::Heartbeat {
            let text = describe::event(&event);
            self.note(format_args!("framework {number} < {text}"));
        }
        let framework = &self.frameworks[number];
        let (honest, id) = (framework.honest(), framework.id.as_ref());
        self.watch.see(&Fact::Hears { framework: number, honest, id, event: &event });
        match kind {
            event::Type::Subscribed => {
                if let Some(subscribed) = event.subscribed {
                    self.subscribed(number, &subscribed.framework_id);
                }
            }
            event::Type::Offers => {
                let framework = &mut self.frameworks[number];
                let offers = event.offers.unwrap_or_default().offers;
                framework.offers.extend(offers.into_iter().map(|o| (o.id.value.clone(), o)));
                if framework.temper == Temper::Greedy && !self.settling {
                    self.act_later(number, MS, Act::Take);
                }
            }
            event::Type::Rescind => {
                let id = event.rescind.map(|rescind| rescind.offer_id.value).unwrap_or_default();
                self.frameworks[number].offers.remove(&id);
            }
            event::Type::Update => {
                if let Some(update) = event.update {
                    self.hear_status(number, update.status);
                }
            }
            event::Type::UpdateOperationStatus => {
                if let Some(update) = event.update_operation_status {
                    self.hear_operation(number, update.status);
                }
            }
            event::Type::Error => self.hear_error(number, conn, &event),
            _ => {}
        }
    }

    fn subscribed(&mut self, number: usize, id: &v1::FrameworkId) {
        let framework = &mut self.frameworks[number];
        framework.id = Some(FrameworkId::from(id));
        framework.subscribed = true;
        for task in framework.tasks.values_mut() {
            task.confirmed = true;
            // What was called on the subscription before may have been refused.
            task.killed = false;
        }
        self.reconcile(number);
        self.live_later(number, MS);
    }

    fn hear_status(&mut self, number: usize, status: v1::TaskStatus) {
        let settling = self.settling;
        let framework = &mut self.frameworks[number];
        let state = status.state();
        let id = status.task_id.value.clone();
        if let Some(task) = framework.tasks.get_mut(&id) {
            // Of a second task of the same id; the first one lives on.
            let refused = state == TaskState::TaskError || status.reason() == Reason::InvalidOffers;
            if refused && task.confirmed {
                return;
            }
            task.confirmed = true;
            task.state = state;
            if let Some(agent) = &status.agent_id {
                task.agent.clone_from(&agent.value);
            }
            // A framework that cannot tell losses apart may hear of a lost task again.
            task.over = is_terminal(state) || state == TaskState::TaskUnknown;
        }
        let Some(uuid) = status.uuid else { return };
        if framework.heard.len() < 64 {
            framework.heard.push(uuid.clone());
        }
        let slow = match framework.temper {
            _ if settling => MS,
            Temper::Greedy => MS,
            Temper::Crashing => framework.rng.skewed(MS, 500 * MS),
            Temper::Slow => framework.rng.skewed(10 * MS, 8_000 * MS),
            // Not every lie is told at once.
            Temper::Lying if framework.rng.chance(60) => return,
            Temper::Lying => framework.rng.skewed(MS, 3_000 * MS),
        };
        let agent = status.agent_id.map(|id| id.value).unwrap_or_default();
        self.act_later(number, slow, Act::Acknowledge { agent, task: id, uuid });
    }

    fn hear_operation(&mut self, number: usize, status: v1::OperationStatus) {
        let settling = self.settling;
        let framework = &mut self.frameworks[number];
        let operation = status.operation_id.clone().unwrap_or_default().value;
        let over = matches!(
            status.state(),
            v1::OperationState::OperationFinished
                | v1::OperationState::OperationFailed
                | v1::OperationState::OperationError
                | v1::OperationState::OperationDropped
                | v1::OperationState::OperationGoneByOperator
        );
        if over || status.state() == v1::OperationState::OperationUnknown {
            framework.asked.remove(&operation);
        }
        let Some(uuid) = status.uuid else { return };
        let slow = match framework.temper {
            _ if settling => MS,
            Temper::Lying if framework.rng.chance(60) => return,
            _ => framework.rng.skewed(MS, 3_000 * MS),
        };
        let agent = status.agent_id.map(|id| id.value).unwrap_or_default();
        let acknowledge = Act::AcknowledgeOperation { agent, operation, uuid: uuid.value };
        self.act_later(number, slow, acknowledge);
    }

    fn hear_error(&mut self, number: usize, conn: ConnId, event: &Event) {
        let message = event.error.as_ref().map(|error| error.message.as_str()).unwrap_or_default();
        let removed = message.contains("removed") || message.contains("torn down");
        if !removed {
            return;
        }
        self.close(conn, End::Near);
        let framework = &mut self.frameworks[number];
        framework.unsubscribe();
        framework.start_over();
        // It has nothing to come back for once the faults are over.
        framework.gone = self.settling || framework.rng.chance(30);
        self.act_later(number, 500 * MS, Act::Subscribe);
    }
}

impl Framework {
    pub(crate) fn unsubscribe(&mut self) {
        self.stream = None;
        self.subscribed = false;
        self.offers.clear();
    }
}
