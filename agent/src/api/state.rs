//! `/state` as Mesos' agent has it: who the agent is, what it has, and what runs on it.

use std::collections::HashMap;

use axum::response::{IntoResponse, Response};
use mezzo_legacy_json::{self as legacy, Object};
use mezzo_proto::json;
use mezzo_proto::v1;
use mezzo_proto::v1::agent::response::{GetFrameworks, GetTasks};
use mezzo_types::Resources;

use super::browse::answer_text;
use super::statistics::off_the_loop;
use super::{Context, MESOS_VERSION};
use crate::view::{Executor, Overview, WaitingTask};

/// Framework and executor.
type Key = (String, String);

/// What is shown.
struct Shown {
    seen: Overview,
    /// Container and sandbox of each executor; the newest run.
    runs: HashMap<Key, (String, String)>,
}

/// Answers `GET /state`.
pub(super) async fn answer(context: &Context, query: Option<String>) -> Response {
    // Sandboxes are looked for on the disk.
    let context = context.clone();
    let made = off_the_loop(move || state(&context)).await;
    let answered =
        made.and_then(|json| answer_text(query.as_deref(), &String::from_utf8_lossy(&json)));
    answered.unwrap_or_else(IntoResponse::into_response)
}

fn state(context: &Context) -> Vec<u8> {
    let view = &context.view;
    let mut runs = HashMap::new();
    for (framework, executor, container) in view.with_containers() {
        let path = format!("/frameworks/{framework}/executors/{executor}/runs/{container}");
        let directory = context.files.place(&path).map(|place| place.sandbox.display().to_string());
        let key = (framework.to_string(), executor.to_string());
        runs.insert(key, (container.to_string(), directory.unwrap_or_default()));
    }
    let shown = Shown { seen: view.overview(), runs };
    let mut out = Vec::new();
    write(&mut out, context, &shown);
    out
}

fn write(out: &mut Vec<u8>, context: &Context, shown: &Shown) {
    let Overview { agent: info, total, used: allocated, .. } = &shown.seen;
    let mut object = Object::begin(out);
    object.text("version", MESOS_VERSION);
    object.text("build_date", "");
    object.number("build_time", 0.0);
    object.text("build_user", "");
    object.number("start_time", context.start_time);
    object.text("id", info.id.as_ref().map_or("", |id| &id.value));
    object.text("pid", &format!("slave(1)@{}:{}", info.hostname, info.port()));
    object.text("hostname", &info.hostname);
    object.list("capabilities", legacy::AGENT_CAPABILITIES, |out, kind| {
        legacy::text(out, kind.as_str_name());
    });
    if let Some(domain) = &info.domain {
        object.message("domain", domain);
    }
    if let Some((config, since)) = &shown.seen.drain {
        object.message("drain_config", config);
        object.integer("estimated_drain_start_time_seconds", since / 1_000_000_000);
    }
    object.field("resources", |out| legacy::resources(out, total));
    legacy::by_role(&mut object, "reserved_resources", total, legacy::resources);
    object.field("unreserved_resources", |out| legacy::resources(out, &total.unreserved()));
    legacy::by_role(&mut object, "reserved_resources_full", total, legacy::full);
    object.field("unreserved_resources_full", |out| legacy::full(out, &total.unreserved()));
    legacy::by_role(&mut object, "reserved_resources_allocated", allocated, legacy::resources);
    object.field("unreserved_resources_allocated", |out| {
        legacy::resources(out, &allocated.unreserved());
    });
    object.field("resource_providers", |out| out.extend_from_slice(b"[]"));
    object.field("attributes", |out| legacy::attributes(out, &info.attributes));
    if shown.seen.registered {
        object.text("master_hostname", &context.master_hostname);
    }
    object.object("flags", |object| {
        for flag in &context.flags {
            object.text(&flag.name, flag.value.as_deref().unwrap_or_default());
        }
    });
    let GetFrameworks { frameworks, completed_frameworks } = &shown.seen.frameworks;
    for (name, list) in [("frameworks", frameworks), ("completed_frameworks", completed_frameworks)]
    {
        object.list(name, list, |out, framework| shown.framework(out, &framework.framework_info));
    }
    object.end();
}

impl Shown {
    fn framework(&self, out: &mut Vec<u8>, info: &v1::FrameworkInfo) {
        let id = info.id.as_ref().map_or("", |id| &id.value);
        let mut object = Object::begin(out);
        object.text("id", id);
        object.text("name", &info.name);
        object.text("user", &info.user);
        object.number("failover_timeout", info.failover_timeout());
        object.boolean("checkpoint", info.checkpoint());
        object.text("hostname", info.hostname.as_deref().unwrap_or_default());
        if let Some(principal) = &info.principal {
            object.text("principal", principal);
        }
        if legacy::is_multi_role(info) {
            object.list("roles", &info.roles, |out, role| legacy::text(out, role));
        } else {
            #[expect(deprecated, reason = "Mesos clients without MULTI_ROLE use the old field")]
            object.text("role", info.role.as_deref().unwrap_or("*"));
        }
        let Overview { executors, completed_executors, .. } = &self.seen;
        for (name, list) in [("executors", executors), ("completed_executors", completed_executors)]
        {
            let own = list.iter().filter(|executor| {
                executor.info.framework_id.as_ref().is_some_and(|of| of.value == id)
            });
            object.list(name, own, |out, executor| self.executor(out, id, executor));
        }
        object.end();
    }

    fn executor(&self, out: &mut Vec<u8>, framework: &str, executor: &Executor) {
        let info = &executor.info;
        let id = &info.executor_id.value;
        let key = (framework.to_owned(), id.clone());
        let (container, directory) =
            self.runs.get(&key).map_or(("", ""), |run| (run.0.as_str(), run.1.as_str()));
        let of_it = |task: &&v1::Task| {
            task.framework_id.value == framework
                && task.executor_id.as_ref().is_some_and(|of| of.value == *id)
        };
        let waits_for_it = |task: &&WaitingTask| {
            task.framework.as_str() == framework && task.executor.as_str() == id
        };
        let GetTasks { launched_tasks, queued_tasks, terminated_tasks, completed_tasks, .. } =
            &self.seen.tasks;
        let living = launched_tasks.iter().chain(queued_tasks).filter(of_it);
        let resources = living.map(|task| Resources::from_proto(&task.resources));
        let resources: Resources = resources.map(Result::unwrap_or_default).sum();
        let mut object = Object::begin(out);
        object.text("id", id);
        object.text("name", info.name.as_deref().unwrap_or_default());
        object.text("source", id);
        object.text("container", container);
        object.text("directory", directory);
        object.field("resources", |out| {
            legacy::resources(out, &(resources + executor.own.clone()));
        });
        let role = info.resources.first().and_then(|resource| resource.allocation_info.as_ref());
        if !info.resources.is_empty() {
            object.text("role", role.and_then(|info| info.role.as_deref()).unwrap_or("*"));
        }
        if let Some(labels) = &info.labels {
            object.list("labels", &labels.labels, |out, label| out.extend(json::to_vec(label)));
        }
        if info.r#type.is_some() {
            object.text("type", info.r#type().as_str_name());
        }
        object.list("tasks", launched_tasks.iter().filter(of_it), legacy::task);
        let waiting = self.seen.waiting.iter().filter(waits_for_it);
        object.list("queued_tasks", waiting, |out, task| legacy::task_info(out, &task.info, id));
        let over = completed_tasks.iter().chain(terminated_tasks).filter(of_it);
        object.list("completed_tasks", over, legacy::task);
        object.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mezzo_agent_core::{ExecutorPhase, ExecutorView, TaskStage, TaskView, ViewChange};
    use serde_json::{Value, json};

    use super::*;
    use crate::view::View;

    fn cpus(value: f64) -> Vec<v1::Resource> {
        vec![v1::Resource {
            name: "cpus".into(),
            r#type: v1::value::Type::Scalar as i32,
            scalar: Some(v1::value::Scalar { value }),
            ..v1::Resource::default()
        }]
    }

    /// A view with a framework.
    fn view() -> View {
        let view = View::default();
        let id = Some(v1::FrameworkId { value: "f".into() });
        let info = v1::FrameworkInfo { id, ..v1::FrameworkInfo::default() };
        view.apply(ViewChange::Framework("f".into(), Arc::new(info)));
        view
    }

    /// A task of an executor, or a command task.
    fn put_task(view: &View, id: &str, executor: Option<&str>, value: f64, waiting: bool) {
        let info = v1::TaskInfo {
            name: id.into(),
            task_id: v1::TaskId { value: id.into() },
            command: Some(v1::CommandInfo { value: Some("run".into()), ..Default::default() }),
            resources: cpus(value),
            ..v1::TaskInfo::default()
        };
        view.apply(ViewChange::Task(Box::new(TaskView {
            framework_id: "f".into(),
            task_id: id.into(),
            executor_id: executor.map(Into::into),
            info: Arc::new(info),
            container: Some("c".into()),
            pid: None,
            stage: TaskStage::Launching,
            waiting,
            status: None,
        })));
    }

    /// An executor whose type its framework left out.
    fn put_executor(view: &View, id: &str, value: f64) {
        let info = v1::ExecutorInfo {
            executor_id: v1::ExecutorId { value: id.into() },
            framework_id: Some(v1::FrameworkId { value: "f".into() }),
            resources: cpus(value),
            ..v1::ExecutorInfo::default()
        };
        view.apply(ViewChange::Executor(Box::new(ExecutorView {
            framework_id: "f".into(),
            executor_id: id.into(),
            info: Arc::new(info),
            container: "c".into(),
            pid: None,
            phase: ExecutorPhase::Registering,
            resources: Resources::default(),
        })));
    }

    /// What is answered.
    fn shown(view: &View) -> Value {
        serde_json::from_slice(&state(&Context::idle(view.clone()))).unwrap()
    }

    #[tokio::test]
    async fn executors_have_their_own_resources_and_those_of_their_tasks() {
        let view = view();
        put_executor(&view, "e", 0.5);
        put_task(&view, "handed-over", Some("e"), 1.0, false);
        put_task(&view, "waits", Some("e"), 2.0, true);
        put_task(&view, "command", None, 4.0, false);
        let state = shown(&view);
        assert_eq!(state["unreserved_resources_allocated"]["cpus"], 7.5);
        let executors = &state["frameworks"][0]["executors"];
        assert_eq!((&executors[0]["id"], &executors[1]["id"]), (&json!("e"), &json!("command")));
        assert_eq!(executors[0]["resources"]["cpus"], 3.5);
        assert_eq!(executors[1]["resources"]["cpus"], 4.0);
        // What an executor had is not its tasks' any more.
        view.apply(ViewChange::TaskGone("f".into(), "waits".into()));
        view.apply(ViewChange::TaskGone("f".into(), "handed-over".into()));
        view.apply(ViewChange::ExecutorGone("f".into(), "e".into()));
        let state = shown(&view);
        let over = &state["frameworks"][0]["completed_executors"][0];
        assert_eq!((&over["id"], &over["resources"]["cpus"]), (&json!("e"), &json!(0.5)));
        assert_eq!(state["unreserved_resources_allocated"]["cpus"], 4.0);
    }

    #[tokio::test]
    async fn what_waits_for_its_executor_is_queued() {
        let view = view();
        put_executor(&view, "e", 0.5);
        put_task(&view, "t", Some("e"), 1.0, true);
        let tasks = view.tasks();
        assert_eq!((tasks.queued_tasks.len(), tasks.launched_tasks.len()), (1, 0));
        assert_eq!(tasks.queued_tasks[0].state(), v1::TaskState::TaskStaging);
        let executor = |state: Value| state["frameworks"][0]["executors"][0].clone();
        let waits = executor(shown(&view));
        assert_eq!(waits["tasks"], json!([]));
        let resources = json!({ "cpus": 1.0, "disk": 0.0, "gpus": 0.0, "mem": 0.0 });
        let expected = json!([{
            "id": "t", "name": "t", "slave_id": "", "resources": resources, "role": "*",
            "command": { "value": "run", "argv": [], "uris": [] }, "executor_id": "e",
        }]);
        assert_eq!(waits["queued_tasks"], expected);
        put_task(&view, "t", Some("e"), 1.0, false);
        let has = executor(shown(&view));
        assert_eq!((&has["tasks"][0]["id"], &has["queued_tasks"]), (&json!("t"), &json!([])));
        assert_eq!(view.tasks().launched_tasks.len(), 1);
    }

    #[tokio::test]
    async fn a_drain_and_the_master_are_shown_as_long_as_they_are_there() {
        let view = view();
        let state = shown(&view);
        for absent in ["drain_config", "estimated_drain_start_time_seconds", "master_hostname"] {
            assert_eq!(state.get(absent), None, "{absent}");
        }
        view.apply(ViewChange::Registered(Some(1)));
        let config = v1::DrainConfig { mark_gone: Some(true), ..v1::DrainConfig::default() };
        view.apply(ViewChange::Drain(Some((config, 5_900_000_000))));
        let state = shown(&view);
        assert_eq!(state["drain_config"], json!({ "mark_gone": true }));
        assert_eq!(state["estimated_drain_start_time_seconds"], json!(5));
        assert_eq!(state["master_hostname"], "master.example");
        view.apply(ViewChange::FrameworkGone("f".into()));
        assert_eq!(shown(&view).get("drain_config"), None);
    }
}
