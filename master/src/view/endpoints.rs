//! The answers of Mesos' first read endpoints: `/state`, `/state-summary`, `/slaves`, `/frameworks`, `/tasks`,
//! `/roles`. Lists are pages, as in the v1 answers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use mezzo_proto::v1;
use mezzo_proto::v1::quota::QuotaConfig;

use super::framework::FrameworkEntry;
use super::pages::{Entry, Form};
use super::parts::{Answer, Parts};
use super::snapshot::Snapshot;
use super::task::TaskEntry;
use mezzo_legacy_json as legacy;
use mezzo_legacy_json::{Object, list, object, text};

/// What `/state` tells of the master itself.
#[derive(Debug, Clone)]
pub(crate) struct MasterFacts {
    pub(crate) version: String,
    pub(crate) start_time: f64,
    pub(crate) elected_time: f64,
    pub(crate) info: v1::MasterInfo,
    pub(crate) cluster: Option<String>,
    pub(crate) flags: Arc<Vec<v1::Flag>>,
}

/// What `/tasks` is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct TasksQuery {
    pub(crate) limit: usize,
    pub(crate) offset: usize,
    pub(crate) ascending: bool,
    pub(crate) framework_id: Option<String>,
    pub(crate) task_id: Option<String>,
}

impl Snapshot {
    /// `/state`.
    pub(crate) fn state(&self, master: &MasterFacts) -> Answer {
        self.asked.note(Form::Legacy);
        let mut parts = Parts::default();
        let active = self.agents.registered.iter().filter(|agent| agent.facts.active()).count();
        let mut head = Object::begin(parts.tail());
        master_fields(&mut head, master, |head| {
            head.integer("activated_slaves", active);
            head.integer("deactivated_slaves", self.agents.registered.len() - active);
            head.integer("unreachable_slaves", self.agents.unreachable.len());
        });
        parts.list("slaves", Form::Legacy, [&self.agents.registered]);
        parts.list("recovered_slaves", Form::Legacy, [&self.agents.recovered]);
        self.framework_lists(&mut parts, None);
        parts.literal(r#","orphan_tasks":[],"unregistered_frameworks":[]}"#);
        parts.finish()
    }

    /// `/frameworks`.
    pub(crate) fn frameworks(&self, only: Option<&str>) -> Answer {
        self.asked.note(Form::Legacy);
        let mut parts = Parts::default();
        parts.literal("{");
        self.framework_lists(&mut parts, only);
        parts.literal(r#","unregistered_frameworks":[]}"#);
        parts.finish()
    }

    fn framework_lists(&self, parts: &mut Parts, only: Option<&str>) {
        let wanted = |framework: &&FrameworkEntry| only.is_none_or(|id| framework.id() == id);
        parts.name("frameworks");
        frameworks(parts, self.frameworks.iter().map(|framework| &**framework).filter(wanted));
        parts.name("completed_frameworks");
        frameworks(parts, self.completed.iter().map(|framework| &**framework).filter(wanted));
    }

    /// `/slaves`.
    pub(crate) fn slaves(&self, only: Option<&str>) -> Answer {
        self.asked.note(Form::Full);
        let mut parts = Parts::default();
        parts.literal("{");
        for (name, pages) in
            [("slaves", &self.agents.registered), ("recovered_slaves", &self.agents.recovered)]
        {
            let Some(id) = only else {
                parts.list(name, Form::Full, [pages]);
                continue;
            };
            parts.name(name);
            let wanted = pages
                .iter()
                .filter(|agent| agent.facts.info.id.as_ref().is_some_and(|of| of.value == id));
            list(parts.tail(), wanted, |out, agent| agent.json(Form::Full, out));
        }
        parts.literal("}");
        parts.finish()
    }

    /// `/state-summary`.
    pub(crate) fn summary(&self, master: &MasterFacts) -> Answer {
        self.asked.note(Form::Summary);
        let mut parts = Parts::default();
        let mut head = Object::begin(parts.tail());
        head.text("hostname", master.info.hostname.as_deref().unwrap_or_default());
        if let Some(cluster) = &master.cluster {
            head.text("cluster", cluster);
        }
        parts.list("slaves", Form::Summary, [&self.agents.registered]);
        let mut slaves: HashMap<&str, Vec<&str>> = HashMap::new();
        for pages in [&self.agents.registered, &self.agents.recovered, &self.agents.unreachable] {
            for agent in pages.iter() {
                let Some(id) = &agent.facts.info.id else { continue };
                for (framework, _) in &agent.load.frameworks {
                    slaves.entry(framework.as_str()).or_default().push(&id.value);
                }
            }
        }
        parts.name("frameworks");
        list(parts.tail(), self.frameworks.iter(), |out, framework| {
            object(out, |object| {
                framework.summary(object);
                framework.summary_counts(object);
                let ids = slaves.get(framework.id()).map(Vec::as_slice).unwrap_or_default();
                object.list("slave_ids", ids, |out, id| text(out, id));
            });
        });
        parts.literal("}");
        parts.finish()
    }

    /// `/tasks`: a piece of all tasks, by when each began.
    pub(crate) fn tasks(&self, query: &TasksQuery) -> Answer {
        let mut tasks: Vec<Dated<'_>> = Vec::new();
        for framework in self.all_frameworks() {
            if query.framework_id.as_ref().is_some_and(|id| id != framework.id()) {
                continue;
            }
            for pages in [&framework.tasks, &framework.unreachable, &framework.completed] {
                let wanted = |task: &&TaskEntry| {
                    query.task_id.as_ref().is_none_or(|id| id == task.task_id())
                };
                for task in pages.iter().filter(wanted) {
                    // Those without a status come first when ascending, last otherwise, as with Mesos.
                    tasks.push(Dated { began: task.began(), place: tasks.len(), task });
                }
            }
        }
        let order = |a: &Dated<'_>, b: &Dated<'_>| {
            let by_time = a.began.total_cmp(&b.began);
            let by_time = if query.ascending { by_time } else { by_time.reverse() };
            by_time.then(a.place.cmp(&b.place))
        };
        // Only what comes before the end of the piece is sorted: a page of a large cluster is little.
        let end = query.offset.saturating_add(query.limit);
        if end < tasks.len() {
            tasks.select_nth_unstable_by(end, order);
            tasks.truncate(end);
        }
        tasks.sort_unstable_by(order);
        let mut parts = Parts::default();
        parts.literal("{");
        parts.name("tasks");
        let piece = tasks.into_iter().skip(query.offset);
        list(parts.tail(), piece, |out, dated| dated.task.json(Form::Legacy, out));
        parts.literal("}");
        parts.finish()
    }

    /// `/roles`.
    pub(crate) fn roles(&self) -> Answer {
        let mut out = Vec::new();
        let mut answer = Object::begin(&mut out);
        answer.list("roles", self.known_roles(), |out, (name, of)| {
            object(out, |object| {
                object.text("name", &name);
                object.number("weight", self.weights.get(&name).copied().unwrap_or(1.0));
                object.object("quota", |object| {
                    let none = QuotaConfig::default();
                    let quota = self.quotas.get(&name).unwrap_or(&none);
                    object.text("role", &name);
                    object.field("guarantee", |out| legacy::scalars(out, &quota.guarantees));
                    object.field("limit", |out| legacy::scalars(out, &quota.limits));
                    object.field("consumed", |out| legacy::quantities(out, &of.consumed()));
                });
                let mut resources = of.allocated.clone();
                resources.add_all(&of.offered);
                object.field("resources", |out| legacy::quantities(out, &resources));
                object.field("allocated", |out| legacy::quantities(out, &of.allocated));
                object.field("offered", |out| legacy::quantities(out, &of.offered));
                object.field("reserved", |out| legacy::quantities(out, &of.reserved));
                object.list("frameworks", &of.frameworks, |out, id| text(out, id.as_str()));
            });
        });
        answer.end();
        out.into()
    }
}

/// A task, with when it began and its place among all: what is equal in time stays in order.
struct Dated<'a> {
    began: f64,
    place: usize,
    task: &'a TaskEntry,
}

fn master_fields(
    object: &mut Object<'_>,
    master: &MasterFacts,
    counts: impl FnOnce(&mut Object<'_>),
) {
    let info = &master.info;
    object.text("version", &master.version);
    object.text("build_date", "");
    object.number("build_time", 0.0);
    object.text("build_user", "");
    object.number("start_time", master.start_time);
    object.number("elected_time", master.elected_time);
    object.text("id", &info.id);
    object.text("pid", info.pid.as_deref().unwrap_or_default());
    object.text("hostname", info.hostname.as_deref().unwrap_or_default());
    let capabilities: BTreeSet<&str> =
        info.capabilities.iter().map(|kind| kind.r#type().as_str_name()).collect();
    object.list("capabilities", capabilities, text);
    counts(object);
    if let Some(domain) = &info.domain {
        object.message("domain", domain);
    }
    // Whoever answers this leads.
    object.text("leader", info.pid.as_deref().unwrap_or_default());
    object.object("leader_info", |leader| {
        leader.text("id", &info.id);
        leader.text("pid", info.pid.as_deref().unwrap_or_default());
        leader.integer("port", info.port);
        leader.text("hostname", info.hostname.as_deref().unwrap_or_default());
        if let Some(domain) = &info.domain {
            leader.message("domain", domain);
        }
    });
    if let Some(cluster) = &master.cluster {
        object.text("cluster", cluster);
    }
    object.object("flags", |object| {
        for flag in master.flags.iter() {
            object.text(&flag.name, flag.value.as_deref().unwrap_or_default());
        }
    });
}

fn frameworks<'a>(parts: &mut Parts, frameworks: impl Iterator<Item = &'a FrameworkEntry>) {
    parts.literal("[");
    for (at, framework) in frameworks.enumerate() {
        if at > 0 {
            parts.literal(",");
        }
        let mut head = Object::begin(parts.tail());
        framework.summary(&mut head);
        framework.details(&mut head);
        parts.list("tasks", Form::Legacy, [&framework.tasks]);
        parts.list("unreachable_tasks", Form::Legacy, [&framework.unreachable]);
        parts.list("completed_tasks", Form::Legacy, [&framework.completed]);
        parts.list("offers", Form::Legacy, [&framework.offers]);
        parts.list("executors", Form::Legacy, [&framework.executors]);
        framework.ending(&mut Object::resume(parts.tail()));
        parts.literal(r#","offer_constraints":{}}"#);
    }
    parts.literal("]");
}
