//! Packets looked at without consequences.

use std::os::fd::OwnedFd;

use crate::channel::parse_packet;
use crate::enter::EnterPlan;
use crate::launch::Plan;
use crate::wire::{Call, Request};

/// Decodes and checks a packet of a client as the launcher does before it acts, for tests that send it
/// anything. `None` where it would end the connection: an empty packet is an end.
///
/// # Errors
/// What would be said in the log or to the client.
pub fn inspect_packet(packet: &[u8], descriptors: Vec<OwnedFd>) -> Result<Option<()>, String> {
    let received = parse_packet::<Request>(packet, descriptors);
    match received.map_err(|error| error.to_string())? {
        None => Ok(None),
        Some((Request { call: Some(Call::Launch(call)), .. }, descriptors)) => {
            Plan::new(call, descriptors).map(|_| Some(()))
        }
        Some((Request { call: Some(Call::Enter(call)), .. }, descriptors)) => {
            EnterPlan::new(call, descriptors).map(|_| Some(()))
        }
        Some(_) => Ok(Some(())),
    }
}
