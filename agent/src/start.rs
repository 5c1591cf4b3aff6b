//! Start-up. Each step's result is what the next one needs, so the order cannot be got wrong:
//! [`Ground`] (flags, records, port) → [`Contained`] (containers and what was found of them) →
//! [`Recovered`] (the core, with its plan) → serving.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mezzo_agent_core::{Checkpoint, Config, Core, RecoverError};
use mezzo_http_server::{
    Budget, Gate, Limits, MEMORY_BYTES, Share, connections_beside, raise_open_files,
};
use mezzo_proto::v1;
use mezzo_store::WriteError;
use mezzo_telemetry::{Heartbeat, Metrics};
use mezzo_types::{Attributes, IdSource, ParseAttributesError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task;
use tokio::time::timeout;
use tonic::transport::Endpoint;

use crate::agent::{
    Agent, CONTAINER_EVENTS_MAX, Inbox, LINK_EVENTS_MAX, LoopError, Outcome, Shutdown, observed_of,
};
use crate::api::{self, Context, Files, MESOS_VERSION};
use crate::checkpoint::{CheckpointError, Records};
use crate::clock::Clock;
use crate::containerizer::{ContainerEvent, Containerizer, ContainerizerConfig, StartError};
use crate::executors::ExecutorHandle;
use crate::flags::Flags;
use crate::gpus::{self, DiscoverError, GpuOptions, Gpus, Inventory};
use crate::isolators::{AllowedDevicesError, Isolators};
use crate::launch_times::LaunchTimes;
use crate::link::{self, MasterAddressError};
use crate::machine::{self, ResourcesError};
use crate::marker::{self, MarkerError};
use crate::meter::Meter;
use crate::metrics;
use crate::view::View;
use crate::volumes::Volumes;

/// A driver that answers at all does so within some seconds per GPU.
const GPUS_FOUND: Duration = Duration::from_secs(120);

/// Why an agent could not start or go on. Each names what to do.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("the agent must run as root, because it makes containers; start it with sudo")]
    NotRoot,
    #[error(
        "refusing to listen on {0}: callers are not authenticated; listen on 127.0.0.1, or give --insecure \
         if the network is trusted"
    )]
    NotLoopback(IpAddr),
    #[error("could not understand where the master is")]
    Master(#[source] MasterAddressError),
    #[error("could not use {path} as {what}; choose another with {flag}")]
    Directory {
        what: &'static str,
        flag: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not tell the agent's resources")]
    Resources(#[source] ResourcesError),
    #[error("could not tell the agent's GPUs")]
    Gpus(#[source] DiscoverError),
    #[error(
        "GPUs are named but not isolated; give --isolation={0},gpus, or leave --gpu-devices and --nvml-library out"
    )]
    GpusNotIsolated(String),
    #[error("could not read --attributes")]
    Attributes(#[source] ParseAttributesError),
    #[error("could not tell which devices tasks may use")]
    Devices(#[source] AllowedDevicesError),
    #[error(
        "--ports-policy=enforce cannot be kept on this machine, for ports are not guarded: {0}; mend that, or give \
         --ports-policy=observe"
    )]
    Unguarded(String),
    #[error("could not listen on {address}: is another agent running? choose another --port")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("could not find the records of the agent whose containers these are")]
    Marker(#[source] MarkerError),
    #[error("could not get at the agent's records")]
    Records(#[source] CheckpointError),
    #[error(
        "there is no launcher at {0}; build mezzo-launcher, or say where it is with --launcher"
    )]
    NoLauncher(PathBuf),
    #[error(
        "could not find out where this program is; say where mezzo-launcher is with --launcher"
    )]
    OwnPath(#[source] io::Error),
    #[error("could not make containers")]
    Containers(#[source] StartError),
    #[error("could not draw random numbers from /dev/urandom")]
    Seed(#[source] io::Error),
    #[error("could not go on as the agent it was")]
    Recover(#[source] RecoverError),
    #[error(
        "could not set up the following of files; are the inotify instances used up (fs.inotify.max_user_instances)?"
    )]
    Follow(#[source] io::Error),
    #[error("could not set up the API")]
    Api(#[source] api::RoutesError),
    #[error("could not go on; tasks are untouched, and a new start takes up from the last record")]
    Loop(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("could not go on with these records; the agent starts again, and tasks are untouched")]
    StartAgain(#[source] WriteError),
    #[error("the master barred this agent: {0}")]
    Barred(String),
}

impl From<LoopError> for AgentError {
    fn from(error: LoopError) -> Self {
        AgentError::Loop(Box::new(error))
    }
}

/// Runs an agent until `shutdown` resolves (and, to leave, until it has left). `heartbeat` is given by its main loop. `ready` gets the address it
/// serves on as soon as it serves; it may not be registered with a master yet.
///
/// # Errors
/// See [`AgentError`]; each is one sentence with the next step, sources below it.
pub async fn run(
    flags: Flags,
    heartbeat: Heartbeat,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = Shutdown> + Send + 'static,
) -> Result<(), AgentError> {
    // First of all, so that the limit which containers get is known.
    raise_open_files();
    let ground = Ground::lay(&flags).await?;
    let contained = ground.contain(&flags).await?;
    let recovered = contained.recover(&flags)?;
    recovered.serve(&flags, heartbeat, ready, shutdown).await
}

/// Everything that can be had without touching a container.
struct Ground {
    clock: Clock,
    master: Endpoint,
    work_dir: PathBuf,
    runtime_dir: PathBuf,
    launcher: PathBuf,
    info: v1::AgentInfo,
    records: Records,
    checkpoint: Checkpoint,
    listener: TcpListener,
    address: SocketAddr,
    gpus: Gpus,
}

impl Ground {
    async fn lay(flags: &Flags) -> Result<Ground, AgentError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(AgentError::NotRoot);
        }
        if !flags.ip.is_loopback() && !flags.insecure {
            return Err(AgentError::NotLoopback(flags.ip));
        }
        let clock = Clock::start();
        let master =
            link::endpoint(&flags.master, flags.peer_timeout).map_err(AgentError::Master)?;
        let work_dir = directory(&flags.work_dir, "work directory", "--work-dir")?;
        let runtime_dir = directory(&flags.runtime_dir, "runtime directory", "--runtime-dir")?;
        let launcher = launcher(flags.launcher.as_deref())?;
        // Drivers that sleep take their time to tell.
        let gpus = Isolators::with_gpus(&flags.isolation).then(|| {
            let options = flags.gpus();
            task::spawn_blocking(move || gpus::discover(&options))
        });
        if gpus.is_none() && flags.gpus() != GpuOptions::default() {
            return Err(AgentError::GpusNotIsolated(flags.isolation.clone()));
        }
        let attributes = Attributes::parse(flags.attributes.as_deref().unwrap_or_default())
            .map_err(AgentError::Attributes)?;
        // The store's lock keeps a second agent out of this work directory.
        let records = Records::open(&work_dir).map_err(AgentError::Records)?;
        let checkpoint = records.load().map_err(AgentError::Records)?;
        mezzo_fault_points::hit!("agent.start.records_read");
        let info = checkpoint.identity.as_ref().and_then(|identity| identity.info.as_ref());
        let id = info.and_then(|info| info.id.as_ref()).map(|id| id.value.as_str());
        marker::check(&runtime_dir, &work_dir, id).map_err(AgentError::Marker)?;
        let inventory = match gpus {
            None => None,
            Some(found) => match timeout(GPUS_FOUND, found).await {
                Ok(found) => Some(found.unwrap_or_else(|_| Ok(Inventory::default()))),
                Err(_) => Some(Err(DiscoverError::Stuck(GPUS_FOUND.as_secs()))),
            },
        };
        let inventory = inventory.transpose().map_err(AgentError::Gpus)?;
        let found = inventory.as_ref().map(Inventory::len);
        let resources =
            machine::resources(flags.resources.as_deref(), &flags.default_role, &work_dir, found)
                .map_err(AgentError::Resources)?;
        let offered = usize::try_from(resources.gpus().thousandths() / 1000).unwrap_or(0);
        let gpus = Gpus::new(inventory.unwrap_or_default(), offered);
        let address = SocketAddr::new(flags.ip, flags.port);
        let listen_error = |source| AgentError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let info = v1::AgentInfo {
            hostname: flags.hostname.clone().unwrap_or_else(|| address.ip().to_string()),
            port: Some(i32::from(address.port())),
            resources: resources.to_proto(),
            attributes: attributes.to_proto(),
            ..v1::AgentInfo::default()
        };
        tracing::info!(%resources, %attributes, work_dir = %work_dir.display(), "starting");
        Ok(Ground {
            clock,
            master,
            work_dir,
            runtime_dir,
            launcher,
            info,
            records,
            checkpoint,
            listener,
            address,
            gpus,
        })
    }

    async fn contain(self, flags: &Flags) -> Result<Contained, AgentError> {
        let config = ContainerizerConfig {
            cgroups_root: flags.cgroups_root.clone(),
            isolation: flags.isolation.clone(),
            isolation_options: flags
                .isolation_options(self.gpus.clone())
                .map_err(AgentError::Devices)?,
            accounts: flags.accounts(),
            sandboxes: flags.sandboxes(),
            agent_endpoint: SocketAddr::new(reachable_ip(self.address.ip()), self.address.port())
                .to_string(),
            executors: flags.executors(),
            ..ContainerizerConfig::new(&self.work_dir, &self.runtime_dir, &self.launcher)
        };
        let (sender, events) = mpsc::channel(CONTAINER_EVENTS_MAX);
        let containers =
            Containerizer::start(config, sender).await.map_err(AgentError::Containers)?;
        mezzo_fault_points::hit!("agent.start.launcher_connected");
        let found = containers
            .recover(self.checkpoint.containers.clone())
            .await
            .map_err(AgentError::Containers)?;
        mezzo_fault_points::hit!("agent.start.containers_listed");
        let observed = found.into_iter().map(|(id, found)| (id, observed_of(found))).collect();
        Ok(Contained { ground: self, containers, events, observed })
    }
}

/// Containers can be made, and those that are there are known.
struct Contained {
    ground: Ground,
    containers: Containerizer,
    events: mpsc::Receiver<ContainerEvent>,
    observed: std::collections::BTreeMap<mezzo_types::ContainerId, mezzo_agent_core::Observed>,
}

impl Contained {
    fn recover(self, flags: &Flags) -> Result<Recovered, AgentError> {
        let Contained { mut ground, containers, events, observed } = self;
        let mut seed = seed().map_err(AgentError::Seed)?;
        let ip = reachable_ip(flags.ip).to_string();
        let config = core_config(flags, ground.info.clone(), containers.boot_id(), &ip);
        let checkpoint = std::mem::take(&mut ground.checkpoint);
        let tasks = checkpoint.tasks.len();
        let ids = [seed.next_u64(), seed.next_u64()];
        let now = ground.clock.now();
        let core =
            Core::recover(now, config, checkpoint, &observed, ids).map_err(AgentError::Recover)?;
        containers.account();
        mezzo_fault_points::hit!("agent.start.recovered");
        tracing::info!(tasks, containers = observed.len(), "took up what was there");
        Ok(Recovered { ground, containers, events, core, seed })
    }
}

/// What the core is told of the agent.
fn core_config(flags: &Flags, info: v1::AgentInfo, boot_id: &str, ip: &str) -> Config {
    Config {
        reconfiguration_policy: flags.reconfiguration_policy,
        any_port: flags.port == 0,
        executor_registration_timeout: flags.executor_registration_timeout,
        executor_reregistration_timeout: flags.executor_reregistration_timeout,
        executor_shutdown_grace: flags.executor_shutdown_grace_period,
        // Frameworks decide by it what an agent can do, and know Mesos' versions.
        ..Config::new(info, MESOS_VERSION, boot_id, ip)
    }
}

/// The core knows everything and has planned what follows.
struct Recovered {
    ground: Ground,
    containers: Containerizer,
    events: mpsc::Receiver<ContainerEvent>,
    core: Core,
    seed: IdSource,
}

impl Recovered {
    async fn serve(
        self,
        flags: &Flags,
        heartbeat: Heartbeat,
        ready: impl FnOnce(SocketAddr),
        shutdown: impl Future<Output = Shutdown> + Send + 'static,
    ) -> Result<(), AgentError> {
        let Recovered { ground, containers, events, core, seed } = self;
        let Ground { clock, master, work_dir, records, listener, address, .. } = ground;
        let view = View::default();
        let metrics = Metrics::new();
        let (statistics, counted) = watch::channel(core.statistics().clone());
        let recovery = clock.now().since(0);
        let sandboxes = containers.sandboxes().clone();
        let locks = sandboxes.locks();
        metrics::register(&metrics, view.clone(), counted, sandboxes, clock, recovery);
        metrics::register_store(&metrics, records.store());
        let volumes = Volumes::start(&work_dir, core.total());
        let launch_times = LaunchTimes::new(metrics.timer("containerizer/launch_ms"));
        let files = Files::new(view.clone(), &work_dir, locks).map_err(AgentError::Follow)?;
        let store = records.store().clone();
        let connections = connections_beside(raise_open_files(), Share::Half);
        let limits = Limits { peer: flags.peer_timeout, ..Limits::new(connections) };
        let gate = Gate::new(connections);
        metrics::register_port(&metrics, gate.clone());
        metrics::register_device_guard(&metrics, containers.clone());
        metrics::register_containers(
            &metrics,
            containers.destroy_errors().clone(),
            containers.fetches().clone(),
        );
        let budget = Budget::new(MEMORY_BYTES);
        let meter = Meter::new(view.clone(), containers.clone(), clock);
        metrics::register_tasks(&metrics, meter.clone());
        let (executors, executor_messages) = ExecutorHandle::new();
        let context = Context {
            view: view.clone(),
            meter,
            metrics,
            files,
            executors,
            store: store.clone(),
            master_hostname: link::host(&master),
            flags: flags.told(),
            start_time: clock.now().unix_secs_f64(),
            limits,
            budget: budget.clone(),
        };
        let router = api::router(context).await.map_err(AgentError::Api)?;

        let (link_events, links) = mpsc::channel(LINK_EVENTS_MAX);
        let linking = tokio::spawn(link::keep(master, link_events, seed));
        let agent = Agent {
            core,
            clock,
            records,
            containers: containers.clone(),
            view,
            statistics,
            launch_times,
            volumes,
        };
        // On a worker of its own runtime: what a connection or a container has for the loop, and the loop for them, is
        // then handed on without another thread's having to wake up.
        let inbox = Inbox { links, containers: events, executors: executor_messages };
        let mut running = tokio::spawn(agent.run(inbox, heartbeat, shutdown));
        mezzo_fault_points::hit!("agent.start.serving");
        tracing::info!(%address, master = flags.master, "serving");
        ready(address);
        // Whatever ends first decides; nothing is polled again afterwards.
        let outcome = tokio::select! {
            outcome = &mut running => match outcome {
                Ok(outcome) => outcome.map_err(AgentError::from),
                Err(error) => Err(AgentError::Loop(Box::new(error))),
            },
            reason = unguarded(&containers) => Err(AgentError::Unguarded(reason)),
            never = mezzo_http_server::serve(listener, router, limits, gate, budget) => match never {},
        };
        linking.abort();
        match outcome {
            Ok(Outcome::Stopped) => {
                containers.stop().await;
                Ok(())
            }
            Ok(Outcome::Left(reason)) => {
                marker::clear(&flags.runtime_dir);
                containers.stop_for_good().await;
                reason.map_or(Ok(()), |reason| Err(AgentError::Barred(reason)))
            }
            Err(error) => {
                containers.stop().await;
                match store.failure() {
                    Some(failure @ WriteError::Reopen { .. }) => {
                        Err(AgentError::StartAgain(failure))
                    }
                    _ => Err(error),
                }
            }
        }
    }
}

/// Resolves if ports must be guarded and cannot be.
async fn unguarded(containers: &Containerizer) -> String {
    match containers.unguarded().await {
        Some(reason) => reason,
        None => std::future::pending().await,
    }
}

/// Makes a directory and gives its absolute path.
fn directory(path: &Path, what: &'static str, flag: &'static str) -> Result<PathBuf, AgentError> {
    std::fs::create_dir_all(path)
        .and_then(|()| path.canonicalize())
        .map_err(|source| AgentError::Directory { what, flag, path: path.to_owned(), source })
}

/// The launcher that was named, or the one beside this program.
fn launcher(named: Option<&Path>) -> Result<PathBuf, AgentError> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => {
            let own = std::env::current_exe().map_err(AgentError::OwnPath)?;
            own.with_file_name("mezzo-launcher")
        }
    };
    match path.canonicalize() {
        Ok(path) if path.is_file() => Ok(path),
        _ => Err(AgentError::NoLauncher(path)),
    }
}

/// Where the tasks' ports are reached: an agent that listens everywhere is reached at this host's
/// loopback at least.
fn reachable_ip(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

/// Ids must differ from those of every other run of every agent.
fn seed() -> io::Result<IdSource> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let (first, second) = bytes.split_at(8);
    let number = |half: &[u8]| half.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Ok(IdSource::new([number(first), number(second)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_register_with_the_version_that_they_tell_themselves() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            flags: Flags,
        }
        let Line { flags } = clap::Parser::parse_from(["agent"]);
        let config = core_config(&flags, v1::AgentInfo::default(), "boot", "127.0.0.1");
        assert_eq!(config.version, "1.11.0");
    }
}
