//! What a master can be told.

use std::time::Duration;

use super::Master;
use crate::error::OperatorError;
use crate::operator::{duration, nanoseconds};
use crate::v1;
use crate::v1::master::{Call, call};

/// Orders, each named after its call of the v1 operator API. They return when the master has
/// carried them out, or has passed on what others carry out.
///
/// # Errors
/// All fail with [`OperatorError`]: refused by the master, or the connection was lost, and then
/// it is not known whether the order was carried out.
impl Master {
    /// Logs more, or less, for a time; 0 is the least.
    pub async fn set_logging_level(
        &self,
        level: u32,
        duration: Duration,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::SetLoggingLevel as i32),
            set_logging_level: Some(call::SetLoggingLevel {
                level,
                duration: nanoseconds(duration),
            }),
            ..Default::default()
        })
        .await
    }

    /// Sets the weights of the roles that are named.
    pub async fn update_weights(
        &self,
        weights: impl IntoIterator<Item = v1::WeightInfo>,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::UpdateWeights as i32),
            update_weights: Some(call::UpdateWeights {
                weight_infos: weights.into_iter().collect(),
            }),
            ..Default::default()
        })
        .await
    }

    /// Reserves resources of an agent. `source`, if it is not empty, is the same resources as they are
    /// before: for pushing a reservation from one role to another.
    pub async fn reserve_resources(
        &self,
        agent_id: v1::AgentId,
        source: impl IntoIterator<Item = v1::Resource>,
        resources: impl IntoIterator<Item = v1::Resource>,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::ReserveResources as i32),
            reserve_resources: Some(call::ReserveResources {
                agent_id,
                source: source.into_iter().collect(),
                resources: resources.into_iter().collect(),
            }),
            ..Default::default()
        })
        .await
    }

    /// Takes the last reservation off resources of an agent.
    pub async fn unreserve_resources(
        &self,
        agent_id: v1::AgentId,
        resources: impl IntoIterator<Item = v1::Resource>,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::UnreserveResources as i32),
            unreserve_resources: Some(call::UnreserveResources {
                agent_id,
                resources: resources.into_iter().collect(),
            }),
            ..Default::default()
        })
        .await
    }

    /// Makes persistent volumes out of reserved disk of an agent.
    pub async fn create_volumes(
        &self,
        agent_id: v1::AgentId,
        volumes: impl IntoIterator<Item = v1::Resource>,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::CreateVolumes as i32),
            create_volumes: Some(call::CreateVolumes {
                agent_id,
                volumes: volumes.into_iter().collect(),
            }),
            ..Default::default()
        })
        .await
    }

    /// Destroys persistent volumes with all that is in them.
    pub async fn destroy_volumes(
        &self,
        agent_id: v1::AgentId,
        volumes: impl IntoIterator<Item = v1::Resource>,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::DestroyVolumes as i32),
            destroy_volumes: Some(call::DestroyVolumes {
                agent_id,
                volumes: volumes.into_iter().collect(),
            }),
            ..Default::default()
        })
        .await
    }

    /// Adds disk of the same reservation to a volume.
    pub async fn grow_volume(
        &self,
        agent_id: v1::AgentId,
        volume: v1::Resource,
        addition: v1::Resource,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::GrowVolume as i32),
            grow_volume: Some(call::GrowVolume { agent_id: Some(agent_id), volume, addition }),
            ..Default::default()
        })
        .await
    }

    /// Takes so many megabytes off a volume.
    pub async fn shrink_volume(
        &self,
        agent_id: v1::AgentId,
        volume: v1::Resource,
        subtract_mb: f64,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::ShrinkVolume as i32),
            shrink_volume: Some(call::ShrinkVolume {
                agent_id: Some(agent_id),
                volume,
                subtract: v1::value::Scalar { value: subtract_mb },
            }),
            ..Default::default()
        })
        .await
    }

    /// Replaces the whole schedule of maintenance.
    pub async fn update_maintenance_schedule(
        &self,
        schedule: v1::maintenance::Schedule,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::UpdateMaintenanceSchedule as i32),
            update_maintenance_schedule: Some(call::UpdateMaintenanceSchedule { schedule }),
            ..Default::default()
        })
        .await
    }

    /// Takes scheduled machines down: their agents are told to end.
    pub async fn start_maintenance(
        &self,
        machines: impl IntoIterator<Item = v1::MachineId>,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::StartMaintenance as i32),
            start_maintenance: Some(call::StartMaintenance {
                machines: machines.into_iter().collect(),
            }),
            ..Default::default()
        })
        .await
    }

    /// Brings machines that were taken down up again.
    pub async fn stop_maintenance(
        &self,
        machines: impl IntoIterator<Item = v1::MachineId>,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::StopMaintenance as i32),
            stop_maintenance: Some(call::StopMaintenance {
                machines: machines.into_iter().collect(),
            }),
            ..Default::default()
        })
        .await
    }

    /// Ends all tasks of an agent, none with a longer grace period than this, and offers it no more.
    /// With `mark_gone` it is then marked as gone for good.
    pub async fn drain_agent(
        &self,
        agent_id: v1::AgentId,
        max_grace_period: Option<Duration>,
        mark_gone: bool,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::DrainAgent as i32),
            drain_agent: Some(call::DrainAgent {
                agent_id,
                max_grace_period: max_grace_period.map(duration),
                mark_gone: Some(mark_gone),
            }),
            ..Default::default()
        })
        .await
    }

    /// Offers an agent no more; its tasks run on.
    pub async fn deactivate_agent(&self, agent_id: v1::AgentId) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::DeactivateAgent as i32),
            deactivate_agent: Some(call::DeactivateAgent { agent_id }),
            ..Default::default()
        })
        .await
    }

    /// Takes back a drain or a deactivation.
    pub async fn reactivate_agent(&self, agent_id: v1::AgentId) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::ReactivateAgent as i32),
            reactivate_agent: Some(call::ReactivateAgent { agent_id }),
            ..Default::default()
        })
        .await
    }

    /// Sets guarantees and limits of the roles that are named. `force` skips the check that the
    /// cluster can hold the guarantees.
    pub async fn update_quota(
        &self,
        configs: impl IntoIterator<Item = v1::quota::QuotaConfig>,
        force: bool,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::UpdateQuota as i32),
            update_quota: Some(call::UpdateQuota {
                force: Some(force),
                quota_configs: configs.into_iter().collect(),
            }),
            ..Default::default()
        })
        .await
    }

    /// Ends a framework with all its tasks.
    pub async fn teardown(&self, framework_id: v1::FrameworkId) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::Teardown as i32),
            teardown: Some(call::Teardown { framework_id }),
            ..Default::default()
        })
        .await
    }

    /// Asserts that an agent will never come back: its tasks are told to be gone, and its id is
    /// barred. Answered when that is durable.
    pub async fn mark_agent_gone(&self, agent_id: v1::AgentId) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::MarkAgentGone as i32),
            mark_agent_gone: Some(call::MarkAgentGone { agent_id }),
            ..Default::default()
        })
        .await
    }

    /// Sets quota as Mesos before 1.9 did: the guarantee is the limit, too.
    #[deprecated = "Mesos has update_quota since 1.9"]
    #[expect(deprecated, reason = "it is what this call is")]
    pub async fn set_quota(&self, request: v1::quota::QuotaRequest) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::SetQuota as i32),
            set_quota: Some(call::SetQuota { quota_request: request }),
            ..Default::default()
        })
        .await
    }

    /// Removes a role's quota as Mesos before 1.9 did.
    #[deprecated = "Mesos has update_quota since 1.9"]
    #[expect(deprecated, reason = "it is what this call is")]
    pub async fn remove_quota(&self, role: impl Into<String>) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::RemoveQuota as i32),
            remove_quota: Some(call::RemoveQuota { role: role.into() }),
            ..Default::default()
        })
        .await
    }

    async fn order(&self, call: Call) -> Result<(), OperatorError> {
        self.invoke(call).await.map(drop)
    }
}
