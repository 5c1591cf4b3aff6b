//! The agent's operator API.

use tonic::Streaming;
use tonic::transport::Channel;

use crate::endpoint::{MAX_MESSAGE_BYTES, Target};
use crate::error::{ConnectError, OperatorError, ServerKind};
use crate::v1;
use crate::v1::agent::operator_client::OperatorClient;
use crate::v1::agent::{
    Call, FileChunk, ReadFileRequest, Response, StatisticsRequest, StatisticsResponse, call,
};

/// A connection to an agent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Agent {
    address: String,
    client: OperatorClient<Channel>,
}

/// Which part of which file of which task's sandbox.
#[derive(Debug, Clone, PartialEq)]
pub struct FileRequest {
    pub framework_id: v1::FrameworkId,
    pub task_id: v1::TaskId,
    /// Relative to the sandbox, for instance `stdout`.
    pub path: String,
    /// First byte wanted; negative counts from the end.
    pub offset: i64,
    /// Go on with what is appended, until the task has ended.
    pub follow: bool,
    /// Of `stdout` and `stderr`: with what was rotated and is still kept. Offsets count from the
    /// task's first byte then, as they do with `follow`.
    pub with_rotated: bool,
}

impl Agent {
    /// Connects to `address`, `host:port`.
    ///
    /// # Errors
    /// [`ConnectError`] if the address is malformed or nothing answers there.
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        let target = Target::parse(ServerKind::Agent, address)?;
        let channel = target.connect().await?;
        let client = OperatorClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Agent { address: target.address, client })
    }

    /// Connects to the first of several addresses that answers, see [`crate::agent_addresses`].
    ///
    /// # Errors
    /// That of the last address.
    pub async fn connect_any(addresses: &[String]) -> Result<Self, ConnectError> {
        let mut last = ConnectError::Address {
            server: ServerKind::Agent,
            address: String::new(),
            problem: "it is empty",
        };
        for address in addresses {
            match Agent::connect(address).await {
                Ok(agent) => return Ok(agent),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The address in use, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Makes any call that has one answer.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn invoke(&self, call: Call) -> Result<Response, OperatorError> {
        let name = call
            .r#type
            .and_then(|number| call::Type::try_from(number).ok())
            .unwrap_or(call::Type::Unknown)
            .as_str_name();
        match self.client.clone().invoke(call).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => {
                Err(OperatorError::from_status(ServerKind::Agent, &self.address, name, status))
            }
        }
    }

    /// What is in a directory, by name. `path` is one of Mesos': that of a sandbox is
    /// `/frameworks/FRAMEWORK/executors/EXECUTOR/runs/latest`.
    ///
    /// # Errors
    /// [`OperatorError`]; `is_not_found` if there is no such directory.
    pub async fn list_files(&self, path: String) -> Result<Vec<v1::FileInfo>, OperatorError> {
        let response = self
            .invoke(Call {
                r#type: Some(call::Type::ListFiles as i32),
                list_files: Some(call::ListFiles { path }),
                ..Default::default()
            })
            .await?;
        Ok(response.list_files.unwrap_or_default().file_infos)
    }

    /// What running tasks use: all of the agent's, or the one that is named; and what is not counted there.
    ///
    /// # Errors
    /// [`OperatorError`]; `is_not_found` if the one that is named does not run here.
    pub async fn statistics(
        &self,
        only: Option<(v1::FrameworkId, v1::TaskId)>,
    ) -> Result<StatisticsResponse, OperatorError> {
        let (framework_id, task_id) = only.unzip();
        match self.client.clone().statistics(StatisticsRequest { framework_id, task_id }).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(OperatorError::from_status(
                ServerKind::Agent,
                &self.address,
                "statistics",
                status,
            )),
        }
    }

    /// Reads a file of a task's sandbox.
    ///
    /// # Errors
    /// [`OperatorError`]; `is_not_found` if there is no such task or file.
    pub async fn read_file(&self, request: FileRequest) -> Result<FileReader, OperatorError> {
        let request = ReadFileRequest {
            framework_id: Some(request.framework_id),
            task_id: Some(request.task_id),
            path: request.path,
            offset: request.offset,
            follow: request.follow,
            with_rotated: request.with_rotated,
        };
        match self.client.clone().read_file(request).await {
            Ok(response) => {
                Ok(FileReader { address: self.address.clone(), chunks: response.into_inner() })
            }
            Err(status) => Err(read_error(&self.address, status)),
        }
    }
}

/// The contents of a file as they arrive.
#[derive(Debug)]
pub struct FileReader {
    address: String,
    chunks: Streaming<FileChunk>,
}

impl FileReader {
    /// The next piece, or None at the end. Cancel-safe.
    ///
    /// # Errors
    /// [`OperatorError`]; `is_lost` if the connection broke: read on from the offset reached.
    pub async fn next(&mut self) -> Result<Option<FileChunk>, OperatorError> {
        self.chunks.message().await.map_err(|status| read_error(&self.address, status))
    }
}

fn read_error(address: &str, status: tonic::Status) -> OperatorError {
    OperatorError::from_status(ServerKind::Agent, address, "ReadFile", status)
}
