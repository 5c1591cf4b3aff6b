//! One port of a daemon, open to anybody who connects.
//!
//! HTTP/1.1 and HTTP/2 are hyper's. What is here is what hyper leaves to others: how many connections
//! there may be and which goes when there are too many, how long a peer may take, and how much memory
//! requests and answers may hold. A peer that oversteps loses its connection or gets an error; the
//! daemon and everybody else go on.
//!
//! | module | what lives there |
//! |---|---|
//! | `limits` | every limit, with its reason |
//! | `open_files` | room for connections beside the daemon's own files |
//! | `gate` | which connections there are, and which one makes room |
//! | `connection` | a socket that does not wait for its peer for ever |
//! | `serve` | accepting and serving |
//! | `body` | reading a request's body within limits |
//! | `frames` | the same for messages of gRPC streams |
//! | `budget` | memory that large requests and answers share |
//! | `leases` | answers in pieces that are shared |
//! | `query` | the query of an address |

mod body;
mod budget;
mod connection;
mod frames;
mod gate;
mod leases;
mod limits;
mod log_order;
mod open_files;
mod query;
mod serve;

pub use body::{BodyRefusal, Received, answer_body, read_body};
pub use budget::{Budget, Busy, Charge};
pub use gate::Gate;
pub use leases::Leases;
pub use limits::{FREE_BYTES, Limits, MEMORY_BYTES, PEER_TIMEOUT_MIN};
pub use log_order::log_order;
pub use open_files::{Share, connections_beside, open_files_at_start, raise_open_files};
pub use query::{percent_decoded, query_value};
pub use serve::serve;
