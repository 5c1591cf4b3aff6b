//! Who may speak to whom.

use bytes::Bytes;

use super::proto::Hello;
use crate::config::GroupId;
use crate::transport::Inbox;

/// Raised when nodes of before and after could not understand each other.
const PROTOCOL: u32 = 1;

pub(super) fn hello(inbox: &Inbox, to: u64) -> Hello {
    let group = inbox.group().map(|group| Bytes::copy_from_slice(&group.0)).unwrap_or_default();
    Hello { protocol: PROTOCOL, group, from: inbox.node_id(), to }
}

/// Whether the node that said `hello` is one to speak to; if not, why, and what to do.
pub(super) fn check(hello: &Hello, own: u64, own_group: Option<GroupId>) -> Result<(), String> {
    let Hello { protocol, group, from, to } = hello;
    if *protocol != PROTOCOL {
        return Err(format!(
            "node {from} speaks version {protocol} of the log's protocol, node {own} version {PROTOCOL}; run one release on all nodes"
        ));
    }
    if *to != own || *from == own {
        return Err(format!(
            "node {from} wants to speak to node {to}, and this is node {own}; see the nodes' numbers and addresses"
        ));
    }
    let theirs = match <[u8; 16]>::try_from(&group[..]) {
        Ok(group) => Some(GroupId(group)),
        Err(_) if group.is_empty() => None,
        Err(_) => return Err(format!("node {from} names its group with {} bytes", group.len())),
    };
    match (theirs, own_group) {
        (Some(theirs), Some(ours)) if theirs != ours => Err(format!(
            "node {from} belongs to group {theirs}, node {own} to group {ours}: one of them has another cluster's data; start it with its own, or with an empty directory"
        )),
        // Whoever does not know its group yet has nothing that could be mixed up.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(hello: &Hello, own_group: Option<u8>) -> String {
        check(hello, 2, own_group.map(|byte| GroupId([byte; 16]))).err().unwrap_or_default()
    }

    #[test]
    fn another_clusters_node_is_refused_and_a_fresh_one_is_not() {
        let hello = |group: &[u8]| Hello {
            protocol: PROTOCOL,
            group: Bytes::copy_from_slice(group),
            from: 1,
            to: 2,
        };
        assert_eq!(refusal(&hello(&[7; 16]), Some(7)), "");
        assert_eq!(refusal(&hello(&[]), Some(7)), "");
        assert_eq!(refusal(&hello(&[7; 16]), None), "");
        assert!(refusal(&hello(&[7; 16]), Some(8)).contains("another cluster's data"));
        assert!(refusal(&hello(&[7; 15]), Some(7)).contains("15 bytes"));
        let other = Hello { protocol: 2, ..hello(&[]) };
        assert!(refusal(&other, None).contains("one release"));
        for (from, to) in [(1, 3), (2, 2)] {
            let other = Hello { from, to, ..hello(&[]) };
            assert!(refusal(&other, None).contains("addresses"));
        }
    }
}
