//! Passing events on to all who listen. The leader's loop only notes what happened; one task gathers what was noted
//! within a few milliseconds, and every listener takes the same bytes from there.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mezzo_proto::v1::master::event::Type;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::View;
use super::event::{EventCell, heartbeat};
use super::idle::IDLE;
use super::parts::{Answer, Parts};
use super::scan::{put_head, put_varint};
use super::snapshot::{Read, Snapshot};
use crate::api::Encoding;

/// Events of so long are passed on together, and of so much longer for each listener: a pass costs a write to each, and
/// those of a thousand take the better part of ten milliseconds.
const GATHERING: Duration = Duration::from_millis(10);
const GATHERING_PER_LISTENER: Duration = Duration::from_micros(15);
/// Events that are passed on in one go; more follow at once, after others had their turn.
const BATCH_EVENTS: usize = 4096;
/// Events of a batch up to which each is a write, and a chunk, of its own. Clients exist that expect a record for each
/// chunk; with more at a time they would not keep up anyhow.
const SINGLE_EVENTS: usize = 8;
/// Encoded events that are kept for those who are behind. Shared by all: it does not grow with their number.
const KEPT_BYTES: usize = 64 * 1024 * 1024;
/// Of a busy cluster the batches of about ten seconds.
const KEPT_BATCHES: usize = 1024;
/// Signs of life (Mesos: 15 s).
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// A state up to this is one piece, and so one chunk.
const ONE_PIECE: usize = 1024 * 1024;

/// Why a listener hears no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    #[error(
        "the subscriber reads too slowly: it is {behind} events behind, which are not kept any \
         longer; subscribe again, which begins with the whole state"
    )]
    Slow { behind: u64 },
    #[error(
        "there are more subscribers than --max-operator-event-stream-subscribers allows, and this \
         is the oldest"
    )]
    Oldest,
    #[error("the master is shutting down")]
    Ended,
}

/// Where all listeners take events from.
#[derive(Debug)]
pub(super) struct Hub {
    kept: Mutex<Kept>,
    /// The number of the last event that was passed on.
    newest: watch::Sender<u64>,
    pub(super) noted: Notify,
    listeners: Mutex<VecDeque<(u64, Arc<Notify>)>>,
    listeners_max: usize,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
}

/// Events that are passed on together.
#[derive(Debug)]
struct Batch {
    /// The number of the first.
    first: u64,
    cells: Vec<Arc<EventCell>>,
    bytes: usize,
    protobuf: OnceLock<Bytes>,
    json: OnceLock<Bytes>,
}

impl Batch {
    fn end(&self) -> u64 {
        self.first + self.cells.len() as u64
    }

    /// All records, one behind the other.
    fn joined(&self, encoding: Encoding) -> Bytes {
        let place = match encoding {
            Encoding::Protobuf => &self.protobuf,
            Encoding::Json => &self.json,
        };
        let join = || {
            let mut all = BytesMut::new();
            for cell in &self.cells {
                all.extend_from_slice(cell.record(encoding));
            }
            all.freeze()
        };
        place.get_or_init(join).clone()
    }
}

impl Hub {
    pub(super) fn new(listeners_max: usize) -> Hub {
        Hub {
            kept: Mutex::default(),
            newest: watch::Sender::new(0),
            noted: Notify::new(),
            listeners: Mutex::default(),
            listeners_max: listeners_max.max(1),
            next_id: AtomicU64::new(0),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, VecDeque<(u64, Arc<Notify>)>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self) -> usize {
        self.listeners().len()
    }

    fn keep(&self, batch: Batch) {
        let end = batch.end();
        let mut kept = self.kept();
        kept.bytes += batch.bytes;
        kept.batches.push_back(Arc::new(batch));
        // The newest stays, however large.
        while kept.batches.len() > 1
            && (kept.bytes > KEPT_BYTES || kept.batches.len() > KEPT_BATCHES)
        {
            let Some(oldest) = kept.batches.pop_front() else { break };
            kept.bytes -= oldest.bytes;
        }
        drop(kept);
        self.newest.send_replace(end.saturating_sub(1));
    }
}

impl View {
    /// Passes events on until it is dropped.
    pub(crate) async fn pass_on(self) {
        let mut sweeps = interval_at(Instant::now() + IDLE, IDLE);
        loop {
            // Notes that were made since are not lost: the notice is kept. A late sweep does no harm.
            tokio::select! {
                () = self.hub.noted.notified() => {}
                _ = sweeps.tick() => {
                    for form in self.asked.take_idle(IDLE) {
                        self.snapshot().forget(form);
                    }
                    continue;
                }
            }
            let passed = Instant::now();
            self.pass().await;
            let listeners = u32::try_from(self.hub.count()).unwrap_or(u32::MAX);
            let gathering = GATHERING + GATHERING_PER_LISTENER.saturating_mul(listeners);
            tokio::time::sleep_until(passed + gathering).await;
        }
    }

    pub(super) async fn pass(&self) {
        let (cells, end) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.events), state.last_event + 1)
        };
        let mut first = end - cells.len() as u64;
        for cells in cells.chunks(BATCH_EVENTS) {
            // One of the two is always wanted, and it tells how large the batch is.
            let bytes = cells.iter().map(|cell| cell.record(Encoding::Protobuf).len()).sum();
            let batch = Batch {
                first,
                cells: cells.to_vec(),
                bytes,
                protobuf: OnceLock::new(),
                json: OnceLock::new(),
            };
            first = batch.end();
            self.hub.keep(batch);
            tokio::task::yield_now().await;
        }
        // Nobody begins to listen meanwhile, and whoever does so later wants later events.
        let listeners = self.hub.listeners();
        if listeners.is_empty() {
            *self.hub.kept() = Kept::default();
        }
    }

    /// Begins to listen: the state as it is, and every event after it. The oldest listener goes if there are too many.
    pub(crate) fn watch(&self, encoding: Encoding) -> Watch {
        let id = self.hub.next_id.fetch_add(1, Ordering::Relaxed);
        let cut = Arc::new(Notify::new());
        let mut listeners = self.hub.listeners();
        listeners.push_back((id, Arc::clone(&cut)));
        if listeners.len() > self.hub.listeners_max
            && let Some((oldest, oldest_cut)) = listeners.pop_front()
        {
            tracing::info!(
                subscriber = oldest,
                limit = self.hub.listeners_max,
                "too many subscribers of operator events: the oldest is cut off"
            );
            // The notice is kept until it is looked at.
            oldest_cut.notify_one();
        }
        let snapshot = {
            let mut state = self.lock();
            state.watched = true;
            Snapshot::of(&state, false, &self.asked)
        };
        drop(listeners);
        let next = snapshot.last_event + 1;
        let mut beats = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Watch {
            view: self.clone(),
            id,
            encoding,
            snapshot: Some(snapshot),
            next,
            newest: self.hub.newest.subscribe(),
            beats,
            cut,
            singly: false,
        }
    }
}

/// One who listens. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Watch {
    view: View,
    pub(crate) id: u64,
    encoding: Encoding,
    snapshot: Option<Snapshot>,
    /// The number of the next event.
    next: u64,
    newest: watch::Receiver<u64>,
    beats: Interval,
    cut: Arc<Notify>,
    /// Never several events in one piece.
    singly: bool,
}

impl Watch {
    /// What the stream begins with: a SUBSCRIBED record. Encodes for a while; call it where that holds up nobody.
    pub(crate) fn subscribed(&mut self) -> Answer {
        let Some(snapshot) = self.snapshot.take() else { return Answer::default() };
        let record = subscribed(&snapshot, self.encoding);
        let mut parts = Parts::default();
        parts.literal(&format!("{}\n", record.bytes));
        for part in record.parts {
            parts.put(part);
        }
        let answer = parts.finish();
        match answer.bytes <= ONE_PIECE {
            true => Answer { bytes: answer.bytes, parts: vec![answer.concat()] },
            false => answer,
        }
    }

    /// The records that follow, as soon as there are some; each piece is to be sent as one.
    ///
    /// # Errors
    /// The stream is over, and why.
    pub(crate) async fn records(&mut self) -> Result<Vec<Bytes>, Cut> {
        loop {
            let waiting = self.take()?;
            if !waiting.is_empty() {
                return Ok(waiting);
            }
            // All arms lose nothing when another wins.
            tokio::select! {
                () = self.cut.notified() => return Err(Cut::Oldest),
                changed = self.newest.changed() => changed.map_err(|_| Cut::Ended)?,
                _ = self.beats.tick() => return Ok(vec![heartbeat(self.encoding)]),
            }
        }
    }

    /// What a stream over gRPC begins with.
    pub(crate) fn subscribed_message(&mut self) -> Answer {
        let snapshot = self.snapshot.take();
        snapshot.map_or_else(Answer::default, |snapshot| subscribed(&snapshot, self.encoding))
    }

    /// As [`records`](Self::records), for streams over gRPC: each piece is an event.
    ///
    /// # Errors
    /// The stream is over, and why.
    pub(crate) async fn messages(&mut self) -> Result<Vec<Bytes>, Cut> {
        self.singly = true;
        Ok(self.records().await?.iter().map(message).collect())
    }

    fn take(&mut self) -> Result<Vec<Bytes>, Cut> {
        let newest = *self.newest.borrow_and_update();
        if newest < self.next {
            return Ok(Vec::new());
        }
        let batches: Vec<Arc<Batch>> = {
            let kept = self.view.hub.kept();
            let from = kept.batches.partition_point(|batch| batch.end() <= self.next);
            kept.batches.range(from..).cloned().collect()
        };
        let mut pieces = Vec::new();
        for batch in batches {
            if batch.first > self.next {
                return Err(Cut::Slow { behind: newest + 1 - self.next });
            }
            let skip = usize::try_from(self.next - batch.first).unwrap_or(usize::MAX);
            let cells = batch.cells.get(skip..).unwrap_or_default();
            if skip == 0 && cells.len() > SINGLE_EVENTS && !self.singly {
                pieces.push(batch.joined(self.encoding));
            } else {
                pieces.extend(cells.iter().map(|cell| cell.record(self.encoding).clone()));
            }
            self.next = batch.end();
        }
        if pieces.is_empty() && newest >= self.next {
            return Err(Cut::Slow { behind: newest + 1 - self.next });
        }
        Ok(pieces)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut listeners = self.view.hub.listeners();
        listeners.retain(|(id, _)| *id != self.id);
        if listeners.is_empty() {
            let mut state = self.view.lock();
            state.watched = false;
            state.events = Vec::new();
        }
    }
}

/// The SUBSCRIBED event with the whole state in it, without its length.
fn subscribed(snapshot: &Snapshot, encoding: Encoding) -> Answer {
    let mut parts = Parts::default();
    match encoding {
        Encoding::Protobuf => {
            parts.number(1, Type::Subscribed as i32);
            let mut inner = Parts::default();
            inner.nested(1, snapshot.protobuf(Read::State));
            // A double, field 2.
            put_varint(inner.tail(), 2 << 3 | 1);
            inner.tail().extend_from_slice(&HEARTBEAT.as_secs_f64().to_le_bytes());
            let inner = inner.finish();
            put_head(parts.tail(), 2, inner.bytes);
            for part in inner.parts {
                parts.put(part);
            }
        }
        Encoding::Json => {
            parts.literal(r#"{"type":"SUBSCRIBED","subscribed":{"get_state":"#);
            snapshot.json(Read::State, &mut parts);
            parts.literal(&format!(
                r#","heartbeat_interval_seconds":{:.1}}}}}"#,
                HEARTBEAT.as_secs_f64()
            ));
        }
    }
    parts.finish()
}

/// A record without its RecordIO length.
fn message(record: &Bytes) -> Bytes {
    let begin = record.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    record.slice(begin..)
}
