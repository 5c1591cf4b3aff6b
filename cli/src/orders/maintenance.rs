//! `mezzo maintenance`.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use mezzo_sdk::v1;
use mezzo_sdk::v1::allocator::inverse_offer_status::Status;
use mezzo_sdk::v1::maintenance::{Schedule, Window};
use mezzo_sdk::v1::master::{Call, call};
use serde::Serialize;

use super::{call_of, invoke};
use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::{self, Row};
use crate::quantity::{self, parse_duration};

#[derive(Debug, Subcommand)]
pub(crate) enum MaintenanceCommand {
    /// Show what is planned, or plan when machines will be unavailable.
    Schedule(ScheduleArguments),
    /// Show the machines that are to be left or are down, and who agreed to leave.
    Status,
    /// Take planned machines down: their agents are removed, and refused until they are up.
    Start {
        #[arg(value_name = "MACHINE", required = true, value_parser = parse_machine)]
        machines: Vec<v1::MachineId>,
    },
    /// Bring machines up that are down.
    Stop {
        #[arg(value_name = "MACHINE", required = true, value_parser = parse_machine)]
        machines: Vec<v1::MachineId>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ScheduleArguments {
    /// Machines to plan for: HOST, HOST/IP or IP, as their agents name themselves. None: show what is
    /// planned.
    #[arg(value_name = "MACHINE", value_parser = parse_machine)]
    machines: Vec<v1::MachineId>,

    /// When they become unavailable, counted from now [default: now]
    #[arg(long = "in", value_name = "TIME", value_parser = parse_duration)]
    start_in: Option<Duration>,

    /// How long they are unavailable [default: for ever]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    lasts: Option<Duration>,

    /// Plan nothing for them any more.
    #[arg(long, requires = "machines", conflicts_with_all = ["start_in", "lasts"])]
    remove: bool,
}

pub(crate) async fn maintenance(
    global: &Global,
    command: MaintenanceCommand,
) -> Result<(), Failure> {
    match command {
        MaintenanceCommand::Schedule(arguments) => schedule(global, arguments).await,
        MaintenanceCommand::Status => status(global).await,
        MaintenanceCommand::Start { machines } => {
            let start = Some(call::StartMaintenance { machines });
            let call = Call { start_maintenance: start, ..call_of(call::Type::StartMaintenance) };
            invoke(global, call).await.map(|_| ())
        }
        MaintenanceCommand::Stop { machines } => {
            let stop = Some(call::StopMaintenance { machines });
            let call = Call { stop_maintenance: stop, ..call_of(call::Type::StopMaintenance) };
            invoke(global, call).await.map(|_| ())
        }
    }
}

async fn schedule(global: &Global, arguments: ScheduleArguments) -> Result<(), Failure> {
    let response = invoke(global, call_of(call::Type::GetMaintenanceSchedule)).await?;
    let known = response.get_maintenance_schedule.unwrap_or_default().schedule;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if arguments.machines.is_empty() {
        return output::print(global.output, &planned(&known, now.as_secs_f64()));
    }
    let window = (!arguments.remove).then(|| v1::Unavailability {
        start: v1::TimeInfo {
            nanoseconds: nanoseconds(now + arguments.start_in.unwrap_or_default()),
        },
        duration: arguments.lasts.map(|lasts| v1::DurationInfo { nanoseconds: nanoseconds(lasts) }),
    });
    let schedule = replanned(known, arguments.machines, window);
    let update = Some(call::UpdateMaintenanceSchedule { schedule });
    let kind = call_of(call::Type::UpdateMaintenanceSchedule);
    invoke(global, Call { update_maintenance_schedule: update, ..kind }).await.map(|_| ())
}

/// The schedule with these machines in one new window, or in none. Windows without machines go.
fn replanned(
    mut schedule: Schedule,
    machines: Vec<v1::MachineId>,
    window: Option<v1::Unavailability>,
) -> Schedule {
    for window in &mut schedule.windows {
        window.machine_ids.retain(|known| !machines.iter().any(|one| name(one) == name(known)));
    }
    schedule.windows.retain(|window| !window.machine_ids.is_empty());
    schedule
        .windows
        .extend(window.map(|unavailability| Window { machine_ids: machines, unavailability }));
    schedule
}

async fn status(global: &Global) -> Result<(), Failure> {
    let response = invoke(global, call_of(call::Type::GetMaintenanceStatus)).await?;
    let status = response.get_maintenance_status.unwrap_or_default().status;
    let draining = status.draining_machines.iter().map(|machine| {
        let answered = |wanted| {
            let of_kind = machine.statuses.iter().filter(move |s| s.status() == wanted);
            of_kind.map(|s| s.framework_id.value.clone()).collect()
        };
        StatusRow {
            machine: name(&machine.id),
            mode: "draining",
            accepted: answered(Status::Accept),
            declined: answered(Status::Decline),
        }
    });
    let down = status.down_machines.iter().map(|id| StatusRow {
        machine: name(id),
        mode: "down",
        accepted: Vec::new(),
        declined: Vec::new(),
    });
    output::print(global.output, &draining.chain(down).collect::<Vec<_>>())
}

fn planned(schedule: &Schedule, now: f64) -> Vec<PlanRow> {
    let mut rows = BTreeMap::new();
    for window in &schedule.windows {
        for id in &window.machine_ids {
            let start = window.unavailability.start.nanoseconds as f64 / 1e9;
            let duration = window.unavailability.duration.map(|d| d.nanoseconds as f64 / 1e9);
            let row = PlanRow { machine: name(id), start, duration_seconds: duration, now };
            rows.insert(name(id), row);
        }
    }
    rows.into_values().collect()
}

/// The JSON form of a planned machine. Times are seconds since 1970.
#[derive(Debug, Serialize)]
struct PlanRow {
    machine: String,
    start: f64,
    /// Null: for ever.
    duration_seconds: Option<f64>,

    #[serde(skip)]
    now: f64,
}

impl Row for PlanRow {
    const HEADINGS: &'static [&'static str] = &["MACHINE", "UNAVAILABLE", "FOR"];

    fn cells(&self) -> Vec<String> {
        let start = match self.start - self.now {
            ahead if ahead > 0.0 => format!("in {}", quantity::age(ahead)),
            past => format!("since {}", quantity::age(-past)),
        };
        let lasts = self.duration_seconds.map_or_else(|| "ever".to_owned(), quantity::age);
        vec![self.machine.clone(), start, lasts]
    }
}

/// The JSON form of a machine that is to be left or is down.
#[derive(Debug, Serialize)]
struct StatusRow {
    machine: String,
    /// `draining` or `down`.
    mode: &'static str,
    /// Ids of the frameworks that agreed to leave.
    accepted: Vec<String>,
    declined: Vec<String>,
}

impl Row for StatusRow {
    const HEADINGS: &'static [&'static str] = &["MACHINE", "MODE", "ACCEPTED", "DECLINED"];

    fn cells(&self) -> Vec<String> {
        let list = |ids: &[String]| match ids.is_empty() {
            true => "-".to_owned(),
            false => ids.join(","),
        };
        let (accepted, declined) = (list(&self.accepted), list(&self.declined));
        vec![self.machine.clone(), self.mode.to_owned(), accepted, declined]
    }
}

/// `HOST`, `IP` or `HOST/IP`.
fn name(id: &v1::MachineId) -> String {
    let parts = [id.hostname.as_deref().map(str::to_lowercase), id.ip.clone()];
    let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("/")
}

fn parse_machine(text: &str) -> Result<v1::MachineId, String> {
    let ip = |text: &str| text.parse::<std::net::Ipv4Addr>().is_ok();
    let id = |hostname: &str, ip: &str| {
        let part = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        v1::MachineId { hostname: part(hostname), ip: part(ip) }
    };
    match text.split_once('/') {
        Some((host, address)) if !host.is_empty() && ip(address) => Ok(id(host, address)),
        Some(_) => Err(format!("`{text}` is not HOST/IP, such as node7/10.0.0.7")),
        None if text.is_empty() => Err("a machine needs a name: HOST, HOST/IP or IP".to_owned()),
        None if ip(text) => Ok(id("", text)),
        None => Ok(id(text, "")),
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_read_and_shown_alike() {
        for text in ["node7", "node7/10.0.0.7", "10.0.0.7"] {
            assert_eq!(name(&parse_machine(text).expect(text)), text);
        }
        assert_eq!(parse_machine("10.0.0.7").expect("valid").hostname, None);
        for bad in ["", "/10.0.0.7", "node7/", "node7/x"] {
            assert!(parse_machine(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_machine_is_in_one_window_at_most() {
        let id = |text| parse_machine(text).expect("valid");
        let at = |nanoseconds| v1::Unavailability {
            start: v1::TimeInfo { nanoseconds },
            duration: None,
        };
        let both = vec![id("a"), id("b")];
        let schedule = Schedule {
            windows: vec![Window { machine_ids: both, unavailability: at(1_000_000_000) }],
        };
        let moved = replanned(schedule, vec![id("A")], Some(at(5_000_000_000)));
        let rows = planned(&moved, 3.0);
        let cells: Vec<_> = rows.iter().map(|row| row.cells().join(" ")).collect();
        assert_eq!(cells, ["a in 2s ever", "b since 2s ever"]);
        let removed = replanned(moved, vec![id("a"), id("b")], None);
        assert_eq!(removed.windows, []);
    }
}
