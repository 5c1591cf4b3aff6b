//! How bodies are written: checks, codes and sentences are those of Mesos' agent.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    pub(super) fn mime(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Protobuf => "application/x-protobuf",
        }
    }

    /// Of the request's body.
    pub(super) fn of_body(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Err(Refusal::bad("Expecting 'Content-Type' to be present".to_owned()));
        };
        let value = String::from_utf8_lossy(value.as_bytes());
        match media_type(&value) {
            "application/json" => Ok(Encoding::Json),
            "application/x-protobuf" => Ok(Encoding::Protobuf),
            other => Err(Refusal {
                code: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                message: format!(
                    "Expecting 'Content-Type' of application/json or application/x-protobuf, not '{other}'"
                ),
            }),
        }
    }

    /// Of the answer: JSON where the caller takes it or does not say.
    pub(super) fn accepted(headers: &HeaderMap) -> Result<Self, Refusal> {
        let values: Vec<String> = headers
            .get_all(header::ACCEPT)
            .iter()
            .flat_map(|value| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                value.split(',').map(|range| media_type(range).to_owned()).collect::<Vec<_>>()
            })
            .collect();
        let takes = |wanted: &[&str]| values.iter().any(|value| wanted.contains(&value.as_str()));
        if values.is_empty() || takes(&["application/json", "application/*", "*/*"]) {
            Ok(Encoding::Json)
        } else if takes(&["application/x-protobuf"]) {
            Ok(Encoding::Protobuf)
        } else {
            Err(Refusal {
                code: StatusCode::NOT_ACCEPTABLE,
                message: "Expecting 'Accept' to allow application/json or application/x-protobuf"
                    .to_owned(),
            })
        }
    }
}

fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// A call that is not answered: an HTTP status and a sentence.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: StatusCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn bad(message: String) -> Self {
        Refusal { code: StatusCode::BAD_REQUEST, message }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        (self.code, text, self.message).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, http::HeaderValue::from_static(value))])
    }

    #[test]
    fn bodies_say_what_they_are() {
        let of = |value| Encoding::of_body(&headers(header::CONTENT_TYPE, value));
        assert_eq!(of("application/json; charset=utf-8"), Ok(Encoding::Json));
        assert_eq!(of("application/x-protobuf"), Ok(Encoding::Protobuf));
        assert_eq!(of("text/plain").unwrap_err().code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let silent = Encoding::of_body(&HeaderMap::new()).unwrap_err();
        assert_eq!(silent.code, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn answers_are_what_the_caller_takes() {
        let accepted = |value| Encoding::accepted(&headers(header::ACCEPT, value));
        assert_eq!(Encoding::accepted(&HeaderMap::new()), Ok(Encoding::Json));
        assert_eq!(accepted("text/html, */*;q=0.1"), Ok(Encoding::Json));
        assert_eq!(accepted("application/x-protobuf"), Ok(Encoding::Protobuf));
        assert_eq!(accepted("text/html").unwrap_err().code, StatusCode::NOT_ACCEPTABLE);
    }
}
