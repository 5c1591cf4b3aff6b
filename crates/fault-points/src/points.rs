//! The table of all points.

/// A step that can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Process (or shared part), part, step.
    pub name: &'static str,
    /// When it is passed.
    pub when: &'static str,
}

const fn point(name: &'static str, when: &'static str) -> Point {
    Point { name, when }
}

/// Every point, in the order of a task's life and within it of a daemon's.
pub const POINTS: &[Point] = &[
    // The master: start.
    point("master.start.recovered", "the registry has been read and the log replayed"),
    point("master.start.founded", "a new cluster has its identity in the log"),
    point("master.start.bound", "the port is taken, nothing is served yet"),
    point("master.start.leading", "about to say that it is ready"),
    // The master: a round of its loop.
    point("master.input.taken", "an input has been taken from the queue"),
    point("master.input.handled", "the core has handled an input, no effect is carried out"),
    point("master.log.appending", "a round's commands are about to go into the log"),
    point("master.log.appended", "they are on their way through the log"),
    point("master.log.committed", "an entry is committed, not yet applied to the registry"),
    point("master.registry.applied", "it is applied, nobody has been told"),
    point("master.outbox.released", "messages that waited for the entry are about to leave"),
    point("master.event.sending", "an event is about to go to a framework"),
    point("master.agent.sending", "a message is about to go to an agent"),
    point("master.answer.sending", "a call is about to be answered"),
    // The replicated log and the store, in master and agent.
    point("raft.persisting", "raft's entries are about to be written"),
    point("raft.persisted", "they are on the disk, nothing is delivered"),
    point("agent.records.writing", "a round's records are about to be written"),
    point("agent.records.written", "they are written, what depends on them has not happened"),
    point("agent.records.synced", "records that had to be on the disk are there"),
    point("store.logged", "a batch is in the write-ahead log, its writer does not know"),
    point("store.syncing", "the log is about to be forced to the disk"),
    point("store.synced", "it is on the disk, nobody has been told"),
    // The agent: start.
    point("agent.start.records_read", "the records have been read"),
    point("agent.start.launcher_connected", "there is a launcher, old or new"),
    point("agent.start.containers_listed", "launcher and control groups have been looked at"),
    point("agent.start.recovered", "the plan of what follows is made, nothing is carried out"),
    point("agent.start.serving", "about to say that it is ready"),
    // The agent: its link to the master.
    point("agent.link.up", "the stream to a master stands"),
    point("agent.master.received", "a message of the master has arrived"),
    point("agent.master.handled", "the core has handled it, nothing is carried out"),
    point("agent.master.sending", "a message is about to go to the master"),
    point("agent.registered", "the master has admitted the agent"),
    // The agent: a task's launch.
    point("agent.launch.recorded", "the launch is written down, nothing is made"),
    point("agent.launch.sandboxed", "the sandbox is there"),
    point("agent.launch.fetched", "what the task wants fetched is there"),
    point("agent.launch.grouped", "the control groups are there, without limits"),
    point("agent.launch.limited", "the limits are set"),
    point("agent.launch.admitted", "the kernel counts and guards"),
    point("agent.launch.exit_file", "the exit file is there"),
    point("agent.launch.asking", "the launcher is about to be asked"),
    point("agent.launch.asked", "the request is with the launcher"),
    point("agent.launch.started", "the launcher has told that the command runs"),
    // The agent: a task's end.
    point("agent.signal.sending", "a signal is about to go to a task"),
    point("agent.exit.observed", "an ending has been told, not written down"),
    point("agent.destroy.ordered", "a container is to be taken apart"),
    point("agent.destroy.killed", "its processes are gone, its control groups are not"),
    point("agent.destroy.removed", "its control groups are gone, its record is not"),
    point("agent.destroy.accounted", "it is in the kernel's accounts no more"),
    point("agent.forget.exit_file", "its record is gone, its exit file is about to go"),
    point("agent.forget.launcher", "the launcher is about to forget it"),
    // The launcher.
    point("launcher.start.locked", "it is the one launcher of its socket"),
    point("launcher.start.listening", "the socket is there, the daemon runs"),
    point("launcher.accept", "a connection has been accepted"),
    point("launcher.request.received", "a request has been read"),
    point("launcher.launch.forking", "a child is about to be made"),
    point("launcher.launch.forked", "the child is there and not in the books"),
    point("launcher.launch.booked", "it is in the books, nobody has been told"),
    point("launcher.start.reported", "the command runs, nobody has been told"),
    point("launcher.exit.reaped", "a child has been reaped, nobody has been told"),
    point("launcher.exit.told", "its ending has been told"),
];

/// The place of a name in [`POINTS`]. In a `const`, a name that is not there does not compile.
///
/// # Panics
/// There is no such point.
pub const fn index(name: &str) -> usize {
    let mut at = 0;
    while at < POINTS.len() {
        if same(POINTS[at].name.as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("there is no such fault point: add it to the table in crates/fault-points")
}

const fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_one_of_a_kind_and_found() {
        let names: BTreeSet<&str> = POINTS.iter().map(|point| point.name).collect();
        assert_eq!(names.len(), POINTS.len());
        for (at, point) in POINTS.iter().enumerate() {
            assert_eq!(index(point.name), at);
            let part = point.name.split('.').next().unwrap();
            assert!(["master", "agent", "launcher", "raft", "store"].contains(&part), "{part}");
            assert!(!point.when.is_empty());
        }
    }
    #[test]
    fn the_page_has_the_same_table() {
        let page = include_str!("../../../docs/kills.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let points = POINTS.iter().map(|point| format!("| `{}` | {} |", point.name, point.when));
        assert_eq!(rows, points.collect::<Vec<_>>());
    }
}
