//! Watchers of the operators' event stream, and how far behind they are.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use mezzo_sdk::v1::TaskState;
use mezzo_sdk::v1::master::{Event, event};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::http::{self, Chunks, Encoding};
use super::load::{Load, Runs};
use super::stage::Stage;
use crate::conditions::Conditions;
use crate::counters;
use crate::result::{Goal, Measurement, Times};

pub struct Size {
    pub agents: u32,
    pub watchers: usize,
    /// Each is an event to each watcher.
    pub updates_per_second: u32,
    pub seconds: u32,
}

const CALL: &str = r#"{"type":"SUBSCRIBE"}"#;
/// TASK_STARTING, TASK_RUNNING and TASK_FINISHED.
const UPDATES_PER_TASK: u32 = 3;
/// One of so many watchers decodes what it gets; the others count the bytes, or this process would measure
/// itself.
const DECODES: usize = 50;
const FRAMEWORKS: usize = 10;
/// How long tasks run: long enough that their start is acknowledged when they end.
const RUNS_S: f64 = 2.0;
const WARM_UP: Duration = Duration::from_secs(5);

/// What the watchers have seen.
#[derive(Default)]
struct Seen {
    recording: AtomicBool,
    bytes: AtomicU64,
    /// In microseconds.
    lags: Mutex<Vec<u64>>,
    updates: AtomicU64,
}

pub async fn measure(size: &Size) -> Result<Vec<Measurement>> {
    let mut stage = Stage::set()?;
    let measured = on(&mut stage, size).await;
    measured.with_context(|| format!("logs: {}", stage.logs()))
}

async fn on(stage: &mut Stage, size: &Size) -> Result<Vec<Measurement>> {
    let mut load = Load::subscribe(stage.address(), FRAMEWORKS, Runs::About(RUNS_S)).await?;
    stage.join(size.agents, "cpus:16;mem:16384")?;
    eprintln!("  {} watchers", size.watchers);
    let seen = Arc::new(Seen::default());
    let (subscribed, mut ready) = watch::channel(0);
    let mut watching = JoinSet::new();
    for number in 0..size.watchers {
        let decodes = number % DECODES == 0;
        let address = stage.address().to_owned();
        watching.spawn(watch_events(address, decodes, Arc::clone(&seen), subscribed.clone()));
    }
    drop(subscribed);
    tokio::select! {
        // Both arms are cancel-safe.
        all = ready.wait_for(|count| *count == size.watchers) => {
            all.context("watchers ended early")?;
        }
        Some(ended) = watching.join_next() => ended.context("a watcher ended early")??,
    }
    let per_second = size.updates_per_second / UPDATES_PER_TASK;
    eprintln!("  {} updates/s", per_second * UPDATES_PER_TASK);
    load.order_for(per_second, WARM_UP).await?;
    let conditions = Conditions::now()?;
    let (before, spent) = (load.counts(), counters::cpu_seconds(stage.master()?, false)?);
    seen.recording.store(true, Ordering::Relaxed);
    load.order_for(per_second, Duration::from_secs(size.seconds.into())).await?;
    seen.recording.store(false, Ordering::Relaxed);
    let spent = counters::cpu_seconds(stage.master()?, false)? - spent;
    let (after, seconds) = (load.counts(), f64::from(size.seconds));
    if let Some(ended) = watching.try_join_next() {
        ended.context("a watcher ended early")??;
        bail!("a watcher's stream ended early");
    }
    let lags = std::mem::take(&mut *lock(&seen.lags));
    ensure!(!lags.is_empty(), "no watcher saw any update");
    let lags = Times::from_iter(lags.into_iter().map(Duration::from_micros));
    let decoding = size.watchers.div_ceil(DECODES);
    let bytes = seen.bytes.load(Ordering::Relaxed) as f64;
    let rows = vec![Measurement {
        name: "api/watchers",
        value: lags.quantile_ms(0.99),
        unit: "ms",
        goal: Some(Goal::AtMost(50.0)),
        baseline: None,
        conditions,
        note: format!(
            "99th percentile of the time from an agent's making of an update to a watcher's reading of it, {} watchers of \
             SUBSCRIBE, {:.0} tasks/s of {UPDATES_PER_TASK} updates; median {:.3}, longest {:.3}, of {} updates (TASK_STARTING and \
             TASK_FINISHED: TASK_RUNNING waits for an acknowledgement) at the {decoding} watchers that decode, each {:.0} events/s; \
             {:.1} MiB/s to all; processor time of the master {:.2} of a core",
            size.watchers,
            (after.ended - before.ended) as f64 / seconds,
            lags.quantile_ms(0.5),
            lags.quantile_ms(1.0),
            lags.len(),
            seen.updates.load(Ordering::Relaxed) as f64 / decoding as f64 / seconds,
            bytes / seconds / 1024.0 / 1024.0,
            spent / seconds,
        ),
    }];
    watching.shutdown().await;
    load.end().await?;
    Ok(rows)
}

/// Subscribes and reads until it is dropped.
async fn watch_events(
    address: String,
    decodes: bool,
    seen: Arc<Seen>,
    subscribed: watch::Sender<usize>,
) -> Result<()> {
    let mut stream = TcpStream::connect(&address).await.context("cannot connect")?;
    let request = http::request(&address, CALL, Encoding::Protobuf, false);
    stream.write_all(request.as_bytes()).await.context("cannot subscribe")?;
    let mut piece = vec![0; 64 * 1024];
    let (mut head, mut in_body) = (Vec::new(), false);
    let mut records = Records::default();
    let mut subscribed = Some(subscribed);
    loop {
        let read = stream.read(&mut piece).await.context("a watcher's stream broke")?;
        ensure!(read > 0, "the master ended a watcher's stream");
        let mut body = piece.get(..read).unwrap_or_default().to_vec();
        if !in_body {
            head.extend_from_slice(&body);
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            body = head.split_off(end + 4);
            ensure!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
            in_body = true;
        }
        if seen.recording.load(Ordering::Relaxed) {
            seen.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        }
        // All read to the end of the first event; then most only count.
        if subscribed.is_none() && !decodes {
            continue;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for record in records.take(&body)? {
            let event = Event::decode(record.as_slice()).context("an event cannot be read")?;
            if event.r#type() == event::Type::Subscribed
                && let Some(subscribed) = subscribed.take()
            {
                subscribed.send_modify(|count| *count += 1);
            }
            if decodes && seen.recording.load(Ordering::Relaxed) {
                note(&seen, &event, now);
            }
        }
    }
}

fn note(seen: &Seen, event: &Event, now: Duration) {
    let Some(updated) = &event.task_updated else { return };
    seen.updates.fetch_add(1, Ordering::Relaxed);
    let state = updated.status.state();
    if !matches!(state, TaskState::TaskStarting | TaskState::TaskFinished) {
        return;
    }
    let Some(made) = updated.status.timestamp else { return };
    let lag = (now.as_secs_f64() - made).max(0.0);
    lock(&seen.lags).push((lag * 1e6) as u64);
}

/// RecordIO in chunks: records as they become whole.
#[derive(Default)]
struct Records {
    chunks: Chunks,
    content: Vec<u8>,
}

impl Records {
    fn take(&mut self, piece: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.chunks.take(piece, &mut self.content)?;
        let (mut records, mut at) = (Vec::new(), 0);
        while let Some(rest) = self.content.get(at..)
            && let Some(end) = rest.iter().position(|byte| *byte == b'\n')
        {
            let length = std::str::from_utf8(&rest[..end]).context("a length is no text")?;
            let length: usize =
                length.parse().with_context(|| format!("a record's length is `{length}`"))?;
            let Some(record) = rest.get(end + 1..end + 1 + length) else { break };
            records.push(record.to_vec());
            at += end + 1 + length;
        }
        self.content.drain(..at);
        Ok(records)
    }
}

/// Nothing is left half done where a panic could happen under it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_whole_however_they_are_cut() {
        let wire = b"7\r\n5\nhello\r\n6\r\n3\nbye2\r\n4\r\n\nok0\r\n";
        for cut in 1..wire.len() {
            let mut records = Records::default();
            let mut found = Vec::new();
            for piece in wire.chunks(cut) {
                found.extend(records.take(piece).unwrap());
            }
            assert_eq!(found, [b"hello".to_vec(), b"bye".to_vec(), b"ok".to_vec()], "{cut}");
        }
    }
}
