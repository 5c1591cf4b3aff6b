//! `mezzo dev`: a cluster in one process.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Parser;
use mezzo_agent::Shutdown;
use mezzo_telemetry::{Heartbeat, init_logging};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::failure::{Failure, note, warn};
use crate::interrupt::Interrupts;
use crate::output::print_text;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
When the cluster is ready, one line is printed on stdout: `ready HOST:PORT`, the master's address. \
Ctrl-C ends the tasks, then the agent and the master; the data stays, and `mezzo dev` goes on with \
it. A second Ctrl-C leaves at once.")]
pub(crate) struct DevFlags {
    /// Directory of all data [default: ~/.mezzo/dev]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Port of the master; 0 takes a free one.
    #[arg(long, default_value_t = 5050)]
    port: u16,

    /// Port of the agent; 0 takes a free one.
    #[arg(long, default_value_t = 5051)]
    agent_port: u16,

    /// What tasks may use, such as `cpus:4;mem:8192`; what is not named is detected.
    #[arg(long)]
    resources: Option<String>,

    /// What to log: error, warn, info, debug or trace, or directives such as
    /// `info,mezzo_agent=debug` [default: RUST_LOG, or warn]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// The daemons' own flags, to be filled from their defaults.
#[derive(Debug, Parser)]
struct MasterFlags {
    #[command(flatten)]
    flags: mezzo_master::Flags,
}

#[derive(Debug, Parser)]
struct AgentFlags {
    #[command(flatten)]
    flags: mezzo_agent::Flags,
}

/// Runs until it is interrupted.
pub(crate) async fn run(flags: DevFlags) -> Result<(), Failure> {
    let level = match &flags.log_level {
        Some(level) => Some(level.as_str()),
        None if std::env::var_os("RUST_LOG").is_some() => None,
        None => Some("warn"),
    };
    init_logging(level).map_err(|error| Failure::of(&error))?;
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new("`mezzo dev` has to run as root")
            .hint("its agent makes control groups and namespaces for the tasks; try sudo"));
    }
    let mut interrupts = Interrupts::listen()?;
    let directory = data_directory(flags.data_dir.as_deref())?;

    let master_flags = master_flags(&flags, &directory)?;
    let mut master = Daemon::start(|ready, stop| async move {
        let stop = async {
            // Without its sender nobody cares any more, which is an order, too.
            let _: Result<(), _> = stop.await;
        };
        mezzo_master::run(master_flags, Heartbeat::default(), ready, stop)
            .await
            .map_err(|error| Failure::of(&error))
    });
    let master_address = master.ready().await?;

    let agent_flags = agent_flags(&flags, &directory, master_address)?;
    let mut agent = Daemon::start(|ready, stop| async move {
        let stop = async { stop.await.unwrap_or(Shutdown::Stop) };
        mezzo_agent::run(agent_flags, Heartbeat::default(), ready, stop)
            .await
            .map_err(|error| Failure::of(&error))
    });
    let started = tokio::select! {
        // Both arms are cancel-safe: nothing is taken before it is there.
        address = agent.ready() => address.map(Some),
        _ = interrupts.next() => Ok(None),
    };
    match started {
        Ok(Some(agent_address)) => {
            note(&welcome(master_address, agent_address, &directory));
            print_text(&format!("ready {master_address}\n"))?;
        }
        Ok(None) => {}
        Err(failure) => {
            master.stop(()).await?;
            return Err(failure);
        }
    }
    if let Ok(Some(_)) = started {
        tokio::select! {
            // All arms are cancel-safe: a daemon that ended stays ended.
            _ = interrupts.next() => {}
            ended = master.end() => {
                agent.stop(Shutdown::Stop).await?;
                return ended;
            }
            ended = agent.end() => {
                master.stop(()).await?;
                return ended;
            }
        }
    }
    note("ending the tasks, then the agent and the master; Ctrl-C again leaves at once");
    let orderly = async {
        let agent = agent.stop(Shutdown::Leave).await;
        let master = master.stop(()).await;
        agent.and(master)
    };
    tokio::select! {
        // Dropping the first arm is what the second interrupt asks for.
        outcome = orderly => outcome,
        _ = interrupts.next() => {
            warn("left before the end of the tasks; `mezzo dev`, started again, finds them");
            Ok(())
        }
    }
}

/// A daemon on a task of its own, and the ways to speak with it. `S` is what it is told to end.
struct Daemon<S> {
    address: oneshot::Receiver<SocketAddr>,
    stop: Option<oneshot::Sender<S>>,
    task: JoinHandle<Result<(), Failure>>,
}

type Ready = Box<dyn FnOnce(SocketAddr) + Send>;

impl<S> Daemon<S> {
    fn start<F>(run: impl FnOnce(Ready, oneshot::Receiver<S>) -> F) -> Self
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let (ready, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let ready = Box::new(move |address| {
            // The receiver is gone only when the process ends.
            let _ = ready.send(address);
        });
        let task = tokio::spawn(run(ready, stopped));
        Daemon { address, stop: Some(stop), task }
    }

    /// Waits until it serves, and says where.
    async fn ready(&mut self) -> Result<SocketAddr, Failure> {
        match (&mut self.address).await {
            Ok(address) => Ok(address),
            Err(_) => {
                self.end().await?;
                Err(Failure::new("a daemon ended before it served"))
            }
        }
    }

    /// Waits for its end.
    async fn end(&mut self) -> Result<(), Failure> {
        match (&mut self.task).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Failure::from_error("a daemon broke down", &error)),
        }
    }

    /// Tells it to end and waits until it has.
    async fn stop(&mut self, order: S) -> Result<(), Failure> {
        if let Some(stop) = self.stop.take() {
            // Fails if it has just ended by itself; its outcome says why.
            let _ = stop.send(order);
        }
        self.end().await
    }
}

/// The directory of all data, made if need be, as an absolute path.
fn data_directory(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let directory = match given {
        Some(directory) => directory.to_owned(),
        None => match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
            Some(home) => Path::new(&home).join(".mezzo/dev"),
            None => {
                return Err(Failure::new("there is no HOME to keep the data in")
                    .hint("--data-dir DIR names a directory"));
            }
        },
    };
    std::fs::create_dir_all(&directory).and_then(|()| directory.canonicalize()).map_err(|error| {
        Failure::from_error(format!("could not create {}", directory.display()), &error)
            .hint("--data-dir DIR names another directory")
    })
}

fn master_flags(flags: &DevFlags, directory: &Path) -> Result<mezzo_master::Flags, Failure> {
    let line: Vec<OsString> = vec![
        "master".into(),
        "--ip=127.0.0.1".into(),
        format!("--port={}", flags.port).into(),
        option("--work-dir=", &directory.join("master")),
        "--cluster=dev".into(),
        "--root-submissions".into(),
    ];
    match MasterFlags::try_parse_from(line) {
        Ok(parsed) => Ok(parsed.flags),
        Err(error) => Err(Failure::from_error("the master's flags are not as expected", &error)),
    }
}

fn agent_flags(
    flags: &DevFlags,
    directory: &Path,
    master: SocketAddr,
) -> Result<mezzo_agent::Flags, Failure> {
    let mut line: Vec<OsString> = vec![
        "agent".into(),
        format!("--master={master}").into(),
        "--ip=127.0.0.1".into(),
        format!("--port={}", flags.agent_port).into(),
        option("--work-dir=", &directory.join("agent")),
        option("--runtime-dir=", &directory.join("run")),
        format!("--cgroups-root={}", cgroups_root(directory)).into(),
    ];
    if let Some(resources) = &flags.resources {
        line.push(format!("--resources={resources}").into());
    }
    match AgentFlags::try_parse_from(line) {
        Ok(parsed) => Ok(parsed.flags),
        Err(error) => Err(Failure::from_error("the agent's flags are not as expected", &error)),
    }
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(name);
    option.push(path);
    option
}

/// Clusters in different directories must not share control groups, and one that is started again
/// must find its own: the name follows from the directory (FNV-1a of its path).
fn cgroups_root(directory: &Path) -> String {
    let hash =
        directory.as_os_str().as_encoded_bytes().iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
    format!("mezzo-dev-{hash:08x}")
}

/// What to do next.
fn welcome(master: SocketAddr, agent: SocketAddr, directory: &Path) -> String {
    let export = if master.port() == 5050 {
        String::new()
    } else {
        format!("  export MEZZO_MASTER={master}\n")
    };
    format!(
        "a cluster runs on this machine: master {master}, agent {agent}, data in {}\n\
         Ctrl-C ends it and all its tasks. In another terminal:\n\n\
         {export}  \
         mezzo run -- echo hello\n  \
         mezzo run --detach --name sleeper -- sleep 1000\n  \
         mezzo ps\n  \
         mezzo logs -f sleeper\n  \
         mezzo kill sleeper\n",
        directory.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        dev: DevFlags,
    }

    fn dev(line: &[&str]) -> DevFlags {
        Line::try_parse_from(std::iter::once("dev").chain(line.iter().copied())).expect("valid").dev
    }

    #[test]
    fn the_daemons_get_their_places_and_addresses() {
        let flags = dev(&["--port", "0", "--resources", "cpus:2;mem:512"]);
        let directory = Path::new("/data dir");
        let master = master_flags(&flags, directory).expect("flags");
        assert_eq!((master.port, master.root_submissions), (0, true));
        assert_eq!(master.work_dir, directory.join("master"));
        let address = "127.0.0.1:4711".parse().expect("address");
        let agent = agent_flags(&flags, directory, address).expect("flags");
        assert_eq!((agent.master.as_str(), agent.port), ("127.0.0.1:4711", 5051));
        assert_eq!(agent.work_dir, directory.join("agent"));
        assert_eq!(agent.runtime_dir, directory.join("run"));
        assert_eq!(agent.resources.as_deref(), Some("cpus:2;mem:512"));
    }

    #[test]
    fn control_groups_follow_the_directory() {
        let root = cgroups_root(Path::new("/root/.mezzo/dev"));
        assert_eq!(root, cgroups_root(Path::new("/root/.mezzo/dev")));
        assert_ne!(root, cgroups_root(Path::new("/root/.mezzo/dev2")));
        assert_eq!(root.len(), "mezzo-dev-".len() + 8);
    }

    #[test]
    fn the_welcome_names_the_master_where_it_is_not_the_default() {
        let agent = "127.0.0.1:1".parse().expect("address");
        let at = |port: &str| {
            welcome(format!("127.0.0.1:{port}").parse().expect("address"), agent, Path::new("/d"))
        };
        assert!(!at("5050").contains("MEZZO_MASTER"));
        assert!(at("6060").contains("export MEZZO_MASTER=127.0.0.1:6060\n  mezzo run"));
    }

    #[tokio::test]
    async fn a_daemon_that_cannot_start_says_why() {
        let mut daemon: Daemon<()> =
            Daemon::start(|_ready, _stop| async { Err(Failure::new("no port")) });
        assert_eq!(daemon.ready().await.expect_err("failed").to_string(), "no port");
    }

    #[tokio::test]
    async fn a_daemon_is_told_how_to_end() {
        let (told, hears) = oneshot::channel();
        let mut daemon = Daemon::start(|ready, stop| async move {
            ready("127.0.0.1:7".parse().expect("address"));
            told.send(stop.await).expect("somebody listens");
            Ok(())
        });
        assert_eq!(daemon.ready().await.expect("ready").port(), 7);
        daemon.stop("leave").await.expect("no failure");
        assert_eq!(hears.await.expect("told"), Ok("leave"));
    }
}
