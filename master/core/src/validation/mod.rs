//! What a user can get wrong, and the sentence that says so: each names field, value and rule.
//!
//! The rules are those of Mesos 1.11 (`src/master/validation.cpp`); the sentences are Mezzo's.

mod call;
mod check;
mod environment;
mod executor;
mod framework;
pub(crate) mod id;
mod limits;
mod maintenance;
pub(crate) mod operation;
mod quota;
mod task;
mod wishes;

pub use call::scheduler_call;
pub(crate) use executor::{ExecutorContext, Wanted, executor_task, task_group};
pub(crate) use framework::{framework_info, framework_update, roles_subset};
pub(crate) use maintenance::{MachineKey, machines, schedule};
pub(crate) use quota::{quota_config, quota_request};
pub(crate) use task::{Context, task_info};
pub(crate) use wishes::offer_constraints;
