//! Brings a task's files into its sandbox, before the task starts.
//!
//! | module | what it does |
//! |---|---|
//! | `source` | reads a URI: where from, which checksum, which file name |
//! | `download` | copies a local file or a web resource, hashing as it goes |
//! | `archive`, `tape` | unpacks what was fetched |
//! | `tree` | the only code that writes: it cannot be led out of the sandbox |
//!
//! A URI is an absolute path, `file://`, `http://` or `https://`. Its content is checked if it ends in
//! `#sha256=HEX` or `#sha512=HEX`; the fragment is never sent. Archives (`.tar`, `.tar.gz`, `.tgz`,
//! `.tar.bz2`, `.tbz2`, `.tar.xz`, `.txz`, `.tar.zst`, `.gz`, `.zip`) are unpacked beside the file that
//! was fetched, which stays, as with Mesos; `executable` marks a file executable instead, and
//! `extract: false` leaves it alone.
//!
//! Everything fetched belongs to the task's user. Local files are opened with that user's
//! permissions: a task must not read through the agent what it cannot read itself.

mod archive;
mod download;
mod error;
mod source;
mod tape;
mod tree;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mezzo_proto::v1::command_info::Uri;
use mezzo_telemetry::Counter;

pub use error::{FetchError, FetchFault};

use crate::sandbox::Owner;
use archive::Kind;
use source::Source;
use tree::Tree;

/// Bounds on what one URI may bring in.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes downloaded or copied.
    pub fetched_bytes: u64,
    /// Bytes that an archive may unpack to.
    pub unpacked_bytes: u64,
    /// Files, directories and links in an archive.
    pub entries: u64,
    /// How long a server may stay silent.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // Generous enough for a JDK or a model; small enough that a bomb is noticed.
        Limits {
            fetched_bytes: 64 << 30,
            unpacked_bytes: 64 << 30,
            entries: 1_000_000,
            stall: Duration::from_secs(60),
        }
    }
}

/// Fetches. Blocks the calling thread; each call is independent of all others.
#[derive(Clone, Debug, Default)]
pub struct Fetcher {
    limits: Limits,
    fetches: Fetches,
}

/// How the calls of a fetcher ended that had something to fetch. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Fetches {
    pub succeeded: Counter,
    /// Among them those that were cancelled, as in Mesos.
    pub failed: Counter,
}

/// What all steps of one call share.
struct Context<'a> {
    limits: Limits,
    cancel: &'a Arc<AtomicBool>,
}

impl Context<'_> {
    fn check_cancelled(&self) -> Result<(), FetchFault> {
        match self.cancel.load(Ordering::Relaxed) {
            true => Err(FetchFault::Cancelled),
            false => Ok(()),
        }
    }
}

impl Fetcher {
    pub fn new(limits: Limits) -> Fetcher {
        Fetcher { limits, fetches: Fetches::default() }
    }

    pub fn fetches(&self) -> &Fetches {
        &self.fetches
    }

    /// Fetches each URI into the directory `sandbox`, in order, and gives everything to `owner`
    /// (`None`: to the user the agent runs as). Setting `cancel` ends the call within a quarter
    /// of a second or so. Returns where the files are, relative to the sandbox.
    ///
    /// # Errors
    /// The first URI that fails, and why, as a sentence for the task's status. What was fetched
    /// before stays in the sandbox.
    pub fn fetch(
        &self,
        uris: &[Uri],
        sandbox: &Path,
        owner: Option<Owner>,
        cancel: &Arc<AtomicBool>,
    ) -> Result<Vec<PathBuf>, FetchError> {
        let context = Context { limits: self.limits, cancel };
        let fetch = |uri: &Uri| {
            let fetched =
                Tree::open(sandbox, owner).and_then(|tree| fetch_one(uri, &tree, owner, &context));
            fetched.map_err(|fault| FetchError { uri: source::redacted(&uri.value), fault })
        };
        let fetched: Result<Vec<PathBuf>, FetchError> = uris.iter().map(fetch).collect();
        match &fetched {
            Ok(files) if files.is_empty() => {}
            Ok(_) => self.fetches.succeeded.inc(),
            Err(_) => self.fetches.failed.inc(),
        }
        fetched
    }
}

fn fetch_one(
    uri: &Uri,
    tree: &Tree,
    owner: Option<Owner>,
    context: &Context<'_>,
) -> Result<PathBuf, FetchFault> {
    let source = Source::parse(&uri.value)?;
    let name = match uri.output_file.as_deref() {
        Some(name) => tree::confined(name.as_bytes())
            .map_err(|rule| FetchFault::OutputFile { name: name.to_owned(), rule })?,
        None => PathBuf::from(source.file_name()?),
    };
    if name.as_os_str().is_empty() {
        return Err(FetchFault::OutputFile {
            name: uri.output_file.clone().unwrap_or_default(),
            rule: "names no file",
        });
    }
    let mut file = tree.create_file(&name)?;
    download::download(&source, &mut file, owner, context)?;
    let executable = uri.executable();
    tree.finish_file(&file, if executable { 0o755 } else { 0o644 }, None)?;
    if !executable
        && uri.extract()
        && let Some(kind) = Kind::of(&name)
    {
        archive::unpack(kind, file, &name, tree, context)?;
    }
    Ok(name)
}
