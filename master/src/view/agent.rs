//! An agent as readers keep it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mezzo_master_core::AgentState;
use mezzo_proto::json;
use mezzo_proto::v1;
use mezzo_proto::v1::master::response::get_agents;
use mezzo_types::{FrameworkId, Resources};
use prost::Message;

use super::pages::{Entry, Form};
use super::scan::put_resources;
use super::sum::Sum;
use mezzo_legacy_json as legacy;
use mezzo_legacy_json::{Object, list, text};

/// Numbers of tasks by state.
pub(super) type Counts = [u32; 14];

pub(super) fn count(counts: &mut Counts, state: i32, up: bool) {
    if let Some(count) = usize::try_from(state).ok().and_then(|state| counts.get_mut(state)) {
        *count = if up { count.saturating_add(1) } else { count.saturating_sub(1) };
    }
}

/// What others have of an agent. Changes with every offer and task.
#[derive(Debug, Clone, Default)]
pub(super) struct Load {
    pub(super) allocated: Sum,
    pub(super) offered: Sum,
    /// Of all tasks that are shown, ended ones included.
    pub(super) counts: Counts,
    /// So many of these tasks each framework has. An agent works for few frameworks at a time.
    pub(super) frameworks: Vec<(FrameworkId, u32)>,
}

impl Load {
    pub(super) fn is_empty(&self) -> bool {
        self.allocated.is_empty() && self.offered.is_empty() && self.frameworks.is_empty()
    }

    /// A task in that state is shown from now on.
    pub(super) fn show(&mut self, framework: &FrameworkId, state: i32) {
        count(&mut self.counts, state, true);
        match self.frameworks.iter_mut().find(|(id, _)| id == framework) {
            Some((_, tasks)) => *tasks += 1,
            None => self.frameworks.push((framework.clone(), 1)),
        }
    }

    /// The opposite of [`show`](Self::show).
    pub(super) fn hide(&mut self, framework: &FrameworkId, state: i32) {
        count(&mut self.counts, state, false);
        if let Some(at) = self.frameworks.iter().position(|(id, _)| id == framework) {
            self.frameworks[at].1 -= 1;
            if self.frameworks[at].1 == 0 {
                self.frameworks.swap_remove(at);
            }
        }
    }

    pub(super) fn moved(&mut self, from: i32, to: i32) {
        count(&mut self.counts, from, false);
        count(&mut self.counts, to, true);
    }
}

/// What an agent is. Changes when it comes, goes, or is ordered about.
#[derive(Debug)]
pub(super) struct AgentFacts {
    pub(super) info: v1::AgentInfo,
    pub(super) version: String,
    pub(super) state: AgentState,
    pub(super) since_unix_ns: i64,
    pub(super) registered_unix_ns: i64,
    pub(super) total: Resources,
    pub(super) deactivated: bool,
    pub(super) drain: Option<(v1::DrainInfo, i64)>,
    encoded: OnceLock<Bytes>,
}

#[derive(Debug, Clone)]
pub(super) struct AgentEntry {
    pub(super) facts: Arc<AgentFacts>,
    pub(super) load: Load,
}

impl AgentFacts {
    #[expect(clippy::too_many_arguments, reason = "the fields of the change, once")]
    pub(super) fn new(
        info: v1::AgentInfo,
        version: String,
        state: AgentState,
        since_unix_ns: i64,
        registered_unix_ns: i64,
        total: &[v1::Resource],
        deactivated: bool,
        drain: Option<(v1::DrainInfo, i64)>,
    ) -> AgentFacts {
        AgentFacts {
            info,
            version,
            state,
            since_unix_ns,
            registered_unix_ns,
            total: Resources::from_proto(total).unwrap_or_default(),
            deactivated,
            drain,
            encoded: OnceLock::new(),
        }
    }

    fn pid(&self) -> String {
        format!("slave(1)@{}:{}", self.info.hostname, self.info.port())
    }

    pub(super) fn active(&self) -> bool {
        self.state == AgentState::Active && !self.deactivated
    }

    /// When it came back last, if it did.
    fn reregistered_unix_ns(&self) -> Option<i64> {
        let linked = self.state == AgentState::Active;
        (linked && self.since_unix_ns > self.registered_unix_ns).then_some(self.since_unix_ns)
    }

    /// The agent without what others have of it.
    fn to_proto(&self) -> get_agents::Agent {
        let time = |nanoseconds| v1::TimeInfo { nanoseconds };
        let away = self.state == AgentState::Disconnected;
        get_agents::Agent {
            agent_info: self.info.clone(),
            active: self.active(),
            deactivated: Some(self.deactivated),
            version: self.version.clone(),
            pid: Some(self.pid()),
            registered_time: Some(time(self.registered_unix_ns)),
            reregistered_time: self.reregistered_unix_ns().map(time),
            total_resources: legacy::endpoint(&self.total),
            capabilities: legacy::AGENT_CAPABILITIES
                .iter()
                .map(|kind| v1::agent_info::Capability { r#type: Some(*kind as i32) })
                .collect(),
            drain_info: self.drain.as_ref().map(|(info, _)| *info),
            estimated_drain_start_time: self.drain.as_ref().map(|(_, since)| time(*since)),
            disconnected_time: away.then(|| time(self.since_unix_ns)),
            ..get_agents::Agent::default()
        }
    }

    fn away(&self) -> get_agents::Away {
        get_agents::Away {
            agent_info: self.info.clone(),
            since: Some(v1::TimeInfo { nanoseconds: self.since_unix_ns }),
        }
    }
}

impl AgentEntry {
    pub(super) fn to_proto(&self) -> get_agents::Agent {
        get_agents::Agent {
            allocated_resources: legacy::endpoint(&self.load.allocated.total()),
            offered_resources: legacy::endpoint(&self.load.offered.total()),
            ..self.facts.to_proto()
        }
    }

    fn legacy(&self, object: &mut Object<'_>) {
        let AgentFacts { info, total, .. } = &*self.facts;
        legacy::agent_info(object, info);
        object.text("pid", &self.facts.pid());
        legacy::time(object, "registered_time", self.facts.registered_unix_ns);
        if let Some(since) = self.facts.reregistered_unix_ns() {
            legacy::time(object, "reregistered_time", since);
        }
        object.field("resources", |out| legacy::resources(out, total));
        object.field("used_resources", |out| {
            legacy::resources(out, &self.load.allocated.total());
        });
        object.field("offered_resources", |out| {
            legacy::resources(out, &self.load.offered.total());
        });
        legacy::by_role(object, "reserved_resources", total, legacy::resources);
        object.field("unreserved_resources", |out| legacy::resources(out, &total.unreserved()));
        object.boolean("active", self.facts.active());
        object.boolean("deactivated", self.facts.deactivated);
        object.text("version", &self.facts.version);
        object.list("capabilities", legacy::AGENT_CAPABILITIES, |out, kind| {
            text(out, kind.as_str_name())
        });
        if let Some((info, since)) = &self.facts.drain {
            object.message("drain_info", info);
            legacy::time(object, "estimated_drain_start_time_seconds", *since);
        }
    }

    fn full(&self, object: &mut Object<'_>) {
        let total = &self.facts.total;
        legacy::by_role(object, "reserved_resources_full", total, legacy::full);
        object.field("unreserved_resources_full", |out| legacy::full(out, &total.unreserved()));
        object.field("used_resources_full", |out| {
            legacy::full(out, &self.load.allocated.total());
        });
        object.field("offered_resources_full", |out| {
            legacy::full(out, &self.load.offered.total());
        });
    }
}

/// `"TASK_RUNNING":3`, in the order and for the states of Mesos.
pub(super) fn state_counts(object: &mut Object<'_>, counts: &Counts) {
    use v1::TaskState::{
        TaskError, TaskFailed, TaskFinished, TaskKilled, TaskKilling, TaskLost, TaskRunning,
        TaskStaging, TaskStarting, TaskUnreachable,
    };
    for state in [
        TaskStaging,
        TaskStarting,
        TaskRunning,
        TaskKilling,
        TaskFinished,
        TaskKilled,
        TaskFailed,
        TaskLost,
        TaskError,
        TaskUnreachable,
    ] {
        object.integer(state.as_str_name(), counts.get(state as usize).copied().unwrap_or(0));
    }
}

impl Entry for Arc<AgentEntry> {
    fn protobuf<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        match self.facts.state {
            AgentState::Active | AgentState::Disconnected => {
                // Fields may come in any order: what changes all the time comes after what does not.
                let facts = &self.facts;
                let encoded = facts.encoded.get_or_init(|| facts.to_proto().encode_to_vec().into());
                scratch.extend_from_slice(encoded);
                // Only repeated fields: the rest are required ones, which are set already.
                let load = &self.load;
                for (number, sum) in [(8, &load.allocated), (9, &load.offered)] {
                    put_resources(scratch, number, &sum.total());
                }
            }
            AgentState::Recovered => {
                self.facts.info.encode(scratch).ok();
            }
            AgentState::Unreachable | AgentState::Gone => {
                self.facts.away().encode(scratch).ok();
            }
        }
        scratch
    }

    fn json(&self, form: Form, out: &mut Vec<u8>) {
        let recovered = self.facts.state == AgentState::Recovered;
        match form {
            Form::Json => match self.facts.state {
                AgentState::Active | AgentState::Disconnected => {
                    out.extend_from_slice(&json::to_vec(&self.to_proto()));
                }
                AgentState::Recovered => out.extend_from_slice(&json::to_vec(&self.facts.info)),
                AgentState::Unreachable | AgentState::Gone => {
                    out.extend_from_slice(&json::to_vec(&self.facts.away()));
                }
            },
            Form::Legacy | Form::Summary | Form::Full if recovered => {
                let mut object = Object::begin(out);
                legacy::agent_info(&mut object, &self.facts.info);
                object.end();
            }
            Form::Legacy | Form::Full => {
                let mut object = Object::begin(out);
                self.legacy(&mut object);
                if form == Form::Full {
                    self.full(&mut object);
                }
                object.end();
            }
            Form::Summary => {
                let mut object = Object::begin(out);
                self.legacy(&mut object);
                state_counts(&mut object, &self.load.counts);
                object.field("framework_ids", |out| {
                    list(out, &self.load.frameworks, |out, (id, _)| text(out, id.as_str()));
                });
                object.end();
            }
            Form::Protobuf => {}
        }
    }
}
