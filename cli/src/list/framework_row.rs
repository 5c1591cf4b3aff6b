//! A line of `mezzo frameworks`.

use std::collections::HashMap;

use mezzo_sdk::v1::FrameworkInfo;
use mezzo_sdk::v1::master::response::get_frameworks::Framework;
use serde::Serialize;

use crate::list::amount;
use crate::output::Row;
use crate::quantity;

/// The JSON form of a framework. Times are seconds since 1970.
#[derive(Debug, Serialize)]
pub(crate) struct FrameworkRow {
    framework_id: String,
    name: String,
    user: String,
    /// Separated by commas.
    roles: String,
    principal: Option<String>,
    hostname: Option<String>,
    webui_url: Option<String>,
    /// `active`: connected, gets offers. `inactive`: connected, gets none. `disconnected`: its
    /// tasks run on until its failover timeout. `recovered`: known to the registry, and has not
    /// come back since the master took over. `completed`: over.
    state: &'static str,
    failover_timeout_seconds: f64,
    registered: Option<f64>,
    active_tasks: usize,
    cpus_allocated: f64,
    mem_mb_allocated: f64,
    disk_mb_allocated: f64,
    offers: usize,

    #[serde(skip)]
    age_seconds: Option<f64>,
}

impl FrameworkRow {
    pub(crate) fn new(
        framework: &Framework,
        completed: bool,
        active_tasks: &HashMap<&str, usize>,
        now: f64,
    ) -> Self {
        let info = &framework.framework_info;
        let id = info.id.as_ref().map(|id| id.value.clone()).unwrap_or_default();
        let registered = framework
            .registered_time
            .as_ref()
            .filter(|time| time.nanoseconds > 0)
            .map(|time| time.nanoseconds as f64 / 1e9);
        FrameworkRow {
            active_tasks: active_tasks.get(id.as_str()).copied().unwrap_or(0),
            framework_id: id,
            name: info.name.clone(),
            user: info.user.clone(),
            roles: roles(info).join(","),
            principal: info.principal.clone(),
            hostname: info.hostname.clone(),
            webui_url: info.webui_url.clone(),
            state: state(framework, completed),
            failover_timeout_seconds: info.failover_timeout(),
            registered,
            cpus_allocated: quantity::scalar(&framework.allocated_resources, "cpus"),
            mem_mb_allocated: quantity::scalar(&framework.allocated_resources, "mem"),
            disk_mb_allocated: quantity::scalar(&framework.allocated_resources, "disk"),
            offers: framework.offers.len(),
            age_seconds: registered.map(|registered| now - registered),
        }
    }
}

fn state(framework: &Framework, completed: bool) -> &'static str {
    if completed {
        "completed"
    } else if framework.recovered {
        "recovered"
    } else if !framework.connected {
        "disconnected"
    } else if framework.active {
        "active"
    } else {
        "inactive"
    }
}

/// Frameworks without the MULTI_ROLE capability have one role, `*` if they name none.
#[expect(deprecated, reason = "frameworks of old clients carry `role`")]
fn roles(info: &FrameworkInfo) -> Vec<String> {
    if info.roles.is_empty() {
        vec![info.role.clone().unwrap_or_else(|| "*".to_owned())]
    } else {
        info.roles.clone()
    }
}

impl Row for FrameworkRow {
    const HEADINGS: &'static [&'static str] =
        &["FRAMEWORK", "NAME", "USER", "ROLES", "STATE", "SINCE", "TASKS", "CPUS", "MEM"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.framework_id.clone(),
            self.name.clone(),
            self.user.clone(),
            self.roles.clone(),
            self.state.to_owned(),
            self.age_seconds.map_or_else(|| "-".to_owned(), quantity::age),
            self.active_tasks.to_string(),
            amount(self.cpus_allocated),
            format!("{} MB", amount(self.mem_mb_allocated)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use mezzo_sdk::v1;

    use super::*;

    fn framework(connected: bool, active: bool, recovered: bool) -> Framework {
        Framework {
            framework_info: FrameworkInfo {
                name: "web".to_owned(),
                user: "nobody".to_owned(),
                id: Some(v1::FrameworkId { value: "f-1".to_owned() }),
                failover_timeout: Some(60.0),
                ..Default::default()
            },
            connected,
            active,
            recovered,
            ..Default::default()
        }
    }

    #[test]
    fn states() {
        for (connected, active, recovered, completed, expect) in [
            (true, true, false, false, "active"),
            (true, false, false, false, "inactive"),
            (false, false, false, false, "disconnected"),
            (false, false, true, false, "recovered"),
            (false, false, false, true, "completed"),
        ] {
            assert_eq!(state(&framework(connected, active, recovered), completed), expect);
        }
    }

    #[test]
    fn tasks_are_counted_and_the_default_role_is_named() {
        let tasks = HashMap::from([("f-1", 3)]);
        let row = FrameworkRow::new(&framework(true, true, false), false, &tasks, 0.0);
        let cells = row.cells();
        assert_eq!(cells.len(), FrameworkRow::HEADINGS.len());
        assert_eq!(cells, ["f-1", "web", "nobody", "*", "active", "-", "3", "0", "0 MB"]);
        let json = serde_json::to_value(&row).expect("json");
        assert_eq!(json["failover_timeout_seconds"], 60.0);
        assert_eq!(json["registered"], serde_json::Value::Null);
    }
}
