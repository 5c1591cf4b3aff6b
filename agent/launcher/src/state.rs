//! What one image of the launcher leaves for the next across exec: messages in a memfd, which name open
//! descriptors by number.
//!
//! Fields are only ever added. The format goes up when an image that ignores an added field would lose
//! something; an image says with `--formats` which ones it takes up.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;

use crate::wire::Record;

/// The format that this image writes.
pub const FORMAT: u32 = 1;

/// The formats that this image reads, as text in the program file.
static FORMATS: &str = "mezzo-launcher takes up formats 1..1\n";

/// The line that `mezzo-launcher --formats` prints.
pub fn formats_line() -> &'static str {
    // What the file says is what holds, and not what a compiler made of it.
    std::hint::black_box(FORMATS)
}

/// The formats that a line of [`formats_line`]'s kind tells.
pub fn parse_formats(line: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = line.trim_end().rsplit_once(' ')?.1.split_once("..")?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// The start of every format's message: enough to go back to the image that wrote it.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Envelope {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    /// The program of the image that wrote this.
    #[prost(int32, tag = "2")]
    pub program: i32,
}

/// All of the launcher's state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct State {
    #[prost(uint32, tag = "1")]
    pub format: u32,
    #[prost(int32, tag = "2")]
    pub program: i32,
    #[prost(int32, tag = "3")]
    pub listener: i32,
    #[prost(int32, tag = "4")]
    pub lock: i32,
    /// Limits of open files for the containers.
    #[prost(uint64, tag = "5")]
    pub soft_files: u64,
    #[prost(uint64, tag = "6")]
    pub hard_files: u64,
    #[prost(message, repeated, tag = "7")]
    pub connections: Vec<Peer>,
    #[prost(message, repeated, tag = "8")]
    pub live: Vec<LiveContainer>,
    /// Oldest ending first.
    #[prost(message, repeated, tag = "9")]
    pub ended: Vec<Record>,
    /// The one who asked for the upgrade, by its place in `connections`.
    #[prost(uint32, tag = "10")]
    pub asker: u32,
    /// The sequence of its request.
    #[prost(uint64, tag = "11")]
    pub sequence: u64,
}

/// A connection and what waits for it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Peer {
    #[prost(int32, tag = "1")]
    pub socket: i32,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub waiting: Vec<Vec<u8>>,
}

/// A container whose first process has not been reaped.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LiveContainer {
    #[prost(message, required, tag = "1")]
    pub record: Record,
    #[prost(int32, tag = "2")]
    pub exit_file: i32,
    /// The status pipe, while more can come of it.
    #[prost(int32, optional, tag = "3")]
    pub status_pipe: Option<i32>,
    /// Why the launch failed, if the pipe has said so: a record in the state `Failed`.
    #[prost(message, optional, tag = "4")]
    pub failure: Option<Record>,
}

/// All bytes of a memfd, from its start.
pub fn read_all(memfd: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(memfd.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    memfd.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn this_image_reads_what_it_writes() {
        let formats = parse_formats(formats_line()).expect("a range");
        assert!(formats.contains(&FORMAT), "{formats:?}");
        for nonsense in ["", "usage: x", "formats 1", "formats a..b", "formats 1..-2"] {
            assert_eq!(parse_formats(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn the_envelope_is_read_from_states_of_other_formats() {
        let state = State { format: 7, program: 9, asker: 3, sequence: 4, ..State::default() };
        let envelope = Envelope::decode(state.encode_to_vec().as_slice()).expect("decode");
        assert_eq!(envelope, Envelope { format: 7, program: 9 });
    }
}
