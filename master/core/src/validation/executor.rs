//! An executor that a framework wants, and the tasks and task groups for it.

use std::collections::BTreeSet;

use mezzo_proto::v1;
use mezzo_proto::v1::executor_info::Type;
use mezzo_types::{FrameworkId, Resources};

use super::task::{self, Context};

/// The least that an executor of a task group must ask for (Mesos: `MIN_CPUS`, `MIN_MEM`).
const MIN_CPUS: f64 = 0.01;
const MIN_MEM_MB: f64 = 32.0;

/// What an executor is checked against, beside what its tasks are.
pub(crate) struct ExecutorContext<'a> {
    pub(crate) framework: &'a FrameworkId,
    /// The one of this id that the framework has on the agent, and the role that it is allocated to.
    pub(crate) known: Option<(&'a v1::ExecutorInfo, &'a str)>,
}

/// What tasks and their executor take from the offers, allocated to the offers' role.
#[derive(Debug, PartialEq)]
pub(crate) struct Wanted {
    /// Of each task, in order.
    pub(crate) tasks: Vec<Resources>,
    /// `None` if the executor is there already.
    pub(crate) executor: Option<Resources>,
}

/// Checks a task that an executor is to run.
pub(crate) fn executor_task(
    info: &v1::TaskInfo,
    executor: &v1::ExecutorInfo,
    context: &Context<'_>,
    of: &ExecutorContext<'_>,
) -> Result<Wanted, String> {
    let wanted = executor_resources(executor, context, of)?;
    let executor_id = &executor.executor_id.value;
    let mut left = context.remaining.clone();
    if let Some(wanted) = &wanted {
        left = take(&left, wanted, || format!("executor '{executor_id}' asks for"))?;
    }
    let tasks = vec![task::for_executor(info, &Context { remaining: &left, ..*context })?];
    task::shares_no_cgroups(info)?;
    of_one_kind(executor_id, &tasks, wanted.as_ref())?;
    Ok(Wanted { tasks, executor: wanted })
}

/// Checks a task group: all of it is good, or none is launched.
pub(crate) fn task_group(
    tasks: &[v1::TaskInfo],
    executor: &v1::ExecutorInfo,
    context: &Context<'_>,
    of: &ExecutorContext<'_>,
    id_taken: impl Fn(&str) -> bool,
) -> Result<Wanted, String> {
    if tasks.is_empty() {
        return Err("task_group.tasks is empty: a group has at least one task".to_owned());
    }
    let executor_id = &executor.executor_id.value;
    if executor.r#type.is_none() {
        return Err(format!(
            "executor '{executor_id}' has no 'type': with LAUNCH_GROUP it must be CUSTOM"
        ));
    }
    let wanted = executor_resources(executor, context, of)?;
    let asked = Resources::from_proto(&executor.resources).unwrap_or_default();
    for (name, amount, least) in
        [("cpus", asked.cpus().to_f64(), MIN_CPUS), ("mem", asked.mem_mb().to_f64(), MIN_MEM_MB)]
    {
        if amount < least {
            return Err(format!(
                "executor '{executor_id}' asks for {amount} {name}: that of a task group must ask for {least} \
                 at least"
            ));
        }
    }
    if asked.scalar("disk").is_none() {
        return Err(format!(
            "executor '{executor_id}' asks for no disk: that of a task group must ask for some"
        ));
    }
    let mut left = context.remaining.clone();
    if let Some(wanted) = &wanted {
        left = take(&left, wanted, || format!("executor '{executor_id}' asks for"))?;
    }
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for info in tasks {
        let id = &info.task_id.value;
        if !seen.insert(id) {
            return Err(format!("task_id '{id}' is used twice in the group: each must be new"));
        }
        if let Some(own) = &info.executor
            && !same(own, executor, of.framework)
        {
            return Err(format!(
                "task '{id}' names another 'executor' than its group: leave it out, or name the same"
            ));
        }
        let context = Context { remaining: &left, id_taken: id_taken(id), ..*context };
        let resources = task::for_executor(info, &context)?;
        left = take(&left, &resources, || format!("task '{id}' asks for"))?;
        all.push(resources);
    }
    of_one_kind(executor_id, &all, wanted.as_ref())?;
    Ok(Wanted { tasks: all, executor: wanted })
}

/// An executor and its tasks share a container: what is revocable in it cannot be told from what is not.
fn of_one_kind(id: &str, tasks: &[Resources], executor: Option<&Resources>) -> Result<(), String> {
    let mut all = executor.cloned().unwrap_or_default();
    tasks.iter().for_each(|task| all += task);
    task::of_one_kind(&format!("executor '{id}' with its tasks"), &all)
}

fn take(
    left: &Resources,
    wanted: &Resources,
    who: impl Fn() -> String,
) -> Result<Resources, String> {
    left.checked_sub(wanted).ok_or_else(|| {
        format!(
            "{} {} but its offers have {} left",
            who(),
            wanted.unallocated(),
            left.unallocated()
        )
    })
}

/// Checks the executor itself; returns what it takes, unless it is there already.
fn executor_resources(
    executor: &v1::ExecutorInfo,
    context: &Context<'_>,
    of: &ExecutorContext<'_>,
) -> Result<Option<Resources>, String> {
    let id = &executor.executor_id.value;
    super::id::check("executor_id", id)?;
    match executor.r#type() {
        Type::Default => {
            return Err(format!(
                "executor '{id}' has type DEFAULT, whose nested containers this version of Mezzo does not \
                 run: launch the tasks one by one with 'command', or set type to CUSTOM and command to that \
                 of an executor"
            ));
        }
        Type::Unknown if executor.r#type.is_some() => {
            return Err(format!(
                "executor '{id}' has type UNKNOWN: set it to CUSTOM, or, with LAUNCH, leave it out"
            ));
        }
        Type::Custom | Type::Unknown => {}
    }
    let Some(command) = &executor.command else {
        return Err(format!("executor '{id}' has no 'command': name the program to run"));
    };
    task::command(&format!("executor '{id}'"), command)?;
    if let Some(named) = &executor.framework_id
        && named.value != of.framework.as_str()
    {
        return Err(format!(
            "executor '{id}' has framework_id '{}' but its framework is '{}': leave it out, or name that",
            named.value, of.framework
        ));
    }
    let (field, user) = match &command.user {
        Some(user) => ("command.user", user.as_str()),
        None => ("framework_info.user", context.framework_user),
    };
    super::framework::user(&format!("executor '{id}': {field}"), user, context.root_submissions)?;
    if let Some(environment) = &command.environment {
        super::environment::check(&format!("executor '{id}': command.environment"), environment)?;
    }
    if let Some(grace) = &executor.shutdown_grace_period
        && grace.nanoseconds < 0
    {
        return Err(format!(
            "executor '{id}' has shutdown_grace_period {} ns: it must not be negative",
            grace.nanoseconds
        ));
    }
    if let Some(container) = &executor.container {
        task::container(&format!("executor '{id}'"), container)?;
        let linux = container.linux_info.as_ref();
        if linux.and_then(|linux| linux.share_cgroups) == Some(true) {
            return Err(format!(
                "executor '{id}' has container.linux_info.share_cgroups true: an executor has control groups \
                 of its own, leave it out"
            ));
        }
    }
    let wanted = task::allocated(&format!("executor '{id}'"), &executor.resources, context.role)?;
    if !wanted.shared().is_empty() {
        return Err(format!("executor '{id}' asks for shared resources: only tasks may have them"));
    }
    match of.known {
        Some((known, _)) if !same(known, executor, of.framework) => Err(format!(
            "executor '{id}' runs on this agent with another ExecutorInfo: tasks of one executor must all \
             name the same; use another executor_id for another executor"
        )),
        Some((_, role)) if role != context.role => Err(format!(
            "executor '{id}' runs on this agent with resources of role '{role}' but the offers are to role \
             '{}': accept offers to one role for it",
            context.role
        )),
        Some(_) => Ok(None),
        None => Ok(Some(wanted)),
    }
}

/// Whether both say the same, with `framework_id` as it is filled in, and whatever the order of resources.
fn same(a: &v1::ExecutorInfo, b: &v1::ExecutorInfo, framework: &FrameworkId) -> bool {
    let plain = |info: &v1::ExecutorInfo| {
        let resources = Resources::from_proto(&info.resources).unwrap_or_default().unallocated();
        let info = v1::ExecutorInfo {
            resources: Vec::new(),
            framework_id: Some(framework.into()),
            ..info.clone()
        };
        (info, resources)
    };
    plain(a) == plain(b)
}
