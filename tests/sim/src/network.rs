//! Connections: each carries messages in order, with a delay of its own, until an end closes it or it
//! breaks. A broken one swallows what is on the way; either end learns of it late.

use std::collections::BTreeMap;

use crate::rng::Rng;

/// Numbers connections; never used twice in a run. Both cores know theirs by this number.
pub(crate) type ConnId = u64;

/// The end of a connection. The near one dialled: an agent, or a framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Near,
    Master,
}

impl End {
    pub(crate) fn other(self) -> End {
        match self {
            End::Near => End::Master,
            End::Master => End::Near,
        }
    }
}

/// Who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Near {
    Agent(usize),
    Framework(usize),
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) near: Near,
    /// Which incarnation of a master is at the other end.
    pub(crate) master: usize,
    /// Whether the end still holds it: the near one's, the master's.
    open: [bool; 2],
    /// Nothing passes any more, towards the near end and towards the master.
    cut: [bool; 2],
    /// When the last message arrives, by direction.
    last: [u64; 2],
    /// The least delay.
    latency_ns: u64,
}

/// All connections of a run.
#[derive(Debug)]
pub(crate) struct Network {
    conns: BTreeMap<ConnId, Conn>,
    next: ConnId,
    rng: Rng,
    /// Upper bound of the least delay of a connection, nanoseconds.
    latency_max_ns: u64,
}

fn index(end: End) -> usize {
    match end {
        End::Near => 0,
        End::Master => 1,
    }
}

impl Network {
    pub(crate) fn new(mut rng: Rng) -> Self {
        let latency_max_ns = rng.skewed(100_000, 200_000_000);
        Network { conns: BTreeMap::new(), next: 1, rng, latency_max_ns }
    }

    pub(crate) fn open(&mut self, near: Near, master: usize) -> ConnId {
        let id = self.next;
        self.next += 1;
        let latency_ns = self.rng.skewed(50_000, self.latency_max_ns);
        let conn =
            Conn { near, master, open: [true; 2], cut: [false; 2], last: [0; 2], latency_ns };
        self.conns.insert(id, conn);
        id
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(&id)
    }

    /// When a message that leaves for `to` now arrives; `None` if its sender's end is closed.
    pub(crate) fn send(&mut self, now: u64, id: ConnId, to: End) -> Option<u64> {
        let conn = self.conns.get_mut(&id)?;
        if !conn.open[index(to.other())] {
            return None;
        }
        let delay = conn.latency_ns + self.rng.skewed(1_000, conn.latency_ns.max(2_000));
        let at = conn.last[index(to)].max(now + delay);
        conn.last[index(to)] = at;
        Some(at)
    }

    /// Whether a message that was sent to `to` is taken from the wire there.
    pub(crate) fn arrives(&self, id: ConnId, to: End) -> bool {
        let conn = self.conns.get(&id);
        conn.is_some_and(|conn| conn.open[index(to)] && !conn.cut[index(to)])
    }

    pub(crate) fn is_open(&self, id: ConnId, end: End) -> bool {
        self.conns.get(&id).is_some_and(|conn| conn.open[index(end)])
    }

    /// An end closes. Returns when the other one learns, unless it knows already or nothing passes.
    pub(crate) fn close(&mut self, now: u64, id: ConnId, end: End) -> Option<u64> {
        let at = self.send(now, id, end.other());
        let conn = self.conns.get_mut(&id)?;
        conn.open[index(end)] = false;
        let (open, cut) = (conn.open[index(end.other())], conn.cut[index(end.other())]);
        if conn.open == [false; 2] {
            self.conns.remove(&id);
        }
        at.filter(|_| open && !cut)
    }

    /// Swallows what goes towards `to` from now on.
    pub(crate) fn cut(&mut self, id: ConnId, to: End) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.cut[index(to)] = true;
        }
    }

    pub(crate) fn of_master(&self, master: usize) -> Vec<ConnId> {
        self.matching(|conn| conn.master == master)
    }

    pub(crate) fn of_near(&self, near: Near) -> Vec<ConnId> {
        self.matching(|conn| conn.near == near)
    }

    fn matching(&self, wanted: impl Fn(&Conn) -> bool) -> Vec<ConnId> {
        self.conns.iter().filter(|(_, conn)| wanted(conn)).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_ordered_and_a_cut_one_swallows() {
        let mut network = Network::new(Rng::new(5, 5));
        let id = network.open(Near::Agent(0), 0);
        let arrivals = Vec::from_iter((0..50).map(|now| network.send(now, id, End::Master)));
        assert!(arrivals.is_sorted() && arrivals.iter().all(Option::is_some));
        network.cut(id, End::Master);
        assert!(!network.arrives(id, End::Master) && network.arrives(id, End::Near));
        assert_eq!(network.close(60, id, End::Near), None, "nobody hears of it");
        assert!(network.is_open(id, End::Master));
        assert_eq!(network.close(70, id, End::Master), None);
        assert!(network.get(id).is_none());
    }

    #[test]
    fn what_was_sent_before_the_close_arrives_before_it() {
        let mut network = Network::new(Rng::new(6, 6));
        let id = network.open(Near::Framework(0), 0);
        let sent = network.send(0, id, End::Near);
        let closed = network.close(0, id, End::Master);
        assert!(closed >= sent && sent.is_some());
        assert_eq!(network.send(1, id, End::Near), None);
    }
}
