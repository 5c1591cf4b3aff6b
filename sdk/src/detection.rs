//! Finding a server: one address, several that are tried in turn, or a file that holds either.

use std::path::PathBuf;

use crate::address;
use crate::endpoint::Target;
use crate::error::{ConnectError, ServerKind};

/// More masters than any quorum has; a longer list is a mistake.
const MAX_ADDRESSES: usize = 64;

/// A file with addresses is short; of another one no more than this is read.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Where servers may be. Of the forms that Mesos knows, all but ZooKeeper's.
#[derive(Debug, Clone)]
pub(crate) struct Detector {
    server: ServerKind,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    List(Vec<Target>),
    /// Read anew for each attempt: its content may change while the framework runs.
    File(PathBuf),
}

impl Detector {
    /// `host:port`, `host:port,host:port,…` or `file:///path`.
    pub(crate) fn parse(server: ServerKind, text: &str) -> Result<Self, ConnectError> {
        let source = match text.trim().strip_prefix("file://") {
            Some(path) if path.starts_with('/') => Source::File(PathBuf::from(path)),
            Some(_) => {
                let problem = "the path after file:// is absolute, as in file:///etc/mezzo/master";
                return Err(ConnectError::Address { server, address: text.to_owned(), problem });
            }
            None => Source::List(list(server, text)?),
        };
        Ok(Detector { server, source })
    }

    /// The servers to try, in order; at least one.
    pub(crate) async fn candidates(&self) -> Result<Vec<Target>, ConnectError> {
        let path = match &self.source {
            Source::List(targets) => return Ok(targets.clone()),
            Source::File(path) => path,
        };
        let text = read(path).await.map_err(|source| ConnectError::File {
            server: self.server,
            path: path.clone(),
            source,
        })?;
        list(self.server, &text)
    }
}

async fn read(path: &std::path::Path) -> std::io::Result<String> {
    use tokio::io::AsyncReadExt;
    let mut text = String::new();
    tokio::fs::File::open(path).await?.take(MAX_FILE_BYTES).read_to_string(&mut text).await?;
    Ok(text)
}

fn list(server: ServerKind, text: &str) -> Result<Vec<Target>, ConnectError> {
    let addresses = Vec::from_iter(text.split(',').take(MAX_ADDRESSES + 1));
    if addresses.len() > MAX_ADDRESSES {
        let problem = "there are more than 64 addresses";
        return Err(ConnectError::Address { server, address: text.to_owned(), problem });
    }
    let target = |text: &str| Ok(Target { server, address: address::parse(server, text)? });
    addresses.into_iter().map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(text: &str) -> Result<Vec<String>, String> {
        let detector =
            Detector::parse(ServerKind::Master, text).map_err(|error| error.to_string())?;
        let targets = detector.candidates().await.map_err(|error| error.to_string())?;
        Ok(targets.into_iter().map(|target| target.address).collect())
    }

    #[tokio::test]
    async fn one_and_several_addresses() {
        assert_eq!(found("a:1").await, Ok(vec!["a:1".to_owned()]));
        let three = ["a:1", "b:5050", "[::1]:3"].map(str::to_owned).to_vec();
        assert_eq!(found(" a:1, b ,http://[::1]:3/").await, Ok(three));
        let error = found("a:1,,b").await.expect_err("an empty one");
        assert!(error.contains("it is empty"), "{error}");
        let many = vec!["a"; 65].join(",");
        assert!(found(&many).await.expect_err("too many").contains("more than 64"));
    }

    #[tokio::test]
    async fn a_file_is_read_each_time() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "a:1\n").expect("written");
        let text = format!("file://{}", file.path().display());
        assert_eq!(found(&text).await, Ok(vec!["a:1".to_owned()]));
        std::fs::write(file.path(), "b:2,c:3\n").expect("written");
        assert_eq!(found(&text).await, Ok(vec!["b:2".to_owned(), "c:3".to_owned()]));
        drop(file);
        let error = found(&text).await.expect_err("it is gone");
        assert!(error.contains("cannot be read") && error.contains(&text["file://".len()..]));
        let error = found("file://relative").await.expect_err("relative");
        assert!(error.contains("is absolute"), "{error}");
    }
}
