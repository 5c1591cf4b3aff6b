//! What should run: a task with a command and its demand, not yet bound to an agent.

use std::time::Duration;

use crate::check::{Check, HealthCheck, ports_of};
use crate::v1;

/// Amounts a task asks for: CPUs, memory and disk in megabytes, a number of TCP/UDP ports, GPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Demand {
    /// CPUs, in thousandths.
    pub cpus: f64,
    /// Megabytes of memory.
    pub mem_mb: f64,
    /// Megabytes of disk.
    pub disk_mb: f64,
    /// Number of ports.
    pub ports: usize,
    /// Number of GPUs.
    pub gpus: u32,
}

/// A command task to be placed with [`crate::Room::fit`].
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    id: String,
    name: String,
    demand: Demand,
    command: v1::CommandInfo,
    kill_grace: Option<Duration>,
    labels: Vec<v1::Label>,
    health_check: Option<HealthCheck>,
    check: Option<Check>,
}

impl Task {
    /// `id` is unique within the framework: at most 255 bytes, no `/`, `\` or control
    /// characters, and neither `.` nor `..`. What to run is said by [`shell`](Self::shell) or
    /// [`argv`](Self::argv).
    pub fn command(id: impl Into<String>, name: impl Into<String>) -> Self {
        Task {
            id: id.into(),
            name: name.into(),
            demand: Demand::default(),
            command: v1::CommandInfo::default(),
            kill_grace: None,
            labels: Vec::new(),
            health_check: None,
            check: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it asks for.
    pub fn demand(&self) -> Demand {
        self.demand
    }

    /// So many CPUs, in thousandths.
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.demand.cpus = cpus;
        self
    }

    /// Megabytes of memory.
    pub fn mem(mut self, mem_mb: f64) -> Self {
        self.demand.mem_mb = mem_mb;
        self
    }

    /// Megabytes of disk.
    pub fn disk(mut self, disk_mb: f64) -> Self {
        self.demand.disk_mb = disk_mb;
        self
    }

    /// So many ports; the task finds their numbers in `PORT0`, `PORT1`, ….
    pub fn ports(mut self, count: usize) -> Self {
        self.demand.ports = count;
        self
    }

    /// So many GPUs, which the task has for itself. Agents that have any are offered only to frameworks with the capability
    /// `GPU_RESOURCES`.
    pub fn gpus(mut self, count: u32) -> Self {
        self.demand.gpus = count;
        self
    }

    /// Runs `sh -c line`.
    pub fn shell(mut self, line: impl Into<String>) -> Self {
        self.command.shell = Some(true);
        self.command.value = Some(line.into());
        self.command.arguments.clear();
        self
    }

    /// Runs a program without a shell. The first item is the program, looked up in `PATH` unless
    /// it has a slash, and also the `argv[0]` that it sees.
    pub fn argv<A: Into<String>>(mut self, argv: impl IntoIterator<Item = A>) -> Self {
        self.command.shell = Some(false);
        self.command.arguments = argv.into_iter().map(Into::into).collect();
        self.command.value = self.command.arguments.first().cloned();
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let environment = self.command.environment.get_or_insert_default();
        environment.variables.push(v1::environment::Variable {
            name: name.into(),
            value: Some(value.into()),
            ..Default::default()
        });
        self
    }

    /// The operating-system user; otherwise the framework's.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.command.user = Some(user.into());
        self
    }

    /// A file to fetch into the sandbox before the start: a path on the agent or an HTTP(S)
    /// address. Archives are unpacked.
    pub fn uri(self, value: impl Into<String>) -> Self {
        self.fetch(v1::command_info::Uri { value: value.into(), ..Default::default() })
    }

    /// As [`uri`](Self::uri), with every option.
    pub fn fetch(mut self, uri: v1::command_info::Uri) -> Self {
        self.command.uris.push(uri);
        self
    }

    /// Time between SIGTERM and SIGKILL when the task is killed. The agent's default is 3 s.
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.kill_grace = Some(grace);
        self
    }

    /// Has the agent look after the task's health, and kill it where that fails.
    pub fn health_check(mut self, check: HealthCheck) -> Self {
        self.health_check = Some(check);
        self
    }

    /// Has the agent look at the task and tell what it sees.
    pub fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// A label, for people and tools to read.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push(v1::Label { key: key.into(), value: Some(value.into()) });
        self
    }

    /// Binds the task to an agent with resources chosen by the caller. [`crate::Room::fit`]
    /// chooses them from an offer.
    pub fn on(&self, agent_id: v1::AgentId, resources: Vec<v1::Resource>) -> v1::TaskInfo {
        let ports = ports_of(&resources);
        v1::TaskInfo {
            name: self.name.clone(),
            task_id: v1::TaskId { value: self.id.clone() },
            agent_id,
            resources,
            command: Some(self.command.clone()),
            kill_policy: self.kill_grace.map(kill_policy),
            labels: (!self.labels.is_empty()).then(|| v1::Labels { labels: self.labels.clone() }),
            health_check: self.health_check.as_ref().map(|check| check.message(&ports)),
            check: self.check.as_ref().map(|check| check.message(&ports)),
            ..Default::default()
        }
    }
}

/// A kill policy with this grace period, cut at what 64 bits of nanoseconds can hold.
pub(crate) fn kill_policy(grace: Duration) -> v1::KillPolicy {
    let nanoseconds = i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX);
    v1::KillPolicy { grace_period: Some(v1::DurationInfo { nanoseconds }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(task: &Task) -> v1::TaskInfo {
        task.on(v1::AgentId { value: "a".to_owned() }, Vec::new())
    }

    #[test]
    fn shell_command() {
        let task = Task::command("id", "name").shell("echo $A").env("A", "1").user("nobody");
        let info = bound(&task);
        assert_eq!((info.task_id.value.as_str(), info.name.as_str()), ("id", "name"));
        assert_eq!(info.agent_id.value, "a");
        let command = info.command.expect("command");
        assert_eq!(command.shell, Some(true));
        assert_eq!(command.value.as_deref(), Some("echo $A"));
        assert_eq!(command.user.as_deref(), Some("nobody"));
        let variables = command.environment.expect("environment").variables;
        assert_eq!((variables[0].name.as_str(), variables[0].value.as_deref()), ("A", Some("1")));
        assert!(info.kill_policy.is_none() && info.labels.is_none());
    }

    #[test]
    fn program_with_arguments_replaces_a_shell_line() {
        let task = Task::command("id", "name").shell("x").argv(["sleep", "1"]);
        let command = bound(&task).command.expect("command");
        assert_eq!(command.shell, Some(false));
        assert_eq!(command.value.as_deref(), Some("sleep"));
        assert_eq!(command.arguments, ["sleep", "1"]);
    }

    #[test]
    fn kill_grace_is_in_nanoseconds_and_does_not_wrap() {
        let task = Task::command("id", "name").kill_grace(Duration::from_secs(2));
        let grace = bound(&task).kill_policy.and_then(|policy| policy.grace_period);
        assert_eq!(grace.map(|g| g.nanoseconds), Some(2_000_000_000));
        let grace = kill_policy(Duration::MAX).grace_period;
        assert_eq!(grace.map(|g| g.nanoseconds), Some(i64::MAX));
    }
}
