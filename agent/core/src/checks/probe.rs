//! What is looked at, and what was seen.

use mezzo_proto::v1;
use v1::network_info::Protocol;

/// Which of a task's two checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckKind {
    /// `TaskInfo.health_check`.
    Health,
    /// `TaskInfo.check`.
    Check,
}

impl CheckKind {
    pub const ALL: [CheckKind; 2] = [CheckKind::Health, CheckKind::Check];
}

/// One look at a task, from inside its namespaces.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// Run it beside the task's command.
    Command(v1::CommandInfo),
    /// GET from the loopback interface.
    Http {
        https: bool,
        ipv6: bool,
        port: u16,
        /// Begins with a slash.
        path: String,
    },
    /// Connect over the loopback interface.
    Tcp { ipv6: bool, port: u16 },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The command ended by itself with this code, 0 to 255.
    Exited(i32),
    /// The answer's status code.
    Answered(u16),
    /// Whether the connection came about.
    Connected(bool),
    /// There is no result, which says something about the task: the time was over, the command was ended by a
    /// signal, nobody answered.
    Failed(String),
    /// There is no result for reasons that are the agent's own: it counts for nothing.
    Unavailable(String),
}

impl CheckOutcome {
    /// What a health check makes of it: `None` where it says nothing, else whether the task is well, or why not.
    pub(crate) fn verdict(&self) -> Option<Result<(), String>> {
        Some(match self {
            CheckOutcome::Exited(0) | CheckOutcome::Answered(200..=399) => Ok(()),
            CheckOutcome::Connected(true) => Ok(()),
            CheckOutcome::Exited(code) => Err(format!("the command exited with status {code}")),
            CheckOutcome::Answered(code) => Err(format!("the answer has status {code}")),
            CheckOutcome::Connected(false) => Err("no connection came about".to_owned()),
            CheckOutcome::Failed(message) => Err(message.clone()),
            CheckOutcome::Unavailable(_) => return None,
        })
    }
}

impl Probe {
    /// `None` for one that no master of this version would have let through.
    pub(crate) fn of_health(check: &v1::HealthCheck) -> Option<Probe> {
        use v1::health_check::Type;
        match check.r#type() {
            Type::Command => Some(Probe::Command(check.command.clone()?)),
            Type::Http => {
                let http = check.http.as_ref()?;
                Some(Probe::Http {
                    https: http.scheme() == "https",
                    ipv6: http.protocol() == Protocol::IPv6,
                    port: port(http.port)?,
                    path: path(http.path()),
                })
            }
            Type::Tcp => {
                let tcp = check.tcp.as_ref()?;
                Some(Probe::Tcp { ipv6: tcp.protocol() == Protocol::IPv6, port: port(tcp.port)? })
            }
            Type::Unknown => None,
        }
    }

    /// As [`of_health`](Self::of_health).
    pub(crate) fn of_check(check: &v1::CheckInfo) -> Option<Probe> {
        use v1::check_info::Type;
        match check.r#type() {
            Type::Command => Some(Probe::Command(check.command.as_ref()?.command.clone())),
            Type::Http => {
                let http = check.http.as_ref()?;
                let (port, path) = (port(http.port)?, path(http.path()));
                Some(Probe::Http { https: false, ipv6: false, port, path })
            }
            Type::Tcp => Some(Probe::Tcp { ipv6: false, port: port(check.tcp.as_ref()?.port)? }),
            Type::Unknown => None,
        }
    }
}

fn port(number: u32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port > 0)
}

fn path(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}
