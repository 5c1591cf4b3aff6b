//! What an agent tells the executors that it starts, by their environment.

use std::time::Duration;

use crate::v1;

/// When the agent does not say.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(15 * 60);
const SUBSCRIPTION_BACKOFF_MAX: Duration = Duration::from_secs(2);

/// What an executor has to know of itself and of its agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    /// The agent, `host:port`.
    pub agent: String,
    /// Of whose tasks it takes care.
    pub framework_id: v1::FrameworkId,
    /// The executor's own id.
    pub executor_id: v1::ExecutorId,
    /// Whether it outlives the agent, and waits for its return: `FrameworkInfo.checkpoint`.
    pub checkpoint: bool,
    /// How long it waits.
    pub recovery_timeout: Duration,
    /// The longest pause between attempts to connect anew.
    pub subscription_backoff_max: Duration,
    /// How long it has to end by itself when it is told to.
    pub shutdown_grace: Duration,
    /// What it shows the agent to be let in.
    pub token: Option<String>,
}

/// The environment is not that of an executor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// The agent sets it for every executor.
    #[error("{name} is not set: executors are started by an agent, which sets it")]
    Missing {
        /// The variable.
        name: &'static str,
    },
    /// The variable holds something else than it should.
    #[error("{name} is {value:?}: {problem}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Environment {
    /// Reads the variables of the process.
    ///
    /// # Errors
    /// [`EnvironmentError`] names the variable.
    pub fn read() -> Result<Self, EnvironmentError> {
        Environment::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let required = |name| variable(name).ok_or(EnvironmentError::Missing { name });
        let duration = |name, otherwise| match variable(name) {
            None => Ok(otherwise),
            Some(value) => mezzo_types::parse_duration(&value).map_err(|error| {
                EnvironmentError::Invalid { name, value, problem: error.to_string() }
            }),
        };
        let checkpoint = match variable("MESOS_CHECKPOINT").as_deref() {
            None | Some("0" | "false") => false,
            Some("1" | "true") => true,
            Some(other) => {
                return Err(EnvironmentError::Invalid {
                    name: "MESOS_CHECKPOINT",
                    value: other.to_owned(),
                    problem: "it is 0 or 1".to_owned(),
                });
            }
        };
        // Older agents of Mesos set the second alone, `slave(1)@ip:port`.
        let of_pid = || Some(variable("MESOS_SLAVE_PID")?.rsplit_once('@')?.1.to_owned());
        let agent = variable("MESOS_AGENT_ENDPOINT").or_else(of_pid);
        Ok(Environment {
            agent: agent.ok_or(EnvironmentError::Missing { name: "MESOS_AGENT_ENDPOINT" })?,
            framework_id: v1::FrameworkId { value: required("MESOS_FRAMEWORK_ID")? },
            executor_id: v1::ExecutorId { value: required("MESOS_EXECUTOR_ID")? },
            checkpoint,
            recovery_timeout: duration("MESOS_RECOVERY_TIMEOUT", RECOVERY_TIMEOUT)?,
            subscription_backoff_max: duration(
                "MESOS_SUBSCRIPTION_BACKOFF_MAX",
                SUBSCRIPTION_BACKOFF_MAX,
            )?,
            shutdown_grace: duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", SHUTDOWN_GRACE)?,
            token: variable("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: [(&str, &str); 3] = [
        ("MESOS_AGENT_ENDPOINT", "10.0.0.1:5051"),
        ("MESOS_FRAMEWORK_ID", "f"),
        ("MESOS_EXECUTOR_ID", "e"),
    ];

    fn read(more: &[(&str, &str)], without: &str) -> Result<Environment, String> {
        let variables =
            Vec::from_iter(USUAL.iter().chain(more).filter(|(name, _)| *name != without));
        let find = |name: &str| {
            variables
                .iter()
                .rev()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Environment::from(find).map_err(|error| error.to_string())
    }

    #[test]
    fn what_agents_set_is_read() {
        let usual = read(&[], "").expect("complete");
        assert_eq!(usual.agent, "10.0.0.1:5051");
        assert_eq!((usual.checkpoint, usual.shutdown_grace), (false, SHUTDOWN_GRACE));
        let set = [
            ("MESOS_CHECKPOINT", "1"),
            ("MESOS_RECOVERY_TIMEOUT", "1.5mins"),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "250ms"),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "7secs"),
            ("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "t"),
        ];
        let set = read(&set, "").expect("complete");
        assert!(set.checkpoint);
        assert_eq!(set.recovery_timeout, Duration::from_secs(90));
        assert_eq!(set.subscription_backoff_max, Duration::from_millis(250));
        assert_eq!(set.shutdown_grace, Duration::from_secs(7));
        assert_eq!(set.token.as_deref(), Some("t"));
        let pid = read(&[("MESOS_SLAVE_PID", "slave(1)@h:1")], "MESOS_AGENT_ENDPOINT");
        assert_eq!(pid.map(|environment| environment.agent).as_deref(), Ok("h:1"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let error = read(&[], "MESOS_EXECUTOR_ID").expect_err("missing");
        assert!(error.starts_with("MESOS_EXECUTOR_ID is not set"), "{error}");
        let error = read(&[("MESOS_RECOVERY_TIMEOUT", "5")], "").expect_err("no unit");
        assert!(error.starts_with("MESOS_RECOVERY_TIMEOUT is \"5\": ") && error.contains("unit"));
        let error = read(&[("MESOS_CHECKPOINT", "yes")], "").expect_err("no boolean");
        assert_eq!(error, "MESOS_CHECKPOINT is \"yes\": it is 0 or 1");
    }
}
