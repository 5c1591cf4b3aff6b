//! What the readers' copy of the state knows in numbers: resources, and frameworks one by one.

use std::fmt::Write;

use mezzo_master_core::{FrameworkCounts, Statistics};
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::offer::operation::Type as OperationType;
use mezzo_proto::v1::scheduler::{call, event};
use mezzo_telemetry::{Metrics, Readings};
use mezzo_types::{Quantities, is_terminal};
use tokio::sync::watch;

use crate::view::{FrameworkFigures, Totals, View};

/// The resources that Mesos has gauges for.
const RESOURCES: [&str; 4] = ["cpus", "gpus", "mem", "disk"];
/// Those that its allocator has gauges for.
const ALLOCATOR_RESOURCES: [&str; 3] = ["cpus", "mem", "disk"];

/// Each framework has some seventy metrics. Where there are more frameworks than this none has any, lest an answer
/// of kilobytes become one of many megabytes.
const FRAMEWORKS_MAX: usize = 256;

/// Makes the endpoints show resources, frameworks, and how many listen to operator events.
pub(crate) fn register_view(
    metrics: &Metrics,
    view: View,
    statistics: watch::Receiver<Statistics>,
) {
    metrics.source(move |readings| {
        readings.gauge("master/operator_event_stream_subscribers", view.subscribers() as f64);
        read_resources(&view.totals(), readings);
        let counted = statistics.borrow().frameworks.clone();
        for framework in view.framework_figures(FRAMEWORKS_MAX) {
            let counts = counted.get(&framework.id);
            read_framework(&framework, counts.map(|counts| &**counts), readings);
        }
    });
}

fn read_resources(totals: &Totals, readings: &mut Readings) {
    let Totals { total, used, offered } = totals;
    for (infix, total, used) in
        [("", &total.firm, &used.firm), ("revocable_", &total.revocable, &used.revocable)]
    {
        for name in RESOURCES {
            let (total, used) = (amount(total, name), amount(used, name));
            readings.gauge(format!("master/{name}_{infix}total"), total);
            readings.gauge(format!("master/{name}_{infix}used"), used);
            // Of nothing, nothing is used.
            let share = if total == 0.0 { 0.0 } else { used / total };
            readings.gauge(format!("master/{name}_{infix}percent"), share);
        }
    }
    for name in ALLOCATOR_RESOURCES {
        let sum = |of: &[&Quantities]| of.iter().map(|amounts| amount(amounts, name)).sum();
        let taken = [&used.firm, &used.revocable, &offered.firm, &offered.revocable];
        let below = format!("allocator/mesos/resources/{name}");
        readings.gauge(format!("{below}/total"), sum(&[&total.firm, &total.revocable]));
        readings.gauge(format!("{below}/offered_or_allocated"), sum(&taken));
    }
}

fn amount(amounts: &Quantities, name: &str) -> f64 {
    amounts.get(&name.into()).to_f64()
}

/// `counts` is `None` for a framework that did not subscribe since this master took the lead: it did nothing.
fn read_framework(
    framework: &FrameworkFigures,
    counts: Option<&FrameworkCounts>,
    readings: &mut Readings,
) {
    let none = FrameworkCounts::default();
    let counts = counts.unwrap_or(&none);
    let prefix = format!("master/frameworks/{}/{}", encode(&framework.name), framework.id);
    readings.gauge(format!("{prefix}/subscribed"), f64::from(u8::from(framework.subscribed)));
    for (name, of, type_name) in [
        ("calls", &counts.calls()[..], call_name as fn(i32) -> Option<&'static str>),
        ("events", &counts.events()[..], event_name),
        ("operations", &counts.operations()[..], operation_name),
    ] {
        let mut all = 0;
        for (number, count) in (0..).zip(of) {
            // Number 0 is what is not known.
            let Some(kind) = type_name(number).filter(|_| number != 0) else { continue };
            all += count.get();
            readings.counter(format!("{prefix}/{name}/{}", kind.to_lowercase()), count.get());
        }
        readings.counter(format!("{prefix}/{name}"), all);
    }
    for (name, count) in [
        ("sent", &counts.offers_sent),
        ("accepted", &counts.offers_accepted),
        ("declined", &counts.offers_declined),
        ("rescinded", &counts.offers_rescinded),
    ] {
        readings.counter(format!("{prefix}/offers/{name}"), count.get());
    }
    for (number, (now, ended)) in (0..).zip(framework.tasks.iter().zip(counts.endings())) {
        let Ok(state) = TaskState::try_from(number) else { continue };
        let name = state.as_str_name().to_lowercase();
        if is_terminal(state) {
            readings.counter(format!("{prefix}/tasks/terminal/{name}"), ended.get());
        } else {
            readings.gauge(format!("{prefix}/tasks/active/{name}"), *now as f64);
        }
    }
}

fn call_name(number: i32) -> Option<&'static str> {
    call::Type::try_from(number).ok().map(|kind| kind.as_str_name())
}

fn event_name(number: i32) -> Option<&'static str> {
    event::Type::try_from(number).ok().map(|kind| kind.as_str_name())
}

fn operation_name(number: i32) -> Option<&'static str> {
    OperationType::try_from(number).ok().map(|kind| kind.as_str_name())
}

/// As Mesos encodes a framework's name for its metrics: `%` and two digits for what means something in a URL, for
/// controls and for what is not ASCII.
fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        let special = b"$&+,/:;=?@ \"<>#%{}|\\^~[]`".contains(&byte);
        if special || !(0x20..=0x7f).contains(&byte) {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        } else {
            encoded.push(char::from(byte));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_as_mesos_does() {
        assert_eq!(encode("my-app_1.0 (é)/x~"), "my-app_1.0%20(%C3%A9)%2Fx%7E");
    }
}
