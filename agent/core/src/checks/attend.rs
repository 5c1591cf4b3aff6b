//! The tasks' checks in the core: begun with the command, ended by a kill or with the task.

use mezzo_proto::v1::task_status::Reason;
use mezzo_proto::v1::{TaskState, TaskStatus};
use mezzo_types::{ContainerId, Now};

use super::health::Verdict;
use super::{CheckKind, CheckOutcome, Checks, Known, Probe, WAITING_MAX, status_of};
use crate::core::Core;
use crate::effect::{Effect, TaskStage};
use crate::task::{Cause, Owner, TaskKey};
use crate::timers::Timer;

impl Core {
    /// The task's command runs, since `started_unix_ns`. A task with an executor is checked by that.
    pub(crate) fn begin_checks(
        &mut self,
        now: Now,
        key: &TaskKey,
        started_unix_ns: i64,
        failures: u32,
    ) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if task.part.is_some() || task.kill.is_some() || task.ended() {
            return;
        }
        let latest = task.latest.as_deref();
        let checks = Checks::new(now, &task.info, started_unix_ns, latest, failures);
        for (due_ns, kind) in checks.iter().flat_map(Checks::due) {
            self.timers.set(due_ns, Timer::Check(key.clone(), kind));
        }
        task.checks = checks.map(Box::new);
    }

    /// The task is being ended: what its checks find does not matter any more.
    pub(crate) fn stop_checks(&mut self, key: &TaskKey) {
        let Some(checks) = self.tasks.get_mut(key).and_then(|task| task.checks.as_mut()) else {
            return;
        };
        for (due_ns, kind) in checks.due() {
            self.timers.cancel(due_ns, Timer::Check(key.clone(), kind));
        }
        checks.stop();
    }

    pub(crate) fn check_due(&mut self, key: &TaskKey, kind: CheckKind) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let probe = match kind {
            CheckKind::Health => task.info.health_check.as_ref().and_then(Probe::of_health),
            CheckKind::Check => task.info.check.as_ref().and_then(Probe::of_check),
        };
        let (Some(probe), Some(container)) = (probe, task.container.clone()) else { return };
        let schedule = task.checks.as_mut().and_then(|checks| checks.schedule_mut(kind));
        let Some(timeout) = schedule.and_then(super::Schedule::begin) else { return };
        let probe = Box::new(probe);
        self.effects.push_back(Effect::Check { container, kind, probe, timeout });
    }

    /// A look at a container has come to its end.
    pub(crate) fn checked(
        &mut self,
        now: Now,
        id: &ContainerId,
        kind: CheckKind,
        outcome: &CheckOutcome,
    ) {
        let owner = self.containers.get(id).map(|container| container.owner.clone());
        let Some(Owner::Task(key)) = owner else { return };
        let task = self.tasks.get_mut(&key).filter(|task| task.container.as_ref() == Some(id));
        let Some(checks) = task.and_then(|task| task.checks.as_mut()) else { return };
        let Some(due_ns) = checks.schedule_mut(kind).and_then(|it| it.finish(now)) else { return };
        self.timers.set(due_ns, Timer::Check(key.clone(), kind));
        self.statistics.count_check(kind, outcome);
        match kind {
            CheckKind::Health => self.health_checked(now, &key, outcome),
            CheckKind::Check => self.check_checked(now, &key, outcome),
        }
    }

    fn health_checked(&mut self, now: Now, key: &TaskKey, outcome: &CheckOutcome) {
        let Some(found) = outcome.verdict() else { return };
        let checks = self.tasks.get_mut(key).and_then(|task| task.checks.as_mut());
        let Some(checks) = checks else { return };
        let Some((_, health)) = checks.health.as_mut() else { return };
        let verdict = health.judge(now, found.is_ok());
        let failures = health.failures();
        if verdict == Verdict::Nothing {
            return;
        }
        checks.known.healthy = Some(found.is_ok());
        let message = found.err().map(|why| match failures {
            1 => format!("The health check failed: {why}"),
            _ => format!("The health check failed {failures} times in a row: {why}"),
        });
        self.tell_check(now, key, CheckKind::Health, message);
        if verdict == Verdict::Kill {
            self.order_kill(now, key, None, Cause::Unhealthy);
        }
    }

    fn check_checked(&mut self, now: Now, key: &TaskKey, outcome: &CheckOutcome) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let status = task.info.check.as_ref().and_then(|check| status_of(check, outcome));
        let (Some(status), Some(checks)) = (status, task.checks.as_mut()) else { return };
        if checks.known.check_status.as_ref() == Some(&status) {
            return;
        }
        checks.known.check_status = Some(status);
        self.tell_check(now, key, CheckKind::Check, None);
    }

    /// Reports what the checks know, unless too much waits already.
    fn tell_check(&mut self, now: Now, key: &TaskKey, kind: CheckKind, message: Option<String>) {
        let waiting = self.updates.pending(key).count();
        let Some(task) = self.tasks.get_mut(key) else { return };
        let Some(checks) = task.checks.as_mut() else { return };
        if waiting >= WAITING_MAX {
            checks.owed = Some(kind);
            return;
        }
        checks.owed = None;
        let Some(latest) = task.latest.as_deref() else { return };
        if latest.state() != TaskState::TaskRunning {
            return;
        }
        let reason = match kind {
            CheckKind::Health => Reason::TaskHealthCheckStatusUpdated,
            CheckKind::Check => Reason::TaskCheckStatusUpdated,
        };
        // All that was told before stays told.
        let status = TaskStatus {
            reason: Some(reason as i32),
            message,
            timestamp: Some(now.unix_secs_f64()),
            healthy: checks.known.healthy,
            check_status: checks.known.check_status,
            ..latest.clone()
        };
        self.report(now, key, status, Vec::new());
    }

    /// There may be room for what could not be told before.
    pub(crate) fn tell_owed(&mut self, now: Now, key: &TaskKey) {
        let Some(task) = self.tasks.get(key) else { return };
        let Some(checks) = task.checks.as_ref() else { return };
        let Some(kind) = checks.owed else { return };
        let told = task.latest.as_deref().map(Known::of).unwrap_or_default();
        if task.stage != TaskStage::Running || task.kill.is_some() || told == checks.known {
            if let Some(checks) = self.tasks.get_mut(key).and_then(|task| task.checks.as_mut()) {
                checks.owed = None;
            }
            return;
        }
        self.tell_check(now, key, kind, None);
    }
}

impl Checks {
    fn stop(&mut self) {
        for kind in CheckKind::ALL {
            if let Some(schedule) = self.schedule_mut(kind) {
                schedule.stop();
            }
        }
    }
}

impl Known {
    fn of(status: &TaskStatus) -> Known {
        Known { healthy: status.healthy, check_status: status.check_status }
    }
}
