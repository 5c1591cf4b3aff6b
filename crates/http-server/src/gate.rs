//! Which connections there are, and which one makes room for the next.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::limits::REPORT_PAUSE;

/// The connections of one port. Clones share them.
#[derive(Debug, Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: usize,
    table: Mutex<Table>,
    open: AtomicUsize,
    refused: AtomicU64,
    displaced: AtomicU64,
    overdue: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    /// Connections without a request, by when they became so: the oldest goes first.
    idle: BTreeMap<u64, Arc<Notify>>,
    next: u64,
    reported: Option<Instant>,
    reported_failure: Option<Instant>,
}

impl Gate {
    /// For `limit` connections at a time.
    pub fn new(limit: usize) -> Gate {
        let shared = Shared {
            limit,
            table: Mutex::default(),
            open: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            displaced: AtomicU64::new(0),
            overdue: AtomicU64::new(0),
        };
        Gate { shared: Arc::new(shared) }
    }

    /// Connections now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Connections that were turned away because all others had requests.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Connections without a request that were closed to make room.
    pub fn displaced(&self) -> u64 {
        self.shared.displaced.load(Ordering::Relaxed)
    }

    /// Connections that were closed because the peer took too long.
    pub fn overdue(&self) -> u64 {
        self.shared.overdue.load(Ordering::Relaxed)
    }

    /// Lets a connection in. Beyond the limit the one that has been without a request for longest is
    /// told to go, so that there is one more for a moment; `None` where all have requests.
    pub(crate) fn admit(&self) -> Option<Arc<Admitted>> {
        let limit = self.shared.limit;
        // One that is told to go stays if a request comes in that moment; not too many may.
        let crowded = self.open() > limit + limit / 16 + 1;
        if self.open() >= limit && (crowded || !self.displace()) {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            self.report();
            return None;
        }
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        let admitted = Arc::new(Admitted {
            gate: self.clone(),
            leave: Arc::new(Notify::new()),
            place: Mutex::new(Place { busy: 0, idle: None, requests: 0 }),
        });
        admitted.settle(&mut admitted.place());
        Some(admitted)
    }

    /// Tells the oldest connection without a request to go.
    pub(crate) fn displace(&self) -> bool {
        let oldest = self.table().idle.pop_first();
        let Some((_, leave)) = oldest else { return false };
        leave.notify_one();
        self.shared.displaced.fetch_add(1, Ordering::Relaxed);
        self.report();
        true
    }

    pub(crate) fn count_overdue(&self) {
        self.shared.overdue.fetch_add(1, Ordering::Relaxed);
    }

    /// No connection can be accepted, for want of descriptors or memory: says so now and then.
    pub(crate) fn report_failure(&self, error: &io::Error) {
        let now = Instant::now();
        let mut table = self.table();
        if is_due(table.reported_failure, now) {
            table.reported_failure = Some(now);
            tracing::warn!(
                %error,
                open = self.open(),
                displaced = self.displaced(),
                "cannot accept connections for now: new ones wait, and those without a request are \
                 closed; a higher limit of open files allows for more"
            );
        }
    }

    /// Says what happens now and then: a flood must not fill the log as well.
    fn report(&self) {
        let now = Instant::now();
        let mut table = self.table();
        if is_due(table.reported, now) {
            table.reported = Some(now);
            tracing::warn!(
                limit = self.shared.limit,
                refused = self.refused(),
                displaced = self.displaced(),
                "too many connections: those without a request are closed, and where there are none, \
                 new ones are refused; a higher limit of open files allows for more"
            );
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.shared.table)
    }
}

/// Whether the next line may be written.
fn is_due(last: Option<Instant>, now: Instant) -> bool {
    last.is_none_or(|last| now.duration_since(last) >= REPORT_PAUSE)
}

/// A connection that was let in; leaves when dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    gate: Gate,
    leave: Arc<Notify>,
    place: Mutex<Place>,
}

#[derive(Debug)]
struct Place {
    /// Requests that have not been answered in full.
    busy: usize,
    /// The key in the gate's table.
    idle: Option<u64>,
    /// Requests so far.
    requests: u64,
}

impl Admitted {
    /// Resolves when this connection must make room.
    pub(crate) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }

    /// A request has come; it is over when the guard is dropped.
    pub(crate) fn request(self: &Arc<Self>) -> Busy {
        let mut place = self.place();
        place.busy += 1;
        place.requests += 1;
        if let Some(key) = place.idle.take() {
            self.gate.table().idle.remove(&key);
        }
        Busy { admitted: Arc::clone(self) }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.place().busy > 0
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.place().requests
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Enters the table as idle.
    fn settle(&self, place: &mut Place) {
        let mut table = self.gate.table();
        let key = table.next;
        table.next += 1;
        table.idle.insert(key, Arc::clone(&self.leave));
        place.idle = Some(key);
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        lock(&self.place)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(key) = self.place().idle.take() {
            self.gate.table().idle.remove(&key);
        }
        self.gate.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Busy {
    admitted: Arc<Admitted>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut place = self.admitted.place();
        place.busy -= 1;
        if place.busy == 0 {
            self.admitted.settle(&mut place);
        }
    }
}

/// Nothing is left half done where a panic could happen under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(admitted: &Admitted) -> bool {
        let mut future = std::pin::pin!(admitted.told_to_leave());
        let waker = std::task::Waker::noop();
        future.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready()
    }

    #[test]
    fn the_longest_without_a_request_makes_room() {
        let gate = Gate::new(3);
        let [a, b, c] = [(); 3].map(|()| gate.admit().expect("room"));
        // `a` has one now, and `b` had one after `c` came.
        let busy = a.request();
        drop(b.request());
        let d = gate.admit().expect("in the place of c");
        assert_eq!([&a, &b, &c].map(|one| told(one)), [false, false, true]);
        drop(c);
        assert_eq!((gate.open(), gate.displaced(), gate.refused()), (3, 1, 0));
        let others = [b.request(), d.request()];
        assert!(gate.admit().is_none(), "all have requests");
        assert_eq!((gate.open(), gate.displaced(), gate.refused()), (3, 1, 1));
        drop(busy);
        let e = gate.admit().expect("in the place of a");
        assert!(told(&a));
        drop((others, a, b, d, e));
        assert_eq!(gate.open(), 0);
        assert!(gate.table().idle.is_empty());
    }

    #[test]
    fn a_connection_is_idle_when_its_last_request_is_over() {
        let gate = Gate::new(1);
        let one = gate.admit().expect("room");
        assert_eq!(one.requests(), 0);
        let (first, second) = (one.request(), one.request());
        drop(first);
        assert!(one.is_busy());
        assert!(gate.admit().is_none());
        drop(second);
        assert_eq!((one.is_busy(), one.requests()), (false, 2));
    }
}
