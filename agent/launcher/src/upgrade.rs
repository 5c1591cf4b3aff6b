//! The agent's side of an upgrade in place.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::client::{ClientError, LauncherClient};
use crate::spawn::Launcher;
use crate::state::parse_formats;

/// Read at a time where programs are compared.
const CHUNK: usize = 64 * 1024;

/// What became of the launcher that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// It is the program already.
    Current,
    /// The program has taken over.
    Done,
}

/// Why a launcher runs on as it is. No container is touched by any of it.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    #[error("ask the launcher that runs")]
    Ask(#[source] ClientError),
    #[error("compare {path:?} with the launcher that runs")]
    Compare { path: PathBuf, source: io::Error },
    #[error("run {path:?}")]
    Run { path: PathBuf, source: io::Error },
    #[error("{path:?} does not say what it can take over: {message}")]
    Unfit { path: PathBuf, message: String },
    #[error("{path:?} cannot take over from the launcher that runs: its state has format {format}")]
    Format { path: PathBuf, format: u32 },
    #[error("upgrade the launcher")]
    Upgrade(#[source] ClientError),
}

impl Launcher {
    /// Makes the launcher at the other end be `self.program`: where its build differs, that takes over in the
    /// same process, with all containers and connections. An error leaves the one that runs, except
    /// where the connection is gone ([`ClientError::Disconnected`]).
    ///
    /// Blocks for milliseconds.
    pub fn upgrade(&self, client: &LauncherClient) -> Result<Upgrade, UpgradeError> {
        let path = || self.program.clone();
        let compare = |source| UpgradeError::Compare { path: path(), source };
        let running = client.hello().map_err(UpgradeError::Ask)?;
        let program = File::open(&self.program).map_err(compare)?;
        // The image that runs, also when its file has been replaced or removed.
        let image = File::open(format!("/proc/{}/exe", running.pid)).map_err(compare)?;
        if same(&program, &image).map_err(compare)? {
            return Ok(Upgrade::Current);
        }
        // Its own word: a program that this machine cannot even start gives none.
        let mut ask = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        ask.arg("--formats").env_clear().stdin(Stdio::null());
        let said = ask.output().map_err(|source| UpgradeError::Run { path: path(), source })?;
        let line = String::from_utf8_lossy(&said.stdout);
        let Some(formats) = parse_formats(&line).filter(|_| said.status.success()) else {
            let errors = String::from_utf8_lossy(&said.stderr);
            let message = errors.lines().next().map_or(said.status.to_string(), str::to_owned);
            return Err(UpgradeError::Unfit { path: path(), message });
        };
        if !formats.contains(&running.format) {
            return Err(UpgradeError::Format { path: path(), format: running.format });
        }
        client.upgrade(program.as_fd()).map_err(UpgradeError::Upgrade)?;
        Ok(Upgrade::Done)
    }
}

impl UpgradeError {
    /// The launcher itself is gone.
    pub fn is_disconnected(&self) -> bool {
        matches!(
            self,
            UpgradeError::Ask(ClientError::Disconnected)
                | UpgradeError::Upgrade(ClientError::Disconnected)
        )
    }
}

/// Whether two files have the same content.
fn same(left: &File, right: &File) -> io::Result<bool> {
    if left.metadata()?.len() != right.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (left, right);
    let mut buffers = [vec![0; CHUNK], vec![0; CHUNK]];
    loop {
        let [ours, theirs] = &mut buffers;
        let length = left.read(ours)?;
        let (ours, theirs) = (&ours[..length], &mut theirs[..length]);
        right.read_exact(theirs)?;
        if ours != theirs {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn files_are_the_same_by_content() {
        let file = |content: &[u8]| {
            let mut file = tempfile::tempfile().expect("file");
            file.write_all(content).expect("write");
            file.rewind().expect("rewind");
            file
        };
        let long = vec![7; CHUNK + 1];
        let mut other = long.clone();
        other[CHUNK] = 8;
        assert!(same(&file(&long), &file(&long)).expect("read"));
        assert!(!same(&file(&long), &file(&other)).expect("read"));
        assert!(!same(&file(&long), &file(&long[1..])).expect("read"));
        assert!(same(&file(b""), &file(b"")).expect("read"));
    }
}
