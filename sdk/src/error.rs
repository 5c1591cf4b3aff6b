//! What can go wrong, one type per set of operations.

use std::fmt;
use std::path::PathBuf;

use crate::transport::Transport;

/// The kind of server an address was expected to lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// A Mezzo master, or one of Mesos.
    Master,
    /// A Mezzo agent, or one of Mesos.
    Agent,
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerKind::Master => "master",
            ServerKind::Agent => "agent",
        })
    }
}

/// A connection could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be one.
    #[error("address {address:?} of the {server} is not of the form host:port: {problem}")]
    Address {
        /// What it was to lead to.
        server: ServerKind,
        /// As it was given.
        address: String,
        /// The rule that it breaks.
        problem: &'static str,
    },

    /// The file with the address cannot be read.
    #[error("{} cannot be read; it is to hold the address of the {server}", .path.display())]
    File {
        /// Whose address it is to hold.
        server: ServerKind,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },

    /// Nothing takes connections there.
    #[error("no {server} answers at {address}{}", next_step(*.server))]
    Unreachable {
        /// What was expected there.
        server: ServerKind,
        /// `host:port`.
        address: String,
        /// What the network said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Something listens there, and it does not speak as a server of that kind does.
    #[error("what answers at {address} does not behave as a Mezzo {server}: {problem}")]
    Protocol {
        /// What was expected there.
        server: ServerKind,
        /// `host:port`.
        address: String,
        /// What it did.
        problem: String,
    },

    /// The server understood the subscription and does not want it.
    #[error("the {server} at {address} refused the subscription with {code}: {message}")]
    Refused {
        /// Who refused.
        server: ServerKind,
        /// `host:port`.
        address: String,
        /// Status of the HTTP API, also over gRPC.
        code: u32,
        /// The server's sentence.
        message: String,
    },

    /// The server is there and cannot serve now; trying again may help.
    #[error("the {server} at {address} cannot take the subscription now: {message}")]
    NotReady {
        /// Who cannot.
        server: ServerKind,
        /// `host:port`.
        address: String,
        /// Why, in the server's words where it said something.
        message: String,
    },
}

fn next_step(server: ServerKind) -> &'static str {
    match server {
        ServerKind::Master => "; `mezzo dev` starts one",
        ServerKind::Agent => "",
    }
}

impl ConnectError {
    /// Whether the same attempt may succeed later without any change by its author.
    pub fn is_temporary(&self) -> bool {
        match self {
            ConnectError::Unreachable { .. } | ConnectError::NotReady { .. } => true,
            ConnectError::Address { .. }
            | ConnectError::File { .. }
            | ConnectError::Protocol { .. }
            | ConnectError::Refused { .. } => false,
        }
    }

    /// The end that it means for a subscription, if no other attempt can help.
    pub(crate) fn final_word(&self) -> Option<Ended> {
        match self {
            ConnectError::Refused { server, code, message, .. } => {
                Some(Ended::Refused { server: *server, code: *code, message: message.clone() })
            }
            ConnectError::Protocol { server, problem, .. } => {
                Some(Ended::Protocol { server: *server, problem: problem.clone() })
            }
            _ => None,
        }
    }
}

/// A call of a framework or an executor was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server answered; `code` is the status that its HTTP API gives.
    #[error("the {server} refused {call} with {code}: {message}")]
    Refused {
        /// Who refused.
        server: ServerKind,
        /// The call's name in the API.
        call: &'static str,
        /// Status of the HTTP API, also over gRPC.
        code: u32,
        /// The server's sentence.
        message: String,
    },

    /// There is no connection, or it broke before the answer came. In the second case the server
    /// may have acted on the call: after the next `Subscribed`, reconcile.
    #[error("the connection to the {server} was lost before {call} was answered")]
    Disconnected {
        /// Who was to answer.
        server: ServerKind,
        /// The call's name in the API.
        call: &'static str,
    },

    /// The subscription has ended; nothing can be sent any more.
    #[error("the subscription ended before {call} was answered")]
    Ended {
        /// The call's name in the API.
        call: &'static str,
    },

    /// The arguments cannot make a valid call, so it was not sent.
    #[error("{call} needs {problem}")]
    Invalid {
        /// The call's name in the API.
        call: &'static str,
        /// What is missing.
        problem: &'static str,
    },
}

/// Why a subscription is over for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// The framework was torn down by its own call.
    #[error("the framework was torn down")]
    TornDown,

    /// The server sent ERROR: a framework must not continue under this id, an executor not at all.
    #[error("the {server} ended the subscription: {message}")]
    Error {
        /// Who ended it.
        server: ServerKind,
        /// The server's sentence.
        message: String,
    },

    /// A new subscription after a lost connection was refused.
    #[error("the {server} refused to renew the subscription with {code}: {message}")]
    Refused {
        /// Who refused.
        server: ServerKind,
        /// Status of the HTTP API, also over gRPC.
        code: u32,
        /// The server's sentence.
        message: String,
    },

    /// What answers at the server's address stopped behaving as one.
    #[error("the answers of the {server} make no sense: {problem}")]
    Protocol {
        /// Who was expected to answer.
        server: ServerKind,
        /// What it did.
        problem: String,
    },

    /// The agent told the executor to end, or stayed away for longer than an executor waits.
    #[error("the executor is to end: {reason}")]
    Shutdown {
        /// What it was told, or what it waited for.
        reason: String,
    },
}

/// A question or an order to a master or an agent failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The server answered that it will not.
    #[error("the {server} at {address} refused {call}: {message}")]
    Refused {
        /// Who refused.
        server: ServerKind,
        /// `host:port`.
        address: String,
        /// The call's name in the API.
        call: String,
        /// Status of the HTTP API, also over gRPC.
        code: u16,
        /// The server's sentence.
        message: String,
    },

    /// The connection failed during the exchange.
    #[error("the connection to the {server} at {address} was lost during {call}: {message}")]
    Lost {
        /// Who was to answer.
        server: ServerKind,
        /// `host:port`.
        address: String,
        /// The call's name in the API.
        call: String,
        /// What the network said.
        message: String,
    },

    /// The answer lacks the part that was asked for.
    #[error("the {server} at {address} answered {call} without a {missing} part")]
    Incomplete {
        /// Who answered.
        server: ServerKind,
        /// `host:port`.
        address: String,
        /// The call's name in the API.
        call: String,
        /// The field that is not set.
        missing: &'static str,
    },

    /// The answer is no message of the API.
    #[error("the answer of the {server} at {address} to {call} cannot be read: {problem}")]
    Unintelligible {
        /// Who answered.
        server: ServerKind,
        /// `host:port`.
        address: String,
        /// The call's name in the API.
        call: String,
        /// Where reading ended.
        problem: String,
    },

    /// Mesos' HTTP API has no such call.
    #[error("{call} cannot be asked over {transport}; connect with Transport::Grpc")]
    NeedsGrpc {
        /// The call's name.
        call: &'static str,
        /// The transport of the connection.
        transport: Transport,
    },
}

impl OperatorError {
    pub(crate) fn from_status(
        server: ServerKind,
        address: &str,
        call: &str,
        status: tonic::Status,
    ) -> Self {
        let address = address.to_owned();
        let call = call.to_owned();
        let message = status.message().to_owned();
        // tonic makes a status with a source of every failure of the transport; a status that the
        // server sent has none.
        let of_transport = std::error::Error::source(&status).is_some();
        match status.code() {
            tonic::Code::Unavailable | tonic::Code::Cancelled => {
                OperatorError::Lost { server, address, call, message }
            }
            tonic::Code::Unknown if of_transport => {
                OperatorError::Lost { server, address, call, message }
            }
            code => {
                OperatorError::Refused { server, address, call, code: http_code(code), message }
            }
        }
    }

    /// Whether the server said that there is no such thing as was named.
    pub fn is_not_found(&self) -> bool {
        matches!(self, OperatorError::Refused { code: 404, .. })
    }

    /// Whether the connection, not the request, is to blame.
    pub fn is_lost(&self) -> bool {
        matches!(self, OperatorError::Lost { .. })
    }
}

/// The status that the HTTP API gives where gRPC gives this one.
fn http_code(code: tonic::Code) -> u16 {
    match code {
        tonic::Code::InvalidArgument | tonic::Code::OutOfRange => 400,
        tonic::Code::Unauthenticated => 401,
        tonic::Code::PermissionDenied => 403,
        tonic::Code::NotFound => 404,
        tonic::Code::FailedPrecondition | tonic::Code::AlreadyExists | tonic::Code::Aborted => 409,
        tonic::Code::Unimplemented => 501,
        tonic::Code::ResourceExhausted => 503,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_errors_are_those_of_the_network_and_of_a_busy_master() {
        let server = ServerKind::Master;
        let address = "h:1".to_owned();
        let message = "no".to_owned();
        let refused = ConnectError::Refused {
            server,
            address: address.clone(),
            code: 400,
            message: message.clone(),
        };
        assert!(!refused.is_temporary());
        assert!(ConnectError::NotReady { server, address, message }.is_temporary());
    }

    #[test]
    fn a_status_of_the_transport_is_a_lost_connection() {
        let lost = OperatorError::from_status(
            ServerKind::Agent,
            "h:1",
            "ReadFile",
            tonic::Status::unavailable("broken pipe"),
        );
        assert!(lost.is_lost() && !lost.is_not_found());
        let missing = OperatorError::from_status(
            ServerKind::Agent,
            "h:1",
            "ReadFile",
            tonic::Status::not_found("no task \"a\""),
        );
        assert!(missing.is_not_found());
        assert_eq!(missing.to_string(), "the agent at h:1 refused ReadFile: no task \"a\"");
    }
}
