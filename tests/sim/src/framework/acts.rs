//! What a framework does of its own accord, by its temper.

use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::scheduler::{Call, call};

use super::{Act, Known, TASKS_MAX, Temper};
use crate::fact::Fact;
use crate::host::Behaviour;
use crate::world::{Happening, MS, World};

impl World {
    pub(crate) fn framework_acts(&mut self, number: usize, act: Act) {
        match act {
            Act::Subscribe => self.subscribe(number),
            Act::Acknowledge { agent, task, uuid } => self.acknowledge(number, agent, task, uuid),
            Act::AcknowledgeOperation { agent, operation, uuid } => {
                self.acknowledge_operation(number, agent, operation, uuid);
            }
            Act::Live { round } => {
                if self.frameworks[number].round == round {
                    self.live(number);
                }
            }
            Act::Take => self.accept(number),
        }
    }

    fn live(&mut self, number: usize) {
        let framework = &mut self.frameworks[number];
        if !framework.subscribed {
            return;
        }
        let pause = match framework.temper {
            Temper::Slow => framework.rng.skewed(200 * MS, 10_000 * MS),
            _ => framework.rng.skewed(50 * MS, 2_000 * MS),
        };
        if self.settling {
            self.live_later(number, 5_000 * MS);
            return self.wind_up(number);
        }
        self.live_later(number, pause);
        let framework = &mut self.frameworks[number];
        if framework.temper == Temper::Lying && framework.rng.chance(60) {
            return self.lie(number);
        }
        let weights = match framework.temper {
            Temper::Greedy => [20, 0, 3, 2, 1, 1, 0],
            Temper::Slow => [10, 8, 3, 2, 2, 1, 0],
            Temper::Crashing => [12, 3, 3, 3, 1, 1, 4],
            Temper::Lying => [12, 3, 3, 2, 2, 1, 1],
        };
        match framework.rng.weighted(&weights) {
            Some(0) => self.accept(number),
            Some(1) => self.decline(number),
            Some(2) => self.kill_some(number),
            Some(3) => self.reconcile(number),
            Some(4) => {
                framework.suppressed = true;
                self.call(number, call::Type::Suppress, |_| {});
            }
            Some(5) => {
                framework.suppressed = false;
                self.call(number, call::Type::Revive, |_| {});
            }
            Some(6) => {
                let away = framework.rng.skewed(10 * MS, 40_000 * MS);
                self.crash_framework(number, away);
            }
            _ => {}
        }
    }

    /// The run comes to its end: no more launches, and what would not end by itself is killed. Offers
    /// are held, so that all resources are seen to be offered.
    fn wind_up(&mut self, number: usize) {
        let framework = &mut self.frameworks[number];
        if std::mem::take(&mut framework.suppressed) {
            self.call(number, call::Type::Revive, |_| {});
        }
        if self.now_ns < self.declines_until {
            self.decline(number);
        }
        if self.frameworks[number].doomed {
            return;
        }
        let framework = &mut self.frameworks[number];
        let mut kills = Vec::new();
        for (id, task) in &mut framework.tasks {
            // Once: that a kill is carried out is the cluster's business.
            if !task.over && task.endless && task.confirmed && !task.killed {
                task.killed = true;
                kills.push((id.clone(), task.agent.clone()));
            }
        }
        for (id, agent) in kills {
            self.kill(number, &id, &agent);
        }
        self.reconcile(number);
        self.reconcile_operations(number);
        // And about the ones that it takes for ended: a framework that cannot tell losses apart heard the
        // same of a task whose agent came back later, and what it is told then is told once.
        self.call(number, call::Type::Reconcile, |call| {
            call.reconcile = Some(call::Reconcile::default())
        });
    }

    /// A call on the framework's subscription.
    pub(crate) fn call(&mut self, number: usize, kind: call::Type, fill: impl FnOnce(&mut Call)) {
        let framework = &self.frameworks[number];
        let id = framework.id.as_ref().map(Into::into);
        let mut call = Call { framework_id: id, r#type: Some(kind as i32), ..Call::default() };
        fill(&mut call);
        let stream = framework.stream;
        self.raw_call(number, stream, call);
    }

    pub(super) fn raw_call(&mut self, number: usize, stream: Option<u64>, call: Call) {
        let framework = &mut self.frameworks[number];
        let conn = framework.stream.and_then(|stream| self.network.get(stream));
        let Some(master) = conn.map(|conn| conn.master) else { return };
        let id = framework.id.as_ref();
        self.watch.see(&Fact::Calls { framework: number, id, call: &call });
        if framework.cut_until > self.now_ns {
            return;
        }
        let delay = framework.latency_ns + framework.rng.skewed(MS / 100, framework.latency_ns);
        let mut at = self.now_ns + delay;
        if framework.ordered {
            at = at.max(framework.last_call);
            framework.last_call = at;
        }
        let call = Box::new(call);
        self.queue.push(at, Happening::Call { master, framework: number, stream, call });
    }

    fn acknowledge(&mut self, number: usize, agent: String, task: String, uuid: bytes::Bytes) {
        if !self.frameworks[number].subscribed {
            return;
        }
        let acknowledge = call::Acknowledge {
            agent_id: v1::AgentId { value: agent },
            task_id: v1::TaskId { value: task },
            uuid,
        };
        let kind = call::Type::Acknowledge;
        self.call(number, kind, |call| call.acknowledge = Some(acknowledge));
    }

    fn acknowledge_operation(
        &mut self,
        number: usize,
        agent: String,
        operation: String,
        uuid: bytes::Bytes,
    ) {
        if !self.frameworks[number].subscribed {
            return;
        }
        let acknowledge = call::AcknowledgeOperationStatus {
            agent_id: Some(v1::AgentId { value: agent }),
            resource_provider_id: None,
            operation_id: v1::OperationId { value: operation },
            uuid,
        };
        let kind = call::Type::AcknowledgeOperationStatus;
        self.call(number, kind, |call| call.acknowledge_operation_status = Some(acknowledge));
    }

    /// Asks about every operation whose ending it has not heard of.
    fn reconcile_operations(&mut self, number: usize) {
        let asked = self.frameworks[number].asked.iter();
        let operations = Vec::from_iter(asked.map(|id| call::reconcile_operations::Operation {
            operation_id: v1::OperationId { value: id.clone() },
            ..Default::default()
        }));
        if operations.is_empty() {
            return;
        }
        let reconcile = call::ReconcileOperations { operations };
        let kind = call::Type::ReconcileOperations;
        self.call(number, kind, |call| call.reconcile_operations = Some(reconcile));
    }

    fn accept(&mut self, number: usize) {
        let settling = self.settling;
        let framework = &mut self.frameworks[number];
        if settling || !framework.subscribed {
            return;
        }
        let Some(id) = framework.offers.keys().next().cloned() else { return };
        let Some(offer) = framework.offers.remove(&id) else { return };
        let mut left = offer.resources.clone();
        let operations = framework.operations(&mut left);
        let mut tasks = Vec::new();
        for _ in 0..framework.rng.between(1, 4) {
            if framework.next_task >= TASKS_MAX {
                break;
            }
            let cpus = framework.rng.between(2, 15) as f64 / 10.0;
            let mem = framework.rng.between(32, 400) as f64;
            let Some(mut resources) = carve(&mut left, cpus, mem) else { continue };
            resources.extend(framework.take_volume(&mut left));
            framework.next_task += 1;
            let name = format!("t{}", framework.next_task);
            let endless = framework.rng.chance(25);
            let behaviour = Behaviour {
                runs_ms: (!endless).then(|| framework.rng.skewed(1, 20_000)),
                exit_code: if framework.rng.chance(70) { 0 } else { 1 },
                obeys: framework.rng.chance(80),
            };
            let known = Known {
                agent: offer.agent_id.value.clone(),
                state: TaskState::TaskStaging,
                over: false,
                confirmed: false,
                endless,
                killed: false,
            };
            framework.tasks.insert(name.clone(), known);
            let limit = framework.rng.chance(10).then(|| framework.rng.between(1, 5_000));
            tasks.push(task(&name, &offer.agent_id, resources, behaviour, limit));
        }
        let seconds = framework.rng.between(0, 3) as f64;
        let filters = v1::Filters { refuse_seconds: Some(seconds) };
        self.accept_with(number, vec![offer.id], operations, tasks, Some(filters));
    }

    pub(super) fn launch(
        &mut self,
        number: usize,
        offer_ids: Vec<v1::OfferId>,
        task_infos: Vec<v1::TaskInfo>,
        filters: Option<v1::Filters>,
    ) {
        self.accept_with(number, offer_ids, Vec::new(), task_infos, filters);
    }

    fn accept_with(
        &mut self,
        number: usize,
        offer_ids: Vec<v1::OfferId>,
        mut operations: Vec<v1::offer::Operation>,
        task_infos: Vec<v1::TaskInfo>,
        filters: Option<v1::Filters>,
    ) {
        operations.push(v1::offer::Operation {
            r#type: Some(v1::offer::operation::Type::Launch as i32),
            launch: Some(v1::offer::operation::Launch { task_infos }),
            ..v1::offer::Operation::default()
        });
        let accept = call::Accept { offer_ids, operations, filters };
        self.call(number, call::Type::Accept, |call| call.accept = Some(accept));
    }

    fn decline(&mut self, number: usize) {
        let framework = &mut self.frameworks[number];
        let offers = std::mem::take(&mut framework.offers);
        if offers.is_empty() {
            return;
        }
        let seconds = framework.rng.skewed(1, 20_000) as f64 / 1000.0;
        let filters = Some(v1::Filters { refuse_seconds: Some(seconds) });
        let offer_ids = offers.into_values().map(|offer| offer.id).collect();
        let decline = call::Decline { offer_ids, filters };
        self.call(number, call::Type::Decline, |call| call.decline = Some(decline));
    }

    fn kill_some(&mut self, number: usize) {
        let framework = &mut self.frameworks[number];
        let living = framework.tasks.iter().filter(|(_, task)| !task.over && task.confirmed);
        let living = Vec::from_iter(living.map(|(id, task)| (id.clone(), task.agent.clone())));
        let Some((id, agent)) = framework.rng.pick(&living).cloned() else { return };
        self.kill(number, &id, &agent);
    }

    fn kill(&mut self, number: usize, task: &str, agent: &str) {
        let kill = call::Kill {
            task_id: v1::TaskId { value: task.to_owned() },
            agent_id: Some(v1::AgentId { value: agent.to_owned() }),
            kill_policy: None,
        };
        self.call(number, call::Type::Kill, |call| call.kill = Some(kill));
    }

    /// Asks about every task that has not ended and that the master may know by now.
    pub(crate) fn reconcile(&mut self, number: usize) {
        let framework = &self.frameworks[number];
        let asked = framework.tasks.iter().filter(|(_, task)| !task.over && task.confirmed);
        let tasks = Vec::from_iter(asked.map(|(id, task)| call::reconcile::Task {
            task_id: v1::TaskId { value: id.clone() },
            agent_id: Some(v1::AgentId { value: task.agent.clone() }),
        }));
        if tasks.is_empty() {
            return;
        }
        let reconcile = call::Reconcile { tasks };
        self.call(number, call::Type::Reconcile, |call| call.reconcile = Some(reconcile));
    }
}

pub(super) fn task(
    name: &str,
    agent: &v1::AgentId,
    resources: Vec<v1::Resource>,
    behaviour: Behaviour,
    limit_ms: Option<u64>,
) -> v1::TaskInfo {
    let time = |ms: u64| v1::DurationInfo { nanoseconds: (ms * MS) as i64 };
    v1::TaskInfo {
        name: name.to_owned(),
        task_id: v1::TaskId { value: name.to_owned() },
        agent_id: agent.clone(),
        resources,
        command: Some(behaviour.to_command()),
        max_completion_time: limit_ms.map(time),
        ..v1::TaskInfo::default()
    }
}

/// Takes so much out of what an offer has left; nothing of it if it has not all of it.
fn carve(left: &mut Vec<v1::Resource>, cpus: f64, mem: f64) -> Option<Vec<v1::Resource>> {
    let mut rest = left.clone();
    let mut taken = Vec::new();
    for (name, amount) in [("cpus", cpus), ("mem", mem)] {
        let amount_of = |resource: &v1::Resource| resource.scalar.as_ref().map_or(0.0, |s| s.value);
        let from = rest.iter_mut().find(|r| r.name == name && amount_of(r) >= amount)?;
        let mut part = from.clone();
        part.scalar = Some(v1::value::Scalar { value: amount });
        // Thousandths are exact in the algebra, not in a double.
        let remaining = ((amount_of(from) - amount) * 1000.0).round() / 1000.0;
        from.scalar = Some(v1::value::Scalar { value: remaining });
        taken.push(part);
    }
    *left = rest;
    Some(taken)
}
