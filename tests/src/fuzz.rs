//! What is fuzzed: one body for each way in which bytes of others come in.
//!
//! A body panics when a property does not hold; that bytes are refused is not of interest. The same
//! bodies are run by `cargo fuzz` (`fuzz/`, for hours) and by the test `fuzz` (for a minute, with every
//! test run), which also bounds the memory that an input may take.

mod agent;
mod framing;
mod launcher;
mod master;
mod master_world;
mod messages;
mod mutate;
mod plausible;
mod seeds;
mod text;

pub use mutate::{Dice, mutate};

/// One way in.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// As in `cargo fuzz run NAME`.
    pub name: &'static str,
    /// Panics when a property does not hold.
    pub body: fn(&[u8]),
    /// Inputs that are valid, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "recordio", body: framing::recordio, seeds: seeds::records },
    Target { name: "json", body: messages::json, seeds: seeds::json },
    Target { name: "protobuf", body: messages::protobuf, seeds: seeds::protobuf },
    Target { name: "json_answers", body: messages::json_answers, seeds: seeds::json_answers },
    Target {
        name: "protobuf_answers",
        body: messages::protobuf_answers,
        seeds: seeds::protobuf_answers,
    },
    Target { name: "resources", body: text::resources, seeds: seeds::resources },
    Target { name: "attributes", body: text::attributes, seeds: seeds::attributes },
    Target { name: "agent_records", body: agent::records, seeds: seeds::agent_records },
    Target { name: "agent_messages", body: agent::messages, seeds: seeds::agent_messages },
    Target { name: "master_records", body: master::records, seeds: seeds::master_records },
    Target { name: "master_inputs", body: master::inputs, seeds: seeds::master_inputs },
    Target { name: "master_calls", body: master_world::anything, seeds: seeds::tapes },
    Target { name: "offer_operations", body: master_world::operations, seeds: seeds::tapes },
    Target { name: "launcher_packets", body: launcher::packets, seeds: seeds::launcher_packets },
];

/// The target of this name.
///
/// # Panics
/// There is none: a mistake in `fuzz/`.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of this name").body)(data);
}

/// Takes an input apart that stands for several things: each a kind, a length of two bytes, and bytes.
fn pieces(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [kind, low, high, rest @ ..] = data else { return None };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        data = rest;
        Some((*kind, piece))
    })
}

/// The inverse of [`pieces`].
fn join(pieces: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, piece) in pieces {
        out.push(*kind);
        out.extend(u16::try_from(piece.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend(piece);
    }
    out
}
