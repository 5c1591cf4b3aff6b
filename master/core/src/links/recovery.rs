//! A master takes the lead: everything starts from the replicated registry.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_master_allocator::Allocator;
use mezzo_proto::storage::v1::{agent_record, framework_record};
use mezzo_proto::v1::TaskState;
use mezzo_types::{Now, Position, Resources};

use crate::agent::Agent;
use crate::config::Config;
use crate::effect::ViewChange;
use crate::framework::{Framework, roles_of};
use crate::master::Master;
use crate::registry::Registry;
use crate::subscribe::options;
use crate::task::{Launch, Task};
use crate::timers::Timer;

impl Master {
    /// A master that leads in `term`, from what the log holds.
    ///
    /// Known frameworks and agents are away until they speak. Each agent's resources are offered as
    /// soon as it has registered: its own list settles its tasks, nobody waits for others. Agents that
    /// were admitted have the reregister timeout to come back.
    pub fn recover(
        config: Config,
        term: u64,
        registry: &Registry,
        allocator: Box<dyn Allocator>,
        now: Now,
    ) -> Self {
        let mut master = Self::empty(config, term, allocator);
        master.counters = registry.counters.clone();
        if master.counters.cluster_id.is_empty() {
            master.counters.cluster_id = master.config.master_info.id.clone();
        }
        let floor = master.config.agent_reregister_timeout;
        for (id, record) in &registry.frameworks {
            let Some(info) = record.info.clone() else { continue };
            if record.state() == framework_record::State::Completed {
                master.completed.insert(id.clone(), info);
                continue;
            }
            master.allocator.add_framework(now, id, options(&info, &[]));
            master.allocator.deactivate_framework(id);
            let framework = Framework {
                id: id.clone(),
                roles: roles_of(&info),
                info,
                principal: (!record.principal.is_empty()).then(|| record.principal.clone()),
                stream: None,
                heartbeat_due_ns: 0,
                failover_due_ns: None,
                recovered: true,
                registered_unix_ns: record.since_unix_ns,
                reregistered_unix_ns: None,
                admitted: Position(0),
                tasks: BTreeMap::new(),
                executors: BTreeSet::new(),
                offers: BTreeSet::new(),
                operations: BTreeMap::new(),
            };
            master.frameworks.insert(id.clone(), framework);
            master.start_failover(now, id, floor);
            master.view_framework(id);
        }
        for (id, record) in &registry.agents {
            let Some(info) = record.info.clone() else { continue };
            if record.state() == agent_record::State::Gone {
                master.remember_gone(info, record.since_unix_ns);
                continue;
            }
            let unreachable = record.state() == agent_record::State::Unreachable;
            let configured = Resources::from_proto(&info.resources).unwrap_or_default();
            let total =
                Self::registered_total(&configured, &record.total_resources).unwrap_or(configured);
            let agent = Agent {
                id: id.clone(),
                info,
                version: String::new(),
                boot_id: record.boot_id.clone(),
                confirmed: total.clone(),
                total,
                doubtful: false,
                operations: BTreeMap::new(),
                link: None,
                admitted: Position(0),
                registered_unix_ns: record.since_unix_ns,
                last_launch: Launch::default(),
                ping_due_ns: 0,
                heard: false,
                silent_intervals: 0,
                removal: None,
                reregister_due_ns: None,
                since_unix_ns: now.unix_ns,
                unreachable_since_unix_ns: unreachable.then_some(record.since_unix_ns),
                tasks: BTreeSet::new(),
                executors: BTreeMap::new(),
                offers: BTreeSet::new(),
                ip: String::new(),
                deactivated: record.deactivated,
                drain: record.drain_info.map(|info| (info, record.drain_started_unix_ns)),
            };
            master.agents.insert(id.clone(), Box::new(agent));
            if unreachable {
                master.unreachable.insert((record.since_unix_ns, id.clone()));
            } else {
                master.recovered.insert(id.clone());
            }
            master.view_agent(id);
        }
        master.recover_placements(registry);
        master.recover_operations(registry);
        master.recover_orders(now, registry);
        master.recovered_at_first = master.recovered.len();
        master.timers.set(now.plus(floor), Timer::Recovery);
        master.await_pruning(now);
        master
    }

    fn recover_placements(&mut self, registry: &Registry) {
        for ((framework_id, id), placement) in &registry.placements {
            let Some(framework) = self.frameworks.get_mut(framework_id) else { continue };
            let Some(agent) = self.agents.get_mut(placement.agent_id.as_str()) else { continue };
            agent.tasks.insert((framework_id.clone(), id.clone()));
            let mut task = Task {
                framework: framework_id.clone(),
                id: id.clone(),
                agent: agent.id.clone(),
                role: placement.role.clone(),
                resources: Resources::from_proto(&placement.resources).unwrap_or_default(),
                launch: Launch { term: placement.launch_term, sequence: placement.launch_sequence },
                executor: None,
                described: false,
                state: TaskState::TaskStaging,
                last_status: None,
                unacknowledged: None,
                acknowledged: None,
                holds_resources: agent.unreachable_since_unix_ns.is_none(),
                kill: None,
                unreachable_since_unix_ns: agent.unreachable_since_unix_ns,
                counted: None,
            };
            // Of others their agents tell, when they are back.
            let given_up = task.unreachable_since_unix_ns.is_some();
            let view = given_up.then(|| {
                task.count(&mut self.statistics);
                ViewChange::Task(task.to_view(None))
            });
            framework.tasks.insert(id.clone(), task);
            if let Some(view) = view {
                self.view(view);
            }
        }
    }
}
