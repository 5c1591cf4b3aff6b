//! What an operator sets. Names are Mesos' where Mesos has the flag; underscores work, too.

use std::net::IpAddr;
use std::path::PathBuf;

/// Flags of `mezzo master`.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// Address to listen on. Anything but loopback needs --insecure, as long as callers are not
    /// authenticated.
    #[arg(long, default_value = "127.0.0.1")]
    pub ip: IpAddr,

    /// Port to listen on; 0 takes a free one and prints it.
    #[arg(long, default_value_t = 5050)]
    pub port: u16,

    /// Name under which frameworks and browsers reach this master [default: the address]
    #[arg(long)]
    pub hostname: Option<String>,

    /// Directory of the replicated log and the registry.
    #[arg(long, alias = "work_dir", default_value = "/var/lib/mezzo/master")]
    pub work_dir: PathBuf,

    /// Name of the cluster, for people.
    #[arg(long)]
    pub cluster: Option<String>,

    /// Allow frameworks and tasks to run as root.
    #[arg(long, alias = "root_submissions", num_args = 0..=1, default_value_t = false, default_missing_value = "true")]
    pub root_submissions: bool,

    /// Listen on other addresses than loopback although callers are not authenticated.
    #[arg(long)]
    pub insecure: bool,

    /// Time between pings of an agent, such as 15secs.
    #[arg(long, alias = "agent_ping_timeout", default_value = "15secs", value_parser = duration)]
    pub agent_ping_timeout: std::time::Duration,

    /// So many unanswered pings make an agent unreachable.
    #[arg(long, alias = "max_agent_ping_timeouts", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..1000))]
    pub max_agent_ping_timeouts: u32,

    /// An agent whose connection broke is unreachable after this time, such as 10mins.
    #[arg(long, alias = "agent_reregister_timeout", default_value = "10mins", value_parser = duration)]
    pub agent_reregister_timeout: std::time::Duration,
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    mezzo_types::parse_duration(text).map_err(|error| error.to_string())
}
