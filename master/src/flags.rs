//! What an operator sets. Names are Mesos' where Mesos has the flag; underscores work, too.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use mezzo_http_server::PEER_TIMEOUT_MIN;
use mezzo_master_core::{CallRates, RateLimit};

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
    #[arg(long, alias = "agent_ping_timeout", default_value = "15secs", value_parser = positive_duration)]
    pub agent_ping_timeout: Duration,

    /// So many unanswered pings make an agent unreachable.
    #[arg(long, alias = "max_agent_ping_timeouts", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..1000))]
    pub max_agent_ping_timeouts: u32,

    /// How long a peer that does not answer, or takes nothing of what it is sent, is believed to be there;
    /// at least 1secs. Then its connection is closed.
    #[arg(long, alias = "peer_timeout", default_value = "2mins", value_parser = peer_timeout)]
    pub peer_timeout: Duration,

    /// An agent whose connection broke is unreachable after this time, such as 10mins.
    #[arg(long, alias = "agent_reregister_timeout", default_value = "10mins", value_parser = duration)]
    pub agent_reregister_timeout: Duration,

    /// At most so many agents are marked unreachable in so much time, such as 1/10mins; agents that
    /// answer or come back before their turn are not [default: no limit]
    #[arg(long, alias = "agent_removal_rate_limit", value_name = "N/TIME", value_parser = rate_limit)]
    pub agent_removal_rate_limit: Option<RateLimit>,

    /// Of the agents known from before a restart of the master, at most this share may be marked
    /// unreachable because they did not come back; beyond it the master stops.
    #[arg(long, alias = "recovery_agent_removal_limit", default_value = "100%", value_name = "N%", value_parser = percentage)]
    pub recovery_agent_removal_limit: f64,

    /// How fast frameworks may call, by principal: JSON as in Mesos, or the file that holds it
    /// (file:///PATH) [default: no limit]
    #[arg(long, alias = "rate_limits", value_name = "JSON", value_parser = crate::rate_limits::rate_limits)]
    pub rate_limits: Option<CallRates>,

    /// How often the lists of unreachable and of gone agents are pruned.
    #[arg(long, alias = "registry_gc_interval", default_value = "15mins", value_parser = positive_duration)]
    pub registry_gc_interval: Duration,

    /// Unreachable and gone agents are forgotten after this time.
    #[arg(long, alias = "registry_max_agent_age", default_value = "2weeks", value_parser = duration)]
    pub registry_max_agent_age: Duration,

    /// So many unreachable, and so many gone, agents are remembered; beyond it the oldest are forgotten.
    #[arg(long, alias = "registry_max_agent_count", default_value_t = 102_400)]
    pub registry_max_agent_count: usize,

    /// So many removed frameworks are remembered for those who ask.
    #[arg(long, alias = "max_completed_frameworks", default_value_t = 50)]
    pub max_completed_frameworks: usize,

    /// So many ended tasks of each framework are remembered for those who ask.
    #[arg(long, alias = "max_completed_tasks_per_framework", default_value_t = 1000)]
    pub max_completed_tasks_per_framework: usize,

    /// So many may listen to operator events; one more, and the one who began first is cut off.
    #[arg(long, alias = "max_operator_event_stream_subscribers", default_value_t = crate::view::SUBSCRIBERS_MAX)]
    pub max_operator_event_stream_subscribers: usize,
}

fn duration(text: &str) -> Result<Duration, String> {
    mezzo_types::parse_duration(text).map_err(|error| error.to_string())
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be longer than nothing, such as 15secs".to_owned()),
        time => Ok(time),
    }
}

fn peer_timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time < PEER_TIMEOUT_MIN => {
            Err(format!("it must be at least {} s", PEER_TIMEOUT_MIN.as_secs()))
        }
        time => Ok(time),
    }
}

fn rate_limit(text: &str) -> Result<RateLimit, String> {
    let malformed = || format!("`{text}` is not N/TIME, such as 1/10mins");
    let (permits, per) = text.split_once('/').ok_or_else(malformed)?;
    let permits = permits.trim().parse().map_err(|_| malformed())?;
    let per = positive_duration(per)?;
    if permits == 0 {
        return Err(format!("`{text}` would let no agent ever be removed; give at least 1"));
    }
    Ok(RateLimit { permits, per })
}

fn percentage(text: &str) -> Result<f64, String> {
    let malformed = || format!("`{text}` is not a percentage from 0% to 100%");
    let number = text.strip_suffix('%').ok_or_else(malformed)?;
    let percent: f64 = number.trim().parse().map_err(|_| malformed())?;
    if (0.0..=100.0).contains(&percent) { Ok(percent) } else { Err(malformed()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_limits_are_read() {
        let limit = rate_limit("1/10mins").expect("valid");
        assert_eq!(limit.interval(), Duration::from_secs(600));
        assert_eq!(rate_limit("4/1mins").expect("valid").interval(), Duration::from_secs(15));
        for bad in ["", "1", "/1secs", "x/1secs", "0/1secs", "1/", "1/0secs", "-1/1secs", "1/5"] {
            assert!(rate_limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn peers_have_a_second_at_least() {
        assert_eq!(peer_timeout("1secs"), Ok(Duration::from_secs(1)));
        assert_eq!(peer_timeout("2mins"), Ok(Duration::from_secs(120)));
        assert!(peer_timeout("999ms").is_err() && peer_timeout("x").is_err());
    }

    #[test]
    fn percentages_are_read() {
        assert_eq!(percentage("100%"), Ok(100.0));
        assert_eq!(percentage("0.5%"), Ok(0.5));
        for bad in ["", "%", "100", "101%", "-1%", "NaN%"] {
            assert!(percentage(bad).is_err(), "{bad}");
        }
    }
}
