//! What an operator sets. Names are Mesos' where Mesos has the flag; underscores work, too.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use mezzo_agent_accounting::{CAPACITY, PortPolicy};
use mezzo_agent_core::{ReconfigurationPolicy, Retention};
use mezzo_http_server::PEER_TIMEOUT_MIN;
use mezzo_proto::v1;
use mezzo_types::{format_duration, parse_duration};

use crate::accounts::AccountsOptions;
use crate::containerizer::ExecutorSettings;
use crate::gpus::{GpuOptions, Gpus};
use crate::isolators::{
    AllowedDevicesError, DEFAULT_ISOLATION, DEFAULT_PIDS_LIMIT, IsolationOptions, allowed_devices,
};
use crate::sandbox::{LogLimits, PIECES_MAX, SandboxOptions};

/// More looks at the disk than these would cost more than they tell.
const DISK_WATCH_MIN: Duration = Duration::from_millis(100);
/// Smaller files would be rotated all the time.
const LOG_BYTES_MIN: u64 = 64 << 10;

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
    /// not named of cpus, mem, disk and ports is detected, and gpus where they are isolated.
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

    /// Device nodes that are GPUs, separated by commas, such as `/dev/dri/renderD128`: for hosts whose GPUs NVML does not know. Needs
    /// `gpus` in --isolation.
    #[arg(
        long,
        alias = "gpu_devices",
        env = "MEZZO_GPU_DEVICES",
        value_name = "PATH,…",
        value_delimiter = ','
    )]
    pub gpu_devices: Vec<PathBuf>,

    /// NVIDIA's management library, by which GPUs are found where `gpus` is in --isolation
    /// [default: libnvidia-ml.so.1, where the loader finds it]
    #[arg(long, alias = "nvml_library", env = "MEZZO_NVML_LIBRARY", value_name = "PATH")]
    pub nvml_library: Option<PathBuf>,

    /// Limit a task's processor time to what it asked for, also on an idle machine.
    #[arg(long, alias = "cgroups_enable_cfs", env = "MEZZO_CGROUPS_ENABLE_CFS", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub cgroups_enable_cfs: bool,

    /// Processes and threads per container; 0 for no limit.
    #[arg(long, alias = "pids_limit", env = "MEZZO_PIDS_LIMIT", default_value_t = DEFAULT_PIDS_LIMIT)]
    pub pids_limit: u64,

    /// What happens when a task binds a port that is not among its resources: it is refused (EPERM), or only
    /// counted and told, or nothing.
    #[arg(long, env = "MEZZO_PORTS_POLICY", default_value = "observe", value_name = "enforce|observe|off", value_parser = ports_policy)]
    pub ports_policy: PortPolicy,

    /// Let tasks have ports that the kernel chooses, as `bind` without a port asks for.
    #[arg(long, env = "MEZZO_PORTS_ALLOW_EPHEMERAL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub ports_allow_ephemeral: bool,

    /// Devices for every task, beside null, zero, full, random, urandom, tty, ptmx and pseudo terminals:
    /// PATH or PATH:ACCESS (of r, w and m), separated by commas, or JSON as in Mesos.
    #[arg(
        long,
        alias = "allowed_devices",
        env = "MEZZO_ALLOWED_DEVICES",
        value_name = "PATH[:rwm],…"
    )]
    pub allowed_devices: Option<String>,

    /// Count and guard tasks by eBPF, where this machine lets us, or not at all.
    #[arg(long, env = "MEZZO_EBPF", default_value = "auto", value_name = "auto|off", value_parser = ebpf, action = clap::ArgAction::Set)]
    pub ebpf: bool,

    /// Containers at a time that the kernel can count and guard; a launch beyond fails. Only those that are there take memory.
    #[arg(long, env = "MEZZO_EBPF_CAPACITY", default_value_t = CAPACITY, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub ebpf_capacity: u32,

    /// The bpffs that holds what outlives the agent; mounted if it is not there.
    #[arg(long, env = "MEZZO_BPFFS", default_value = "/sys/fs/bpf")]
    pub bpffs: PathBuf,

    /// Keep histograms of how long tasks wait for a processor, at some 100 ns per context switch.
    #[arg(long, env = "MEZZO_RUN_QUEUE_HISTOGRAM", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub run_queue_histogram: bool,

    /// How long the sandbox of an ended task may stay on an empty disk, such as `1weeks` or `12hrs`.
    /// The fuller the disk, the sooner it goes: at an age of
    /// gc-delay * max(0, 1 - gc-disk-headroom - disk usage).
    #[arg(long, alias = "gc_delay", env = "MEZZO_GC_DELAY", default_value = "1weeks", value_parser = parse_duration)]
    pub gc_delay: Duration,

    /// Part of the work directory's disk, 0 to 1, that ended tasks' sandboxes leave free.
    #[arg(long, alias = "gc_disk_headroom", env = "MEZZO_GC_DISK_HEADROOM", default_value_t = 0.1, value_parser = parse_part)]
    pub gc_disk_headroom: f64,

    /// Between looks at how full the disk is.
    #[arg(long, alias = "disk_watch_interval", env = "MEZZO_DISK_WATCH_INTERVAL", default_value = "1mins", value_parser = parse_interval)]
    pub disk_watch_interval: Duration,

    /// Size at which a task's stdout or stderr is rotated, such as `100MB` (units: B, KB, MB, GB,
    /// of 1024); at least 64KB.
    #[arg(long, alias = "task_log_max_size", env = "MEZZO_TASK_LOG_MAX_SIZE", default_value = "100MB", value_parser = parse_log_bytes)]
    pub task_log_max_size: u64,

    /// Rotated files kept beside each stdout and stderr (stdout.1 is the newest).
    #[arg(long, alias = "task_log_files", env = "MEZZO_TASK_LOG_FILES", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=i64::from(PIECES_MAX)))]
    pub task_log_files: u32,

    /// How long an executor may take to subscribe, from the order to start it.
    #[arg(long, alias = "executor_registration_timeout", env = "MEZZO_EXECUTOR_REGISTRATION_TIMEOUT", default_value = "1mins", value_parser = parse_duration)]
    pub executor_registration_timeout: Duration,

    /// How long an executor may take to subscribe again after the agent's start; at most 15secs.
    #[arg(long, alias = "executor_reregistration_timeout", env = "MEZZO_EXECUTOR_REREGISTRATION_TIMEOUT", default_value = "2secs", value_parser = reregistration_timeout)]
    pub executor_reregistration_timeout: Duration,

    /// How long an executor may take to end when it is asked to, where its framework does not say so.
    #[arg(long, alias = "executor_shutdown_grace_period", env = "MEZZO_EXECUTOR_SHUTDOWN_GRACE_PERIOD", default_value = "5secs", value_parser = parse_duration)]
    pub executor_shutdown_grace_period: Duration,

    /// How long executors wait for an agent that is away before they end by themselves; they are told so.
    #[arg(long, alias = "recovery_timeout", env = "MEZZO_RECOVERY_TIMEOUT", default_value = "15mins", value_parser = parse_duration)]
    pub recovery_timeout: Duration,

    /// Variables for every executor, as a JSON object of texts, or the path of a file that holds one.
    #[arg(long, alias = "executor_environment_variables", env = "MEZZO_EXECUTOR_ENVIRONMENT_VARIABLES", value_name = "JSON|PATH", value_parser = environment_variables)]
    pub executor_environment_variables: Option<Variables>,

    /// How long a peer that does not answer, or takes nothing of what it is sent, is believed to be there;
    /// at least 1secs. Then its connection is closed.
    #[arg(long, alias = "peer_timeout", env = "MEZZO_PEER_TIMEOUT", default_value = "2mins", value_parser = peer_timeout)]
    pub peer_timeout: Duration,

    /// The `mezzo-launcher` program [default: the one beside this program]
    #[arg(long, env = "MEZZO_LAUNCHER")]
    pub launcher: Option<PathBuf>,

    /// Listen on other addresses than loopback although callers are not authenticated.
    #[arg(long, env = "MEZZO_INSECURE")]
    pub insecure: bool,
}

/// Names and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(pub Vec<(String, String)>);

impl Variables {
    fn to_json(&self) -> String {
        let value = |(name, value): &(String, String)| (name.clone(), value.clone().into());
        serde_json::Value::Object(self.0.iter().map(value).collect()).to_string()
    }
}

/// Reads a JSON object of texts, from a file unless it begins like one.
fn environment_variables(text: &str) -> Result<Variables, String> {
    let json = match text.trim_start().starts_with('{') {
        true => text.to_owned(),
        false => {
            let path = text.strip_prefix("file://").unwrap_or(text);
            std::fs::read_to_string(path)
                .map_err(|error| format!("could not read {path}: {error}"))?
        }
    };
    let object: std::collections::BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&json).map_err(|error| format!("is no JSON object: {error}"))?;
    let variable = |(name, value): (String, serde_json::Value)| match value {
        serde_json::Value::String(value) if !name.is_empty() && !name.contains(['=', '\0']) => {
            Ok((name, value))
        }
        serde_json::Value::String(_) => {
            Err(format!("variable '{name}' must not be empty nor hold '=' or a zero byte"))
        }
        value => Err(format!("the value of '{name}' is {value}; it must be a text, such as \"1\"")),
    };
    Ok(Variables(object.into_iter().map(variable).collect::<Result<_, _>>()?))
}

/// Longer would leave a machine whose executors are gone without its tasks' endings (Mesos' limit).
const REREGISTRATION_MAX: Duration = Duration::from_secs(15);

fn reregistration_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text).map_err(|error| error.to_string())?;
    if timeout > REREGISTRATION_MAX {
        return Err(format!(
            "{text} is too long; give at most {}",
            format_duration(REREGISTRATION_MAX)
        ));
    }
    Ok(timeout)
}

fn reconfiguration_policy(text: &str) -> Result<ReconfigurationPolicy, String> {
    match text {
        "equal" => Ok(ReconfigurationPolicy::Equal),
        "additive" => Ok(ReconfigurationPolicy::Additive),
        other => Err(format!("`{other}` is no policy: give equal or additive")),
    }
}

fn ports_policy(text: &str) -> Result<PortPolicy, String> {
    match text {
        "enforce" => Ok(PortPolicy::Enforce),
        "observe" => Ok(PortPolicy::Observe),
        "off" => Ok(PortPolicy::Off),
        other => Err(format!("`{other}` is no policy: give enforce, observe or off")),
    }
}

fn ebpf(text: &str) -> Result<bool, String> {
    match text {
        "auto" => Ok(true),
        "off" => Ok(false),
        other => Err(format!("give auto or off instead of `{other}`")),
    }
}

impl Flags {
    pub(crate) fn isolation_options(
        &self,
        gpus: Gpus,
    ) -> Result<IsolationOptions, AllowedDevicesError> {
        Ok(IsolationOptions {
            hard_cpu: self.cgroups_enable_cfs,
            pids_limit: (self.pids_limit > 0).then_some(self.pids_limit),
            ports_policy: self.ports_policy,
            ports_ephemeral: self.ports_allow_ephemeral,
            allowed_devices: allowed_devices(self.allowed_devices.as_deref().unwrap_or_default())?,
            gpus,
        })
    }

    pub(crate) fn executors(&self) -> ExecutorSettings {
        let variables = self.executor_environment_variables.clone().unwrap_or_default().0;
        ExecutorSettings {
            variables,
            shutdown_grace: self.executor_shutdown_grace_period,
            recovery_timeout: self.recovery_timeout,
            backoff_max: self.executor_reregistration_timeout,
            // What an agent that listens everywhere is reached at, nobody told it.
            ip: (!self.ip.is_unspecified()).then_some(self.ip),
        }
    }

    pub(crate) fn accounts(&self) -> AccountsOptions {
        AccountsOptions {
            enabled: self.ebpf,
            bpffs: self.bpffs.clone(),
            delays: self.run_queue_histogram,
            capacity: self.ebpf_capacity,
        }
    }

    pub(crate) fn sandboxes(&self) -> SandboxOptions {
        SandboxOptions {
            retention: Retention { delay: self.gc_delay, headroom: self.gc_disk_headroom },
            disk_watch_interval: self.disk_watch_interval,
            logs: LogLimits { max_bytes: self.task_log_max_size, pieces: self.task_log_files },
        }
    }

    pub(crate) fn gpus(&self) -> GpuOptions {
        GpuOptions { devices: self.gpu_devices.clone(), nvml_library: self.nvml_library.clone() }
    }

    fn gpu_devices_text(&self) -> String {
        let paths = self.gpu_devices.iter().map(|path| path.display().to_string());
        paths.collect::<Vec<_>>().join(",")
    }

    /// Every flag that is set, as GET_FLAGS tells it.
    pub(crate) fn told(&self) -> Vec<v1::Flag> {
        let policy = match self.reconfiguration_policy {
            ReconfigurationPolicy::Equal => "equal",
            ReconfigurationPolicy::Additive => "additive",
        };
        let ports_policy = match self.ports_policy {
            PortPolicy::Enforce => "enforce",
            PortPolicy::Observe => "observe",
            PortPolicy::Off => "off",
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
            ("gpu_devices", (!self.gpu_devices.is_empty()).then(|| self.gpu_devices_text())),
            ("nvml_library", self.nvml_library.as_ref().map(|path| path.display().to_string())),
            ("cgroups_root", Some(self.cgroups_root.clone())),
            ("cgroups_enable_cfs", Some(self.cgroups_enable_cfs.to_string())),
            ("pids_limit", Some(self.pids_limit.to_string())),
            ("ports_policy", Some(ports_policy.to_owned())),
            ("ports_allow_ephemeral", Some(self.ports_allow_ephemeral.to_string())),
            ("allowed_devices", self.allowed_devices.clone()),
            ("ebpf", Some(if self.ebpf { "auto" } else { "off" }.to_owned())),
            ("ebpf_capacity", Some(self.ebpf_capacity.to_string())),
            ("bpffs", Some(self.bpffs.display().to_string())),
            ("run_queue_histogram", Some(self.run_queue_histogram.to_string())),
            ("gc_delay", Some(format_duration(self.gc_delay))),
            ("gc_disk_headroom", Some(self.gc_disk_headroom.to_string())),
            ("disk_watch_interval", Some(format_duration(self.disk_watch_interval))),
            ("task_log_max_size", Some(format!("{}B", self.task_log_max_size))),
            ("task_log_files", Some(self.task_log_files.to_string())),
            (
                "executor_registration_timeout",
                Some(format_duration(self.executor_registration_timeout)),
            ),
            (
                "executor_reregistration_timeout",
                Some(format_duration(self.executor_reregistration_timeout)),
            ),
            (
                "executor_shutdown_grace_period",
                Some(format_duration(self.executor_shutdown_grace_period)),
            ),
            ("recovery_timeout", Some(format_duration(self.recovery_timeout))),
            (
                "executor_environment_variables",
                self.executor_environment_variables.as_ref().map(Variables::to_json),
            ),
            ("peer_timeout", Some(format_duration(self.peer_timeout))),
            ("launcher", self.launcher.as_ref().map(|path| path.display().to_string())),
            ("insecure", Some(self.insecure.to_string())),
        ];
        let flag = |(name, value): (&str, Option<String>)| {
            value.map(|value| v1::Flag { name: name.to_owned(), value: Some(value) })
        };
        set.into_iter().filter_map(flag).collect()
    }
}

fn parse_part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(part) if (0.0..=1.0).contains(&part) => Ok(part),
        _ => Err("not a part of a whole: a number from 0 to 1, such as 0.1".to_owned()),
    }
}

fn peer_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(timeout) if timeout < PEER_TIMEOUT_MIN => {
            Err(format!("too short: at least {}", format_duration(PEER_TIMEOUT_MIN)))
        }
        Ok(timeout) => Ok(timeout),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(interval) if interval < DISK_WATCH_MIN => {
            Err(format!("too short: at least {}", format_duration(DISK_WATCH_MIN)))
        }
        Ok(interval) => Ok(interval),
        Err(error) => Err(error.to_string()),
    }
}

/// Bytes, as Mesos writes them: `512KB`, `1.5GB`.
fn parse_log_bytes(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "B" => 1u64,
        "KB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return Err("not a size: a number and B, KB, MB or GB, such as 100MB".to_owned()),
    };
    let number: f64 = number.trim().parse().map_err(|_| format!("'{number}' is not a number"))?;
    // What does not fit saturates: no disk is as large.
    match (number * factor as f64) as u64 {
        bytes if bytes < LOG_BYTES_MIN => Err(format!(
            "too small: at least {}KB, or files are rotated all the time",
            LOG_BYTES_MIN >> 10
        )),
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_parts_are_read_or_told_apart() {
        assert_eq!(parse_log_bytes("100MB"), Ok(100 << 20));
        assert_eq!(parse_log_bytes("0.5GB"), Ok(512 << 20));
        assert_eq!(parse_log_bytes("65536B"), Ok(65536));
        let variables = |text| environment_variables(text).map(|read| read.0);
        let set = variables(r#"{"A": "1", "B": ""}"#).unwrap();
        assert_eq!(set, [("A".to_owned(), "1".to_owned()), ("B".to_owned(), String::new())]);
        for (bad, why) in [(r#"{"A": 1}"#, "must be a text"), ("{", "JSON"), ("/nowhere", "read")] {
            assert!(variables(bad).unwrap_err().contains(why), "{bad}");
        }
        assert!(reregistration_timeout("16secs").unwrap_err().contains("15secs"));
        for bad in ["", "5", "MB", "-1MB", "1TB", "1KB", "nanGB"] {
            parse_log_bytes(bad).expect_err(bad);
        }
        assert_eq!(parse_part("0.25"), Ok(0.25));
        for bad in ["", "1.1", "-0.1", "NaN", "10%"] {
            parse_part(bad).expect_err(bad);
        }
        assert_eq!(parse_interval("1mins"), Ok(Duration::from_secs(60)));
        assert!(parse_interval("1ns").is_err() && parse_interval("60").is_err());
        assert_eq!(peer_timeout("1secs"), Ok(Duration::from_secs(1)));
        assert!(peer_timeout("999ms").is_err() && peer_timeout("").is_err());
    }
}
