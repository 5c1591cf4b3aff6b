//! `/state` as Mesos' agent has it: who the agent is, what it has, and what runs on it.

use std::collections::HashMap;

use axum::response::{IntoResponse, Response};
use mezzo_legacy_json::{self as legacy, Object};
use mezzo_proto::json;
use mezzo_proto::v1;
use mezzo_proto::v1::agent::response::{GetExecutors, GetFrameworks, GetTasks};
use mezzo_types::Resources;

use super::browse::answer_text;
use super::statistics::off_the_loop;
use super::{Context, MESOS_VERSION};

/// Framework and executor.
type Key = (String, String);

/// What is shown of the executors.
struct Shown {
    tasks: GetTasks,
    executors: GetExecutors,
    frameworks: GetFrameworks,
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
    let shown = Shown {
        tasks: view.tasks(),
        executors: view.executors(),
        frameworks: view.frameworks(),
        runs,
    };
    let mut out = Vec::new();
    write(&mut out, context, &view.agent().unwrap_or_default(), &shown);
    out
}

fn write(out: &mut Vec<u8>, context: &Context, info: &v1::AgentInfo, shown: &Shown) {
    let total = Resources::from_proto(&info.resources).unwrap_or_default();
    let allocated = shown.allocated();
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
    object.field("resources", |out| legacy::resources(out, &total));
    legacy::by_role(&mut object, "reserved_resources", &total, legacy::resources);
    object.field("unreserved_resources", |out| legacy::resources(out, &total.unreserved()));
    legacy::by_role(&mut object, "reserved_resources_full", &total, legacy::full);
    object.field("unreserved_resources_full", |out| legacy::full(out, &total.unreserved()));
    legacy::by_role(&mut object, "reserved_resources_allocated", &allocated, legacy::resources);
    object.field("unreserved_resources_allocated", |out| {
        legacy::resources(out, &allocated.unreserved());
    });
    object.field("resource_providers", |out| out.extend_from_slice(b"[]"));
    object.field("attributes", |out| legacy::attributes(out, &info.attributes));
    object.object("flags", |object| {
        for flag in &context.flags {
            object.text(&flag.name, flag.value.as_deref().unwrap_or_default());
        }
    });
    let GetFrameworks { frameworks, completed_frameworks } = &shown.frameworks;
    for (name, list) in [("frameworks", frameworks), ("completed_frameworks", completed_frameworks)]
    {
        object.list(name, list, |out, framework| shown.framework(out, &framework.framework_info));
    }
    object.end();
}

impl Shown {
    fn allocated(&self) -> Resources {
        let GetTasks { launched_tasks, queued_tasks, .. } = &self.tasks;
        let tasks = launched_tasks.iter().chain(queued_tasks).map(|task| &task.resources);
        // A command task is its own executor: its resources are counted as the task's.
        let own = self.executors.executors.iter().filter_map(|executor| {
            let info = &executor.executor_info;
            (info.r#type.is_some()).then_some(&info.resources)
        });
        let lists = tasks.chain(own).map(|list| Resources::from_proto(list).unwrap_or_default());
        lists.sum()
    }

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
        let GetExecutors { executors, completed_executors } = &self.executors;
        for (name, list) in [("executors", executors), ("completed_executors", completed_executors)]
        {
            let own = list
                .iter()
                .map(|executor| &executor.executor_info)
                .filter(|executor| executor.framework_id.as_ref().is_some_and(|of| of.value == id));
            object.list(name, own, |out, executor| self.executor(out, id, executor));
        }
        object.end();
    }

    fn executor(&self, out: &mut Vec<u8>, framework: &str, info: &v1::ExecutorInfo) {
        let id = &info.executor_id.value;
        let key = (framework.to_owned(), id.clone());
        let (container, directory) =
            self.runs.get(&key).map_or(("", ""), |run| (run.0.as_str(), run.1.as_str()));
        let of_it = |task: &&v1::Task| {
            task.framework_id.value == framework
                && task.executor_id.as_ref().is_some_and(|of| of.value == *id)
        };
        let mut object = Object::begin(out);
        object.text("id", id);
        object.text("name", info.name.as_deref().unwrap_or_default());
        object.text("source", id);
        object.text("container", container);
        object.text("directory", directory);
        object.field("resources", |out| legacy::of_messages(out, &info.resources));
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
        let GetTasks { launched_tasks, queued_tasks, terminated_tasks, completed_tasks, .. } =
            &self.tasks;
        object.list("tasks", launched_tasks.iter().filter(of_it), legacy::task);
        object.list("queued_tasks", queued_tasks.iter().filter(of_it), legacy::task);
        let over = completed_tasks.iter().chain(terminated_tasks).filter(of_it);
        object.list("completed_tasks", over, legacy::task);
        object.end();
    }
}
