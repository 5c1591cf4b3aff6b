//! The master's operator API.

use std::time::Duration;

use tonic::transport::Channel;

use crate::endpoint::{MAX_MESSAGE_BYTES, Target};
use crate::error::{ConnectError, OperatorError, ServerKind};
use crate::task::kill_policy;
use crate::v1;
use crate::v1::master::operator_client::OperatorClient;
use crate::v1::master::{Call, KillTaskRequest, KillTaskResponse, Response, call, response};

/// A connection to a master. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Master {
    address: String,
    client: OperatorClient<Channel>,
}

impl Master {
    /// Connects to `address`, `host:port`.
    ///
    /// # Errors
    /// [`ConnectError`] if the address is malformed or nothing answers there.
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        let target = Target::parse(ServerKind::Master, address)?;
        let channel = target.connect().await?;
        let client = OperatorClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Master { address: target.address, client })
    }

    /// The address in use, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Makes any call that has one answer.
    ///
    /// # Errors
    /// [`OperatorError`], as all methods here.
    pub async fn invoke(&self, call: Call) -> Result<Response, OperatorError> {
        let name = call
            .r#type
            .and_then(|number| call::Type::try_from(number).ok())
            .unwrap_or(call::Type::Unknown)
            .as_str_name();
        match self.client.clone().invoke(call).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => {
                Err(OperatorError::from_status(ServerKind::Master, &self.address, name, status))
            }
        }
    }

    /// Active, unreachable and (as many as the master remembers) completed tasks.
    pub async fn tasks(&self) -> Result<response::GetTasks, OperatorError> {
        let response = self.ask(call::Type::GetTasks).await?;
        self.part("GET_TASKS", "get_tasks", response.get_tasks)
    }

    pub async fn agents(&self) -> Result<response::GetAgents, OperatorError> {
        let response = self.ask(call::Type::GetAgents).await?;
        self.part("GET_AGENTS", "get_agents", response.get_agents)
    }

    pub async fn frameworks(&self) -> Result<response::GetFrameworks, OperatorError> {
        let response = self.ask(call::Type::GetFrameworks).await?;
        self.part("GET_FRAMEWORKS", "get_frameworks", response.get_frameworks)
    }

    pub async fn version(&self) -> Result<v1::VersionInfo, OperatorError> {
        let response = self.ask(call::Type::GetVersion).await?;
        let version = response.get_version.map(|version| version.version_info);
        self.part("GET_VERSION", "get_version", version)
    }

    pub async fn metrics(&self) -> Result<Vec<v1::Metric>, OperatorError> {
        let response = self.ask(call::Type::GetMetrics).await?;
        let metrics = response.get_metrics.map(|metrics| metrics.metrics);
        self.part("GET_METRICS", "get_metrics", metrics)
    }

    /// Asks for the end of a task; answered when the order is on its way to the agent. Without a
    /// framework the task's id must be unique in the cluster.
    pub async fn kill_task(
        &self,
        task_id: v1::TaskId,
        framework_id: Option<v1::FrameworkId>,
        grace: Option<Duration>,
    ) -> Result<KillTaskResponse, OperatorError> {
        let request = KillTaskRequest {
            framework_id,
            task_id: Some(task_id),
            kill_policy: grace.map(kill_policy),
        };
        match self.client.clone().kill_task(request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(OperatorError::from_status(
                ServerKind::Master,
                &self.address,
                "KillTask",
                status,
            )),
        }
    }

    /// Asserts that an agent will never come back: its tasks are told to be gone, and its id is
    /// barred. Answered when that is durable.
    pub async fn mark_agent_gone(&self, agent_id: v1::AgentId) -> Result<(), OperatorError> {
        let call = Call {
            r#type: Some(call::Type::MarkAgentGone as i32),
            mark_agent_gone: Some(call::MarkAgentGone { agent_id }),
            ..Call::default()
        };
        self.invoke(call).await.map(|_| ())
    }

    async fn ask(&self, question: call::Type) -> Result<Response, OperatorError> {
        self.invoke(Call { r#type: Some(question as i32), ..Default::default() }).await
    }

    fn part<T>(
        &self,
        call: &str,
        missing: &'static str,
        part: Option<T>,
    ) -> Result<T, OperatorError> {
        part.ok_or_else(|| OperatorError::Incomplete {
            server: ServerKind::Master,
            address: self.address.clone(),
            call: call.to_owned(),
            missing,
        })
    }
}
