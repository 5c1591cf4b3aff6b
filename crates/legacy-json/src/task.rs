//! Tasks and what they report.

use mezzo_proto::{json, v1};

use crate::labels;
use crate::object::{object, text};
use crate::others::command;
use crate::resources::{of_messages, scalars};

/// A task as `/state` and `/tasks` show it.
pub fn task(out: &mut Vec<u8>, task: &v1::Task) {
    object(out, |object| {
        object.text("id", &task.task_id.value);
        object.text("name", &task.name);
        object.text("framework_id", &task.framework_id.value);
        object.text("executor_id", task.executor_id.as_ref().map_or("", |id| &id.value));
        object.text("slave_id", &task.agent_id.value);
        object.text("state", task.state().as_str_name());
        object.field("resources", |out| of_messages(out, &task.resources));
        if !task.limits.is_empty() {
            object.field("limits", |out| scalars(out, &task.limits));
        }
        object.text("role", allocation_role(&task.resources));
        object.list("statuses", &task.statuses, status);
        if let Some(user) = &task.user {
            object.text("user", user);
        }
        labels(object, &task.labels);
        if let Some(discovery) = &task.discovery {
            object.message("discovery", discovery);
        }
        if let Some(container) = &task.container {
            object.message("container", container);
        }
        if let Some(check) = &task.health_check {
            object.message("health_check", check);
        }
    });
}

/// A task that waits for its executor as an agent's `/state` shows it: what its framework said of it.
pub fn task_info(out: &mut Vec<u8>, info: &v1::TaskInfo, executor: &str) {
    object(out, |object| {
        object.text("id", &info.task_id.value);
        object.text("name", &info.name);
        object.text("slave_id", &info.agent_id.value);
        object.field("resources", |out| of_messages(out, &info.resources));
        object.text("role", allocation_role(&info.resources));
        if let Some(of_task) = &info.command {
            object.field("command", |out| command(out, of_task));
        }
        object.text("executor_id", executor);
        if let Some(discovery) = &info.discovery {
            object.message("discovery", discovery);
        }
    });
}

/// The role that all resources of a task or executor are allocated to.
pub(crate) fn allocation_role(resources: &[v1::Resource]) -> &str {
    let info = resources.first().and_then(|resource| resource.allocation_info.as_ref());
    info.and_then(|info| info.role.as_deref()).unwrap_or("*")
}

fn status(out: &mut Vec<u8>, status: &v1::TaskStatus) {
    object(out, |object| {
        object.text("state", status.state().as_str_name());
        object.number("timestamp", status.timestamp.unwrap_or_default());
        labels(object, &status.labels);
        if let Some(container) = &status.container_status {
            object.field("container_status", |out| container_status(out, container));
        }
        if let Some(healthy) = status.healthy {
            object.boolean("healthy", healthy);
        }
    });
}

fn container_status(out: &mut Vec<u8>, status: &v1::ContainerStatus) {
    object(out, |object| {
        if let Some(id) = &status.container_id {
            object.message("container_id", id);
        }
        if !status.network_infos.is_empty() {
            object.list("network_infos", &status.network_infos, network_info);
        }
        if let Some(info) = &status.cgroup_info {
            object.message("cgroup_info", info);
        }
    });
}

fn network_info(out: &mut Vec<u8>, info: &v1::NetworkInfo) {
    object(out, |object| {
        if !info.groups.is_empty() {
            object.list("groups", &info.groups, |out, group| text(out, group));
        }
        labels(object, &info.labels);
        if !info.ip_addresses.is_empty() {
            object.list("ip_addresses", &info.ip_addresses, |out, ip| out.extend(json::to_vec(ip)));
        }
        if let Some(name) = &info.name {
            object.text("name", name);
        }
        if !info.port_mappings.is_empty() {
            object.list("port_mappings", &info.port_mappings, |out, mapping| {
                out.extend(json::to_vec(mapping));
            });
        }
    });
}
