//! The master's operator API.

mod orders;
mod questions;

use std::time::Duration;

use tonic::transport::Channel;

use crate::detection::Detector;
use crate::endpoint::{MAX_MESSAGE_BYTES, Target};
use crate::error::{ConnectError, OperatorError, ServerKind};
use crate::http_api::{Client, Encoding, Peer};
use crate::operator::OPERATOR_PATH;
use crate::operator::watch::ClusterEvents;
use crate::task::kill_policy;
use crate::transport::Transport;
use crate::v1;
use crate::v1::master::operator_client::OperatorClient;
use crate::v1::master::{
    Call, KillTaskRequest, KillTaskResponse, Response, SubscribeRequest, call,
};

/// A connection to a master, for the calls of the v1 operator API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Master {
    address: String,
    transport: Transport,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Grpc(OperatorClient<Channel>),
    Http(Client),
}

impl Master {
    /// Connects over gRPC. `address` is `host:port`, several with commas in between (the first one
    /// that answers is taken), or `file:///path` of a file that holds one of these.
    ///
    /// # Errors
    /// [`ConnectError`] if the address is malformed or nothing answers there.
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        Master::connect_over(Transport::Grpc, address).await
    }

    /// As [`connect`](Self::connect), over a transport of choice.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_over(transport: Transport, address: &str) -> Result<Self, ConnectError> {
        let detector = Detector::parse(ServerKind::Master, address)?;
        let mut last = None;
        for target in detector.candidates().await? {
            match Master::connect_to(transport, &target).await {
                Ok(master) => return Ok(master),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| ConnectError::Address {
            server: ServerKind::Master,
            address: address.to_owned(),
            problem: "it is empty",
        }))
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
        Ok(Master { address: target.address.clone(), transport, way })
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
        match &self.way {
            Way::Grpc(client) => {
                let answer = client.clone().invoke(call).await;
                answer.map(tonic::Response::into_inner).map_err(|status| self.failed(name, status))
            }
            Way::Http(client) => client.call(name, &call).await.map(Option::unwrap_or_default),
        }
    }

    /// Asks for the end of a task; answered when the order is on its way to the agent. Without a
    /// framework the task's id must be unique in the cluster. A call of Mezzo's own: over gRPC only.
    ///
    /// # Errors
    /// [`OperatorError`]; `is_not_found` if there is no such task.
    pub async fn kill_task(
        &self,
        task_id: v1::TaskId,
        framework_id: Option<v1::FrameworkId>,
        grace: Option<Duration>,
    ) -> Result<KillTaskResponse, OperatorError> {
        let Way::Grpc(client) = &self.way else {
            return Err(OperatorError::NeedsGrpc { call: "KillTask", transport: self.transport });
        };
        let request = KillTaskRequest {
            framework_id,
            task_id: Some(task_id),
            kill_policy: grace.map(kill_policy),
        };
        let answer = client.clone().kill_task(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failed("KillTask", status))
    }

    /// What there is, then every change of it. A reader that is too slow is cut off by the master;
    /// whoever subscribes again is told anew what there is.
    ///
    /// # Errors
    /// [`OperatorError`] if the subscription is refused.
    pub async fn subscribe(&self) -> Result<ClusterEvents, OperatorError> {
        match &self.way {
            Way::Grpc(client) => {
                let answer = client.clone().subscribe(SubscribeRequest {}).await;
                let events = answer.map_err(|status| self.failed("SUBSCRIBE", status))?;
                Ok(ClusterEvents::over_grpc(self.address.clone(), events.into_inner()))
            }
            Way::Http(client) => {
                let call =
                    Call { r#type: Some(call::Type::Subscribe as i32), ..Default::default() };
                let reply = client.stream("SUBSCRIBE", &call).await?;
                let encoding = client.peer().encoding;
                Ok(ClusterEvents::over_http(self.address.clone(), reply.body, encoding))
            }
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
            server: ServerKind::Master,
            address: self.address.clone(),
            call: call.to_owned(),
            missing,
        })
    }

    fn failed(&self, call: &str, status: tonic::Status) -> OperatorError {
        OperatorError::from_status(ServerKind::Master, &self.address, call, status)
    }
}
