//! Random changes: pages show what plain maps show.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_master_core::TaskNews;
use mezzo_proto::v1::master::response::{get_agents, get_frameworks};
use mezzo_types::{FrameworkId, OfferId, TaskId};
use proptest::prelude::*;

use super::*;
use crate::view::Memory;

const FRAMEWORKS: [&str; 3] = ["f0", "f1", "f2"];
const AGENTS: [&str; 3] = ["a0", "a1", "a2"];
const STATES: [TaskState; 6] = [
    TaskState::TaskStaging,
    TaskState::TaskRunning,
    TaskState::TaskUnreachable,
    TaskState::TaskFinished,
    TaskState::TaskFailed,
    TaskState::TaskLost,
];
/// Completed tasks of a framework.
const KEPT: usize = 5;

#[derive(Debug, Clone)]
enum Act {
    Framework(usize),
    FrameworkGone(usize),
    Agent(usize, AgentState),
    AgentGone(usize),
    Task(usize, u8, usize, usize),
    TaskGone(usize, u8),
    Offer(u8, usize, usize),
    OfferGone(u8),
    Executor(usize, u8, usize),
    ExecutorGone(usize, u8, usize),
    Read,
}

fn act() -> impl Strategy<Value = Act> {
    let framework = 0..FRAMEWORKS.len();
    let agent = 0..AGENTS.len();
    let state = prop_oneof![
        3 => Just(AgentState::Active),
        1 => Just(AgentState::Disconnected),
        1 => Just(AgentState::Recovered),
        1 => Just(AgentState::Unreachable),
        1 => Just(AgentState::Gone),
    ];
    prop_oneof![
        4 => framework.clone().prop_map(Act::Framework),
        1 => framework.clone().prop_map(Act::FrameworkGone),
        4 => (agent.clone(), state).prop_map(|(agent, state)| Act::Agent(agent, state)),
        1 => agent.clone().prop_map(Act::AgentGone),
        20 => (framework.clone(), 0..12_u8, agent.clone(), 0..STATES.len())
            .prop_map(|(framework, id, agent, state)| Act::Task(framework, id, agent, state)),
        10 => (framework.clone(), 0..12_u8).prop_map(|(framework, id)| Act::TaskGone(framework, id)),
        3 => (framework.clone(), 0..3_u8, agent.clone())
            .prop_map(|(framework, id, agent)| Act::Executor(framework, id, agent)),
        3 => (framework.clone(), 0..3_u8, agent.clone())
            .prop_map(|(framework, id, agent)| Act::ExecutorGone(framework, id, agent)),
        6 => (0..8_u8, framework, agent).prop_map(|(id, framework, agent)| Act::Offer(id, framework, agent)),
        4 => (0..8_u8).prop_map(Act::OfferGone),
        2 => Just(Act::Read),
    ]
}

/// What there is, without any thought of speed.
#[derive(Debug, Default, Clone, PartialEq)]
struct Model {
    frameworks: BTreeSet<String>,
    completed_frameworks: Vec<String>,
    agents: BTreeMap<String, AgentState>,
    /// By framework and id: agent and state.
    tasks: BTreeMap<(String, String), (String, TaskState)>,
    /// By framework: the newest.
    completed: BTreeMap<String, Vec<(String, String, TaskState)>>,
    /// Framework and agent.
    offers: BTreeMap<String, (String, String)>,
    /// Framework, agent and id.
    executors: BTreeSet<(String, String, String)>,
}

impl Model {
    fn complete(&mut self, framework: &str, id: &str) {
        let key = (framework.to_owned(), id.to_owned());
        if let Some((agent, state)) = self.tasks.remove(&key) {
            let completed = self.completed.entry(framework.to_owned()).or_default();
            completed.push((id.to_owned(), agent, state));
            if completed.len() > KEPT {
                completed.remove(0);
            }
        }
    }
}

fn apply(view: &View, model: &mut Model, act: &Act) {
    match act {
        Act::Framework(at) => {
            let id = FRAMEWORKS[*at];
            // An id that is gone does not come back.
            if model.completed_frameworks.iter().all(|gone| gone != id) {
                model.frameworks.insert(id.to_owned());
                view.apply(framework(id));
            }
        }
        Act::FrameworkGone(at) => {
            let id = FRAMEWORKS[*at];
            view.apply(ViewChange::FrameworkCompleted { id: id.into(), unix_ns: 9 * SECOND });
            if model.frameworks.remove(id) {
                let tasks: Vec<_> = model.tasks.keys().filter(|(f, _)| f == id).cloned().collect();
                for (framework, task) in tasks {
                    model.complete(&framework, &task);
                }
                model.offers.retain(|_, (framework, _)| framework != id);
                model.executors.retain(|(framework, _, _)| framework != id);
                model.completed_frameworks.push(id.to_owned());
            }
        }
        Act::Agent(at, state) => {
            model.agents.insert(AGENTS[*at].to_owned(), *state);
            view.apply(agent(AGENTS[*at], *state));
        }
        Act::AgentGone(at) => {
            model.agents.remove(AGENTS[*at]);
            view.apply(ViewChange::AgentRemoved(AGENTS[*at].into()));
        }
        Act::Task(framework, id, agent, state) => {
            let (framework, agent, state) =
                (FRAMEWORKS[*framework], AGENTS[*agent], STATES[*state]);
            let id = format!("t{id}");
            let whole = task(framework, &id, agent, state);
            let known = model.tasks.get(&(framework.to_owned(), id.clone()));
            // Half of what becomes of known tasks comes as news.
            view.apply(match known {
                Some((on, _)) if *on == agent && (id.len() + state as usize).is_multiple_of(2) => {
                    ViewChange::TaskNews(TaskNews {
                        framework: framework.into(),
                        task: id.as_str().into(),
                        state,
                        status: whole.statuses.last().cloned().map(Into::into),
                        status_update_state: whole.status_update_state,
                        status_update_uuid: whole.status_update_uuid,
                    })
                }
                _ => ViewChange::Task(whole),
            });
            if model.frameworks.contains(framework) {
                let key = (framework.to_owned(), id.clone());
                if model.tasks.get(&key).is_some_and(|(other, _)| other != agent) {
                    model.complete(framework, &id);
                }
                model.tasks.insert(key, (agent.to_owned(), state));
            }
        }
        Act::TaskGone(framework, id) => {
            let (framework, id) = (FRAMEWORKS[*framework], format!("t{id}"));
            view.apply(ViewChange::TaskCompleted(
                FrameworkId::from(framework),
                TaskId::from(id.as_str()),
            ));
            model.complete(framework, &id);
        }
        Act::Offer(id, framework, agent) => {
            let (id, framework, agent) = (format!("o{id}"), FRAMEWORKS[*framework], AGENTS[*agent]);
            view.apply(ViewChange::Offer(news(offer(&id, framework, agent))));
            model.offers.remove(&id);
            if model.frameworks.contains(framework) {
                model.offers.insert(id, (framework.to_owned(), agent.to_owned()));
            }
        }
        Act::OfferGone(id) => {
            let id = format!("o{id}");
            view.apply(ViewChange::OfferRemoved(OfferId::from(id.as_str())));
            model.offers.remove(&id);
        }
        Act::Executor(framework, id, agent) => {
            let (framework, agent, id) = (FRAMEWORKS[*framework], AGENTS[*agent], format!("e{id}"));
            let info = v1::ExecutorInfo {
                executor_id: v1::ExecutorId { value: id.clone() },
                resources: own_resources(framework),
                ..v1::ExecutorInfo::default()
            };
            view.apply(ViewChange::Executor {
                framework: framework.into(),
                agent: agent.into(),
                info,
            });
            if model.frameworks.contains(framework) {
                model.executors.insert((framework.to_owned(), agent.to_owned(), id));
            }
        }
        Act::ExecutorGone(framework, id, agent) => {
            let (framework, agent, id) = (FRAMEWORKS[*framework], AGENTS[*agent], format!("e{id}"));
            view.apply(ViewChange::ExecutorRemoved {
                framework: framework.into(),
                agent: agent.into(),
                executor: id.as_str().into(),
            });
            model.executors.remove(&(framework.to_owned(), agent.to_owned(), id));
        }
        Act::Read => {}
    }
}

/// What an executor takes beside its tasks.
fn own_resources(framework: &str) -> Vec<v1::Resource> {
    resources("cpus:0.25", Some(&format!("role-{framework}")))
}

/// What the executors take for which `of` holds.
fn of_executors(
    model: &Model,
    of: impl Fn(&(String, String, String)) -> bool,
) -> impl Iterator<Item = Vec<v1::Resource>> {
    model
        .executors
        .iter()
        .filter(move |key| of(key))
        .map(|(framework, _, _)| own_resources(framework))
}

fn held(state: TaskState) -> bool {
    !mezzo_types::is_terminal(state) && state != TaskState::TaskUnreachable
}

fn sum(messages: impl Iterator<Item = Vec<v1::Resource>>) -> Resources {
    messages.map(|list| Resources::from_proto(&list).expect("resources")).sum()
}

fn shown(tasks: &[v1::Task]) -> BTreeMap<(String, String), (String, TaskState)> {
    let entry = |task: &v1::Task| {
        let key = (task.framework_id.value.clone(), task.task_id.value.clone());
        (key, (task.agent_id.value.clone(), task.state()))
    };
    tasks.iter().map(entry).collect()
}

fn check(view: &View, model: &Model) {
    let tasks = read(view, Read::Tasks).get_tasks.expect("tasks");
    let (unreachable, live): (BTreeMap<_, _>, BTreeMap<_, _>) = model
        .tasks
        .clone()
        .into_iter()
        .partition(|(_, (_, state))| *state == TaskState::TaskUnreachable);
    assert_eq!(shown(&tasks.tasks), live);
    assert_eq!(shown(&tasks.unreachable_tasks), unreachable);
    let mut completed: Vec<_> = tasks
        .completed_tasks
        .iter()
        .map(|t| (t.framework_id.value.clone(), t.task_id.value.clone(), t.state()))
        .collect();
    completed.sort();
    let mut expected: Vec<_> = model
        .completed
        .iter()
        .flat_map(|(framework, tasks)| {
            tasks.iter().map(|(id, _, state)| (framework.clone(), id.clone(), *state))
        })
        .collect();
    expected.sort();
    assert_eq!(completed, expected);

    let agents = read(view, Read::Agents).get_agents.expect("agents");
    let ids = |list: &mut dyn Iterator<Item = &v1::AgentInfo>| -> BTreeSet<String> {
        list.filter_map(|info| info.id.as_ref()).map(|id| id.value.clone()).collect()
    };
    let of = |wanted: &[AgentState]| -> BTreeSet<String> {
        let matching = model.agents.iter().filter(|(_, state)| wanted.contains(state));
        matching.map(|(id, _)| id.clone()).collect()
    };
    let registered = of(&[AgentState::Active, AgentState::Disconnected]);
    assert_eq!(ids(&mut agents.agents.iter().map(|a| &a.agent_info)), registered);
    assert_eq!(ids(&mut agents.recovered_agents.iter()), of(&[AgentState::Recovered]));
    let unreachable = &mut agents.unreachable_agents.iter().map(|a| &a.agent_info);
    assert_eq!(ids(unreachable), of(&[AgentState::Unreachable]));
    assert_eq!(ids(&mut agents.gone_agents.iter().map(|a| &a.agent_info)), of(&[AgentState::Gone]));
    for agent in &agents.agents {
        check_agent(agent, model);
    }
    let frameworks = read(view, Read::Frameworks).get_frameworks.expect("frameworks");
    let names: BTreeSet<String> = frameworks.frameworks.iter().map(framework_id).collect();
    assert_eq!(names, model.frameworks);
    let names: Vec<String> = frameworks.completed_frameworks.iter().map(framework_id).collect();
    assert_eq!(names, model.completed_frameworks);
    for framework in &frameworks.frameworks {
        check_framework(framework, model);
    }
    check_roles(view, model);
    check_summary(view, model);
}

fn framework_id(framework: &get_frameworks::Framework) -> String {
    framework.framework_info.id.as_ref().expect("an id").value.clone()
}

fn parsed(messages: &[v1::Resource]) -> Resources {
    Resources::from_proto(messages).expect("resources")
}

fn check_agent(agent: &get_agents::Agent, model: &Model) {
    let id = &agent.agent_info.id.as_ref().expect("an id").value;
    let holding = model.tasks.iter().filter(|(_, (on, state))| on == id && held(*state));
    let holding = holding.map(|((f, t), (on, state))| task(f, t, on, *state).resources);
    let expected = sum(holding.chain(of_executors(model, |(_, on, _)| on == id)));
    assert_eq!(parsed(&agent.allocated_resources), expected, "allocated on {id}");
    let out = model.offers.iter().filter(|(_, (_, on))| on == id);
    let expected = sum(out.map(|(offer_id, (f, on))| offer(offer_id, f, on).resources));
    assert_eq!(parsed(&agent.offered_resources), expected, "offered on {id}");
}

fn check_framework(framework: &get_frameworks::Framework, model: &Model) {
    let id = framework_id(framework);
    let holding = model.tasks.iter().filter(|((f, _), (_, state))| *f == id && held(*state));
    let holding = holding.map(|((f, t), (on, state))| task(f, t, on, *state).resources);
    let expected = sum(holding.chain(of_executors(model, |(f, _, _)| *f == id)));
    assert_eq!(parsed(&framework.allocated_resources), expected, "allocated to {id}");
    let out: BTreeSet<String> =
        model.offers.iter().filter(|(_, (f, _))| *f == id).map(|(id, _)| id.clone()).collect();
    let shown: BTreeSet<String> = framework.offers.iter().map(|o| o.id.value.clone()).collect();
    assert_eq!(shown, out);
    let cpus = parsed(&framework.offered_resources).cpus().to_f64();
    assert_eq!(cpus, out.len() as f64, "offered to {id}");
}

fn check_roles(view: &View, model: &Model) {
    let roles = read(view, Read::Roles).get_roles.expect("roles").roles;
    for role in roles {
        let id = role.name.strip_prefix("role-").expect("a role of ours");
        let tasks = model.tasks.iter().filter(|((f, _), (_, state))| f == id && held(*state));
        let offers = model.offers.values().filter(|(f, _)| f == id);
        let executors = of_executors(model, |(f, _, _)| f == id).count() as f64;
        let cpus = 0.5 * tasks.count() as f64 + offers.count() as f64 + 0.25 * executors;
        assert_eq!(parsed(&role.resources).cpus().to_f64(), cpus, "{}", role.name);
        let subscribed: Vec<&str> = role.frameworks.iter().map(|id| id.value.as_str()).collect();
        assert_eq!(subscribed, Vec::from_iter(model.frameworks.contains(id).then_some(id)));
    }
}

fn check_summary(view: &View, model: &Model) {
    let answer = view.snapshot().summary(&super::json::master());
    let summary: serde_json::Value = serde_json::from_slice(&answer.concat()).expect("JSON");
    let count = |of: &dyn Fn(&str, &str) -> bool, state: TaskState| {
        let live = model.tasks.iter().filter(|((f, _), (a, s))| of(f, a) && *s == state).count();
        let ended =
            model.completed.iter().filter(|(f, _)| model.frameworks.contains(*f)).flat_map(
                |(f, tasks)| tasks.iter().filter(move |(_, a, s)| of(f, a) && *s == state),
            );
        (live + ended.count()) as u64
    };
    for entry in summary["frameworks"].as_array().expect("frameworks") {
        let id = entry["id"].as_str().expect("an id");
        for state in STATES {
            let shown = entry[state.as_str_name()].as_u64().expect("a number");
            assert_eq!(shown, count(&|f, _| f == id, state), "{} of {id}", state.as_str_name());
        }
    }
    for entry in summary["slaves"].as_array().expect("slaves") {
        let id = entry["id"].as_str().expect("an id");
        for state in STATES {
            let shown = entry[state.as_str_name()].as_u64().expect("a number");
            assert_eq!(shown, count(&|_, a| a == id, state), "{} on {id}", state.as_str_name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_show_what_plain_maps_show(acts in proptest::collection::vec(act(), 0..150)) {
        let memory = Memory { completed_frameworks: 3, completed_tasks_per_framework: KEPT };
        let view = View::new(memory, 10);
        let mut model = Model::default();
        for act in &acts {
            apply(&view, &mut model, act);
            if matches!(act, Act::Read) {
                check(&view, &model);
            }
        }
        check(&view, &model);
    }
}
