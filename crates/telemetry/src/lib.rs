//! What a process tells its operator.
//!
//! * Logs: [`init_logging`] sends `tracing` events to stderr, for people; [`Verbosity`] changes for a
//!   while how many.
//! * Metrics: a [`Metrics`] is made by the shell and passed to whoever has something to count.
//!   Every metric has the name that Mesos' monitoring gives it (`master/tasks_running`), and is
//!   shown twice: as Mesos' flat JSON and, under a derived name, to Prometheus.
//! * Service manager: a [`ServiceManager`] hears when a daemon serves and when it ends, and gets a
//!   [`Heartbeat`] from its main loop.
//! * [`chain`] prints an error with all its sources.

mod chain;
mod families;
mod logging;
mod metrics;
mod readings;
mod service;
mod system;
mod timer;
mod verbosity;

pub use chain::{Chain, chain};
pub use families::{Families, Labels};
pub use logging::{LogError, init_logging};
pub use metrics::{Counter, Gauge, Metrics};
pub use readings::Readings;
pub use service::{Heartbeat, ServiceError, ServiceManager};
pub use timer::{Timer, Timing};
pub use verbosity::Verbosity;
