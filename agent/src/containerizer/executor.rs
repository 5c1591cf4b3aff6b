//! What an executor is told by its environment (Mesos 1.11: `executorEnvironment` in `src/slave/slave.cpp`).

use std::net::IpAddr;
use std::time::Duration;

use mezzo_proto::v1;
use mezzo_proto::v1::framework_info::capability;
use mezzo_types::format_duration;

use super::LaunchSpec;

/// How executors are told to behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutorSettings {
    /// Variables that every executor gets unless its command sets them (`--executor-environment-variables`).
    pub variables: Vec<(String, String)>,
    /// How long one may take to end, where it does not say so itself.
    pub shutdown_grace: Duration,
    /// How long one waits for an agent that is away before it ends by itself.
    pub recovery_timeout: Duration,
    /// Longest pause between its attempts to subscribe.
    pub backoff_max: Duration,
    /// Where containers are reached, and libmesos is to listen; `None` if that is not known.
    pub ip: Option<IpAddr>,
}

impl Default for ExecutorSettings {
    /// Mesos' values.
    fn default() -> Self {
        ExecutorSettings {
            variables: Vec::new(),
            shutdown_grace: Duration::from_secs(5),
            recovery_timeout: Duration::from_secs(15 * 60),
            backoff_max: Duration::from_secs(2),
            ip: None,
        }
    }
}

impl ExecutorSettings {
    /// The variables of one executor, beside those that every container gets.
    pub(super) fn of(
        &self,
        executor: &v1::ExecutorInfo,
        spec: &LaunchSpec,
        agent_endpoint: &str,
    ) -> Vec<(&'static str, String)> {
        let own = executor.shutdown_grace_period.as_ref();
        let own = own.map(|own| Duration::from_nanos(u64::try_from(own.nanoseconds).unwrap_or(0)));
        let mut variables = vec![
            // Command tasks have no executor.
            ("MESOS_HTTP_COMMAND_EXECUTOR", "0".to_owned()),
            (
                "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD",
                format_duration(own.unwrap_or(self.shutdown_grace)),
            ),
            ("MESOS_RECOVERY_TIMEOUT", format_duration(self.recovery_timeout)),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", format_duration(self.backoff_max)),
            ("LIBPROCESS_PORT", "0".to_owned()),
        ];
        if !agent_endpoint.is_empty() {
            variables.push(("MESOS_SLAVE_PID", format!("slave(1)@{agent_endpoint}")));
        }
        if let Some(ip) = self.ip {
            variables.push(("MESOS_CONTAINER_IP", ip.to_string()));
            variables.push(("LIBPROCESS_IP", ip.to_string()));
        }
        if spec.resources.allocation_roles().is_empty()
            && let Some(role) = only_role(&spec.framework)
        {
            variables.push(("MESOS_ALLOCATION_ROLE", role));
        }
        variables
    }
}

/// The role of a framework that has but one.
fn only_role(framework: &v1::FrameworkInfo) -> Option<String> {
    let multi = |has: &v1::framework_info::Capability| has.r#type() == capability::Type::MultiRole;
    if framework.capabilities.iter().any(multi) {
        return match framework.roles.as_slice() {
            [role] => Some(role.clone()),
            _ => None,
        };
    }
    #[expect(deprecated, reason = "Mesos clients without MULTI_ROLE use the old field")]
    let role = framework.role.clone();
    Some(role.unwrap_or_else(|| "*".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use mezzo_agent_core::Workload;
    use mezzo_types::Resources;

    use super::*;

    fn of(
        executor: v1::ExecutorInfo,
        settings: &ExecutorSettings,
    ) -> BTreeMap<&'static str, String> {
        let spec = LaunchSpec {
            container_id: "c".into(),
            agent_id: "a".into(),
            framework_id: "f".into(),
            executor_id: "e".into(),
            framework: Arc::default(),
            workload: Workload::Executor(Arc::new(executor.clone())),
            user: "root".to_owned(),
            resources: Resources::default(),
        };
        settings.of(&executor, &spec, "10.0.0.2:5051").into_iter().collect()
    }

    #[test]
    fn an_executor_is_told_what_mesos_tells_it() {
        let settings =
            ExecutorSettings { ip: Some([10, 0, 0, 2].into()), ..ExecutorSettings::default() };
        let told = of(v1::ExecutorInfo::default(), &settings);
        for (name, value) in [
            ("MESOS_HTTP_COMMAND_EXECUTOR", "0"),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", "5secs"),
            ("MESOS_RECOVERY_TIMEOUT", "15mins"),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", "2secs"),
            ("MESOS_SLAVE_PID", "slave(1)@10.0.0.2:5051"),
            ("MESOS_CONTAINER_IP", "10.0.0.2"),
            ("LIBPROCESS_IP", "10.0.0.2"),
            ("LIBPROCESS_PORT", "0"),
            ("MESOS_ALLOCATION_ROLE", "*"),
        ] {
            assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
        }
        let own = v1::ExecutorInfo {
            shutdown_grace_period: Some(v1::DurationInfo { nanoseconds: 90_000_000_000 }),
            ..v1::ExecutorInfo::default()
        };
        let told = of(own, &ExecutorSettings::default());
        assert_eq!(told["MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"], "1.5mins");
        assert!(!told.contains_key("MESOS_CONTAINER_IP"));
    }
}
