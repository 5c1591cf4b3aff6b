//! Whose container it is that the kernel knows by a number, and what was heard of it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use mezzo_agent_accounting::{Denial, Event, Happening, TaskId as Number, Usage};
use mezzo_types::{ContainerId, FrameworkId, TaskId};

use super::Refusal;

/// Refusals that are kept of a container, the latest ones; and those that are told in a minute.
const REFUSALS_MAX: usize = 16;
const MINUTE_NS: u64 = 60_000_000_000;

/// Whose container it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub framework: FrameworkId,
    /// For a command task, which is its own executor, the task.
    pub task: TaskId,
    pub container: ContainerId,
}

#[derive(Debug)]
struct Entry {
    holder: Holder,
    number: Number,
    refusals: VecDeque<Refusal>,
    /// Refusals told since then, by the clock of events.
    told: usize,
    told_since_ns: u64,
    /// How its first process ended, by the kernel's word.
    ended: Option<i32>,
}

/// An event that deserves a line in the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// The first of its kind for some time.
    Refused(Holder, Refusal),
    OutOfMemory(Holder),
}

#[derive(Debug, Default)]
pub(super) struct Book {
    entries: BTreeMap<ContainerId, Entry>,
    numbers: HashMap<Number, ContainerId>,
    /// What containers have used that are no more, and how many they were.
    pub(super) departed: Usage,
    pub(super) departures: u64,
    /// The largest sums that were told: a container on its way out is in neither part of the sum for a moment.
    told: Usage,
}

impl Book {
    pub(super) fn enter(&mut self, holder: Holder, number: Number) {
        let container = holder.container.clone();
        self.numbers.insert(number, container.clone());
        let refusals = VecDeque::new();
        let entry = Entry { holder, number, refusals, told: 0, told_since_ns: 0, ended: None };
        self.entries.insert(container, entry);
    }

    pub(super) fn leave(&mut self, container: &ContainerId) -> Option<(Holder, Number)> {
        let entry = self.entries.remove(container)?;
        self.numbers.remove(&entry.number);
        Some((entry.holder, entry.number))
    }

    pub(super) fn depart(&mut self, usage: &Usage) {
        self.departed += usage;
        self.departures += 1;
    }

    /// What to tell as the sum of all containers, which only grows.
    pub(super) fn raise(&mut self, sum: &Usage) -> Usage {
        self.told = self.told.max(sum);
        self.told
    }

    pub(super) fn knows(&self, number: Number) -> bool {
        self.numbers.contains_key(&number)
    }

    pub(super) fn number(&self, container: &ContainerId) -> Option<Number> {
        self.entries.get(container).map(|entry| entry.number)
    }

    pub(super) fn container(&self, number: Number) -> Option<&ContainerId> {
        self.numbers.get(&number)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn refusals(&self, container: &ContainerId) -> Vec<Refusal> {
        let entry = self.entries.get(container);
        entry.map(|entry| entry.refusals.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn ended(&self, container: &ContainerId) -> Option<i32> {
        self.entries.get(container)?.ended
    }

    /// Keeps what happened. A refusal that repeats one of those that are kept is not told again, nor are too many in a minute.
    pub(super) fn note(&mut self, event: &Event) -> Option<Noted> {
        let entry = self.entries.get_mut(self.numbers.get(&event.task)?)?;
        match event.what {
            Happening::FirstExit { status } => {
                entry.ended = Some(status);
                None
            }
            Happening::OomKill { .. } => Some(Noted::OutOfMemory(entry.holder.clone())),
            _ => {
                let refusal = Refusal::of(event)?;
                let known = entry.refusals.iter().any(|known| alike(&known.what, &refusal.what));
                if entry.refusals.len() == REFUSALS_MAX {
                    entry.refusals.pop_front();
                }
                entry.refusals.push_back(refusal.clone());
                if event.time_ns.saturating_sub(entry.told_since_ns) > MINUTE_NS {
                    (entry.told, entry.told_since_ns) = (0, event.time_ns);
                }
                let tell = !known && entry.told < REFUSALS_MAX;
                entry.told += usize::from(tell);
                tell.then(|| Noted::Refused(entry.holder.clone(), refusal))
            }
        }
    }
}

/// Whether two refusals are of one kind. A port that the kernel chose is another one each time, and what is only observed does not
/// tell whether it was asked for.
fn alike(one: &Happening, other: &Happening) -> bool {
    let without_port = |what: &Happening| match *what {
        Happening::PortDenied { how, transport, ipv6, enforced, .. }
            if !enforced || how == Denial::BindEphemeral =>
        {
            Happening::PortDenied { how, transport, ipv6, port: 0, enforced }
        }
        what => what,
    };
    without_port(one) == without_port(other)
}

#[cfg(test)]
mod tests {
    use mezzo_agent_accounting::{Access, Device, Transport};

    use super::*;

    fn holder(container: &str) -> Holder {
        Holder { framework: "f".into(), task: "t".into(), container: container.into() }
    }

    fn event(task: u64, what: Happening) -> Event {
        Event { task: Number(task), time_ns: 0, process: 7, command: "sh".to_owned(), what }
    }

    #[test]
    fn what_happens_to_a_container_is_kept_as_long_as_it_is_there() {
        let mut book = Book::default();
        book.enter(holder("c1"), Number(1));
        assert_eq!(book.note(&event(1, Happening::FirstExit { status: 256 })), None);
        assert_eq!(book.ended(&"c1".into()), Some(256));
        let oom = Happening::OomKill { anonymous: 1, file: 0, shared: 0, total: 1 };
        assert_eq!(book.note(&event(1, oom)), Some(Noted::OutOfMemory(holder("c1"))));
        assert_eq!(book.leave(&"c1".into()), Some((holder("c1"), Number(1))));
        assert!(!book.knows(Number(1)));
        assert_eq!(book.note(&event(1, Happening::FirstExit { status: 0 })), None);
        assert_eq!(book.ended(&"c1".into()), None);
    }

    #[test]
    fn sums_only_grow() {
        let mut book = Book::default();
        let sum = |forks, execs| {
            let mut usage = Usage::default();
            (usage.counters.forks, usage.counters.execs) = (forks, execs);
            usage
        };
        assert_eq!(book.raise(&sum(5, 2)), sum(5, 2));
        assert_eq!(book.raise(&sum(3, 4)), sum(5, 4));
    }

    #[test]
    fn ports_that_the_kernel_chose_are_one_kind() {
        let mut book = Book::default();
        book.enter(holder("c1"), Number(1));
        let told = |book: &mut Book, how, port, enforced| {
            let (transport, ipv6) = (Transport::Tcp, false);
            let what = Happening::PortDenied { how, transport, ipv6, port, enforced };
            book.note(&event(1, what)).is_some()
        };
        for (how, enforced) in [(Denial::BindEphemeral, true), (Denial::Bind, false)] {
            assert!(told(&mut book, how, 40001, enforced));
            assert!(!told(&mut book, how, 40002, enforced));
        }
        assert!(told(&mut book, Denial::Bind, 80, true));
        assert!(told(&mut book, Denial::Bind, 81, true));
    }

    #[test]
    fn refusals_are_bounded_and_repeated_ones_are_told_once() {
        let mut book = Book::default();
        book.enter(holder("c1"), Number(1));
        let device =
            |minor| Happening::DeviceDenied(Device::character(10, minor, Access::READ_WRITE));
        let mut told = 0;
        for _ in 0..3 {
            told += usize::from(book.note(&event(1, device(1))).is_some());
        }
        assert_eq!((told, book.refusals(&"c1".into()).len()), (1, 3));
        for minor in 2..100 {
            told += usize::from(book.note(&event(1, device(minor))).is_some());
        }
        assert_eq!(told, REFUSALS_MAX);
        let later = Event { time_ns: 2 * MINUTE_NS, ..event(1, device(1)) };
        assert!(book.note(&later).is_some());
        assert!(book.note(&event(1, device(99))).is_none());
        let kept = book.refusals(&"c1".into());
        assert_eq!((kept.len(), &kept[15].what), (REFUSALS_MAX, &device(99)));
    }
}
