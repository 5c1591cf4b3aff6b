//! Why a fetch failed, in sentences for the task's owner.

use std::io;

/// One URI could not be fetched.
#[derive(Debug, thiserror::Error)]
#[error("failed to fetch `{uri}`: {fault}")]
pub struct FetchError {
    /// As the user gave it, without a password.
    pub uri: String,
    pub fault: FetchFault,
}

/// The step that failed. Sources are part of the sentences, because these end up in the status
/// of a task, in one piece.
#[derive(Debug, thiserror::Error)]
pub enum FetchFault {
    #[error("the fetch was cancelled")]
    Cancelled,

    #[error("the URI is empty")]
    EmptyUri,
    #[error(
        "the path is relative; give an absolute path, or a URI that begins with file://, http:// or https://"
    )]
    RelativePath,
    #[error(
        "the scheme `{scheme}` is not supported; use an absolute path, file://, http:// or https://"
    )]
    Scheme { scheme: String },
    #[error("`file://` URIs have no host, or `localhost`, not `{host}`")]
    FileHost { host: String },
    #[error("the URI does not end in a file name; set `output_file`")]
    NoFileName,
    #[error(
        "the checksum `{given}` is not usable; write #sha256= and 64, or #sha512= and 128 hexadecimal digits"
    )]
    Checksum { given: String },
    #[error("`output_file` is `{name}`, which {rule}; give a relative path inside the sandbox")]
    OutputFile { name: String, rule: &'static str },

    #[error("could not open it: {0}")]
    OpenSource(io::Error),
    #[error("user id {uid} may not read it")]
    NotReadable { uid: u32 },
    #[error("it is not a regular file")]
    NotAFile,
    #[error("could not read it: {0}")]
    ReadSource(io::Error),

    #[error("the server answered with status {status}{}", reason(.status))]
    Status { status: u16 },
    #[error("the server sent nothing for {seconds} seconds")]
    Stalled { seconds: u64 },
    #[error("the host was not found")]
    HostNotFound,
    #[error("the server redirected more than {limit} times")]
    Redirects { limit: u32 },
    #[error("the request failed: {0}")]
    Request(String),
    #[error("the download broke off after {bytes} bytes: {error}")]
    BrokeOff { bytes: u64, error: String },
    #[error("it is larger than {limit} bytes, the most that is fetched")]
    TooLarge { limit: u64 },
    #[error("its {algorithm} is {actual}, not {expected}; the content has changed or is damaged")]
    Mismatch { algorithm: &'static str, expected: String, actual: String },

    #[error("could not {step} `{path}` in the sandbox: {source}")]
    Sandbox { step: &'static str, path: String, source: io::Error },
    #[error("`{path}` leads out of the sandbox through a symbolic link")]
    LedOut { path: String },

    #[error("the archive cannot be read: {0}")]
    BadArchive(String),
    #[error("the archive's entry `{path}` {rule}")]
    Entry { path: String, rule: &'static str },
    #[error("the archive unpacks to more than {limit} bytes, the most that is unpacked")]
    UnpacksTooLarge { limit: u64 },
    #[error("the archive has more than {limit} entries, the most that is unpacked")]
    TooManyEntries { limit: u64 },
}

fn reason(status: &u16) -> &'static str {
    match status {
        401 => " (Unauthorized)",
        403 => " (Forbidden)",
        404 => " (Not Found)",
        410 => " (Gone)",
        500 => " (Internal Server Error)",
        502 => " (Bad Gateway)",
        503 => " (Service Unavailable)",
        504 => " (Gateway Timeout)",
        _ => "",
    }
}
