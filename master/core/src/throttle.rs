//! Framework rate limits: how fast the calls of a principal are carried out, and how many may wait.
//!
//! The rules are those of Mesos 1.11 (`docs/framework-rate-limiting.md`, `Master::consume`), applied to calls.
//! Mesos throttles messages of old drivers only; HTTP frameworks pass it by. Here a call that waits is answered
//! when it has been carried out.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mezzo_proto::v1::scheduler::call::Type;
use mezzo_proto::v1::scheduler::{Call, Event, event};
use mezzo_types::{FrameworkId, Now, Position};

use crate::effect::Refusal;
use crate::input::{RequestId, StreamId};
use crate::invariants::Violation;
use crate::master::Master;
use crate::timers::Timer;

/// Calls that may wait for one limit where the operator names no capacity or a larger one: each holds its
/// message in memory.
pub const WAITING_MAX: usize = 100_000;

/// How fast calls are carried out, and how many may wait meanwhile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallRate {
    /// Calls per second, evenly spread; positive and finite.
    pub per_second: f64,
    /// Calls beyond so many waiting ones are dropped with an ERROR event; `None` is [`WAITING_MAX`].
    pub capacity: Option<u64>,
}

/// What `--rate-limits` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallRates {
    /// By `FrameworkInfo.principal`; all frameworks of a principal share its rate. `None` is no limit.
    pub by_principal: BTreeMap<String, Option<CallRate>>,
    /// Shared by all frameworks without a principal, or with one that is not listed.
    pub others: Option<CallRate>,
}

/// The limits at work.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    limits: Vec<Limit>,
    by_principal: BTreeMap<String, Option<usize>>,
    others: Option<usize>,
}

#[derive(Debug)]
struct Limit {
    rate: CallRate,
    /// When the next call may be carried out.
    free_at_ns: u64,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    request: RequestId,
    stream: Option<StreamId>,
    call: Box<Call>,
    task_infos: Vec<Bytes>,
}

impl Limit {
    fn interval_ns(&self) -> u64 {
        // Casts of floats saturate.
        ((1e9 / self.rate.per_second) as u64).max(1)
    }

    fn capacity(&self) -> usize {
        let capacity = self.rate.capacity.and_then(|capacity| usize::try_from(capacity).ok());
        capacity.unwrap_or(WAITING_MAX).min(WAITING_MAX)
    }
}

impl Throttle {
    pub(crate) fn new(rates: &CallRates) -> Self {
        let mut throttle = Self::default();
        let mut add = |rate: CallRate| {
            throttle.limits.push(Limit { rate, free_at_ns: 0, waiting: VecDeque::new() });
            throttle.limits.len() - 1
        };
        let by_principal = rates.by_principal.iter();
        let by_principal = by_principal.map(|(name, rate)| (name.clone(), rate.map(&mut add)));
        throttle.by_principal = by_principal.collect();
        throttle.others = rates.others.map(&mut add);
        throttle
    }

    /// The limit for frameworks of a principal, if there is one.
    fn of(&self, principal: Option<&str>) -> Option<usize> {
        match principal.and_then(|principal| self.by_principal.get(principal)) {
            Some(limit) => *limit,
            None => self.others,
        }
    }
}

impl Master {
    /// A call of a framework: carried out now, when its turn comes, or never.
    pub(crate) fn paced_call(
        &mut self,
        now: Now,
        request: RequestId,
        stream: Option<StreamId>,
        call: Box<Call>,
        task_infos: Vec<Bytes>,
    ) {
        // Only what a framework itself says counts: others could use up its rate.
        let id = match self.caller(stream, &call) {
            Ok(id) => id,
            Err(refusal) => return self.reply(request, Err(refusal)),
        };
        self.statistics.call_received(&id, &call);
        let principal = self.principal_of(&id);
        let counts = principal.as_deref().and_then(|p| self.statistics.messages.get(p));
        if let Some(counts) = counts {
            counts.count_received();
        }
        let waiting = Waiting { request, stream, call, task_infos };
        let Some(at) = self.throttle.of(principal.as_deref()) else {
            return self.carry_out(now, waiting);
        };
        let Some(limit) = self.throttle.limits.get_mut(at) else { return };
        if limit.waiting.is_empty() && limit.free_at_ns <= now.mono_ns {
            limit.free_at_ns = now.mono_ns.saturating_add(limit.interval_ns());
            return self.carry_out(now, waiting);
        }
        let (capacity, per_second) = (limit.capacity(), limit.rate.per_second);
        if limit.waiting.len() >= capacity {
            let kind = waiting.call.r#type.and_then(|number| Type::try_from(number).ok());
            let of = principal.map_or("without a listed principal".to_owned(), |principal| {
                format!("of principal '{principal}'")
            });
            let message = format!(
                "Call {} dropped: capacity({capacity}) exceeded: so many calls of frameworks {of} \
                 wait for their rate limit of {per_second} a second; send fewer",
                kind.map_or("UNKNOWN", |kind| kind.as_str_name()),
            );
            return self.drop_call(&id, request, message);
        }
        if limit.waiting.is_empty() {
            self.timers.set(limit.free_at_ns, Timer::Throttle(at));
        }
        limit.waiting.push_back(waiting);
    }

    /// Carries out what is due of a limit. A timer that comes late makes up for it: the rate holds on average.
    pub(crate) fn throttle_timeout(&mut self, now: Now, at: usize) {
        while let Some(limit) = self.throttle.limits.get_mut(at) {
            if limit.free_at_ns > now.mono_ns {
                if !limit.waiting.is_empty() {
                    self.timers.set(limit.free_at_ns, Timer::Throttle(at));
                }
                return;
            }
            let Some(waiting) = limit.waiting.pop_front() else { return };
            limit.free_at_ns = limit.free_at_ns.saturating_add(limit.interval_ns());
            self.carry_out(now, waiting);
        }
    }

    fn carry_out(&mut self, now: Now, waiting: Waiting) {
        let Waiting { request, stream, call, task_infos } = waiting;
        let id = call.framework_id.as_ref().map(FrameworkId::from);
        // Looked up first: the call may remove the framework.
        let principal = id.and_then(|id| self.principal_of(&id));
        let counts = principal.and_then(|principal| self.statistics.messages.get(&principal));
        if let Some(counts) = counts {
            counts.count_processed();
        }
        self.scheduler_call(now, request, stream, *call, task_infos);
    }

    /// The stream stays: calls that wait are still carried out, as with Mesos. A framework that goes on after an
    /// ERROR has missed that a call was lost.
    fn drop_call(&mut self, id: &FrameworkId, request: RequestId, message: String) {
        if let Some(stream) = self.frameworks.get(id).and_then(|f| f.stream) {
            let event = Event {
                r#type: Some(event::Type::Error as i32),
                error: Some(event::Error { message: message.clone() }),
                ..Event::default()
            };
            self.send_event(stream, event, Position(0));
        }
        self.reply(request, Err(Refusal::Unavailable(message)));
    }

    fn principal_of(&self, id: &FrameworkId) -> Option<String> {
        self.frameworks.get(id).and_then(|framework| framework.info.principal.clone())
    }

    /// Calls wait within their capacity, and only as long as a timer comes for them.
    pub(crate) fn check_throttle(&self) -> Result<(), Violation> {
        for (at, limit) in self.throttle.limits.iter().enumerate() {
            let (count, capacity) = (limit.waiting.len(), limit.capacity());
            let detail = if count > capacity {
                format!("{count} calls wait where {capacity} may")
            } else if count > 0 && !self.timers.has(limit.free_at_ns, Timer::Throttle(at)) {
                format!("{count} calls wait for ever")
            } else {
                continue;
            };
            return Err(Violation { name: "bounded", detail });
        }
        Ok(())
    }
}
