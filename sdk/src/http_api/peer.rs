//! One HTTP/1.1 connection to a server.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::address;
use crate::endpoint::{CONNECT_TIMEOUT, MAX_MESSAGE_BYTES, Target};
use crate::error::ConnectError;
use crate::http_api::Encoding;

/// A refusal is a sentence; a longer one is cut.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// Sends requests on one connection, one after the other.
pub(crate) type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// A server, and how to talk to it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) target: Target,
    pub(crate) encoding: Encoding,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Peer {
    pub(crate) fn new(target: Target, encoding: Encoding) -> Self {
        Peer { target, encoding, authorization: None }
    }

    /// Opens a connection. It lives until the sender and every body received over it are dropped.
    pub(crate) async fn dial(&self) -> Result<Sender, ConnectError> {
        let unreachable =
            |source: Box<dyn std::error::Error + Send + Sync>| ConnectError::Unreachable {
                server: self.target.server,
                address: self.target.address.clone(),
                source,
            };
        let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.target.address)).await;
        let stream = match connecting {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.into())),
            Err(elapsed) => return Err(unreachable(elapsed.into())),
        };
        stream.set_nodelay(true).map_err(|error| unreachable(error.into()))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| unreachable(error.into()))?;
        // Whoever waits on the connection hears of its failure; the task only drives it.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// A POST of an encoded message.
    pub(crate) fn request(&self, path: &'static str, message: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(message));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(path);
        let mime = HeaderValue::from_static(self.encoding.mime());
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(&self.target.address) {
            headers.insert(header::HOST, host);
        }
        headers.insert(header::CONTENT_TYPE, mime.clone());
        headers.insert(header::ACCEPT, mime);
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        request
    }
}

/// The answer to a POST, its body still to be read.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
}

impl From<http::Response<Incoming>> for Reply {
    fn from(response: http::Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        Reply { code: parts.status, headers: parts.headers, body }
    }
}

impl Reply {
    /// Where the server sends its client instead, `host:port`.
    pub(crate) fn elsewhere(&self) -> Option<String> {
        if !self.code.is_redirection() {
            return None;
        }
        address::of_location(self.headers.get(header::LOCATION)?.to_str().ok()?)
    }

    /// The whole body of an answer.
    pub(crate) async fn bytes(self) -> Result<Bytes, String> {
        collect(self.body, MAX_MESSAGE_BYTES).await
    }

    /// The sentence of a refusal.
    pub(crate) async fn sentence(self) -> String {
        let code = self.code;
        let body = collect(self.body, MAX_REFUSAL_BYTES).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        if text.is_empty() {
            return code.canonical_reason().unwrap_or("no reason given").to_owned();
        }
        text
    }
}

async fn collect(body: Incoming, limit: usize) -> Result<Bytes, String> {
    let whole = http_body_util::Limited::new(body, limit).collect().await;
    whole.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
}
