//! What a URI says.

use super::error::FetchFault;

/// A URI taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) place: Place,
    pub(super) checksum: Option<Checksum>,
}

/// Where the content is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Absolute path.
    Local(String),
    /// Without its fragment.
    Web(String),
}

/// What the content must hash to; lower-case hexadecimal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    Sha256(String),
    Sha512(String),
}

/// Fragments that begin so are meant as checksums, and must not be passed over in silence.
const CHECKSUM_PREFIXES: [&str; 2] = ["sha", "md5"];

impl Source {
    pub(super) fn parse(uri: &str) -> Result<Source, FetchFault> {
        let uri = uri.trim();
        if uri.is_empty() {
            return Err(FetchFault::EmptyUri);
        }
        let (base, fragment) = match uri.rsplit_once('#') {
            Some((base, fragment)) => (base, Some(fragment)),
            None => (uri, None),
        };
        let checksum = fragment.map(Checksum::parse).transpose()?.flatten();
        let place = match uri.split_once("://") {
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "http" | "https" => Place::Web(base.to_owned()),
                "file" => Place::Local(local_path(rest, checksum.is_some())?),
                _ => return Err(FetchFault::Scheme { scheme: scheme.to_owned() }),
            },
            // In a path a `#` is a character like any other, unless a checksum follows.
            None if checksum.is_some() => Place::Local(base.to_owned()),
            None => Place::Local(uri.to_owned()),
        };
        match &place {
            Place::Local(path) if !path.starts_with('/') => Err(FetchFault::RelativePath),
            _ => Ok(Source { place, checksum }),
        }
    }

    /// The last component of the path.
    pub(super) fn file_name(&self) -> Result<&str, FetchFault> {
        let path = match &self.place {
            Place::Local(path) => path.as_str(),
            Place::Web(url) => {
                let path = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                let path = path.split('?').next().unwrap_or_default();
                // Only a host: no file name.
                path.split_once('/').map_or("", |(_, path)| path)
            }
        };
        match path.rsplit('/').next().unwrap_or_default() {
            "" | "." | ".." => Err(FetchFault::NoFileName),
            name => Ok(name),
        }
    }
}

fn local_path(rest: &str, has_checksum: bool) -> Result<String, FetchFault> {
    let rest = match rest.rsplit_once('#') {
        Some((path, _)) if has_checksum => path,
        _ => rest,
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match host {
        "" | "localhost" => Ok(path.to_owned()),
        host => Err(FetchFault::FileHost { host: host.to_owned() }),
    }
}

impl Checksum {
    fn parse(fragment: &str) -> Result<Option<Checksum>, FetchFault> {
        let Some((algorithm, digits)) = fragment.split_once('=') else {
            return Ok(None);
        };
        let algorithm = algorithm.to_ascii_lowercase();
        if !CHECKSUM_PREFIXES.iter().any(|prefix| algorithm.starts_with(prefix)) {
            return Ok(None);
        }
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = digits.to_ascii_lowercase();
        match (algorithm.as_str(), digits.len(), is_hex) {
            ("sha256", 64, true) => Ok(Some(Checksum::Sha256(digits))),
            ("sha512", 128, true) => Ok(Some(Checksum::Sha512(digits))),
            _ => Err(FetchFault::Checksum { given: fragment.to_owned() }),
        }
    }
}

/// The URI without the user and password that it may carry: it goes into messages and logs.
pub(super) fn redacted(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return uri.to_owned();
    };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_places_names_and_checksums() {
        let hash = "AB".repeat(32);
        let cases = [
            ("/opt/x.tgz".to_owned(), Place::Local("/opt/x.tgz".into()), "x.tgz", false),
            (format!("/opt/a#b#sha256={hash}"), Place::Local("/opt/a#b".into()), "a#b", true),
            ("/opt/a#b".to_owned(), Place::Local("/opt/a#b".into()), "a#b", false),
            ("file:///opt/x".to_owned(), Place::Local("/opt/x".into()), "x", false),
            (
                format!("file://localhost/opt/x#sha256={hash}"),
                Place::Local("/opt/x".into()),
                "x",
                true,
            ),
            (
                "HTTP://h/a/b.zip?v=1#top".to_owned(),
                Place::Web("HTTP://h/a/b.zip?v=1".into()),
                "b.zip",
                false,
            ),
            (
                format!("https://h/b#sha512={}", "0".repeat(128)),
                Place::Web("https://h/b".into()),
                "b",
                true,
            ),
        ];
        for (uri, place, name, has_checksum) in cases {
            let source = Source::parse(&uri).unwrap();
            assert_eq!(source.file_name().unwrap(), name, "{uri}");
            assert_eq!(source.checksum.is_some(), has_checksum, "{uri}");
            assert_eq!(source.place, place, "{uri}");
        }
        let lower = Source::parse(&format!("/x#SHA256={hash}")).unwrap().checksum;
        assert_eq!(lower, Some(Checksum::Sha256("ab".repeat(32))));
    }

    #[test]
    fn says_what_is_wrong_with_a_uri() {
        let say = |uri: &str| {
            let fault = match Source::parse(uri) {
                Ok(source) => source.file_name().map(str::to_owned).unwrap_err(),
                Err(fault) => fault,
            };
            fault.to_string()
        };
        assert_eq!(say(" "), "the URI is empty");
        assert!(say("a/b").starts_with("the path is relative; give an absolute path"));
        assert_eq!(
            say("hdfs://x/y"),
            "the scheme `hdfs` is not supported; use an absolute path, file://, http:// or https://"
        );
        assert_eq!(
            say("file://other/x"),
            "`file://` URIs have no host, or `localhost`, not `other`"
        );
        assert_eq!(say("http://host"), "the URI does not end in a file name; set `output_file`");
        assert_eq!(
            say("http://host/a/?x=/b"),
            "the URI does not end in a file name; set `output_file`"
        );
        assert_eq!(say("/opt/.."), "the URI does not end in a file name; set `output_file`");
        for bad in ["sha256=12", "md5=d41d8cd98f00b204e9800998ecf8427e", "sha1=00"] {
            let sentence = format!(
                "the checksum `{bad}` is not usable; write #sha256= and 64, or #sha512= and 128 hexadecimal digits"
            );
            assert_eq!(say(&format!("http://h/x#{bad}")), sentence);
        }
    }

    #[test]
    fn passwords_do_not_reach_messages() {
        assert_eq!(redacted("http://u:p@h/x@y"), "http://h/x@y");
        assert_eq!(redacted("http://h/x@y"), "http://h/x@y");
        assert_eq!(redacted("/a@b"), "/a@b");
    }
}
