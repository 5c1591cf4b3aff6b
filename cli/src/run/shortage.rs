//! What is said when a task finds no place: what it asks for, and what there was.

use std::collections::BTreeMap;

use mezzo_sdk::v1::Offer;
use mezzo_sdk::{Demand, Room};

/// Agents listed by name; more are counted.
const LISTED: usize = 8;

/// The offers that were too small, the newest of each agent.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    seen: BTreeMap<String, String>,
}

impl Shortage {
    /// Remembers an offer that was given back.
    pub(crate) fn note(&mut self, offer: &Offer) {
        let room = Room::of(offer);
        let mut text = amounts(
            room.scalar("cpus"),
            room.scalar("mem"),
            room.scalar("disk"),
            usize::try_from(room.ports()).unwrap_or(usize::MAX),
            room.scalar("gpus"),
        );
        if text.is_empty() {
            text = "nothing usable".to_owned();
        }
        self.seen.insert(offer.hostname.clone(), text);
    }

    pub(crate) fn clear(&mut self) {
        self.seen.clear();
    }

    /// The sentence for the user.
    pub(crate) fn explain(&self, waiting: usize, demand: Demand) -> String {
        let Demand { cpus, mem_mb, disk_mb, ports, gpus } = demand;
        let asked = amounts(cpus, mem_mb, disk_mb, ports, f64::from(gpus));
        let tasks = match waiting {
            1 => "a task waits".to_owned(),
            count => format!("{count} tasks wait"),
        };
        let mut text = format!("{tasks} for an offer with {asked}; ");
        if self.seen.is_empty() {
            text.push_str("no offer came so far: `mezzo agents` shows who has something to offer");
            return text;
        }
        text.push_str("offered were");
        for (hostname, amounts) in self.seen.iter().take(LISTED) {
            text.push_str(&format!("\n  {hostname}: {amounts}"));
        }
        if self.seen.len() > LISTED {
            text.push_str(&format!(
                "\n  and less than enough on {} more",
                self.seen.len() - LISTED
            ));
        }
        text
    }
}

/// `cpus:0.5; mem:64; ports:2`, without what is zero.
fn amounts(cpus: f64, mem_mb: f64, disk_mb: f64, ports: usize, gpus: f64) -> String {
    let mut parts = Vec::new();
    for (name, amount) in [("cpus", cpus), ("mem", mem_mb), ("disk", disk_mb), ("gpus", gpus)] {
        if amount > 0.0 {
            parts.push(format!("{name}:{amount}"));
        }
    }
    if ports > 0 {
        parts.push(format!("ports:{ports}"));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use mezzo_sdk::v1;

    use super::*;

    fn offer(hostname: &str, cpus: f64) -> Offer {
        Offer {
            hostname: hostname.to_owned(),
            resources: vec![v1::Resource {
                name: "cpus".to_owned(),
                scalar: Some(v1::value::Scalar { value: cpus }),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    const DEMAND: Demand = Demand { cpus: 8.0, mem_mb: 64.0, disk_mb: 0.0, ports: 1, gpus: 0 };

    #[test]
    fn says_what_was_asked_and_what_was_there() {
        let mut shortage = Shortage::default();
        assert_eq!(
            shortage.explain(1, DEMAND),
            "a task waits for an offer with cpus:8; mem:64; ports:1; no offer came so far: \
             `mezzo agents` shows who has something to offer"
        );
        shortage.note(&offer("node2", 2.0));
        shortage.note(&offer("node1", 1.0));
        shortage.note(&offer("node2", 0.5));
        assert_eq!(
            shortage.explain(3, DEMAND),
            "3 tasks wait for an offer with cpus:8; mem:64; ports:1; offered were\n  \
             node1: cpus:1\n  node2: cpus:0.5"
        );
    }

    #[test]
    fn a_large_cluster_is_counted() {
        let mut shortage = Shortage::default();
        for n in 0..20 {
            shortage.note(&offer(&format!("node{n:02}"), 1.0));
        }
        assert!(shortage.explain(1, DEMAND).ends_with("and less than enough on 12 more"));
    }
}
