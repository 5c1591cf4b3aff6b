//! What an operator sets. Names are Mesos' where Mesos has the flag; underscores work, too.

use std::net::IpAddr;
use std::path::PathBuf;

use mezzo_agent_core::ReconfigurationPolicy;
use mezzo_proto::v1;

use crate::isolators::{DEFAULT_ISOLATION, DEFAULT_PIDS_LIMIT};

/// Flags of `mezzo agent`.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// Where the master listens: HOST:PORT.
    #[arg(long, env = "MEZZO_MASTER", default_value = "127.0.0.1:5050")]
    pub master: String,

    /// Address to listen on. Anything but loopback needs --insecure, as long as callers are not
    /// authenticated.
    #[arg(long, env = "MEZZO_IP", default_value = "127.0.0.1")]
    pub ip: IpAddr,

    /// Port to listen on; 0 takes a free one and prints it.
    #[arg(long, env = "MEZZO_PORT", default_value_t = 5051)]
    pub port: u16,

    /// Name under which others reach this agent [default: the address]
    #[arg(long, env = "MEZZO_HOSTNAME")]
    pub hostname: Option<String>,

    /// Directory of sandboxes and records; must survive a reboot.
    #[arg(
        long,
        alias = "work_dir",
        env = "MEZZO_WORK_DIR",
        default_value = "/var/lib/mezzo/agent"
    )]
    pub work_dir: PathBuf,

    /// Directory of sockets and exit files; need not survive a reboot.
    #[arg(
        long,
        alias = "runtime_dir",
        env = "MEZZO_RUNTIME_DIR",
        default_value = "/run/mezzo/agent"
    )]
    pub runtime_dir: PathBuf,

    /// What the cluster may use, such as `cpus:4;mem:8192;ports:[31000-32000]`, or as JSON. What is
    /// not named of cpus, mem, disk and ports is detected.
    #[arg(long, env = "MEZZO_RESOURCES")]
    pub resources: Option<String>,

    /// Role that resources without one are reserved for.
    #[arg(long, alias = "default_role", env = "MEZZO_DEFAULT_ROLE", default_value = "*")]
    pub default_role: String,

    /// What frameworks may know of this machine, such as `rack:a1;ssd:1`.
    #[arg(long, env = "MEZZO_ATTRIBUTES")]
    pub attributes: Option<String>,

    /// What may have changed of this machine since it joined the cluster: nothing, or what was added
    /// (resources, attributes and a domain; what was there may grow).
    #[arg(
        long,
        alias = "reconfiguration_policy",
        env = "MEZZO_RECONFIGURATION_POLICY",
        default_value = "equal",
        value_name = "equal|additive",
        value_parser = reconfiguration_policy
    )]
    pub reconfiguration_policy: ReconfigurationPolicy,

    /// Isolators of every container, separated by commas.
    #[arg(long, env = "MEZZO_ISOLATION", default_value = DEFAULT_ISOLATION)]
    pub isolation: String,

    /// Name of the control group, in every hierarchy, that the containers' lie in.
    #[arg(long, alias = "cgroups_root", env = "MEZZO_CGROUPS_ROOT", default_value = "mezzo")]
    pub cgroups_root: String,

    /// Limit a task's processor time to what it asked for, also on an idle machine.
    #[arg(long, alias = "cgroups_enable_cfs", env = "MEZZO_CGROUPS_ENABLE_CFS", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub cgroups_enable_cfs: bool,

    /// Processes and threads per container; 0 for no limit.
    #[arg(long, alias = "pids_limit", env = "MEZZO_PIDS_LIMIT", default_value_t = DEFAULT_PIDS_LIMIT)]
    pub pids_limit: u64,

    /// The `mezzo-launcher` program [default: the one beside this program]
    #[arg(long, env = "MEZZO_LAUNCHER")]
    pub launcher: Option<PathBuf>,

    /// Listen on other addresses than loopback although callers are not authenticated.
    #[arg(long, env = "MEZZO_INSECURE")]
    pub insecure: bool,
}

fn reconfiguration_policy(text: &str) -> Result<ReconfigurationPolicy, String> {
    match text {
        "equal" => Ok(ReconfigurationPolicy::Equal),
        "additive" => Ok(ReconfigurationPolicy::Additive),
        other => Err(format!("`{other}` is no policy: give equal or additive")),
    }
}

impl Flags {
    /// Every flag that is set, as GET_FLAGS tells it.
    pub(crate) fn told(&self) -> Vec<v1::Flag> {
        let policy = match self.reconfiguration_policy {
            ReconfigurationPolicy::Equal => "equal",
            ReconfigurationPolicy::Additive => "additive",
        };
        let set = [
            ("master", Some(self.master.clone())),
            ("ip", Some(self.ip.to_string())),
            ("port", Some(self.port.to_string())),
            ("hostname", self.hostname.clone()),
            ("work_dir", Some(self.work_dir.display().to_string())),
            ("runtime_dir", Some(self.runtime_dir.display().to_string())),
            ("resources", self.resources.clone()),
            ("default_role", Some(self.default_role.clone())),
            ("attributes", self.attributes.clone()),
            ("reconfiguration_policy", Some(policy.to_owned())),
            ("isolation", Some(self.isolation.clone())),
            ("cgroups_root", Some(self.cgroups_root.clone())),
            ("cgroups_enable_cfs", Some(self.cgroups_enable_cfs.to_string())),
            ("pids_limit", Some(self.pids_limit.to_string())),
            ("launcher", self.launcher.as_ref().map(|path| path.display().to_string())),
            ("insecure", Some(self.insecure.to_string())),
        ];
        let flag = |(name, value): (&str, Option<String>)| {
            value.map(|value| v1::Flag { name: name.to_owned(), value: Some(value) })
        };
        set.into_iter().filter_map(flag).collect()
    }
}
