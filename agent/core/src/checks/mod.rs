//! Health checks and checks of command tasks, as Mesos' command executor does them.
//!
//! ```text
//!  TASK_RUNNING ──delay──▶ Effect::Check ──▶ Input::Checked ──interval──▶ Effect::Check …
//!                                                 │
//!              health check: healthy? ────────────┴──────────── check: result changed?
//!              update, in the end the kill                      update
//! ```
//!
//! | | health check (`TaskInfo.health_check`) | check (`TaskInfo.check`) |
//! |---|---|---|
//! | told | the first success, every failure after the grace period, the first success after failures | every change of the result |
//! | as | `healthy`, `REASON_TASK_HEALTH_CHECK_STATUS_UPDATED` | `check_status`, `REASON_TASK_CHECK_STATUS_UPDATED` |
//! | leads to | a kill after `consecutive_failures` | nothing |
//!
//! Facts: Mesos' `src/checks/health_checker.cpp`, `checker.cpp`, `checker_process.cpp`,
//! `src/launcher/executor.cpp`. Where Mezzo differs it says so here:
//! - A framework that does not acknowledge gets at most `WAITING_MAX` updates queued; what changes
//!   meanwhile is told once there is room, in its newest form.
//! - Two runs of a check are at least `INTERVAL_MIN` apart.
//!
//! Time limits are the shell's: it is the one who can end a check, and who knows when it really began.
//!
//! - [`Probe`], [`CheckOutcome`], [`CheckKind`]: what the shell is asked for and what it answers;
//! - `schedule`: when a check is due; `health`: what failures come to; `status`: results as messages;
//! - `attend`: the tasks' checks in the core.

mod attend;
mod health;
mod probe;
mod schedule;
mod status;

use mezzo_proto::v1;
use mezzo_types::Now;

pub use probe::{CheckKind, CheckOutcome, Probe};
pub(crate) use status::{empty_status, status_of};

use health::Health;
use schedule::Schedule;

/// Updates of a task that wait for the framework before checks stop adding some. Without a bound, a task whose
/// health comes and goes while its framework is away would fill memory and disk.
pub(crate) const WAITING_MAX: usize = 16;

/// The checks of a running task.
#[derive(Debug)]
pub(crate) struct Checks {
    pub(crate) health: Option<(Schedule, Health)>,
    pub(crate) check: Option<Schedule>,
    /// What is known by now; told or owed.
    known: Known,
    /// Something is known that could not be told, because too much waits.
    owed: Option<CheckKind>,
}

/// What statuses say.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    healthy: Option<bool>,
    check_status: Option<v1::CheckStatusInfo>,
}

impl Checks {
    /// `None` for a task without checks. The command has been running since `started_unix_ns`; `latest` is what
    /// was told of the task, `failures` what was counted before a restart.
    pub(crate) fn new(
        now: Now,
        info: &v1::TaskInfo,
        started_unix_ns: i64,
        latest: Option<&v1::TaskStatus>,
        failures: u32,
    ) -> Option<Checks> {
        let started = Started::at(now, started_unix_ns);
        let known = Known {
            healthy: latest.and_then(|latest| latest.healthy),
            check_status: latest
                .and_then(|latest| latest.check_status)
                .or_else(|| info.check.as_ref().and_then(empty_status)),
        };
        let health = info.health_check.as_ref().filter(|check| Probe::of_health(check).is_some());
        let health = health.map(|check| {
            let schedule = Schedule::new(
                started,
                check.delay_seconds(),
                check.interval_seconds(),
                check.timeout_seconds(),
            );
            (schedule, Health::new(started, check, known.healthy, failures))
        });
        let check = info.check.as_ref().filter(|check| Probe::of_check(check).is_some());
        let check = check.map(|check| {
            Schedule::new(
                started,
                check.delay_seconds(),
                check.interval_seconds(),
                check.timeout_seconds(),
            )
        });
        let any = health.is_some() || check.is_some();
        any.then_some(Checks { health, check, known, owed: None })
    }

    pub(crate) fn schedule(&self, kind: CheckKind) -> Option<&Schedule> {
        match kind {
            CheckKind::Health => self.health.as_ref().map(|(schedule, _)| schedule),
            CheckKind::Check => self.check.as_ref(),
        }
    }

    fn schedule_mut(&mut self, kind: CheckKind) -> Option<&mut Schedule> {
        match kind {
            CheckKind::Health => self.health.as_mut().map(|(schedule, _)| schedule),
            CheckKind::Check => self.check.as_mut(),
        }
    }

    /// When which check is due, in monotonic nanoseconds.
    pub(crate) fn due(&self) -> impl Iterator<Item = (u64, CheckKind)> + '_ {
        CheckKind::ALL.into_iter().filter_map(|kind| Some((self.schedule(kind)?.due_ns()?, kind)))
    }

    /// Failures in a row of the health check: what is written down.
    pub(crate) fn failures(&self) -> u32 {
        self.health.as_ref().map_or(0, |(_, health)| health.failures())
    }
}

/// The start of a command on both clocks. Monotonic time may have begun after it: then it saturates.
#[derive(Clone, Copy, Debug)]
struct Started {
    now: Now,
    passed_ns: u64,
}

impl Started {
    fn at(now: Now, unix_ns: i64) -> Started {
        let passed_ns = u64::try_from(now.unix_ns.saturating_sub(unix_ns)).unwrap_or(0);
        Started { now, passed_ns }
    }

    /// Monotonic time of `seconds` after the start, not before now. A number that is no duration counts as zero.
    fn plus(self, seconds: f64) -> u64 {
        let delay = seconds_of(seconds);
        let passed = std::time::Duration::from_nanos(self.passed_ns);
        self.now.plus(delay.saturating_sub(passed))
    }
}

/// A number of seconds as messages have it: negative and not-a-number count as none, too many as for ever.
fn seconds_of(seconds: f64) -> std::time::Duration {
    if seconds.is_nan() || seconds <= 0.0 {
        return std::time::Duration::ZERO;
    }
    std::time::Duration::try_from_secs_f64(seconds).unwrap_or(std::time::Duration::MAX)
}
