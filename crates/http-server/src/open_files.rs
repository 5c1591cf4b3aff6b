//! Room for connections beside the daemon's own files.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

static AT_START: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises this process' limit of open files to what the system lets it have, and returns that.
/// Where the limit cannot be read or raised, the one that holds is returned.
pub fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return SMALLEST };
    AT_START.get_or_init(|| (soft, hard));
    if soft >= hard {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(soft, hard, %error, "could not raise the limit of open files");
            soft
        }
    }
}

/// Soft and hard limit of open files before [`raise_open_files`]: what children should have, since
/// programs that use select(2) break when the soft limit is beyond 1024.
pub fn open_files_at_start() -> Option<(u64, u64)> {
    AT_START.get().copied()
}

/// What POSIX promises every process.
const SMALLEST: u64 = 20;
/// More connections than this are not served, whatever the limit of open files.
const MOST: u64 = 65_536;
/// And fewer than this are no service.
const FEWEST: u64 = 8;

/// What part of its open files a daemon gives to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Three quarters: the rest is for the store's files.
    Most,
    /// Half: containers have files, too.
    Half,
}

/// How many connections a process with so many open files may have; the others are kept for the
/// daemon itself, which must be able to open what it needs when strangers have taken all the rest.
pub fn connections_beside(open_files: u64, share: Share) -> usize {
    let connections = match share {
        Share::Most => open_files / 4 * 3,
        Share::Half => open_files / 2,
    };
    usize::try_from(connections.clamp(FEWEST, MOST)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_always_kept() {
        for open_files in [64, 1024, 20_000, 1_048_576] {
            for share in [Share::Most, Share::Half] {
                let connections = connections_beside(open_files, share) as u64;
                assert!((FEWEST..=MOST).contains(&connections));
                assert!(connections <= open_files * 3 / 4, "{open_files}");
            }
        }
        assert_eq!(connections_beside(20_000, Share::Half), 10_000);
    }

    #[test]
    fn the_limit_is_raised_and_the_old_one_remembered() {
        let before = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise_open_files(), before.1);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (before.1, before.1));
        raise_open_files();
        assert_eq!(open_files_at_start(), Some(before));
    }
}
