//! The agents' end of the master: one stream each way per agent.

use std::pin::Pin;

use futures::stream::Stream;
use mezzo_proto::internal::v1::agent_link_server::AgentLink;
use mezzo_proto::internal::v1::{AgentToMaster, MasterToAgent};
use tonic::{Request, Response, Status, Streaming};

use super::Context;
use super::scheduler_grpc::unavailable;
use crate::handle::{Handle, LinkSender};

#[derive(Debug)]
pub(crate) struct Api {
    handle: Handle,
}

impl Api {
    pub(crate) fn new(context: Context) -> Self {
        Self { handle: context.handle }
    }
}

type Messages = Pin<Box<dyn Stream<Item = Result<MasterToAgent, Status>> + Send>>;

#[tonic::async_trait]
impl AgentLink for Api {
    type ConnectStream = Messages;

    async fn connect(
        &self,
        request: Request<Streaming<AgentToMaster>>,
    ) -> Result<Response<Messages>, Status> {
        let link = self.handle.link().await.map_err(unavailable)?;
        tokio::spawn(read(request.into_inner(), link.sender));
        let messages = futures::stream::unfold(link.messages, |mut messages| async move {
            Some((Ok(*messages.recv().await?), messages))
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

/// Reads until the agent closes or breaks; dropping the sender tells the loop.
async fn read(mut messages: Streaming<AgentToMaster>, sender: LinkSender) {
    while let Ok(Some(message)) = messages.message().await {
        if sender.send(message).await.is_err() {
            return;
        }
    }
}
