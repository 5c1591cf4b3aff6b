//! The agent's operator API.

mod containers;
mod questions;

use tonic::transport::Channel;

use crate::detection::Detector;
use crate::endpoint::{MAX_MESSAGE_BYTES, Target};
use crate::error::{ConnectError, OperatorError, ServerKind};
use crate::http_api::{Client, Encoding, Peer};
use crate::operator::OPERATOR_PATH;
use crate::operator::file_reader::{FileReader, FileRequest, read_error};
use crate::transport::Transport;
use crate::v1;
use crate::v1::agent::operator_client::OperatorClient;
use crate::v1::agent::{
    Call, ReadFileRequest, Response, StatisticsRequest, StatisticsResponse, call,
};

const NO_ADDRESS: ConnectError = ConnectError::Address {
    server: ServerKind::Agent,
    address: String::new(),
    problem: "it is empty",
};

/// A connection to an agent, for the calls of the v1 operator API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Agent {
    address: String,
    transport: Transport,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Grpc(OperatorClient<Channel>),
    Http(Client),
}

impl Agent {
    /// Connects over gRPC. `address` is `host:port`, or several with commas in between: the first
    /// one that answers is taken.
    ///
    /// # Errors
    /// [`ConnectError`] if the address is malformed or nothing answers there.
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        Agent::connect_over(Transport::Grpc, address).await
    }

    /// As [`connect`](Self::connect), over a transport of choice.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_over(transport: Transport, address: &str) -> Result<Self, ConnectError> {
        let detector = Detector::parse(ServerKind::Agent, address)?;
        let mut last = NO_ADDRESS;
        for target in detector.candidates().await? {
            match Agent::connect_to(transport, &target).await {
                Ok(agent) => return Ok(agent),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects to the first of several addresses that answers, see [`crate::agent_addresses`].
    ///
    /// # Errors
    /// That of the last address.
    pub async fn connect_any(addresses: &[String]) -> Result<Self, ConnectError> {
        let mut last = NO_ADDRESS;
        for address in addresses {
            match Agent::connect(address).await {
                Ok(agent) => return Ok(agent),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(transport: Transport, target: &Target) -> Result<Self, ConnectError> {
        let way = match Encoding::of(transport) {
            None => {
                let channel = target.connect().await?;
                let client =
                    OperatorClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
                Way::Grpc(client)
            }
            Some(encoding) => {
                let peer = Peer::new(target.clone(), encoding);
                Way::Http(Client::connect(peer, OPERATOR_PATH).await?)
            }
        };
        Ok(Agent { address: target.address.clone(), transport, way })
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
        match &self.way {
            Way::Grpc(client) => {
                let answer = client.clone().invoke(call).await;
                answer.map(tonic::Response::into_inner).map_err(|status| self.failed(name, status))
            }
            Way::Http(client) => client.call(name, &call).await.map(Option::unwrap_or_default),
        }
    }

    /// What running tasks use: all of the agent's, or the one that is named; and what is not
    /// counted there. A call of Mezzo's own: over gRPC only.
    ///
    /// # Errors
    /// [`OperatorError`]; `is_not_found` if the one that is named does not run here.
    pub async fn statistics(
        &self,
        only: Option<(v1::FrameworkId, v1::TaskId)>,
    ) -> Result<StatisticsResponse, OperatorError> {
        let (framework_id, task_id) = only.unzip();
        let mut client = self.grpc("Statistics")?;
        let answer = client.statistics(StatisticsRequest { framework_id, task_id }).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failed("statistics", status))
    }

    /// Reads a file of a task's sandbox. A call of Mezzo's own, over gRPC only;
    /// [`read_piece`](Self::read_piece) is Mesos'.
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
        match self.grpc("ReadFile")?.read_file(request).await {
            Ok(response) => {
                Ok(FileReader { address: self.address.clone(), chunks: response.into_inner() })
            }
            Err(status) => Err(read_error(&self.address, status)),
        }
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
            server: ServerKind::Agent,
            address: self.address.clone(),
            call: call.to_owned(),
            missing,
        })
    }

    fn grpc(&self, call: &'static str) -> Result<OperatorClient<Channel>, OperatorError> {
        match &self.way {
            Way::Grpc(client) => Ok(client.clone()),
            Way::Http(_) => Err(OperatorError::NeedsGrpc { call, transport: self.transport }),
        }
    }

    fn failed(&self, call: &str, status: tonic::Status) -> OperatorError {
        OperatorError::from_status(ServerKind::Agent, &self.address, call, status)
    }
}
