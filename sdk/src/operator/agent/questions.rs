//! What an agent can be asked.

use std::time::Duration;

use super::Agent;
use crate::error::OperatorError;
use crate::operator::nanoseconds;
use crate::v1;
use crate::v1::agent::{Call, call, response};

/// Questions, each named after its call of the v1 operator API.
///
/// # Errors
/// All fail with [`OperatorError`]: refused by the agent, or the connection was lost.
impl Agent {
    /// Whether the agent is well enough to take new work.
    pub async fn health(&self) -> Result<bool, OperatorError> {
        let answer = self.ask(call::Type::GetHealth).await?;
        self.part("GET_HEALTH", "get_health", answer.get_health.map(|part| part.healthy))
    }

    /// The flags that the agent was started with.
    pub async fn flags(&self) -> Result<Vec<v1::Flag>, OperatorError> {
        let answer = self.ask(call::Type::GetFlags).await?;
        self.part("GET_FLAGS", "get_flags", answer.get_flags.map(|part| part.flags))
    }

    /// The version of Mesos whose API the agent speaks.
    pub async fn version(&self) -> Result<v1::VersionInfo, OperatorError> {
        let answer = self.ask(call::Type::GetVersion).await?;
        self.part("GET_VERSION", "get_version", answer.get_version.map(|part| part.version_info))
    }

    /// All metrics, by the names that Mesos gives them.
    pub async fn metrics(&self) -> Result<Vec<v1::Metric>, OperatorError> {
        let answer = self.ask(call::Type::GetMetrics).await?;
        self.part("GET_METRICS", "get_metrics", answer.get_metrics.map(|part| part.metrics))
    }

    /// How much the agent logs: 0 is the least.
    pub async fn logging_level(&self) -> Result<u32, OperatorError> {
        let answer = self.ask(call::Type::GetLoggingLevel).await?;
        self.part(
            "GET_LOGGING_LEVEL",
            "get_logging_level",
            answer.get_logging_level.map(|part| part.level),
        )
    }

    /// Tasks, executors and frameworks at one moment.
    pub async fn state(&self) -> Result<response::GetState, OperatorError> {
        let answer = self.ask(call::Type::GetState).await?;
        self.part("GET_STATE", "get_state", answer.get_state)
    }

    /// Frameworks that have, or had, tasks here.
    pub async fn frameworks(&self) -> Result<response::GetFrameworks, OperatorError> {
        let answer = self.ask(call::Type::GetFrameworks).await?;
        self.part("GET_FRAMEWORKS", "get_frameworks", answer.get_frameworks)
    }

    /// Executors that run here, or ran.
    pub async fn executors(&self) -> Result<response::GetExecutors, OperatorError> {
        let answer = self.ask(call::Type::GetExecutors).await?;
        self.part("GET_EXECUTORS", "get_executors", answer.get_executors)
    }

    /// Operations on the agent's resources that are not done yet, or not acknowledged.
    pub async fn operations(&self) -> Result<Vec<v1::Operation>, OperatorError> {
        let answer = self.ask(call::Type::GetOperations).await?;
        self.part(
            "GET_OPERATIONS",
            "get_operations",
            answer.get_operations.map(|part| part.operations),
        )
    }

    /// Tasks by how far they have come.
    pub async fn tasks(&self) -> Result<response::GetTasks, OperatorError> {
        let answer = self.ask(call::Type::GetTasks).await?;
        self.part("GET_TASKS", "get_tasks", answer.get_tasks)
    }

    /// The agent as it registered, and whether it is draining.
    pub async fn info(&self) -> Result<response::GetAgent, OperatorError> {
        let answer = self.ask(call::Type::GetAgent).await?;
        self.part("GET_AGENT", "get_agent", answer.get_agent)
    }

    /// Resource providers on the agent.
    pub async fn resource_providers(
        &self,
    ) -> Result<Vec<response::get_resource_providers::ResourceProvider>, OperatorError> {
        let answer = self.ask(call::Type::GetResourceProviders).await?;
        self.part(
            "GET_RESOURCE_PROVIDERS",
            "get_resource_providers",
            answer.get_resource_providers.map(|part| part.resource_providers),
        )
    }

    /// Containers and what they use; on request with those of nested and of standalone ones.
    pub async fn containers(
        &self,
        nested: bool,
        standalone: bool,
    ) -> Result<Vec<response::get_containers::Container>, OperatorError> {
        let get_containers =
            call::GetContainers { show_nested: Some(nested), show_standalone: Some(standalone) };
        let answer = self
            .invoke(Call {
                r#type: Some(call::Type::GetContainers as i32),
                get_containers: Some(get_containers),
                ..Default::default()
            })
            .await?;
        let containers = answer.get_containers.map(|part| part.containers);
        self.part("GET_CONTAINERS", "get_containers", containers)
    }

    /// What is in a directory, by name. `path` is one of Mesos': that of a sandbox is
    /// `/frameworks/FRAMEWORK/executors/EXECUTOR/runs/latest`. `is_not_found` if there is none.
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

    /// A piece of a file, by a path as for [`list_files`](Self::list_files), with the size of the
    /// whole file. Without a length, as much as one answer holds. [`read_file`](Self::read_file)
    /// streams.
    pub async fn read_piece(
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

    /// Logs more, or less, for a time; 0 is the least.
    pub async fn set_logging_level(
        &self,
        level: u32,
        duration: Duration,
    ) -> Result<(), OperatorError> {
        let duration = nanoseconds(duration);
        self.order(Call {
            r#type: Some(call::Type::SetLoggingLevel as i32),
            set_logging_level: Some(call::SetLoggingLevel { level, duration }),
            ..Default::default()
        })
        .await
    }
}
