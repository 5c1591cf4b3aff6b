//! All of it as of one moment, and the answers of the v1 API made of that.

use std::collections::BTreeMap;
use std::sync::Arc;

use mezzo_proto::json;
use mezzo_proto::v1;
use mezzo_proto::v1::master::response::{GetRoles, Type};
use mezzo_proto::v1::quota::QuotaConfig;
use prost::Message;

use super::framework::FrameworkEntry;
use super::idle::Asked;
use super::pages::{Form, Pages};
use super::parts::{Answer, Parts};
use super::role::Roles;
use super::state::{Agents, State};
use super::task::TaskEntry;
use crate::api::Encoding;

/// Taking one copies handles; what they lead to does not change any more.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(super) frameworks: Pages<Arc<FrameworkEntry>>,
    pub(super) completed: Vec<Arc<FrameworkEntry>>,
    pub(super) agents: Agents,
    pub(super) operations: Pages<Arc<v1::Operation>>,
    pub(super) weights: Arc<BTreeMap<String, f64>>,
    pub(super) quotas: Arc<BTreeMap<String, QuotaConfig>>,
    pub(super) roles: Roles,
    /// The number of the last event that is in here.
    pub(super) last_event: u64,
    pub(super) asked: Arc<Asked>,
}

/// What may be read in either encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    State,
    Agents,
    Frameworks,
    Executors,
    Operations,
    Tasks,
    Roles,
}

impl Read {
    fn kind(self) -> Type {
        match self {
            Read::State => Type::GetState,
            Read::Agents => Type::GetAgents,
            Read::Frameworks => Type::GetFrameworks,
            Read::Executors => Type::GetExecutors,
            Read::Operations => Type::GetOperations,
            Read::Tasks => Type::GetTasks,
            Read::Roles => Type::GetRoles,
        }
    }

    /// Number and name of its field in the response.
    fn field(self) -> (u32, &'static str) {
        match self {
            Read::State => (9, "get_state"),
            Read::Agents => (10, "get_agents"),
            Read::Frameworks => (11, "get_frameworks"),
            Read::Executors => (12, "get_executors"),
            Read::Operations => (20, "get_operations"),
            Read::Tasks => (13, "get_tasks"),
            Read::Roles => (14, "get_roles"),
        }
    }
}

impl Snapshot {
    /// `roles`: whether the roles are wanted, too. There may be many, and only few ask.
    pub(super) fn of(state: &State, roles: bool, asked: &Arc<Asked>) -> Snapshot {
        Snapshot {
            frameworks: state.frameworks.clone(),
            completed: state.completed.iter().cloned().collect(),
            agents: state.agents.clone(),
            operations: state.operations.clone(),
            weights: Arc::clone(&state.weights),
            quotas: Arc::clone(&state.quotas),
            roles: if roles { state.roles.clone() } else { Roles::default() },
            last_event: state.last_event,
            asked: Arc::clone(asked),
        }
    }

    /// Those that are there, and those that are history.
    pub(super) fn all_frameworks(&self) -> impl Iterator<Item = &FrameworkEntry> {
        self.frameworks.iter().chain(&self.completed).map(|framework| &**framework)
    }

    fn shelves(
        &self,
        shelf: fn(&FrameworkEntry) -> &Pages<TaskEntry>,
    ) -> impl Iterator<Item = &Pages<TaskEntry>> {
        self.all_frameworks().map(shelf)
    }

    /// The whole `Response` to a call.
    pub(crate) fn response(&self, read: Read, encoding: Encoding) -> Answer {
        let (number, name) = read.field();
        let mut parts = Parts::default();
        match encoding {
            Encoding::Protobuf => {
                parts.number(1, read.kind() as i32);
                parts.nested(number, self.protobuf(read));
            }
            Encoding::Json => {
                parts.literal("{");
                parts.name("type");
                mezzo_legacy_json::text(parts.tail(), read.kind().as_str_name());
                parts.name(name);
                self.json(read, &mut parts);
                parts.literal("}");
            }
        }
        parts.finish()
    }

    /// The inner message, `GetTasks` and its like.
    pub(super) fn protobuf(&self, read: Read) -> Answer {
        self.asked.note(Form::Protobuf);
        let mut parts = Parts::default();
        match read {
            Read::State => {
                parts.nested(1, self.protobuf(Read::Tasks));
                parts.nested(2, self.protobuf(Read::Executors));
                parts.nested(3, self.protobuf(Read::Frameworks));
                parts.nested(4, self.protobuf(Read::Agents));
            }
            Read::Tasks => {
                for framework in self.all_frameworks() {
                    parts.fields(2, &framework.tasks);
                    parts.fields(5, &framework.unreachable);
                    parts.fields(3, &framework.completed);
                }
            }
            Read::Agents => {
                let Agents { registered, recovered, unreachable, gone } = &self.agents;
                parts.fields(1, registered);
                parts.fields(2, recovered);
                parts.fields(10_001, unreachable);
                parts.fields(10_002, gone);
            }
            Read::Frameworks => {
                parts.fields(1, &self.frameworks);
                parts.fields(2, &self.completed_pages());
            }
            Read::Executors => {
                for framework in self.all_frameworks() {
                    parts.fields(1, &framework.executors);
                }
            }
            Read::Operations => parts.fields(1, &self.operations),
            Read::Roles => return self.get_roles().encode_to_vec().into(),
        }
        parts.finish()
    }

    pub(super) fn json(&self, read: Read, parts: &mut Parts) {
        self.asked.note(Form::Json);
        if read == Read::Roles {
            let text = json::to_vec(&self.get_roles());
            return parts.put(text.into());
        }
        parts.literal("{");
        match read {
            Read::State => {
                for read in [Read::Tasks, Read::Executors, Read::Frameworks, Read::Agents] {
                    parts.name(read.field().1);
                    self.json(read, parts);
                }
            }
            Read::Tasks => {
                parts.list("tasks", Form::Json, self.shelves(|of| &of.tasks));
                parts.list("unreachable_tasks", Form::Json, self.shelves(|of| &of.unreachable));
                parts.list("completed_tasks", Form::Json, self.shelves(|of| &of.completed));
            }
            Read::Agents => {
                let Agents { registered, recovered, unreachable, gone } = &self.agents;
                parts.list("agents", Form::Json, [registered]);
                parts.list("recovered_agents", Form::Json, [recovered]);
                // Not in Mesos.
                for (name, list) in [("unreachable_agents", unreachable), ("gone_agents", gone)] {
                    if list.len() > 0 {
                        parts.list(name, Form::Json, [list]);
                    }
                }
            }
            Read::Frameworks => {
                parts.list("frameworks", Form::Json, [&self.frameworks]);
                parts.list("completed_frameworks", Form::Json, [&self.completed_pages()]);
            }
            Read::Executors => {
                let executors = self.all_frameworks().map(|framework| &framework.executors);
                parts.list("executors", Form::Json, executors);
            }
            Read::Operations => {
                // As Mesos: an empty list is left out here.
                if self.operations.len() > 0 {
                    parts.list("operations", Form::Json, [&self.operations]);
                }
            }
            Read::Roles => {}
        }
        parts.literal("}");
    }

    /// What it looks like in that form is made again when somebody asks.
    pub(super) fn forget(&self, form: Form) {
        let Agents { registered, recovered, unreachable, gone } = &self.agents;
        for agents in [registered, recovered, unreachable, gone] {
            agents.forget(form);
        }
        self.frameworks.forget(form);
        self.operations.forget(form);
        for framework in self.all_frameworks() {
            for tasks in [&framework.tasks, &framework.unreachable, &framework.completed] {
                tasks.forget(form);
            }
            framework.executors.forget(form);
            framework.offers.forget(form);
            framework.inverse_offers.forget(form);
        }
    }

    /// There are few: pages of this answer alone.
    fn completed_pages(&self) -> Pages<Arc<FrameworkEntry>> {
        let mut pages = Pages::default();
        for framework in &self.completed {
            pages.push(Arc::clone(framework));
        }
        pages
    }

    fn get_roles(&self) -> GetRoles {
        let known = self.known_roles();
        let roles = known.into_iter().map(|(name, of)| {
            let mut sum = of.allocated.clone();
            sum.add_all(&of.offered);
            let resources = sum
                .iter()
                .filter(|(name, _)| ["cpus", "mem", "disk", "gpus"].contains(&name.as_str()));
            v1::Role {
                weight: self.weights.get(&name).copied().unwrap_or(1.0),
                frameworks: of.frameworks.iter().map(Into::into).collect(),
                resources: resources
                    .map(|(name, amount)| v1::Resource {
                        name: name.as_str().to_owned(),
                        r#type: v1::value::Type::Scalar as i32,
                        scalar: Some(v1::value::Scalar { value: amount.to_f64() }),
                        ..v1::Resource::default()
                    })
                    .collect(),
                name,
            }
        });
        GetRoles { roles: roles.collect() }
    }

    /// As Mesos has it: roles with frameworks, allocations, reservations, a weight or a quota, and all above them.
    pub(super) fn known_roles(&self) -> BTreeMap<String, super::role::RoleUse> {
        let also = self.weights.keys().chain(self.quotas.keys());
        self.roles.with_those_above(also.map(String::as_str))
    }
}
