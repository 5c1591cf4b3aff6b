//! Machines and schedules, as operators name them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use mezzo_proto::v1;
use mezzo_proto::v1::maintenance::Schedule;

/// A machine: host name in lower case, and address. An empty part is any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MachineKey {
    pub(crate) hostname: String,
    pub(crate) ip: String,
}

impl MachineKey {
    pub(crate) fn to_proto(&self) -> v1::MachineId {
        let part = |text: &String| (!text.is_empty()).then(|| text.clone());
        v1::MachineId { hostname: part(&self.hostname), ip: part(&self.ip) }
    }
}

impl From<&v1::MachineId> for MachineKey {
    fn from(id: &v1::MachineId) -> Self {
        Self {
            hostname: id.hostname.as_deref().unwrap_or_default().to_lowercase(),
            ip: id.ip.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for MachineKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.hostname.as_str(), self.ip.as_str()) {
            (hostname, "") => write!(f, "{hostname}"),
            ("", ip) => write!(f, "{ip}"),
            (hostname, ip) => write!(f, "{hostname}/{ip}"),
        }
    }
}

/// Checks a list of machines to be brought down or up.
pub(crate) fn machines(ids: &[v1::MachineId]) -> Result<Vec<MachineKey>, String> {
    if ids.is_empty() {
        return Err("the list of machines is empty: name at least one".to_owned());
    }
    let mut seen = BTreeSet::new();
    ids.iter().map(|id| machine(id, &mut seen)).collect()
}

/// Checks a schedule by itself, and makes it uniform: host names in lower case.
pub(crate) fn schedule(schedule: Schedule) -> Result<Schedule, String> {
    let mut schedule = schedule;
    let mut seen = BTreeSet::new();
    for window in &mut schedule.windows {
        if window.machine_ids.is_empty() {
            return Err("a maintenance window has no machine_ids: name at least one".to_owned());
        }
        let duration = window.unavailability.duration.map_or(0, |d| d.nanoseconds);
        if duration < 0 {
            return Err(format!(
                "unavailability.duration of a window is {duration} ns: it must not be negative"
            ));
        }
        for id in &mut window.machine_ids {
            *id = machine(id, &mut seen)?.to_proto();
        }
    }
    Ok(schedule)
}

fn machine(id: &v1::MachineId, seen: &mut BTreeSet<MachineKey>) -> Result<MachineKey, String> {
    let key = MachineKey::from(id);
    if key.hostname.is_empty() && key.ip.is_empty() {
        return Err("a machine has neither hostname nor ip: one of both must be set".to_owned());
    }
    if !key.ip.is_empty() && key.ip.parse::<Ipv4Addr>().is_err() {
        return Err(format!(
            "ip of machine '{key}' is '{}': it must be an IPv4 address, such as 10.0.0.7",
            key.ip
        ));
    }
    if !seen.insert(key.clone()) {
        return Err(format!("machine '{key}' appears twice: each machine may appear once"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(hostname: &str, ip: &str) -> v1::MachineId {
        v1::MachineId { hostname: Some(hostname.to_owned()), ip: Some(ip.to_owned()) }
    }

    #[test]
    fn machines_are_named_once_by_something() {
        assert!(machines(&[]).is_err_and(|e| e.contains("empty")));
        assert!(machines(&[id("", "")]).is_err_and(|e| e.contains("neither")));
        assert!(machines(&[id("a", "10.0.0")]).is_err_and(|e| e.contains("IPv4")));
        assert!(machines(&[id("A", ""), id("a", "")]).is_err_and(|e| e.contains("twice")));
        let keys = machines(&[id("Host", "10.0.0.7"), id("host", "10.0.0.8")]).expect("valid");
        assert_eq!(keys[0].to_string(), "host/10.0.0.7");
    }

    #[test]
    fn windows_have_machines_and_no_negative_length() {
        let window = |machine_ids, ns| v1::maintenance::Window {
            machine_ids,
            unavailability: v1::Unavailability {
                start: v1::TimeInfo { nanoseconds: 0 },
                duration: Some(v1::DurationInfo { nanoseconds: ns }),
            },
        };
        let check = |windows| schedule(Schedule { windows });
        assert!(check(vec![window(vec![], 0)]).is_err_and(|e| e.contains("no machine_ids")));
        assert!(check(vec![window(vec![id("a", "")], -1)]).is_err_and(|e| e.contains("negative")));
        let twice = vec![window(vec![id("a", "")], 0), window(vec![id("A", "")], 0)];
        assert!(check(twice).is_err_and(|e| e.contains("twice")));
        let clean = check(vec![window(vec![id("A", "")], 0)]).expect("valid");
        assert_eq!(clean.windows[0].machine_ids[0].hostname.as_deref(), Some("a"));
        assert_eq!(clean.windows[0].machine_ids[0].ip, None);
    }
}
