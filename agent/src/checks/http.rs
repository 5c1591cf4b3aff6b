//! GET from a task.

use std::fmt::Write;
use std::pin::pin;

use ::http::header::{ACCEPT, HOST, LOCATION, USER_AGENT};
use ::http::{Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mezzo_agent_core::CheckOutcome;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Target, network, tls};

/// Redirects that are followed in one look.
const REDIRECTS_MAX: usize = 10;
/// Bytes of an answer's head; more is no answer.
const HEAD_MAX: usize = 64 * 1024;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    https: bool,
    ipv6: bool,
    port: u16,
    /// Path and query, in characters that a request line can have.
    path: String,
}

/// The head of an answer.
struct Answer {
    status: StatusCode,
    location: Option<String>,
}

/// The status code at the end of all redirects that lead back to the task; one that leads away is itself the answer.
pub(super) async fn look(
    target: &Target,
    https: bool,
    ipv6: bool,
    port: u16,
    path: String,
) -> CheckOutcome {
    let mut place = Place { https, ipv6, port, path: encoded(&path) };
    for _ in 0..=REDIRECTS_MAX {
        let answer = match ask(target, &place).await {
            Ok(answer) => answer,
            Err(outcome) => return outcome,
        };
        let next = answer
            .location
            .filter(|_| is_redirect(answer.status))
            .and_then(|location| place.redirected(&location));
        match next {
            Some(next) => place = next,
            None => return CheckOutcome::Answered(answer.status.as_u16()),
        }
    }
    CheckOutcome::Failed(format!("more than {REDIRECTS_MAX} redirects"))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

async fn ask(target: &Target, place: &Place) -> Result<Answer, CheckOutcome> {
    let stream = network::connect(target, place.ipv6, place.port).await;
    let stream = stream.map_err(|failed| match failed {
        network::Failed::Unavailable(why) => CheckOutcome::Unavailable(why),
        network::Failed::Refused(error) => {
            CheckOutcome::Failed(format!("no connection to port {}: {error}", place.port))
        }
    })?;
    let address = network::address(place.ipv6, place.port);
    let got = if place.https {
        let stream = tls::wrap(stream, address.ip()).await;
        let stream = stream.map_err(|error| CheckOutcome::Failed(format!("TLS: {error}")))?;
        get(stream, &address.to_string(), &place.path).await
    } else {
        get(stream, &address.to_string(), &place.path).await
    };
    got.map_err(|error| CheckOutcome::Failed(format!("no answer: {error}")))
}

/// One request on a connection of its own. What follows the head of the answer is not read.
async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    path: &str,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("mezzo-agent/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .body(Empty::<Bytes>::new())?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await?;
    let mut response = pin!(sender.send_request(request));
    let response = tokio::select! {
        biased;
        // Not cancel-safe, and polled to its end either here or below.
        response = &mut response => response?,
        // Ends when the other side does. What it did wrong behind the head of its answer does not count.
        ended = connection => match (response.await, ended) {
            (Ok(response), _) => response,
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(error.into()),
        },
    };
    let location = response.headers().get(LOCATION);
    Ok(Answer {
        status: response.status(),
        location: location.and_then(|value| value.to_str().ok()).map(str::to_owned),
    })
}

impl Place {
    /// Where a redirect leads; `None` if that is not the task.
    fn redirected(&self, location: &str) -> Option<Place> {
        let location = location.split('#').next().unwrap_or_default();
        let absolute = if let Some(rest) = location.strip_prefix("//") {
            let scheme = if self.https { "https" } else { "http" };
            format!("{scheme}://{rest}")
        } else if location.contains("://") {
            location.to_owned()
        } else {
            let path = match location.as_bytes().first() {
                Some(b'/') => location.to_owned(),
                Some(b'?') => format!("{}{location}", without_query(&self.path)),
                _ => {
                    let path = without_query(&self.path);
                    let directory = path.rfind('/').map_or("/", |at| &path[..=at]);
                    format!("{directory}{location}")
                }
            };
            return Some(Place { path: encoded(&path), ..self.clone() });
        };
        let (origin, path) = absolute.split_at(path_start(&absolute));
        let uri: Uri = format!("{origin}/").parse().ok()?;
        let https = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let ipv6 = match uri.host()? {
            "127.0.0.1" => false,
            "[::1]" => true,
            host if host.eq_ignore_ascii_case("localhost") => self.ipv6,
            _ => return None,
        };
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Some(Place { https, ipv6, port, path: encoded(&path) })
    }
}

/// Where the path of an absolute address begins, or its query if it has no path.
fn path_start(absolute: &str) -> usize {
    let authority = absolute.find("://").map_or(0, |at| at + 3);
    absolute[authority..].find(['/', '?']).map_or(absolute.len(), |at| authority + at)
}

fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

/// What a request line cannot have is written as `%XX`; what is written so already stays.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' => {
                // Writing to a string does not fail.
                let _ = write!(text, "%{byte:02X}");
            }
            0x21..=0x7e => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        Place { https: false, ipv6: false, port: 8080, path: path.to_owned() }
    }

    #[test]
    fn redirects_lead_back_or_nowhere() {
        let here = place("/a/b?q=1");
        for (location, path) in
            [("/x", "/x"), ("c", "/a/c"), ("?r=2", "/a/b?r=2"), ("/x y#z", "/x%20y"), ("", "/a/")]
        {
            assert_eq!(here.redirected(location), Some(place(path)), "{location}");
        }
        let secure = Place { https: true, port: 443, ..place("/l?x") };
        assert_eq!(here.redirected("https://localhost/l?x"), Some(secure.clone()));
        assert_eq!(
            secure.redirected("//127.0.0.1:8080"),
            Some(Place { https: true, ..place("/") })
        );
        let six = Place { ipv6: true, port: 1, ..place("/?q") };
        assert_eq!(here.redirected("http://[::1]:1?q"), Some(six));
        for away in ["http://example.com/", "ftp://127.0.0.1/", "http://10.0.0.1:8080/", "https://"]
        {
            assert_eq!(here.redirected(away), None, "{away}");
        }
    }

    #[test]
    fn paths_are_made_fit_for_a_request_line() {
        assert_eq!(encoded("/a%20b?x=[1]&y='ä'"), "/a%20b?x=[1]&y='%C3%A4'");
        assert_eq!(encoded("/a b\r\nHost: x"), "/a%20b%0D%0AHost:%20x");
        assert!(Request::get(encoded("/\"<>\\^`{|}\u{7f}[]!'()*;")).body(()).is_ok());
    }
}
