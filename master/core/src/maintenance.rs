//! Maintenance of machines: planned, begun, and ended by operators.
//!
//! A machine that is not in the schedule is up. One that is in it is *draining*: offers of its agents
//! say when it will be unavailable, and frameworks are asked to leave (`inverse_offers`); nothing is
//! enforced. From START_MAINTENANCE to STOP_MAINTENANCE it is *down*: its agents are removed, and
//! refused when they come.

use std::collections::BTreeMap;

use mezzo_proto::storage::v1::PutMaintenance;
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::v1;
use mezzo_proto::v1::machine_info::Mode;
use mezzo_proto::v1::maintenance::cluster_status::DrainingMachine;
use mezzo_proto::v1::maintenance::{ClusterStatus, Schedule};
use mezzo_types::{AgentId, Now, Position};

use crate::agent::Agent;
use crate::effect::{Refusal, ViewChange};
use crate::links::downed;
use crate::master::Master;
use crate::order::Outcome;
use crate::registry::Registry;
use crate::validation::{self, MachineKey};

/// What is planned, and the machines that are not simply up.
#[derive(Debug, Default)]
pub(crate) struct Maintenance {
    pub(crate) schedule: Schedule,
    machines: BTreeMap<MachineKey, Machine>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Machine {
    down: bool,
    unavailability: v1::Unavailability,
}

impl Maintenance {
    /// The entry that names the agent's machine: by host name and address, or by one of both.
    fn find(&self, hostname: &str, ip: &str) -> Option<(&MachineKey, &Machine)> {
        if self.machines.is_empty() {
            return None;
        }
        let hostname = hostname.to_lowercase();
        let names = [(hostname.as_str(), ip), (hostname.as_str(), ""), ("", ip)];
        names.into_iter().filter(|names| *names != ("", "")).find_map(|(hostname, ip)| {
            let key = MachineKey { hostname: hostname.to_owned(), ip: ip.to_owned() };
            self.machines.get_key_value(&key)
        })
    }

    pub(crate) fn machine_of(&self, agent: &Agent) -> Option<MachineKey> {
        self.find(&agent.info.hostname, &agent.ip).map(|(key, _)| key.clone())
    }

    pub(crate) fn unavailability(&self, agent: &Agent) -> Option<v1::Unavailability> {
        self.find(&agent.info.hostname, &agent.ip).map(|(_, machine)| machine.unavailability)
    }

    fn is_down(&self, hostname: &str, ip: &str) -> bool {
        self.find(hostname, ip).is_some_and(|(_, machine)| machine.down)
    }

    fn to_record(&self) -> PutMaintenance {
        let info = |(key, machine): (&MachineKey, &Machine)| v1::MachineInfo {
            id: key.to_proto(),
            mode: Some(if machine.down { Mode::Down } else { Mode::Draining } as i32),
            unavailability: Some(machine.unavailability),
        };
        PutMaintenance {
            schedule: Some(self.schedule.clone()),
            machines: self.machines.iter().map(info).collect(),
        }
    }

    fn of_record(record: &PutMaintenance) -> Self {
        let machines = record.machines.iter().map(|info| {
            let down = info.mode() == Mode::Down;
            let unavailability = info.unavailability.unwrap_or_default();
            (MachineKey::from(&info.id), Machine { down, unavailability })
        });
        Self { schedule: record.schedule.clone().unwrap_or_default(), machines: machines.collect() }
    }
}

impl Master {
    /// UPDATE_MAINTENANCE_SCHEDULE: machines that are new in it begin to drain, those that left it are
    /// up. One that is down cannot leave it.
    pub(crate) fn update_schedule(&mut self, now: Now, schedule: Schedule) -> Outcome {
        let schedule = validation::schedule(schedule).map_err(Refusal::BadRequest)?;
        let mut machines = BTreeMap::new();
        for window in &schedule.windows {
            for id in &window.machine_ids {
                let key = MachineKey::from(id);
                let down = self.maintenance.machines.get(&key).is_some_and(|known| known.down);
                machines.insert(key, Machine { down, unavailability: window.unavailability });
            }
        }
        let mut known = self.maintenance.machines.iter();
        if let Some((key, _)) = known.find(|(key, m)| m.down && !machines.contains_key(*key)) {
            return Err(Refusal::BadRequest(format!(
                "machine '{key}' is down and cannot be removed from the schedule: bring it up first \
                 with STOP_MAINTENANCE"
            )));
        }
        let before = std::mem::replace(&mut self.maintenance, Maintenance { schedule, machines });
        let position = self.put_maintenance();
        self.plans_changed(now, &before);
        Ok(position)
    }

    /// START_MAINTENANCE of machines that drain.
    pub(crate) fn start_maintenance(&mut self, now: Now, ids: &[v1::MachineId]) -> Outcome {
        let keys = self.scheduled(ids)?;
        let is_down =
            |key: &&MachineKey| self.maintenance.machines.get(*key).is_some_and(|m| m.down);
        if let Some(key) = keys.iter().find(is_down) {
            return Err(Refusal::BadRequest(format!(
                "machine '{key}' is not in DRAINING mode and cannot be brought down: it is down already"
            )));
        }
        for key in &keys {
            if let Some(machine) = self.maintenance.machines.get_mut(key) {
                machine.down = true;
            }
        }
        let mut position = self.put_maintenance();
        let down = |agent: &&Agent| self.maintenance.is_down(&agent.info.hostname, &agent.ip);
        // Those that are given up are refused when they come.
        let present = self
            .agents
            .values()
            .map(|agent| &**agent)
            .filter(|a| a.unreachable_since_unix_ns.is_none());
        let agents: Vec<AgentId> = present.filter(down).map(|agent| agent.id.clone()).collect();
        for agent in agents {
            self.remove_downed(now, &agent);
            position = self.everything_so_far();
        }
        self.view_maintenance();
        Ok(position)
    }

    /// STOP_MAINTENANCE of machines that are down.
    pub(crate) fn stop_maintenance(&mut self, ids: &[v1::MachineId]) -> Outcome {
        let keys = self.scheduled(ids)?;
        let is_up = |key: &&MachineKey| self.maintenance.machines.get(*key).is_none_or(|m| !m.down);
        if let Some(key) = keys.iter().find(is_up) {
            return Err(Refusal::BadRequest(format!(
                "machine '{key}' is not in DOWN mode and cannot be brought up: it drains as yet; to \
                 call its maintenance off, take it from the schedule"
            )));
        }
        for key in &keys {
            self.maintenance.machines.remove(key);
        }
        for window in &mut self.maintenance.schedule.windows {
            window.machine_ids.retain(|id| !keys.contains(&MachineKey::from(id)));
        }
        self.maintenance.schedule.windows.retain(|window| !window.machine_ids.is_empty());
        let position = self.put_maintenance();
        self.view_maintenance();
        Ok(position)
    }

    /// The machines, each of which is in the schedule.
    fn scheduled(&self, ids: &[v1::MachineId]) -> Result<Vec<MachineKey>, Refusal> {
        let keys = validation::machines(ids).map_err(Refusal::BadRequest)?;
        match keys.iter().find(|key| !self.maintenance.machines.contains_key(*key)) {
            None => Ok(keys),
            Some(key) => Err(Refusal::BadRequest(format!(
                "machine '{key}' is not part of a maintenance schedule: put it there first with \
                 UPDATE_MAINTENANCE_SCHEDULE, by the same hostname and ip"
            ))),
        }
    }

    fn put_maintenance(&mut self) -> Position {
        self.persist(CommandKind::PutMaintenance(self.maintenance.to_record()))
    }

    /// Offers that say something else now are taken back; whoever was asked to leave is asked anew.
    fn plans_changed(&mut self, now: Now, before: &Maintenance) {
        let changed: Vec<AgentId> = self
            .agents
            .values()
            .filter(|agent| before.unavailability(agent) != self.maintenance.unavailability(agent))
            .map(|agent| agent.id.clone())
            .collect();
        for agent in changed {
            self.rescind_offers_of_agent(now, &agent);
            self.rescind_inverse_offers_of_agent(&agent);
            self.inverse_offers.look_at(&agent);
        }
        self.view_maintenance();
    }

    /// When the agent will not be there, if that is planned.
    pub(crate) fn unavailability_of(&self, agent: &AgentId) -> Option<v1::Unavailability> {
        self.maintenance.unavailability(self.agents.get(agent)?)
    }

    /// Why an agent may not register, and whether it is to end its tasks: its machine is down. One
    /// that is known is removed.
    pub(crate) fn machine_is_down(
        &mut self,
        now: Now,
        info: &v1::AgentInfo,
        ip: &str,
        known: Option<&AgentId>,
    ) -> Option<(String, bool)> {
        if !self.maintenance.is_down(&info.hostname, ip) {
            return None;
        }
        let Some(id) = known else {
            // It has no tasks. It tries again until its machine is up.
            let message = "the machine is down for maintenance: an agent may join once it is up \
                           (`mezzo maintenance stop`)";
            return Some((message.to_owned(), false));
        };
        self.remove_downed(now, id);
        Some((downed(id), true))
    }

    pub(crate) fn recover_maintenance(&mut self, registry: &Registry) {
        self.maintenance = Maintenance::of_record(&registry.maintenance);
        self.view_maintenance();
    }

    pub(crate) fn view_maintenance(&mut self) {
        let mut status = ClusterStatus::default();
        for (key, machine) in &self.maintenance.machines {
            if machine.down {
                status.down_machines.push(key.to_proto());
                continue;
            }
            let statuses = self.inverse_offers.answers_for(key);
            status.draining_machines.push(DrainingMachine { id: key.to_proto(), statuses });
        }
        let schedule = self.maintenance.schedule.clone();
        self.view(ViewChange::Maintenance { schedule, status });
    }
}
