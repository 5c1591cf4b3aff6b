//! `mezzo stats TASK`.

use std::time::Duration;

use mezzo_sdk::v1::agent::{FeatureOff, StatisticsResponse, TaskStatistics};
use mezzo_sdk::{Master, is_terminal};
use serde::Serialize;

use crate::arguments::Global;
use crate::failure::Failure;
use crate::find;
use crate::output::{self, Format};
use crate::quantity::parse_duration;
use crate::usage::denial::Refusal;
use crate::usage::figures::{Figure, Figures, Place};

#[derive(Debug, clap::Args)]
pub(crate) struct StatsArguments {
    /// Id of the task.
    task: String,

    /// Time over which rates are measured.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,

    /// Id of the task's framework, needed where two frameworks have a task of that id.
    #[arg(long, value_name = "ID")]
    framework: Option<String>,
}

pub(crate) async fn stats(global: &Global, arguments: &StatsArguments) -> Result<(), Failure> {
    let master = Master::connect(&global.master).await?;
    let tasks = master.tasks().await?;
    let task = find::task(&tasks, &arguments.task, arguments.framework.as_deref())?;
    if is_terminal(task.state()) {
        return Err(Failure::new(format!("{} is over and uses nothing any more", arguments.task))
            .hint("`mezzo ps --all` shows how it ended"));
    }
    let agents = master.agents().await?;
    let hostname = agents.agents.iter().find_map(|agent| {
        let own = agent.agent_info.id.as_ref() == Some(&task.agent_id);
        own.then(|| agent.agent_info.hostname.clone())
    });
    let agent = find::agent(&master, &task.agent_id).await?;
    let only = || Some((task.framework_id.clone(), task.task_id.clone()));
    let before = agent.statistics(only()).await?;
    tokio::time::sleep(arguments.interval).await;
    let now = agent.statistics(only()).await?;
    let place =
        Place { agent_id: task.agent_id.value.clone(), hostname: hostname.unwrap_or_default() };
    let report = Report::new(&now, before.tasks.first(), &place);
    let Some(report) = report else {
        return Err(Failure::new(format!("{} has ended meanwhile", arguments.task)));
    };
    match global.output {
        Format::Json => output::print_text(&output::json(&[report])?),
        Format::Table => output::print(Format::Table, &report.lines()),
    }
}

/// Everything about one task.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    figures: Figures,
    /// The latest, oldest first.
    recent_denials: Vec<Refusal>,
    /// Why figures are null or estimates.
    features_off: Vec<Off>,
}

/// Something that the kernel does not do on the task's agent.
#[derive(Debug, Serialize)]
struct Off {
    name: String,
    reason: String,
    instead: String,
}

impl Report {
    fn new(
        now: &StatisticsResponse,
        before: Option<&TaskStatistics>,
        place: &Place,
    ) -> Option<Self> {
        let task = now.tasks.first()?;
        let off = |off: &FeatureOff| Off {
            name: off.name.clone(),
            reason: off.reason.clone(),
            instead: off.instead.clone(),
        };
        Some(Report {
            figures: Figures::new(task, before, place),
            recent_denials: task.denials.iter().filter_map(Refusal::new).collect(),
            features_off: now.features_off.iter().map(off).collect(),
        })
    }

    fn lines(&self) -> Vec<Figure> {
        let mut lines = self.figures.lines();
        let now = self.figures.timestamp();
        lines.extend(self.recent_denials.iter().map(|denial| denial.line(now)));
        lines.extend(self.features_off.iter().map(Off::line));
        lines
    }
}

impl Off {
    fn line(&self) -> Figure {
        let Off { name, reason, instead } = self;
        Figure::new("off", format!("{name}: {instead}, for {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use mezzo_sdk::v1::agent::{Denial, PortDenial, denial};

    use super::*;
    use crate::output::Row;

    #[test]
    fn a_report_has_refusals_and_what_is_off() {
        let port = PortDenial { protocol: 17, port: 53, ..PortDenial::default() };
        let denial = Denial {
            command: "dns".to_owned(),
            enforced: true,
            what: Some(denial::What::Port(port)),
            ..Denial::default()
        };
        let task = TaskStatistics { denials: vec![denial], ..TaskStatistics::default() };
        let off = FeatureOff {
            name: "block".to_owned(),
            reason: "there is no such tracepoint".to_owned(),
            instead: "block I/O is not counted".to_owned(),
        };
        let now = StatisticsResponse { tasks: vec![task], features_off: vec![off] };
        let place = Place { agent_id: "S0".to_owned(), hostname: "node1".to_owned() };
        let report = Report::new(&now, None, &place).expect("of a task");
        let json = serde_json::to_value(&report).expect("json");
        assert_eq!(json["recent_denials"][0]["port"], 53);
        assert_eq!(json["features_off"][0]["name"], "block");
        assert_eq!(json["block_read_bytes"], serde_json::Value::Null);
        let lines = report.lines();
        let [.., denied, off] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(
            denied.cells(),
            ["denied", "0s ago: bind udp/ipv4 port 53 by dns (pid 0): refused"]
        );
        assert_eq!(
            off.cells(),
            ["off", "block: block I/O is not counted, for there is no such tracepoint"]
        );
    }
}
