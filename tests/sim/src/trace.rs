//! The story of a run, a line for everything that happens.
//!
//! Lines are hashed as they come, so that two runs can be compared without keeping them; the last ones
//! are kept for whoever has to understand a failure, all of them only on demand.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write as _};

/// Lines shown with a failure.
pub const TAIL: usize = 120;

/// See the module.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: u64,
    tail: VecDeque<String>,
    all: Option<String>,
}

/// FNV-1a, 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

impl Trace {
    pub(crate) fn new(keep_all: bool) -> Self {
        let all = keep_all.then(String::new);
        Trace { hash: FNV_OFFSET, lines: 0, tail: VecDeque::with_capacity(TAIL), all }
    }

    /// Adds a line: virtual time in seconds, then `what`.
    pub(crate) fn line(&mut self, now_ns: u64, what: Arguments<'_>) {
        let mut line =
            if self.tail.len() == TAIL { self.tail.pop_front() } else { None }.unwrap_or_default();
        line.clear();
        let (seconds, micros) = (now_ns / 1_000_000_000, now_ns / 1000 % 1_000_000);
        // Writing to a string does not fail.
        let _ = write!(line, "{seconds:>5}.{micros:06} {what}");
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        self.lines += 1;
        if let Some(all) = &mut self.all {
            all.push_str(&line);
            all.push('\n');
        }
        self.tail.push_back(line);
    }

    /// Of every line so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many lines there were.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The last lines, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    /// Every line, if the run was told to keep them.
    pub fn all(&self) -> Option<&str> {
        self.all.as_deref()
    }
}
