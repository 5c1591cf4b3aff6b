//! A task that a framework wants to launch.

use mezzo_proto::v1;
use mezzo_types::{AgentId, Resources, Scalar};

/// What a task is checked against.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The agent that the offers are for.
    pub(crate) agent: &'a AgentId,
    /// The role that the offers are allocated to.
    pub(crate) role: &'a str,
    /// What is left of the offers after the tasks before this one.
    pub(crate) remaining: &'a Resources,
    /// The framework's user, which runs tasks that name none.
    pub(crate) framework_user: &'a str,
    pub(crate) root_submissions: bool,
    /// Whether the framework has a live or unreachable task of this id.
    pub(crate) id_taken: bool,
}

/// Checks one task; returns its resources, allocated to the offers' role.
pub(crate) fn task_info(task: &v1::TaskInfo, context: &Context<'_>) -> Result<Resources, String> {
    let id = &task.task_id.value;
    identity(task, context)?;
    runnable(task)?;
    let command_user = task.command.as_ref().and_then(|c| c.user.as_deref());
    let (field, user) = match command_user {
        Some(user) => ("command.user", user),
        None => ("framework_info.user", context.framework_user),
    };
    super::framework::user(&format!("task '{id}': {field}"), user, context.root_submissions)?;
    if let Some(environment) = task.command.as_ref().and_then(|c| c.environment.as_ref()) {
        super::environment::check(&format!("task '{id}': command.environment"), environment)?;
    }
    durations(task)?;
    shares_no_cgroups(task)?;
    super::check::of_task(task).map_err(|error| format!("task '{id}' has {error}"))?;
    let wanted = resources(task, context)?;
    super::limits::of_task(task, &wanted).map_err(|error| format!("task '{id}' has {error}"))?;
    Ok(wanted)
}

/// Checks a task that an executor is to run: what it does is between its framework and the executor.
pub(super) fn for_executor(
    task: &v1::TaskInfo,
    context: &Context<'_>,
) -> Result<Resources, String> {
    identity(task, context)?;
    if task.command.is_some() && task.executor.is_some() {
        return Err(two_ways(&task.task_id.value));
    }
    if !task.limits.is_empty() {
        let id = &task.task_id.value;
        return Err(unsupported(id, "limits", "ask for the resources it needs at most"));
    }
    durations(task)?;
    super::check::of_task(task)
        .map_err(|error| format!("task '{}' has {error}", task.task_id.value))?;
    resources(task, context)
}

/// Who the task is, and where it is to run.
fn identity(task: &v1::TaskInfo, context: &Context<'_>) -> Result<(), String> {
    let id = &task.task_id.value;
    super::id::check("task_id", id)?;
    if context.id_taken {
        return Err(format!(
            "task_id '{id}' is in use: the framework already has a task of this id that has not \
             ended, or whose end it has not acknowledged"
        ));
    }
    if task.agent_id.value != context.agent.as_ref() {
        return Err(format!(
            "task '{id}' has agent_id '{}' but its offers are for agent '{}'",
            task.agent_id.value, context.agent
        ));
    }
    Ok(())
}

fn two_ways(id: &str) -> String {
    format!("task '{id}' has both 'command' and 'executor': exactly one must be set")
}

/// Exactly one way to run, and one that this version knows.
fn runnable(task: &v1::TaskInfo) -> Result<(), String> {
    let id = &task.task_id.value;
    let command = match (&task.command, &task.executor) {
        (Some(_), Some(_)) => return Err(two_ways(id)),
        (None, _) => {
            return Err(format!(
                "task '{id}' has neither 'command' nor 'executor': exactly one must be set"
            ));
        }
        (Some(command), None) => command,
    };
    self::command(&format!("task '{id}'"), command)?;
    match &task.container {
        Some(container) => self::container(&format!("task '{id}'"), container),
        None => Ok(()),
    }
}

/// Checks what is to be run; `who` names whose command it is.
pub(super) fn command(who: &str, command: &v1::CommandInfo) -> Result<(), String> {
    if command.shell.unwrap_or(true) && command.value.is_none() {
        return Err(format!(
            "{who} has 'command.shell' true but no 'command.value': name the command to run"
        ));
    }
    if command.value.is_none() {
        return Err(format!(
            "{who} has no 'command.value': without a shell it is the path of the program"
        ));
    }
    if let Some(at) = command.uris.iter().position(|uri| uri.value.is_empty()) {
        return Err(format!("{who} has command.uris[{at}].value '': name what to fetch"));
    }
    Ok(())
}

/// Refuses what a container cannot be given yet.
pub(super) fn container(who: &str, container: &v1::ContainerInfo) -> Result<(), String> {
    let what = if container.r#type == v1::container_info::Type::Docker as i32 {
        "container.type DOCKER"
    } else if container.mesos.as_ref().is_some_and(|m| m.image.is_some()) {
        "container.mesos.image"
    } else if !container.volumes.is_empty() {
        "container.volumes"
    } else if !container.network_infos.is_empty() {
        "container.network_infos"
    } else {
        return Ok(());
    };
    Err(format!(
        "{who} sets '{what}', which this version of Mezzo does not run: run on the host's file system \
         and network"
    ))
}

fn unsupported(id: &str, field: &str, instead: &str) -> String {
    format!("task '{id}' sets '{field}', which this version of Mezzo does not run: {instead}")
}

fn durations(task: &v1::TaskInfo) -> Result<(), String> {
    let id = &task.task_id.value;
    let grace = task.kill_policy.as_ref().and_then(|p| p.grace_period.as_ref());
    if let Some(grace) = grace
        && grace.nanoseconds < 0
    {
        return Err(format!(
            "task '{id}' has kill_policy.grace_period {} ns: it must not be negative",
            grace.nanoseconds
        ));
    }
    if let Some(time) = &task.max_completion_time
        && time.nanoseconds < 0
    {
        return Err(format!(
            "task '{id}' has max_completion_time {} ns: it must not be negative",
            time.nanoseconds
        ));
    }
    Ok(())
}

/// Reads resources, allocated to the role of the offers that they come from.
pub(super) fn allocated(
    who: &str,
    resources: &[v1::Resource],
    role: &str,
) -> Result<Resources, String> {
    for resource in resources {
        let named = resource.allocation_info.as_ref().and_then(|a| a.role.as_deref());
        if let Some(named) = named
            && named != role
        {
            return Err(format!(
                "{who} has resource '{}' with allocation_info.role '{named}' but its offers \
                 are allocated to role '{role}'",
                resource.name
            ));
        }
    }
    for resource in resources {
        volume(who, resource)?;
    }
    let wanted = Resources::from_proto(resources)
        .map_err(|error| format!("{who} has invalid resources: {error}"))?;
    Ok(wanted.unallocated().allocate(role))
}

fn resources(task: &v1::TaskInfo, context: &Context<'_>) -> Result<Resources, String> {
    let id = &task.task_id.value;
    if task.resources.is_empty() {
        return Err(format!("task '{id}' asks for no resources: it must ask for at least one"));
    }
    let wanted = allocated(&format!("task '{id}'"), &task.resources, context.role)?;
    if wanted.is_empty() {
        return Err(format!("task '{id}' asks for no resources: all its amounts are zero"));
    }
    if wanted.gpus().thousandths() % Scalar::ONE.thousandths() != 0 {
        return Err(format!(
            "task '{id}' asks for {} gpus: their number must be whole",
            wanted.gpus()
        ));
    }
    of_one_kind(&format!("task '{id}'"), &wanted)?;
    if !context.remaining.contains(&wanted) {
        return Err(format!(
            "task '{id}' asks for {} but its offers have {} left",
            wanted.unallocated(),
            context.remaining.unallocated()
        ));
    }
    Ok(wanted)
}

/// Of each name either all is revocable or nothing.
pub(super) fn of_one_kind(who: &str, wanted: &Resources) -> Result<(), String> {
    for name in wanted.names() {
        let of_name = wanted.filter(|resource| resource.name == name);
        let revocable = of_name.revocable();
        if !revocable.is_empty() && revocable != of_name {
            return Err(format!(
                "{who} asks for revocable and for other '{name}': all of it must be of one kind"
            ));
        }
    }
    Ok(())
}

/// Only tasks of a group may have control groups beside their executor's, or not.
pub(super) fn shares_no_cgroups(task: &v1::TaskInfo) -> Result<(), String> {
    let linux = task.container.as_ref().and_then(|container| container.linux_info.as_ref());
    if linux.and_then(|linux| linux.share_cgroups) == Some(false) {
        return Err(format!(
            "task '{}' has container.linux_info.share_cgroups false: only tasks of a task group may",
            task.task_id.value
        ));
    }
    Ok(())
}

/// A persistent volume says where in the sandbox it is to be.
fn volume(who: &str, resource: &v1::Resource) -> Result<(), String> {
    let Some(disk) = &resource.disk else { return Ok(()) };
    let persistence = disk.persistence.as_ref().map(|persistence| persistence.id.as_str());
    match (persistence, &disk.volume) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(format!(
            "{who} has a disk with 'disk.volume' but without 'disk.persistence': only persistent \
             volumes are mapped"
        )),
        (Some(volume), None) => Err(format!(
            "{who} uses the persistent volume '{volume}' without 'disk.volume': it says where in \
             the sandbox the volume is to be"
        )),
        (Some(volume), Some(mount)) if mount.host_path.is_some() => Err(format!(
            "{who} uses the persistent volume '{volume}' with 'disk.volume.host_path': where it \
             lies is the agent's choice"
        )),
        (Some(volume), Some(mount)) => mezzo_types::validate_container_path(&mount.container_path)
            .map_err(|rule| {
                format!(
                    "{who} uses the persistent volume '{volume}' with 'disk.volume.container_path' \
                     '{}', which {rule}",
                    mount.container_path
                )
            }),
    }
}
