//! Executors, offers, and parts of agents and frameworks.

use mezzo_proto::v1;
use mezzo_proto::v1::agent_info::capability::Type as AgentCapability;
use mezzo_proto::v1::framework_info::capability::Type as Capability;

use crate::labels;
use crate::object::{Object, number, object, text};
use crate::resources::{attributes, of_messages};
use crate::task::allocation_role;

/// What every agent can that speaks the protocol of this release.
pub const AGENT_CAPABILITIES: [AgentCapability; 7] = [
    AgentCapability::MultiRole,
    AgentCapability::HierarchicalRole,
    AgentCapability::ReservationRefinement,
    AgentCapability::ResizeVolume,
    AgentCapability::AgentOperationFeedback,
    AgentCapability::AgentDraining,
    AgentCapability::TaskResourceLimits,
];

/// An executor, and the agent that it is on.
pub fn executor(out: &mut Vec<u8>, info: &v1::ExecutorInfo, agent: &v1::AgentId) {
    object(out, |object| {
        object.text("executor_id", &info.executor_id.value);
        object.text("name", info.name.as_deref().unwrap_or_default());
        object.text("framework_id", info.framework_id.as_ref().map_or("", |id| &id.value));
        object.field("command", |out| command(out, &info.command.clone().unwrap_or_default()));
        object.field("resources", |out| of_messages(out, &info.resources));
        // Empty for command executors.
        if !info.resources.is_empty() {
            object.text("role", allocation_role(&info.resources));
        }
        labels(object, &info.labels);
        if info.r#type.is_some() {
            object.text("type", info.r#type().as_str_name());
        }
        object.text("slave_id", &agent.value);
    });
}

/// A command.
pub fn command(out: &mut Vec<u8>, command: &v1::CommandInfo) {
    object(out, |object| {
        if let Some(shell) = command.shell {
            object.boolean("shell", shell);
        }
        if let Some(value) = &command.value {
            object.text("value", value);
        }
        object.list("argv", &command.arguments, |out, argument| text(out, argument));
        if let Some(environment) = &command.environment {
            object.message("environment", environment);
        }
        object.list("uris", &command.uris, |out, uri| {
            let mut object = Object::begin(out);
            object.text("value", &uri.value);
            object.boolean("executable", uri.executable.unwrap_or_default());
            object.end();
        });
    });
}

/// An offer as it is shown with its framework.
pub fn offer(out: &mut Vec<u8>, offer: &v1::Offer) {
    object(out, |object| {
        object.text("id", &offer.id.value);
        object.text("framework_id", &offer.framework_id.value);
        object.message("allocation_info", &offer.allocation_info.clone().unwrap_or_default());
        object.text("slave_id", &offer.agent_id.value);
        object.field("resources", |out| of_messages(out, &offer.resources));
    });
}

/// What is known of an agent also when it is away.
pub fn agent_info(object: &mut Object<'_>, info: &v1::AgentInfo) {
    object.text("id", info.id.as_ref().map_or("", |id| &id.value));
    object.text("hostname", &info.hostname);
    object.integer("port", info.port());
    object.field("attributes", |out| attributes(out, &info.attributes));
    if let Some(domain) = &info.domain {
        object.message("domain", domain);
    }
}

/// `["PARTITION_AWARE","MULTI_ROLE"]`.
pub fn capabilities(object: &mut Object<'_>, info: &v1::FrameworkInfo) {
    object.list("capabilities", &info.capabilities, |out, capability| {
        text(out, capability.r#type().as_str_name());
    });
}

/// Whether it names its roles in `roles` rather than in `role`.
pub fn is_multi_role(info: &v1::FrameworkInfo) -> bool {
    info.capabilities.iter().any(|capability| capability.r#type() == Capability::MultiRole)
}

/// Seconds since the epoch.
pub fn seconds(unix_ns: i64) -> f64 {
    unix_ns as f64 / 1e9
}

/// Used for `seconds` where there may be none.
pub fn time(object: &mut Object<'_>, name: &str, unix_ns: i64) {
    object.field(name, |out| number(out, seconds(unix_ns)));
}
