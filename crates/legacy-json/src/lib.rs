//! The JSON of Mesos' first endpoints, `/state` and its like, which tools read to this day: flat resources, `slave_id`,
//! numbers as doubles. Names, types and order of fields: Mesos 1.11, `src/common/http.cpp`,
//! `src/master/readonly_handler.cpp` and `src/slave/http.cpp`.
//!
//! Everything is appended to a buffer. No I/O.
//!
//! | module | what lives there |
//! |---|---|
//! | `object` | objects and lists, field by field |
//! | `resources` | resources and attributes |
//! | `task` | tasks and what they report |
//! | `others` | executors, offers, parts of agents and frameworks |

mod object;
mod others;
mod resources;
mod task;

use mezzo_proto::{json, v1};

pub use object::{Object, list, number, object, text};
pub use others::{
    AGENT_CAPABILITIES, agent_info, capabilities, command, executor, is_multi_role, offer, seconds,
    time,
};
pub use resources::{
    attributes, by_role, endpoint, endpoint_resource, full, of_messages, quantities, resources,
    scalars,
};
pub use task::{task, task_info};

/// `"labels":[{"key":"k","value":"v"}]`, if there are any.
pub fn labels(object: &mut Object<'_>, labels: &Option<v1::Labels>) {
    if let Some(labels) = labels {
        object.list("labels", &labels.labels, |out, label| out.extend(json::to_vec(label)));
    }
}
