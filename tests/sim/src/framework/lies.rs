//! Calls that a correct framework would not make: each must be answered, and none may hurt anybody.

use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::{Call, call};

use super::acts::task;
use crate::host::Behaviour;
use crate::world::World;

impl World {
    pub(super) fn lie(&mut self, number: usize) {
        let framework = &mut self.frameworks[number];
        let rng = &mut framework.rng;
        match rng.below(10) {
            // An acknowledgement of nothing, or of another update.
            0 | 1 => {
                let uuid = match rng.pick(&framework.heard) {
                    Some(heard) if rng.chance(60) => heard.clone(),
                    _ => bytes::Bytes::copy_from_slice(&rng.uuid()),
                };
                let known = Vec::from_iter(framework.tasks.iter());
                let Some((id, task)) = rng.pick(&known) else { return };
                let acknowledge = call::Acknowledge {
                    agent_id: v1::AgentId { value: task.agent.clone() },
                    task_id: v1::TaskId { value: (*id).clone() },
                    uuid,
                };
                let kind = call::Type::Acknowledge;
                self.call(number, kind, |call| call.acknowledge = Some(acknowledge));
            }
            // Offers that are not there any more, or twice, or everything at once.
            2 => {
                let agent = v1::AgentId { value: "c-S0".to_owned() };
                let stale = v1::OfferId { value: format!("c-O{}", rng.below(30)) };
                let ids = vec![stale.clone(), stale];
                let ids = ids.into_iter().take(1 + rng.below(2) as usize).collect();
                let info = task("stale", &agent, scalar("cpus", 0.1), ends(), None);
                self.launch(number, ids, vec![info], None);
            }
            // A task id that is in use, or was; and a second one of the same offer.
            3 | 4 => {
                let known = Vec::from_iter(framework.tasks.keys().cloned());
                let reused = rng.pick(&known).cloned().unwrap_or_else(|| "t1".to_owned());
                let Some((_, offer)) = framework.offers.pop_first() else { return };
                let info =
                    |name: &str| task(name, &offer.agent_id, scalar("cpus", 0.1), ends(), None);
                let tasks = vec![info(&reused), info(&reused)];
                self.launch(number, vec![offer.id.clone()], tasks, None);
            }
            // More than was offered, for another agent, with no command, with no resources.
            5 => {
                let Some((_, offer)) = framework.offers.pop_first() else { return };
                let other = v1::AgentId { value: "c-S99".to_owned() };
                let agent = &offer.agent_id;
                let silent = v1::TaskInfo {
                    command: None,
                    ..task("silent", agent, scalar("cpus", 0.1), ends(), None)
                };
                let tasks = vec![
                    task("huge", agent, scalar("cpus", 1e6), ends(), None),
                    task("elsewhere", &other, scalar("cpus", 0.1), ends(), None),
                    task("empty", agent, Vec::new(), ends(), None),
                    task("../../x", agent, scalar("cpus", 0.1), ends(), None),
                    task("negative", agent, scalar("cpus", -1.0), ends(), None),
                    silent,
                ];
                self.launch(number, vec![offer.id.clone()], tasks, None);
            }
            // On another's stream, or on none.
            6 => {
                let stream = rng.chance(50).then(|| rng.below(50));
                let id = framework.id.as_ref().map(Into::into);
                let kind = Some(call::Type::Teardown as i32);
                let call = Call { framework_id: id, r#type: kind, ..Call::default() };
                if stream != framework.stream {
                    self.raw_call(number, stream, call);
                }
            }
            // Nonsense.
            7 => {
                let kind = Some(rng.between(0, 30) as i32);
                let call = Call { r#type: kind, ..Call::default() };
                let stream = framework.stream;
                self.raw_call(number, stream, call);
            }
            // Kills and questions about what never was.
            8 => {
                let name = format!("t{}", rng.below(60));
                let kill = call::Kill {
                    task_id: v1::TaskId { value: name.clone() },
                    ..call::Kill::default()
                };
                self.call(number, call::Type::Kill, |call| call.kill = Some(kill));
                let asked = call::reconcile::Task {
                    task_id: v1::TaskId { value: name },
                    agent_id: Some(v1::AgentId { value: "c-S1".to_owned() }),
                };
                let reconcile = call::Reconcile { tasks: vec![asked] };
                self.call(number, call::Type::Reconcile, |call| call.reconcile = Some(reconcile));
            }
            // A filter for ever, of nobody's offer.
            _ => {
                let id = v1::OfferId { value: format!("c-O{}", rng.below(30)) };
                let filters = Some(v1::Filters { refuse_seconds: Some(f64::NAN) });
                let decline = call::Decline { offer_ids: vec![id], filters };
                self.call(number, call::Type::Decline, |call| call.decline = Some(decline));
            }
        }
    }
}

fn ends() -> Behaviour {
    Behaviour { runs_ms: Some(50), exit_code: 0, obeys: true }
}

fn scalar(name: &str, value: f64) -> Vec<v1::Resource> {
    vec![v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        ..v1::Resource::default()
    }]
}
