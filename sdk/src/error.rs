//! What can go wrong, one type per set of operations.

use std::fmt;

/// The kind of server an address was expected to lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    Master,
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
    #[error("address {address:?} of the {server} is not of the form host:port: {problem}")]
    Address { server: ServerKind, address: String, problem: &'static str },

    #[error("no {server} answers at {address}{}", next_step(*.server))]
    Unreachable {
        server: ServerKind,
        address: String,
        #[source]
        source: tonic::transport::Error,
    },

    /// Something listens there, and it does not speak as a server of that kind does.
    #[error("what answers at {address} does not behave as a Mezzo {server}: {problem}")]
    Protocol { server: ServerKind, address: String, problem: String },

    /// The master understood the subscription and does not want it.
    #[error("the master at {address} refused the subscription with {code}: {message}")]
    Refused { address: String, code: u32, message: String },

    /// The master is there and cannot serve now; trying again may help.
    #[error("the master at {address} cannot take the subscription now: {message}")]
    NotReady { address: String, message: String },
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
            | ConnectError::Protocol { .. }
            | ConnectError::Refused { .. } => false,
        }
    }
}

/// A call of a framework was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The master answered; `code` is the status that its HTTP API would have given.
    #[error("the master refused {call} with {code}: {message}")]
    Refused { call: &'static str, code: u32, message: String },

    /// There is no connection, or it broke before the answer came. In the second case the master
    /// may have acted on the call: after the next `Subscribed`, reconcile.
    #[error("the connection to the master was lost before {call} was answered")]
    Disconnected { call: &'static str },

    /// The subscription has ended; nothing can be sent any more.
    #[error("the subscription ended before {call} was answered")]
    Ended { call: &'static str },

    /// The arguments cannot make a valid call, so it was not sent.
    #[error("{call} needs {problem}")]
    Invalid { call: &'static str, problem: &'static str },
}

/// Why a subscription is over for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// The framework was torn down by its own call.
    #[error("the framework was torn down")]
    TornDown,

    /// The master sent ERROR: the framework must not continue under this id.
    #[error("the master ended the subscription: {message}")]
    Error { message: String },

    /// A new subscription after a lost connection was refused.
    #[error("the master refused to renew the subscription with {code}: {message}")]
    Refused { code: u32, message: String },

    /// What answers at the master's address stopped behaving as one.
    #[error("the master's answers make no sense: {problem}")]
    Protocol { problem: String },
}

/// A question or an order to a master or an agent failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The server answered that it will not.
    #[error("the {server} at {address} refused {call}: {message}")]
    Refused {
        server: ServerKind,
        address: String,
        call: String,
        code: tonic::Code,
        message: String,
    },

    /// The connection failed during the exchange.
    #[error("the connection to the {server} at {address} was lost during {call}: {message}")]
    Lost { server: ServerKind, address: String, call: String, message: String },

    /// The answer lacks the part that was asked for.
    #[error("the {server} at {address} answered {call} without a {missing} part")]
    Incomplete { server: ServerKind, address: String, call: String, missing: &'static str },
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
        // tonic makes a status with a source of every failure of the transport; a status that the
        // server sent has none.
        let of_transport = std::error::Error::source(&status).is_some();
        match status.code() {
            tonic::Code::Unavailable | tonic::Code::Cancelled => {
                OperatorError::Lost { server, address, call, message: status.message().to_owned() }
            }
            tonic::Code::Unknown if of_transport => {
                OperatorError::Lost { server, address, call, message: status.message().to_owned() }
            }
            code => OperatorError::Refused {
                server,
                address,
                call,
                code,
                message: status.message().to_owned(),
            },
        }
    }

    /// Whether the server said that there is no such thing as was named.
    pub fn is_not_found(&self) -> bool {
        matches!(self, OperatorError::Refused { code: tonic::Code::NotFound, .. })
    }

    /// Whether the connection, not the request, is to blame.
    pub fn is_lost(&self) -> bool {
        matches!(self, OperatorError::Lost { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_errors_are_those_of_the_network_and_of_a_busy_master() {
        let refused = ConnectError::Refused {
            address: "h:1".to_owned(),
            code: 400,
            message: "no".to_owned(),
        };
        assert!(!refused.is_temporary());
        let busy = ConnectError::NotReady { address: "h:1".to_owned(), message: "no".to_owned() };
        assert!(busy.is_temporary());
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
