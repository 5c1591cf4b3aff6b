//! What the user says.

/// Flags of `mezzo-agent-simulated`. Those that an agent has as well mean the same.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// HOST:PORT of the master.
    #[arg(long, env = "MEZZO_MASTER", default_value = "127.0.0.1:5050")]
    pub master: String,

    /// How many agents.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub agents: u32,

    /// How many of them share one connection; a master takes 1024 streams on each.
    #[arg(long, alias = "agents_per_connection", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub agents_per_connection: u32,

    /// What each of them offers.
    #[arg(long, default_value = "cpus:8;mem:16384;disk:65536;ports:[31000-32000]")]
    pub resources: String,

    /// What they say of themselves, such as `rack:a;zone:west`.
    #[arg(long)]
    pub attributes: Option<String>,

    /// Their hostnames: this and a number.
    #[arg(long, default_value = "simulated-")]
    pub hostname: String,
}
