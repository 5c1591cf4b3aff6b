//! Health checks and checks of a task, done by the agent from inside the task's container.

use std::time::Duration;

use crate::v1;
use v1::network_info::Protocol;

/// Where a task listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckPort {
    /// This port.
    Number(u16),
    /// The task's own, by its place among those that it is given: 0 is the one in `PORT0`.
    Own(usize),
}

impl From<u16> for CheckPort {
    fn from(number: u16) -> Self {
        CheckPort::Number(number)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Look {
    Command(v1::CommandInfo),
    Http { scheme: Option<&'static str>, port: CheckPort, path: String },
    Tcp { port: CheckPort },
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Times {
    delay: Option<Duration>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
}

/// A look at the task after whose repeated failure it is killed. Statuses tell of it in `healthy`.
///
/// Without other words: the first look 15 s after the start, one 10 s after each result, given up after 20 s; killed after 3
/// failures in a row; failures in the first 10 s do not count before the first success.
///
/// ```
/// use std::time::Duration;
/// use mezzo_sdk::{CheckPort, HealthCheck, Task};
///
/// let check = HealthCheck::http(CheckPort::Own(0), "/health").interval(Duration::from_secs(2));
/// let task = Task::command("web.0", "web").ports(1).shell("exec serve $PORT0").health_check(check);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    look: Look,
    times: Times,
    ipv6: bool,
    grace: Option<Duration>,
    consecutive_failures: Option<u32>,
}

/// A look at the task whose result is told, in `check_status` of its statuses, and leads to nothing else: whether it is ready, for one.
///
/// The first look is 15 s after the start, one 10 s after each result; it is given up after 20 s.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    look: Look,
    times: Times,
}

fn shell(line: impl Into<String>) -> Look {
    Look::Command(v1::CommandInfo {
        shell: Some(true),
        value: Some(line.into()),
        ..Default::default()
    })
}

fn program<A: Into<String>>(argv: impl IntoIterator<Item = A>) -> Look {
    let arguments: Vec<String> = argv.into_iter().map(Into::into).collect();
    Look::Command(v1::CommandInfo {
        shell: Some(false),
        value: arguments.first().cloned(),
        arguments,
        ..Default::default()
    })
}

impl HealthCheck {
    fn of(look: Look) -> Self {
        let times = Times::default();
        HealthCheck { look, times, ipv6: false, grace: None, consecutive_failures: None }
    }

    /// `sh -c line` beside the task's command, as its user and in its sandbox; 0 is success.
    pub fn shell(line: impl Into<String>) -> Self {
        Self::of(shell(line))
    }

    /// As [`shell`](Self::shell), but a program without a shell.
    pub fn argv<A: Into<String>>(argv: impl IntoIterator<Item = A>) -> Self {
        Self::of(program(argv))
    }

    /// GET over the loopback interface; 200 to 399 is success. `path` begins with a slash.
    pub fn http(port: impl Into<CheckPort>, path: impl Into<String>) -> Self {
        Self::of(Look::Http { scheme: None, port: port.into(), path: path.into() })
    }

    /// As [`http`](Self::http), with TLS. The certificate is not verified.
    pub fn https(port: impl Into<CheckPort>, path: impl Into<String>) -> Self {
        Self::of(Look::Http { scheme: Some("https"), port: port.into(), path: path.into() })
    }

    /// A connection over the loopback interface is success.
    pub fn tcp(port: impl Into<CheckPort>) -> Self {
        Self::of(Look::Tcp { port: port.into() })
    }

    /// Looks at `::1` instead of `127.0.0.1`.
    pub fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// From the start of the command to the first look.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.times.delay = Some(delay);
        self
    }

    /// From a result to the next look.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.times.interval = Some(interval);
        self
    }

    /// For one look. Zero: for ever.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.times.timeout = Some(timeout);
        self
    }

    /// From the start of the command: failures before its end and before the first success do not count.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Failures in a row that end the task.
    pub fn consecutive_failures(mut self, count: u32) -> Self {
        self.consecutive_failures = Some(count);
        self
    }

    /// As a message, for a task that has these ports.
    pub(crate) fn message(&self, ports: &[u64]) -> v1::HealthCheck {
        use v1::health_check::{HttpCheckInfo, TcpCheckInfo, Type};
        let protocol = self.ipv6.then_some(Protocol::IPv6 as i32);
        let mut message = v1::HealthCheck {
            delay_seconds: self.times.delay.map(|delay| delay.as_secs_f64()),
            interval_seconds: self.times.interval.map(|interval| interval.as_secs_f64()),
            timeout_seconds: self.times.timeout.map(|timeout| timeout.as_secs_f64()),
            grace_period_seconds: self.grace.map(|grace| grace.as_secs_f64()),
            consecutive_failures: self.consecutive_failures,
            ..Default::default()
        };
        let kind = match &self.look {
            Look::Command(command) => {
                message.command = Some(command.clone());
                Type::Command
            }
            Look::Http { scheme, port, path } => {
                message.http = Some(HttpCheckInfo {
                    protocol,
                    scheme: scheme.map(str::to_owned),
                    port: number(*port, ports),
                    path: Some(path.clone()),
                    ..Default::default()
                });
                Type::Http
            }
            Look::Tcp { port } => {
                message.tcp = Some(TcpCheckInfo { protocol, port: number(*port, ports) });
                Type::Tcp
            }
        };
        message.r#type = Some(kind as i32);
        message
    }
}

impl Check {
    fn of(look: Look) -> Self {
        Check { look, times: Times::default() }
    }

    /// As [`HealthCheck::shell`]; the result is the exit code.
    pub fn shell(line: impl Into<String>) -> Self {
        Self::of(shell(line))
    }

    /// As [`HealthCheck::argv`]; the result is the exit code.
    pub fn argv<A: Into<String>>(argv: impl IntoIterator<Item = A>) -> Self {
        Self::of(program(argv))
    }

    /// As [`HealthCheck::http`]; the result is the status code.
    pub fn http(port: impl Into<CheckPort>, path: impl Into<String>) -> Self {
        Self::of(Look::Http { scheme: None, port: port.into(), path: path.into() })
    }

    /// As [`HealthCheck::tcp`]; the result is whether there was a connection.
    pub fn tcp(port: impl Into<CheckPort>) -> Self {
        Self::of(Look::Tcp { port: port.into() })
    }

    /// See [`HealthCheck::delay`].
    pub fn delay(mut self, delay: Duration) -> Self {
        self.times.delay = Some(delay);
        self
    }

    /// See [`HealthCheck::interval`].
    pub fn interval(mut self, interval: Duration) -> Self {
        self.times.interval = Some(interval);
        self
    }

    /// See [`HealthCheck::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.times.timeout = Some(timeout);
        self
    }

    pub(crate) fn message(&self, ports: &[u64]) -> v1::CheckInfo {
        use v1::check_info::{Command, Http, Tcp, Type};
        let mut message = v1::CheckInfo {
            delay_seconds: self.times.delay.map(|delay| delay.as_secs_f64()),
            interval_seconds: self.times.interval.map(|interval| interval.as_secs_f64()),
            timeout_seconds: self.times.timeout.map(|timeout| timeout.as_secs_f64()),
            ..Default::default()
        };
        let kind = match &self.look {
            Look::Command(command) => {
                message.command = Some(Command { command: command.clone() });
                Type::Command
            }
            Look::Http { port, path, .. } => {
                let path = Some(path.clone());
                message.http = Some(Http { port: number(*port, ports), path });
                Type::Http
            }
            Look::Tcp { port } => {
                message.tcp = Some(Tcp { port: number(*port, ports) });
                Type::Tcp
            }
        };
        message.r#type = Some(kind as i32);
        message
    }
}

/// Zero, which the master refuses with a sentence, for a port that the task does not have.
fn number(port: CheckPort, ports: &[u64]) -> u32 {
    match port {
        CheckPort::Number(number) => number.into(),
        CheckPort::Own(place) => {
            ports.get(place).and_then(|port| u32::try_from(*port).ok()).unwrap_or(0)
        }
    }
}

/// A task's ports in the order of `PORT0`, `PORT1`, …: ascending, and no more than are ever given variables.
pub(crate) fn ports_of(resources: &[v1::Resource]) -> Vec<u64> {
    const MAX: usize = 512;
    let ranges = resources
        .iter()
        .filter(|resource| resource.name == "ports")
        .flat_map(|resource| resource.ranges.iter().flat_map(|ranges| &ranges.range));
    let mut bounds: Vec<(u64, u64)> = ranges.map(|range| (range.begin, range.end)).collect();
    bounds.sort_unstable();
    bounds.into_iter().flat_map(|(begin, end)| begin..=end).take(MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Task;

    fn ports(ranges: &[(u64, u64)]) -> v1::Resource {
        let range = ranges.iter().map(|(begin, end)| v1::value::Range { begin: *begin, end: *end });
        v1::Resource {
            name: "ports".to_owned(),
            r#type: v1::value::Type::Ranges as i32,
            ranges: Some(v1::value::Ranges { range: range.collect() }),
            ..Default::default()
        }
    }

    fn bound(task: Task) -> v1::TaskInfo {
        let ports = vec![ports(&[(31_005, 31_006), (31_000, 31_000)])];
        task.on(v1::AgentId { value: "a".to_owned() }, ports)
    }

    #[test]
    fn a_check_finds_the_tasks_own_port() {
        let check = HealthCheck::https(CheckPort::Own(1), "/h").ipv6().consecutive_failures(2);
        let task = Task::command("t", "t").health_check(check).check(Check::tcp(CheckPort::Own(0)));
        let info = bound(task);
        let health = info.health_check.expect("a health check");
        assert_eq!(health.r#type(), v1::health_check::Type::Http);
        let http = health.http.expect("http");
        assert_eq!((http.port, http.scheme(), http.path()), (31_005, "https", "/h"));
        assert_eq!(http.protocol(), Protocol::IPv6);
        assert_eq!(health.consecutive_failures, Some(2));
        assert_eq!(info.check.and_then(|check| check.tcp).map(|tcp| tcp.port), Some(31_000));
        let missing = Task::command("t", "t").check(Check::tcp(CheckPort::Own(3)));
        let missing = bound(missing).check.and_then(|check| check.tcp);
        assert_eq!(missing.map(|tcp| tcp.port), Some(0));
    }

    #[test]
    fn times_are_seconds_and_left_out_where_nothing_was_said() {
        let half = Duration::from_millis(500);
        let check = HealthCheck::shell("true").delay(half).grace(Duration::ZERO);
        let info = bound(Task::command("t", "t").health_check(check));
        let health = info.health_check.expect("a health check");
        assert_eq!((health.delay_seconds, health.grace_period_seconds), (Some(0.5), Some(0.0)));
        assert_eq!((health.interval_seconds, health.timeout_seconds), (None, None));
        assert_eq!(health.command.and_then(|command| command.value).as_deref(), Some("true"));
        let check = Check::argv(["ready", "-q"]).interval(half).timeout(half);
        let check = bound(Task::command("t", "t").check(check)).check.expect("a check");
        assert_eq!((check.interval_seconds, check.timeout_seconds), (Some(0.5), Some(0.5)));
        let command = check.command.expect("a command").command;
        assert_eq!((command.shell, command.arguments.len()), (Some(false), 2));
    }
}
