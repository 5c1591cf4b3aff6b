//! [`run`]: start-up in order, serving, shutdown.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use mezzo_http_server::{Budget, Gate, Limits, MEMORY_BYTES, Share};
use mezzo_master_allocator::{AllocatorConfig, DrfAllocator};
use mezzo_master_core::{Config, Master};
use mezzo_proto::v1;
use mezzo_store::WriteError;
use mezzo_telemetry::{Heartbeat, Metrics};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::api::{self, Context, Readers};
use crate::clock::Clock;
use crate::flags::Flags;
use crate::handle::Handle;
use crate::leader::Leader;
use crate::log::{self, ReplicatedLog};
use crate::metrics::{self, Meters, TimedAllocator};
use crate::registry_store::{RegistryError, RegistryStore};
use crate::view::{MasterFacts, Memory, View};

/// Why a master could not start or go on. Each names what to do.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    #[error(
        "refusing to listen on {0}: callers are not authenticated; listen on 127.0.0.1, or give \
         --insecure if the network is trusted"
    )]
    NotLoopback(IpAddr),
    #[error("could not create the work directory {path}: choose another with --work-dir")]
    WorkDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("could not open the registry in {path}")]
    Registry {
        path: PathBuf,
        #[source]
        source: RegistryError,
    },
    #[error("could not start the replicated log")]
    Log(#[source] anyhow::Error),
    #[error("could not listen on {address}: is another master running? choose another --port")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("could not set up the API")]
    Api(#[source] anyhow::Error),
    #[error("the master stopped leading: nothing was promised that is not in the log")]
    Leader(#[source] anyhow::Error),
    #[error(
        "the master cannot go on with this store; it starts again, and nothing was promised that is not in the log"
    )]
    StartAgain(#[source] WriteError),
}

/// Runs a master until `shutdown` resolves. `heartbeat` is given by its main loop. `ready` gets the address it serves on once it leads and
/// listens.
///
/// # Errors
/// See [`MasterError`]; each is one sentence with the next step, sources below it.
pub async fn run(
    flags: Flags,
    heartbeat: Heartbeat,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), MasterError> {
    if !flags.ip.is_loopback() && !flags.insecure {
        return Err(MasterError::NotLoopback(flags.ip));
    }
    std::fs::create_dir_all(&flags.work_dir)
        .map_err(|source| MasterError::WorkDir { path: flags.work_dir.clone(), source })?;
    let clock = Clock::start();
    let started = clock.now();

    let registry_error = |source| MasterError::Registry { path: flags.work_dir.clone(), source };
    let store = RegistryStore::open(&flags.work_dir).map_err(registry_error)?;
    let disk = store.store().clone();
    let metrics = Arc::new(Metrics::new());
    let registry = store.clone();
    let fetch = metrics.timer("registrar/state_fetch_ms");
    let fetching = fetch.start();
    let (log, recovered) = log::lead(store).await.map_err(MasterError::Log)?;
    drop(fetching);

    mezzo_fault_points::hit!("master.start.recovered");
    // The port is taken before anything is promised on it, and served once there is a leader.
    let address = SocketAddr::new(flags.ip, flags.port);
    let listen_error = |source| MasterError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen_error)?;
    let address = listener.local_addr().map_err(listen_error)?;

    mezzo_fault_points::hit!("master.start.bound");
    let info = master_info(&flags, address, &recovered.registry.counters.cluster_id);
    let mut config = Config::new(info.clone());
    config.root_submissions = flags.root_submissions;
    config.offer_timeout = flags.offer_timeout;
    config.agent_ping_timeout = flags.agent_ping_timeout;
    config.max_agent_ping_timeouts = flags.max_agent_ping_timeouts;
    config.agent_reregister_timeout = flags.agent_reregister_timeout;
    config.agent_removal_rate_limit = flags.agent_removal_rate_limit;
    config.recovery_agent_removal_limit_percent = flags.recovery_agent_removal_limit;
    config.call_rates = flags.rate_limits.clone().unwrap_or_default();
    config.registry_gc_interval = flags.registry_gc_interval;
    config.registry_max_agent_age = flags.registry_max_agent_age;
    config.registry_max_agent_count = flags.registry_max_agent_count;
    let allocator = DrfAllocator::new(AllocatorConfig::default());
    let allocator = Box::new(TimedAllocator::new(allocator, &metrics));
    let core = Master::recover(config, recovered.term, &recovered.registry, allocator, clock.now());

    let (statistics, seen) = watch::channel(core.statistics());
    metrics::register(&metrics, seen.clone(), clock);
    metrics::register_store(&metrics, &disk);
    metrics::register_registry(&metrics, registry);
    let memory = Memory {
        completed_frameworks: flags.max_completed_frameworks,
        completed_tasks_per_framework: flags.max_completed_tasks_per_framework,
    };
    let view = View::new(memory, flags.max_operator_event_stream_subscribers);
    metrics::register_view(&metrics, view.clone(), seen);
    // Ends with this function.
    let _passing = AbortOnDrop(tokio::spawn(view.clone().pass_on()));
    let (handle, inbox) = Handle::new();
    metrics::register_queues(&metrics, handle.queues());
    let meters = Meters::new(&metrics);
    let open_files = mezzo_http_server::raise_open_files();
    let connections = mezzo_http_server::connections_beside(open_files, Share::Most);
    let limits = Limits { peer: flags.peer_timeout, ..Limits::new(connections) };
    let gate = Gate::new(connections);
    metrics::register_port(&metrics, gate.clone());
    let budget = Budget::new(MEMORY_BYTES);
    let told = Arc::new(flags.told());
    let elected_time = clock.now().unix_secs_f64();
    let context = Context {
        handle,
        limits,
        budget: budget.clone(),
        decisions: view.decisions().clone(),
        readers: Readers::new(view.clone()),
        metrics,
        store: disk.clone(),
        master_facts: Arc::new(MasterFacts {
            version: api::MESOS_VERSION.to_owned(),
            start_time: started.unix_secs_f64(),
            elected_time,
            info: info.clone(),
            cluster: flags.cluster.clone(),
            flags: Arc::clone(&told),
        }),
        master_info: Arc::new(info),
        start_time: started.unix_secs_f64(),
        elected_time,
        flags: told,
    };
    let router = api::router(context).await.map_err(MasterError::Api)?;
    let (stop, stopped) = watch::channel(false);
    let (log, committed): (ReplicatedLog, mpsc::Receiver<()>) = log.split();
    let leader = Leader::new(core, clock, log, view, statistics, inbox, meters);
    let mut leading = tokio::spawn(leader.run(committed, heartbeat, stopped));
    // Connections that are open at the end are dropped, not drained: frameworks and agents reconnect to
    // whoever leads next.
    let mut serving = Box::pin(mezzo_http_server::serve(listener, router, limits, gate, budget));
    mezzo_fault_points::hit!("master.start.leading");
    tracing::info!(%address, term = recovered.term, "leading and serving");
    ready(address);

    // Whatever ends first decides; all arms are cancel-safe in that nothing is polled again after.
    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        result = &mut leading => match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(MasterError::Leader(error)),
            Err(error) => Err(MasterError::Leader(error.into())),
        },
        never = &mut serving => match never {},
    };
    // Ends the loop, which ends every stream: peers see the end of the connection at once.
    stop.send_replace(true);
    if !leading.is_finished() {
        leading.await.ok();
    }
    drop(serving);
    match disk.failure() {
        Some(failure @ WriteError::Reopen { .. }) if outcome.is_err() => {
            Err(MasterError::StartAgain(failure))
        }
        _ => outcome,
    }
}

/// A task that ends when this is dropped.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn master_info(flags: &Flags, address: SocketAddr, cluster_id: &str) -> v1::MasterInfo {
    use v1::master_info::capability::Type::{AgentDraining, AgentUpdate, QuotaV2};
    let hostname = flags.hostname.clone().unwrap_or_else(|| address.ip().to_string());
    // Mesos stores the IPv4 address as the bytes lie in memory: network order read little-endian.
    let ip = match address.ip() {
        IpAddr::V4(ip) => u32::from_le_bytes(ip.octets()),
        IpAddr::V6(_) => 0,
    };
    v1::MasterInfo {
        id: cluster_id.to_owned(),
        ip,
        port: u32::from(address.port()),
        pid: Some(format!("master@{address}")),
        hostname: Some(hostname.clone()),
        version: Some(api::MESOS_VERSION.to_owned()),
        address: Some(v1::Address {
            hostname: Some(hostname),
            ip: Some(address.ip().to_string()),
            port: i32::from(address.port()),
        }),
        capabilities: [AgentUpdate, AgentDraining, QuotaV2]
            .map(|kind| v1::master_info::Capability { r#type: Some(kind as i32) })
            .to_vec(),
        ..v1::MasterInfo::default()
    }
}
