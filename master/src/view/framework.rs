//! A framework as readers keep it, with its tasks, executors and offers.

use std::sync::Arc;

use mezzo_proto::json;
use mezzo_proto::v1;
use mezzo_proto::v1::master::response::{get_executors, get_frameworks};
use mezzo_types::FrameworkId;
use prost::Message;

use super::agent::{Counts, state_counts};
use super::pages::{Entry, Form, Pages};
use super::small::OfferEntry;
use super::sum::Sum;
use super::task::TaskEntry;
use mezzo_legacy_json as legacy;
use mezzo_legacy_json::{Object, text};

// Field numbers of `GetFrameworks.Framework`.
const OFFERS: u32 = 7;
const INVERSE_OFFERS: u32 = 8;

/// What a framework is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FrameworkFacts {
    pub(super) info: v1::FrameworkInfo,
    pub(super) connected: bool,
    pub(super) active: bool,
    pub(super) recovered: bool,
    pub(super) registered_unix_ns: i64,
    pub(super) reregistered_unix_ns: Option<i64>,
    pub(super) unregistered_unix_ns: Option<i64>,
}

#[derive(Debug, Clone)]
pub(super) struct FrameworkEntry {
    pub(super) facts: Arc<FrameworkFacts>,
    pub(super) tasks: Pages<TaskEntry>,
    /// Those whose agent is unreachable.
    pub(super) unreachable: Pages<TaskEntry>,
    /// The newest that ended; `next_completed` is where the oldest is, once it is full.
    pub(super) completed: Pages<TaskEntry>,
    pub(super) next_completed: usize,
    pub(super) executors: Pages<Arc<get_executors::Executor>>,
    pub(super) offers: Pages<Arc<OfferEntry>>,
    pub(super) inverse_offers: Pages<Arc<v1::InverseOffer>>,
    pub(super) allocated: Sum,
    pub(super) offered: Sum,
    /// Of all tasks that are shown.
    pub(super) counts: Counts,
}

/// A framework in numbers.
#[derive(Debug, Clone)]
pub(crate) struct FrameworkFigures {
    pub(crate) id: FrameworkId,
    pub(crate) name: String,
    pub(crate) subscribed: bool,
    /// Its tasks that did not end, by the number of their state.
    pub(crate) tasks: [u64; 14],
}

impl FrameworkEntry {
    /// In numbers.
    pub(super) fn figures(&self) -> FrameworkFigures {
        let mut tasks = self.counts.map(u64::from);
        // Those that were given up with their agents are counted as history, too.
        tasks[v1::TaskState::TaskUnreachable as usize] = self.unreachable.len() as u64;
        FrameworkFigures {
            id: self.id().into(),
            name: self.facts.info.name.clone(),
            subscribed: self.facts.connected,
            tasks,
        }
    }

    pub(super) fn new(facts: FrameworkFacts) -> FrameworkEntry {
        FrameworkEntry {
            facts: Arc::new(facts),
            tasks: Pages::default(),
            unreachable: Pages::default(),
            completed: Pages::default(),
            next_completed: 0,
            executors: Pages::default(),
            offers: Pages::default(),
            inverse_offers: Pages::default(),
            allocated: Sum::default(),
            offered: Sum::default(),
            counts: Counts::default(),
        }
    }

    pub(super) fn id(&self) -> &str {
        self.facts.info.id.as_ref().map_or("", |id| &id.value)
    }

    /// Without offers.
    pub(super) fn to_proto(&self) -> get_frameworks::Framework {
        let facts = &*self.facts;
        get_frameworks::Framework {
            allocated_resources: legacy::endpoint(&self.allocated.total()),
            offered_resources: legacy::endpoint(&self.offered.total()),
            ..facts.to_proto()
        }
    }

    /// What `/state` and `/state-summary` begin with.
    pub(super) fn summary(&self, object: &mut Object<'_>) {
        let FrameworkFacts { info, .. } = &*self.facts;
        object.text("id", self.id());
        object.text("name", &info.name);
        object.field("used_resources", |out| legacy::resources(out, &self.allocated.total()));
        object.field("offered_resources", |out| legacy::resources(out, &self.offered.total()));
        legacy::capabilities(object, info);
        object.text("hostname", info.hostname.as_deref().unwrap_or_default());
        object.text("webui_url", info.webui_url.as_deref().unwrap_or_default());
        object.boolean("active", self.facts.active);
        object.boolean("connected", self.facts.connected);
        object.boolean("recovered", self.facts.recovered);
    }

    pub(super) fn summary_counts(&self, object: &mut Object<'_>) {
        state_counts(object, &self.counts);
    }

    /// What follows in `/state` before the lists.
    pub(super) fn details(&self, object: &mut Object<'_>) {
        let FrameworkFacts { info, .. } = &*self.facts;
        object.text("user", &info.user);
        object.number("failover_timeout", info.failover_timeout());
        object.boolean("checkpoint", info.checkpoint());
        legacy::time(object, "registered_time", self.facts.registered_unix_ns);
        let unregistered = self.facts.unregistered_unix_ns.unwrap_or_default();
        legacy::time(object, "unregistered_time", unregistered);
        if let Some(principal) = &info.principal {
            object.text("principal", principal);
        }
        object.field("resources", |out| {
            legacy::resources(out, &(self.allocated.total() + self.offered.total()));
        });
        if let Some(since) = self.facts.reregistered_unix_ns {
            legacy::time(object, "reregistered_time", since);
        }
        if legacy::is_multi_role(info) {
            object.list("roles", &info.roles, |out, role| text(out, role));
        } else {
            #[expect(deprecated, reason = "Mesos clients without MULTI_ROLE use the old field")]
            object.text("role", info.role.as_deref().unwrap_or("*"));
        }
    }

    /// What comes after the lists.
    pub(super) fn ending(&self, object: &mut Object<'_>) {
        if let Some(labels) = &self.facts.info.labels {
            object.list("labels", &labels.labels, |out, label| out.extend(json::to_vec(label)));
        }
    }
}

impl FrameworkFacts {
    /// Without what others gave it.
    pub(super) fn to_proto(&self) -> get_frameworks::Framework {
        let time = |nanoseconds| v1::TimeInfo { nanoseconds };
        let registered = Some(self.registered_unix_ns).filter(|time| *time != 0);
        get_frameworks::Framework {
            framework_info: self.info.clone(),
            active: self.active,
            connected: self.connected,
            recovered: self.recovered,
            registered_time: registered.map(time),
            // As Mesos has it: the first time counts as one.
            reregistered_time: self.reregistered_unix_ns.or(registered).map(time),
            unregistered_time: self.unregistered_unix_ns.map(time),
            ..get_frameworks::Framework::default()
        }
    }
}

impl Entry for Arc<FrameworkEntry> {
    fn protobuf<'a>(&'a self, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        // A Vec takes everything.
        self.to_proto().encode(scratch).ok();
        for page in self.offers.pages() {
            scratch.extend_from_slice(&page.encoded(Form::Protobuf, OFFERS));
        }
        for page in self.inverse_offers.pages() {
            scratch.extend_from_slice(&page.encoded(Form::Protobuf, INVERSE_OFFERS));
        }
        scratch
    }

    fn json(&self, form: Form, out: &mut Vec<u8>) {
        if form != Form::Json {
            return;
        }
        out.extend_from_slice(&json::to_vec(&self.to_proto()));
        // Goes on with what is a list of pages.
        if out.pop().is_some() {
            let mut object = Object::resume(out);
            append(&mut object, "offers", &self.offers);
            append(&mut object, "inverse_offers", &self.inverse_offers);
            object.end();
        }
    }
}

fn append<T: Entry>(object: &mut Object<'_>, name: &str, pages: &Pages<T>) {
    if pages.len() == 0 {
        return;
    }
    object.list(name, pages.pages(), |out, page| {
        out.extend_from_slice(&page.encoded(Form::Json, 0));
    });
}
