//! Who subscribes: a builder for `FrameworkInfo` with the settings that new frameworks want.

use std::time::Duration;

use crate::v1::{self, framework_info::capability::Type as Capability};

/// Describes a framework. Roles may be several, lost agents are told apart from lost tasks
/// (`TASK_UNREACHABLE`, `TASK_GONE`, …), a kill in progress is reported (`TASK_KILLING`) and
/// reservations come in the stacked form.
#[derive(Debug, Clone, PartialEq)]
pub struct Framework {
    info: v1::FrameworkInfo,
}

impl Framework {
    /// `user` is the operating-system user that tasks run as when they do not say otherwise.
    pub fn new(name: impl Into<String>, user: impl Into<String>) -> Self {
        let capabilities = [
            Capability::MultiRole,
            Capability::PartitionAware,
            Capability::TaskKillingState,
            Capability::ReservationRefinement,
        ];
        Framework {
            info: v1::FrameworkInfo {
                name: name.into(),
                user: user.into(),
                checkpoint: Some(true),
                roles: vec!["*".to_owned()],
                capabilities: capabilities
                    .into_iter()
                    .map(|capability| v1::framework_info::Capability {
                        r#type: Some(capability as i32),
                    })
                    .collect(),
                ..Default::default()
            },
        }
    }

    /// Whose resources to ask for. The default is `*`.
    pub fn roles<R: Into<String>>(mut self, roles: impl IntoIterator<Item = R>) -> Self {
        self.info.roles = roles.into_iter().map(Into::into).collect();
        self
    }

    /// How long tasks go on without a connected scheduler; then the master ends them. The default
    /// is zero: they end at once.
    pub fn failover_timeout(mut self, timeout: Duration) -> Self {
        self.info.failover_timeout = Some(timeout.as_secs_f64());
        self
    }

    /// Whether tasks and executors outlive their agent's restarts. The default is that they do.
    pub fn checkpoint(mut self, checkpoint: bool) -> Self {
        self.info.checkpoint = Some(checkpoint);
        self
    }

    /// The id a former subscription was given: take its tasks over.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.info.id = Some(v1::FrameworkId { value: id.into() });
        self
    }

    /// Adds what the framework understands.
    pub fn capability(mut self, capability: Capability) -> Self {
        let number = Some(capability as i32);
        if self.info.capabilities.iter().all(|known| known.r#type != number) {
            self.info.capabilities.push(v1::framework_info::Capability { r#type: number });
        }
        self
    }

    /// Takes a capability back, also one of those that every framework made here begins with.
    pub fn without_capability(mut self, capability: Capability) -> Self {
        let number = Some(capability as i32);
        self.info.capabilities.retain(|known| known.r#type != number);
        self
    }

    /// The machine of the scheduler, for people to read.
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.info.hostname = Some(hostname.into());
        self
    }
}

impl From<Framework> for v1::FrameworkInfo {
    fn from(framework: Framework) -> Self {
        framework.info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_replace_and_capabilities_do_not_repeat() {
        let info: v1::FrameworkInfo = Framework::new("f", "u")
            .roles(["a", "b"])
            .capability(Capability::MultiRole)
            .capability(Capability::GpuResources)
            .without_capability(Capability::TaskKillingState)
            .failover_timeout(Duration::from_millis(1500))
            .into();
        assert_eq!(info.roles, ["a", "b"]);
        assert_eq!(info.failover_timeout, Some(1.5));
        let types: Vec<_> = info.capabilities.iter().filter_map(|c| c.r#type).collect();
        assert_eq!(types, [6, 5, 7, 3]);
    }
}
