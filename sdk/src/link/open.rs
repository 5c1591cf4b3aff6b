//! Finding a server that takes the subscription.

use std::time::Duration;

use http::HeaderValue;
use tokio::time::timeout;

use super::{Api, Broken, FIRST_SEQUENCE, Heard, Link, over_grpc, over_http};
use crate::detection::Detector;
use crate::endpoint::Target;
use crate::error::ConnectError;
use crate::http_api::Encoding;
use crate::transport::Transport;

/// A master answers a subscription when its log has committed it.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Servers that send a client elsewhere. More in a row go round in circles.
const MAX_REDIRECTS: usize = 4;

/// Why one server did not take the subscription.
#[derive(Debug)]
pub(super) enum OpenError {
    /// It named the one that would.
    Elsewhere(String),
    Failed(ConnectError),
}

/// A subscription that stands.
pub(crate) struct Opened<A: Api> {
    pub(crate) link: Link<A>,
    /// The first event.
    pub(crate) first: A::Event,
    pub(crate) target: Target,
}

/// Where to look for a server, and how to talk to it.
#[derive(Debug, Clone)]
pub(crate) struct Finder {
    pub(crate) detector: Detector,
    pub(crate) transport: Transport,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Finder {
    /// Tries the servers in turn, following those that name another, until one takes the
    /// subscription or one refuses it.
    pub(crate) async fn open<A: Api>(
        &self,
        subscribe: &A::Call,
    ) -> Result<Opened<A>, ConnectError> {
        let mut kept: Option<ConnectError> = None;
        for target in self.detector.candidates().await? {
            match self.follow(target, subscribe).await {
                Ok(opened) => return Ok(opened),
                Err(error @ ConnectError::Refused { .. }) => return Err(error),
                Err(error) => {
                    kept = Some(match kept {
                        Some(before) if rank(&before) > rank(&error) => before,
                        _ => error,
                    })
                }
            }
        }
        Err(kept.unwrap_or(ConnectError::Address {
            server: A::SERVER,
            address: String::new(),
            problem: "it is empty",
        }))
    }

    async fn follow<A: Api>(
        &self,
        mut target: Target,
        subscribe: &A::Call,
    ) -> Result<Opened<A>, ConnectError> {
        for _ in 0..=MAX_REDIRECTS {
            let attempt = self.subscribe::<A>(&target, subscribe.clone());
            match timeout(SUBSCRIBE_TIMEOUT, attempt).await {
                Ok(Ok((link, first))) => return Ok(Opened { link, first, target }),
                Ok(Err(OpenError::Elsewhere(address))) => target.address = address,
                Ok(Err(OpenError::Failed(error))) => return Err(error),
                Err(_) => {
                    let message = format!("no answer within {} s", SUBSCRIBE_TIMEOUT.as_secs());
                    return Err(not_ready(target, message));
                }
            }
        }
        let message = format!("clients are sent elsewhere more than {MAX_REDIRECTS} times");
        Err(not_ready(target, message))
    }

    /// Subscribes and waits for the first event.
    async fn subscribe<A: Api>(
        &self,
        target: &Target,
        subscribe: A::Call,
    ) -> Result<(Link<A>, A::Event), OpenError> {
        let mut link = match Encoding::of(self.transport) {
            None => over_grpc::open::<A>(target, subscribe).await?,
            Some(encoding) => {
                let authorization = self.authorization.clone();
                over_http::open::<A>(target, encoding, authorization, &subscribe).await?
            }
        };
        loop {
            match link.incoming.next(1).await {
                Ok(Heard::Event(event)) => return Ok((link, event)),
                Ok(Heard::Outcome(outcome)) if outcome.sequence == FIRST_SEQUENCE => {
                    let Target { server, address } = target.clone();
                    match outcome.code {
                        200..300 => {}
                        503 => {
                            return Err(OpenError::Failed(not_ready(
                                target.clone(),
                                outcome.message,
                            )));
                        }
                        code => {
                            return Err(OpenError::Failed(ConnectError::Refused {
                                server,
                                address,
                                code,
                                message: outcome.message,
                            }));
                        }
                    }
                }
                Ok(Heard::Outcome(_)) => {}
                Err(Broken::Lost(_)) => {
                    let message = "the stream ended before the answer".to_owned();
                    return Err(OpenError::Failed(not_ready(target.clone(), message)));
                }
                Err(Broken::For(error)) => return Err(OpenError::Failed(at(target, error))),
            }
        }
    }
}

/// What is most worth telling, if no server takes the subscription: one that may do so later, and
/// best one that said so.
fn rank(error: &ConnectError) -> u8 {
    match error {
        ConnectError::NotReady { .. } => 2,
        ConnectError::Unreachable { .. } => 1,
        _ => 0,
    }
}

fn not_ready(target: Target, message: String) -> ConnectError {
    ConnectError::NotReady { server: target.server, address: target.address, message }
}

/// The error with the address that only the caller knew.
fn at(target: &Target, error: ConnectError) -> ConnectError {
    let address = target.address.clone();
    match error {
        ConnectError::Protocol { server, problem, .. } => {
            ConnectError::Protocol { server, address, problem }
        }
        ConnectError::Refused { server, code, message, .. } => {
            ConnectError::Refused { server, address, code, message }
        }
        other => other,
    }
}
