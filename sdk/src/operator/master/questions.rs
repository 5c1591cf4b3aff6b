//! What a master can be asked.

use super::Master;
use crate::error::OperatorError;
use crate::v1;
use crate::v1::master::{Call, call, response};

/// Questions, each named after its call of the v1 operator API.
///
/// # Errors
/// All fail with [`OperatorError`]: refused by the master, or the connection was lost.
impl Master {
    /// Whether the master is well enough to take new work.
    pub async fn health(&self) -> Result<bool, OperatorError> {
        let answer = self.ask(call::Type::GetHealth).await?;
        self.part("GET_HEALTH", "get_health", answer.get_health.map(|part| part.healthy))
    }

    /// The flags that the master was started with.
    pub async fn flags(&self) -> Result<Vec<v1::Flag>, OperatorError> {
        let answer = self.ask(call::Type::GetFlags).await?;
        self.part("GET_FLAGS", "get_flags", answer.get_flags.map(|part| part.flags))
    }

    /// The version of Mesos whose API the master speaks.
    pub async fn version(&self) -> Result<v1::VersionInfo, OperatorError> {
        let answer = self.ask(call::Type::GetVersion).await?;
        self.part("GET_VERSION", "get_version", answer.get_version.map(|part| part.version_info))
    }

    /// All metrics, by the names that Mesos gives them.
    pub async fn metrics(&self) -> Result<Vec<v1::Metric>, OperatorError> {
        let answer = self.ask(call::Type::GetMetrics).await?;
        self.part("GET_METRICS", "get_metrics", answer.get_metrics.map(|part| part.metrics))
    }

    /// How much the master logs: 0 is the least.
    pub async fn logging_level(&self) -> Result<u32, OperatorError> {
        let answer = self.ask(call::Type::GetLoggingLevel).await?;
        self.part(
            "GET_LOGGING_LEVEL",
            "get_logging_level",
            answer.get_logging_level.map(|part| part.level),
        )
    }

    /// Tasks, executors, frameworks and agents at one moment. Large in a large cluster.
    pub async fn state(&self) -> Result<response::GetState, OperatorError> {
        let answer = self.ask(call::Type::GetState).await?;
        self.part("GET_STATE", "get_state", answer.get_state)
    }

    /// Agents that are registered, awaited, unreachable and gone.
    pub async fn agents(&self) -> Result<response::GetAgents, OperatorError> {
        let answer = self.ask(call::Type::GetAgents).await?;
        self.part("GET_AGENTS", "get_agents", answer.get_agents)
    }

    /// Frameworks that are known and (as many as the master remembers) completed ones.
    pub async fn frameworks(&self) -> Result<response::GetFrameworks, OperatorError> {
        let answer = self.ask(call::Type::GetFrameworks).await?;
        self.part("GET_FRAMEWORKS", "get_frameworks", answer.get_frameworks)
    }

    /// Executors that run.
    pub async fn executors(&self) -> Result<response::GetExecutors, OperatorError> {
        let answer = self.ask(call::Type::GetExecutors).await?;
        self.part("GET_EXECUTORS", "get_executors", answer.get_executors)
    }

    /// Operations on resources that are not done yet, or not acknowledged.
    pub async fn operations(&self) -> Result<Vec<v1::Operation>, OperatorError> {
        let answer = self.ask(call::Type::GetOperations).await?;
        self.part(
            "GET_OPERATIONS",
            "get_operations",
            answer.get_operations.map(|part| part.operations),
        )
    }

    /// Active, unreachable and (as many as the master remembers) completed tasks.
    pub async fn tasks(&self) -> Result<response::GetTasks, OperatorError> {
        let answer = self.ask(call::Type::GetTasks).await?;
        self.part("GET_TASKS", "get_tasks", answer.get_tasks)
    }

    /// Roles that frameworks, reservations or settings name.
    pub async fn roles(&self) -> Result<Vec<v1::Role>, OperatorError> {
        let answer = self.ask(call::Type::GetRoles).await?;
        self.part("GET_ROLES", "get_roles", answer.get_roles.map(|part| part.roles))
    }

    /// Weights of roles that were set; all others have weight 1.
    pub async fn weights(&self) -> Result<Vec<v1::WeightInfo>, OperatorError> {
        let answer = self.ask(call::Type::GetWeights).await?;
        self.part("GET_WEIGHTS", "get_weights", answer.get_weights.map(|part| part.weight_infos))
    }

    /// Who leads, and since when.
    pub async fn leader(&self) -> Result<response::GetMaster, OperatorError> {
        let answer = self.ask(call::Type::GetMaster).await?;
        self.part("GET_MASTER", "get_master", answer.get_master)
    }

    /// Machines that are draining or down.
    pub async fn maintenance_status(
        &self,
    ) -> Result<v1::maintenance::ClusterStatus, OperatorError> {
        let answer = self.ask(call::Type::GetMaintenanceStatus).await?;
        self.part(
            "GET_MAINTENANCE_STATUS",
            "get_maintenance_status",
            answer.get_maintenance_status.map(|part| part.status),
        )
    }

    /// The maintenance that is planned.
    pub async fn maintenance_schedule(&self) -> Result<v1::maintenance::Schedule, OperatorError> {
        let answer = self.ask(call::Type::GetMaintenanceSchedule).await?;
        self.part(
            "GET_MAINTENANCE_SCHEDULE",
            "get_maintenance_schedule",
            answer.get_maintenance_schedule.map(|part| part.schedule),
        )
    }

    /// Quota of every role that has any.
    pub async fn quota(&self) -> Result<v1::quota::QuotaStatus, OperatorError> {
        let answer = self.ask(call::Type::GetQuota).await?;
        self.part("GET_QUOTA", "get_quota", answer.get_quota.map(|part| part.status))
    }

    /// What is in a directory of the master's, by name, such as that of its logs.
    pub async fn list_files(
        &self,
        path: impl Into<String>,
    ) -> Result<Vec<v1::FileInfo>, OperatorError> {
        let answer = self
            .invoke(Call {
                r#type: Some(call::Type::ListFiles as i32),
                list_files: Some(call::ListFiles { path: path.into() }),
                ..Default::default()
            })
            .await?;
        Ok(answer.list_files.unwrap_or_default().file_infos)
    }

    /// A piece of a file of the master's, with the size of the whole file. Without a length, as
    /// much as one answer holds.
    pub async fn read_file(
        &self,
        path: impl Into<String>,
        offset: u64,
        length: Option<u64>,
    ) -> Result<response::ReadFile, OperatorError> {
        let answer = self
            .invoke(Call {
                r#type: Some(call::Type::ReadFile as i32),
                read_file: Some(call::ReadFile { path: path.into(), offset, length }),
                ..Default::default()
            })
            .await?;
        self.part("READ_FILE", "read_file", answer.read_file)
    }
}
