//! The master and its replicated log: taking the lead, appending, applying what was committed.

use mezzo_master_core::Registry;
use mezzo_proto::storage::v1::{Command, CommandBatch, Counters, PutCounters, command};
use mezzo_replicated_log::{Config, Events, Log, LogEvent};
use mezzo_store::Store;
use prost::Message;
use tokio::sync::mpsc;

use crate::leader;
use crate::registry_store::RegistryStore;

/// Commits that may wait for the loop.
const COMMITTED_QUEUE: usize = 4096;
/// The number of the only member of a group of one.
pub(crate) const NODE_ID: u64 = 1;

/// What a new leader starts from.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) term: u64,
    pub(crate) registry: Registry,
}

/// A log that this process leads.
#[derive(Debug)]
pub(crate) struct Leading {
    log: Log,
    events: Events,
    store: RegistryStore,
}

/// The appending end of the log.
#[derive(Debug)]
pub(crate) struct ReplicatedLog {
    log: Log,
    store: Store,
    next_token: std::sync::atomic::AtomicU64,
}

impl leader::Log for ReplicatedLog {
    fn append(&self, payload: Vec<u8>) -> anyhow::Result<()> {
        let token = self.next_token.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(self.log.propose(token, payload)?)
    }

    fn shortage(&self) -> Option<String> {
        self.store.check_room().err().map(|shortage| shortage.to_string())
    }
}

/// Starts the log and waits until this node leads and has applied everything committed before.
pub(crate) async fn lead(store: RegistryStore) -> anyhow::Result<(Leading, Recovered)> {
    let (mut registry, applied) = store.load()?;
    let (log, mut events) = Log::start(store.store().clone(), &Config::new(NODE_ID), applied)?;
    let term = loop {
        match events.recv().await {
            Some(LogEvent::Leader { term }) => break term,
            Some(LogEvent::Committed { index, payload, .. }) => {
                let batch = CommandBatch::decode(payload.as_slice())?;
                batch.commands.iter().for_each(|command| registry.apply(command));
                store.apply(index, &batch)?;
                log.applied(index);
            }
            Some(LogEvent::NotLeader { .. } | LogEvent::Dropped { .. }) => {}
            Some(LogEvent::Failed { error }) => return Err(error.into()),
            // Of larger groups only.
            Some(other) => anyhow::bail!("the log of a group of one told {other:?}"),
            None => anyhow::bail!("the log ended before it had a leader"),
        }
    };
    let mut leading = Leading { log, events, store };
    if registry.counters.cluster_id.is_empty() {
        leading.found(&mut registry).await?;
    }
    Ok((leading, Recovered { term, registry }))
}

impl Leading {
    /// Ends the log and waits until it has let go of the store.
    #[cfg(test)]
    pub(crate) async fn end(self) {
        let Self { log, mut events, store } = self;
        drop((log, store));
        while events.recv().await.is_some() {}
    }

    /// The first leader of a new cluster gives it its identity.
    async fn found(&mut self, registry: &mut Registry) -> anyhow::Result<()> {
        let cluster_id = uuid::Uuid::new_v4().to_string();
        let counters = Some(Counters { cluster_id, ..Counters::default() });
        let kind = command::Command::PutCounters(PutCounters { counters });
        let batch = CommandBatch { commands: vec![Command { command: Some(kind) }] };
        self.log.propose(0, batch.encode_to_vec())?;
        loop {
            match self.events.recv().await {
                Some(LogEvent::Committed { index, token, .. }) => {
                    batch.commands.iter().for_each(|command| registry.apply(command));
                    self.store.apply(index, &batch)?;
                    self.log.applied(index);
                    mezzo_fault_points::hit!("master.start.founded");
                    if token == Some(0) {
                        return Ok(());
                    }
                }
                Some(LogEvent::Leader { .. }) => {}
                Some(LogEvent::NotLeader { .. } | LogEvent::Dropped { .. }) => {
                    anyhow::bail!("the lead was lost while the cluster was founded");
                }
                Some(LogEvent::Failed { error }) => return Err(error.into()),
                Some(other) => anyhow::bail!("the log of a group of one told {other:?}"),
                None => anyhow::bail!("the log ended while the cluster was founded"),
            }
        }
    }

    /// Splits into the appending end and a receiver that gets one message for each committed entry
    /// of this leader, in order. The receiver ends when the log does, or the lead is lost.
    pub(crate) fn split(self) -> (ReplicatedLog, mpsc::Receiver<()>) {
        let (sender, receiver) = mpsc::channel(COMMITTED_QUEUE);
        let log = ReplicatedLog {
            log: self.log.clone(),
            store: self.store.store().clone(),
            next_token: std::sync::atomic::AtomicU64::new(1),
        };
        tokio::spawn(apply_committed(self, sender));
        (log, receiver)
    }
}

/// Applies committed entries to the store, in order, and reports those of this leader.
async fn apply_committed(mut leading: Leading, committed: mpsc::Sender<()>) {
    loop {
        match leading.events.recv().await {
            Some(LogEvent::Committed { index, payload, token, .. }) => {
                if let Err(error) = leading.apply(index, &payload) {
                    tracing::error!(error = %mezzo_telemetry::chain(&*error), index, "could not apply a committed entry");
                    return;
                }
                if token.is_some() && committed.send(()).await.is_err() {
                    return;
                }
            }
            Some(LogEvent::Leader { .. }) => {}
            Some(LogEvent::NotLeader { .. } | LogEvent::Dropped { .. }) => {
                tracing::error!("the lead was lost");
                return;
            }
            Some(LogEvent::Failed { error }) => {
                tracing::error!(error = %mezzo_telemetry::chain(&error), "the replicated log failed");
                return;
            }
            // Of larger groups only.
            Some(other) => {
                tracing::error!(event = ?other, "the log of a group of one told what it cannot");
                return;
            }
            None => return,
        }
    }
}

impl Leading {
    fn apply(&self, index: u64, payload: &[u8]) -> anyhow::Result<()> {
        mezzo_fault_points::hit!("master.log.committed");
        let batch = CommandBatch::decode(payload)?;
        self.store.apply(index, &batch)?;
        mezzo_fault_points::hit!("master.registry.applied");
        self.log.applied(index);
        Ok(())
    }
}
