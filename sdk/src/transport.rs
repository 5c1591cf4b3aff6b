//! How messages travel.

/// The protocol between a client and a server. What is said is the same over each of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// gRPC: one HTTP/2 connection, on which every call gets an answer. Mezzo only.
    #[default]
    Grpc,
    /// Mesos' v1 HTTP API in protobuf: any master or agent that is compatible with Mesos.
    Http,
    /// Mesos' v1 HTTP API in JSON: the same, readable on the wire, and slower.
    HttpJson,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Transport::Grpc => "gRPC",
            Transport::Http => "HTTP",
            Transport::HttpJson => "HTTP with JSON",
        })
    }
}
