//! A line of `mezzo agents`.

use mezzo_sdk::v1::master::response::get_agents::{Agent, Away};
use mezzo_sdk::v1::{AgentInfo, DrainState, TimeInfo};
use serde::Serialize;

use crate::list::amount;
use crate::output::Row;
use crate::quantity;

/// The JSON form of an agent. Times are seconds since 1970.
#[derive(Debug, Serialize)]
pub(crate) struct AgentRow {
    agent_id: String,
    hostname: String,
    port: i32,
    /// `active`: connected, gets tasks. `deactivated`: connected, gets none, by an operator's
    /// order. `draining`: its tasks are being ended, by an operator's order; `drained`: they have
    /// ended. `disconnected`: not connected, and expected back. `recovering`: known to the registry,
    /// and has not come back since the master took over. `unreachable`: silent or away for too long,
    /// welcome when it returns. `gone`: marked so by an operator, and barred.
    state: &'static str,
    /// Since when it is in that state, where the master says it.
    since: Option<f64>,
    version: Option<String>,
    registered: Option<f64>,
    cpus: f64,
    cpus_allocated: f64,
    cpus_offered: f64,
    mem_mb: f64,
    mem_mb_allocated: f64,
    mem_mb_offered: f64,
    disk_mb: f64,
    disk_mb_allocated: f64,
    disk_mb_offered: f64,
    ports: String,
    ports_allocated: String,

    #[serde(skip)]
    age_seconds: Option<f64>,
}

impl AgentRow {
    pub(crate) fn known(agent: &Agent, now: f64) -> Self {
        let drain = agent.drain_info.as_ref().map(|info| info.state());
        let state = if drain == Some(DrainState::Draining) {
            "draining"
        } else if drain == Some(DrainState::Drained) {
            "drained"
        } else if agent.deactivated == Some(true) {
            "deactivated"
        } else if agent.active {
            "active"
        } else {
            "disconnected"
        };
        let registered = agent
            .reregistered_time
            .as_ref()
            .or(agent.registered_time.as_ref())
            .map(|time| seconds(*time));
        let since = agent.disconnected_time.map(seconds).or(registered);
        let total = &agent.total_resources;
        let allocated = &agent.allocated_resources;
        let offered = &agent.offered_resources;
        AgentRow {
            state,
            since,
            version: Some(agent.version.clone()).filter(|version| !version.is_empty()),
            registered,
            cpus: quantity::scalar(total, "cpus"),
            cpus_allocated: quantity::scalar(allocated, "cpus"),
            cpus_offered: quantity::scalar(offered, "cpus"),
            mem_mb: quantity::scalar(total, "mem"),
            mem_mb_allocated: quantity::scalar(allocated, "mem"),
            mem_mb_offered: quantity::scalar(offered, "mem"),
            disk_mb: quantity::scalar(total, "disk"),
            disk_mb_allocated: quantity::scalar(allocated, "disk"),
            disk_mb_offered: quantity::scalar(offered, "disk"),
            ports: quantity::ports(total),
            ports_allocated: quantity::ports(allocated),
            age_seconds: since.map(|since| now - since),
            ..AgentRow::recovered(&agent.agent_info)
        }
    }

    pub(crate) fn recovered(info: &AgentInfo) -> Self {
        AgentRow {
            agent_id: info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default(),
            hostname: info.hostname.clone(),
            port: info.port(),
            state: "recovering",
            since: None,
            version: None,
            registered: None,
            cpus: quantity::scalar(&info.resources, "cpus"),
            cpus_allocated: 0.0,
            cpus_offered: 0.0,
            mem_mb: quantity::scalar(&info.resources, "mem"),
            mem_mb_allocated: 0.0,
            mem_mb_offered: 0.0,
            disk_mb: quantity::scalar(&info.resources, "disk"),
            disk_mb_allocated: 0.0,
            disk_mb_offered: 0.0,
            ports: quantity::ports(&info.resources),
            ports_allocated: String::new(),
            age_seconds: None,
        }
    }

    /// One that is not counted on.
    pub(crate) fn away(agent: &Away, state: &'static str, now: f64) -> Self {
        let since = agent.since.map(seconds);
        let age_seconds = since.map(|since| now - since);
        AgentRow { state, since, age_seconds, ..AgentRow::recovered(&agent.agent_info) }
    }

    pub(crate) fn order(&self) -> (&str, i32) {
        (&self.hostname, self.port)
    }
}

fn seconds(time: TimeInfo) -> f64 {
    time.nanoseconds as f64 / 1e9
}

impl Row for AgentRow {
    const HEADINGS: &'static [&'static str] =
        &["AGENT", "HOST", "STATE", "SINCE", "CPUS", "MEM", "DISK", "PORTS"];

    fn cells(&self) -> Vec<String> {
        let share = |used: f64, total: f64| format!("{} of {}", amount(used), amount(total));
        vec![
            self.agent_id.clone(),
            format!("{}:{}", self.hostname, self.port),
            self.state.to_owned(),
            self.age_seconds.map_or_else(|| "-".to_owned(), quantity::age),
            share(self.cpus_allocated, self.cpus),
            format!("{} MB", share(self.mem_mb_allocated, self.mem_mb)),
            format!("{} MB", share(self.disk_mb_allocated, self.disk_mb)),
            self.ports.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use mezzo_sdk::v1;

    use super::*;

    fn cpus(value: f64) -> v1::Resource {
        v1::Resource {
            name: "cpus".to_owned(),
            scalar: Some(v1::value::Scalar { value }),
            ..Default::default()
        }
    }

    fn agent() -> Agent {
        Agent {
            agent_info: AgentInfo {
                hostname: "node1".to_owned(),
                id: Some(v1::AgentId { value: "a-1".to_owned() }),
                ..Default::default()
            },
            active: true,
            version: "1.11.0".to_owned(),
            registered_time: Some(v1::TimeInfo { nanoseconds: 5_000_000_000 }),
            total_resources: vec![cpus(4.0)],
            allocated_resources: vec![cpus(0.5)],
            ..Default::default()
        }
    }

    #[test]
    fn an_active_agent() {
        let row = AgentRow::known(&agent(), 17.0);
        let cells = row.cells();
        assert_eq!(cells.len(), AgentRow::HEADINGS.len());
        assert_eq!(&cells[..5], ["a-1", "node1:5051", "active", "12s", "0.5 of 4"]);
        let json = serde_json::to_value(&row).expect("json");
        assert_eq!((&json["cpus"], &json["cpus_allocated"]), (&4.0.into(), &0.5.into()));
        assert_eq!(json["registered"], 5.0);
    }

    #[test]
    fn states() {
        let deactivated = Agent { deactivated: Some(true), ..agent() };
        assert_eq!(AgentRow::known(&deactivated, 0.0).state, "deactivated");
        for (state, name) in [(DrainState::Draining, "draining"), (DrainState::Drained, "drained")]
        {
            let info = v1::DrainInfo { state: state as i32, config: v1::DrainConfig::default() };
            let drained = Agent { drain_info: Some(info), ..deactivated.clone() };
            assert_eq!(AgentRow::known(&drained, 0.0).state, name);
        }
        let disconnected_time = Some(v1::TimeInfo { nanoseconds: 9_000_000_000 });
        let broken = Agent { active: false, disconnected_time, ..agent() };
        let row = AgentRow::known(&broken, 10.0);
        assert_eq!((row.state, row.since, row.age_seconds), ("disconnected", Some(9.0), Some(1.0)));
        let away = Away { agent_info: agent().agent_info, since: disconnected_time };
        let row = AgentRow::away(&away, "unreachable", 10.0);
        assert_eq!((row.state, row.since, row.age_seconds), ("unreachable", Some(9.0), Some(1.0)));
        assert_eq!(AgentRow::recovered(&agent().agent_info).state, "recovering");
    }
}
