//! `mezzo top`.

use std::cmp::Reverse;
use std::time::Duration;

use mezzo_sdk::Master;

use crate::arguments::Global;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::output::{self, Format};
use crate::quantity::parse_duration;
use crate::usage::figures::Figures;
use crate::usage::screen::Screen;
use crate::usage::survey::{Seen, Survey};

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    Cpus,
    Mem,
    /// Bytes a second over the network.
    Net,
    /// Bytes a second to and from block devices.
    Io,
    /// Refused ports and devices.
    Denials,
    Task,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TopArguments {
    /// Time between two looks; rates are of this time.
    #[arg(short, long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    interval: Duration,

    /// End after so many looks; without it, with Ctrl-C.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// What comes first.
    #[arg(short, long, value_enum, default_value_t = Sort::Cpus)]
    sort: Sort,

    /// Only the tasks of the agent of this id or host name.
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
}

pub(crate) async fn top(global: &Global, arguments: &TopArguments) -> Result<(), Failure> {
    let master = Master::connect(&global.master).await?;
    let mut interrupts = Interrupts::listen()?;
    let mut screen = Screen::open();
    let mut survey = Survey::default();
    let mut left = arguments.count;
    loop {
        let mut seen = tokio::select! {
            // Both arms are cancel-safe: what was asked in vain is asked again, or never.
            seen = survey.look(&master, arguments.agent.as_deref()) => seen?,
            _ = interrupts.next() => return Ok(()),
        };
        if seen.compared {
            arguments.sort.order(&mut seen.tasks);
            match global.output {
                Format::Json => output::print(Format::Json, &seen.tasks)?,
                Format::Table => screen.show(&heading(&seen), &seen.tasks)?,
            }
            left = left.map(|left| left - 1);
            if left == Some(0) {
                return Ok(());
            }
        }
        tokio::select! {
            () = tokio::time::sleep(arguments.interval) => {}
            _ = interrupts.next() => return Ok(()),
        }
    }
}

impl Sort {
    fn order(self, tasks: &mut [Figures]) {
        match self {
            Sort::Cpus => most_first(tasks, Figures::cpus),
            Sort::Mem => tasks.sort_by_key(|task| Reverse(task.mem_bytes())),
            Sort::Net => most_first(tasks, |task| task.kernel().net_per_second()),
            Sort::Io => most_first(tasks, |task| task.kernel().block_per_second()),
            Sort::Denials => most_first(tasks, |task| task.denials() as f64),
            Sort::Task => tasks.sort_by(|a, b| a.task_id().cmp(b.task_id())),
        }
    }
}

fn most_first(tasks: &mut [Figures], amount: impl Fn(&Figures) -> f64) {
    tasks
        .sort_by(|a, b| amount(b).total_cmp(&amount(a)).then_with(|| a.task_id().cmp(b.task_id())));
}

fn heading(seen: &Seen) -> String {
    let cpus: f64 = seen.tasks.iter().map(Figures::cpus).sum();
    let (tasks, agents) = (seen.tasks.len(), seen.agents);
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let mut text = format!(
        "{tasks} task{} on {agents} agent{}, {cpus:.2} cpus used",
        plural(tasks),
        plural(agents)
    );
    if !seen.silent.is_empty() {
        text.push_str(&format!("; no answer from {}", seen.silent.join(", ")));
    }
    if seen.partial > 0 {
        let agents = seen.partial;
        text.push_str(&format!("; {agents} agent{} cannot count all of it", plural(agents)));
    }
    text
}
