//! GET_STATE of a large cluster, read whole.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mezzo_sdk::v1::master::Response;
use prost::Message;

use super::http::{self, Encoding};
use super::load::{Load, Runs};
use super::stage::Stage;
use crate::conditions::Conditions;
use crate::counters;
use crate::result::{Baseline, Goal, Measurement, Times, median};

pub struct Size {
    pub agents: u32,
    pub tasks_per_agent: u32,
    pub frameworks: usize,
    pub reads: usize,
}

/// What tools ask for beside the whole state, from the dearest to the cheapest.
const PATHS: [(&str, &str); 5] = [
    ("/state", "api/legacy-state"),
    ("/frameworks", "api/legacy-frameworks"),
    ("/slaves", "api/legacy-slaves"),
    ("/state-summary", "api/legacy-summary"),
    ("/tasks?limit=1000", "api/legacy-tasks"),
];

const CALL: &str = r#"{"type":"GET_STATE"}"#;

pub async fn measure(size: &Size) -> Result<Vec<Measurement>> {
    let mut stage = Stage::set()?;
    let measured = on(&mut stage, size).await;
    measured.with_context(|| format!("logs: {}", stage.logs()))
}

async fn on(stage: &mut Stage, size: &Size) -> Result<Vec<Measurement>> {
    let mut load = Load::subscribe(stage.address(), size.frameworks, Runs::Forever).await?;
    eprintln!("  {} agents", size.agents);
    let slots = size.tasks_per_agent;
    stage.join(size.agents, &format!("cpus:{slots};mem:{}", slots * 1024))?;
    let tasks = u64::from(size.agents * size.tasks_per_agent);
    eprintln!("  {tasks} tasks");
    load.order(usize::try_from(tasks)?);
    load.until("all tasks to run", |counts| counts.started >= tasks).await?;
    let (master, simulators) = (stage.master()?, stage.simulators()?);
    // Before anything is read: answers leave their mark on the heap.
    let memory = [counters::resident_kib(master)?, counters::resident_kib(simulators)?];
    eprintln!("  reads");
    let address = stage.address().to_owned();
    let (agents, reads) = (size.agents as usize, size.reads);
    let read = move || -> Result<Vec<Measurement>> {
        check(&address, agents, usize::try_from(tasks)?)?;
        let conditions = Conditions::now()?;
        let mut rows = Vec::new();
        for (encoding, names) in [
            (
                Encoding::Protobuf,
                ["api/state", "api/state-p99", "api/state-first-byte", "api/state-bytes"],
            ),
            (
                Encoding::Json,
                [
                    "api/state-json",
                    "api/state-json-p99",
                    "api/state-json-first-byte",
                    "api/state-json-bytes",
                ],
            ),
        ] {
            let what = Read { address: &address, encoding, reads, tasks, names, master };
            rows.extend(what.measure(&conditions)?);
        }
        for (path, name) in PATHS {
            rows.push(path_row(&address, path, name, reads, &conditions)?);
        }
        Ok(rows)
    };
    let mut rows = tokio::task::spawn_blocking(read).await.context("reads ended early")??;
    rows.push(Measurement {
        name: "api/state-memory",
        value: (memory[0] - stage.empty_kib) / tasks as f64,
        unit: "KiB/task",
        goal: None,
        baseline: None,
        conditions: Conditions::now()?,
        note: format!(
            "resident memory of the master with {tasks} tasks on {} agents, beyond an empty one's, per task; the \
             simulated agents take {:.2}",
            size.agents,
            memory[1] / tasks as f64,
        ),
    });
    // 400,000 tasks are not torn down one by one: the cluster goes with all of them.
    Ok(rows)
}

/// An endpoint of Mesos before its v1 API.
fn path_row(
    address: &str,
    path: &str,
    name: &'static str,
    reads: usize,
    conditions: &Conditions,
) -> Result<Measurement> {
    let warm = http::get(address, path)?;
    let mut times = Vec::new();
    for _ in 0..reads {
        times.push(http::get(address, path)?.whole.as_secs_f64() * 1e3);
    }
    Ok(Measurement {
        name,
        value: median(&times),
        unit: "ms",
        goal: None,
        baseline: None,
        conditions: conditions.clone(),
        note: format!(
            "median of {reads} reads of {path}, {} bytes, with as many tasks; the first one, for which everything is \
             encoded, {:.1} ms",
            warm.bytes,
            warm.whole.as_secs_f64() * 1e3,
        ),
    })
}

/// What is read is the whole state.
fn check(address: &str, agents: usize, tasks: usize) -> Result<()> {
    let (mut chunks, mut body) = (http::Chunks::default(), Vec::new());
    let mut framed = Vec::new();
    http::read(address, CALL, Encoding::Protobuf, |piece| framed.extend_from_slice(piece))?;
    // With a length the body comes as it is.
    let response = match Response::decode(framed.as_slice()) {
        Ok(response) => response,
        Err(_) => {
            chunks.take(&framed, &mut body)?;
            Response::decode(body.as_slice()).context("the answer cannot be read")?
        }
    };
    let state = response.get_state.context("the answer has no state")?;
    let found_tasks = state.get_tasks.map_or(0, |tasks| tasks.tasks.len());
    let found_agents = state.get_agents.map_or(0, |agents| agents.agents.len());
    ensure!(
        (found_agents, found_tasks) == (agents, tasks),
        "the state has {found_agents} agents and {found_tasks} tasks instead of {agents} and {tasks}"
    );
    Ok(())
}

struct Read<'a> {
    address: &'a str,
    encoding: Encoding,
    reads: usize,
    tasks: u64,
    names: [&'static str; 4],
    master: i32,
}

impl Read<'_> {
    fn measure(&self, conditions: &Conditions) -> Result<Vec<Measurement>> {
        let Read { address, encoding, reads, tasks, names, master } = *self;
        // The first one finds caches cold, the master's and the processor's.
        let warm = http::read(address, CALL, encoding, |_| {})?;
        http::floor(warm.bytes)?;
        let (mut whole, mut first) = (Vec::new(), Vec::new());
        let mut floors = Vec::new();
        let before = counters::cpu_nanoseconds(master)?;
        for _ in 0..reads {
            let took = http::read(address, CALL, encoding, |_| {})?;
            whole.push(took.whole);
            first.push(took.first_byte);
            floors.push(http::floor(warm.bytes)?.as_secs_f64() * 1e3);
        }
        let spent_ms = (counters::cpu_nanoseconds(master)? - before) as f64 / 1e6 / reads as f64;
        let ms =
            |times: &[Duration]| Vec::from_iter(times.iter().map(|time| time.as_secs_f64() * 1e3));
        let baseline = || Some(Baseline::paired(&ms(&whole), &floors));
        let kind = encoding.mime();
        let goal = match encoding {
            Encoding::Protobuf => Some(Goal::AtMost(150.0)),
            Encoding::Json => None,
        };
        let row = |name, value, unit, goal, baseline, note: String| Measurement {
            name,
            value,
            unit,
            goal,
            baseline,
            conditions: conditions.clone(),
            note,
        };
        let times = Times::from_iter(whole.iter().copied());
        Ok(vec![
            row(
                names[0],
                median(&ms(&whole)),
                "ms",
                goal,
                baseline(),
                format!(
                    "median of {reads} reads of GET_STATE, {kind}, {tasks} tasks, over loopback, from before the connection to the last \
                 byte; {spent_ms:.1} ms of the master's processor time each; baseline: as many bytes from a thread \
                 to another over loopback"
                ),
            ),
            row(
                names[1],
                times.quantile_ms(0.99),
                "ms",
                None,
                None,
                format!("the same, 99th percentile (the longest of {reads})"),
            ),
            row(
                names[2],
                median(&ms(&first)),
                "ms",
                None,
                None,
                "the same, until the first byte of the answer".to_owned(),
            ),
            row(
                names[3],
                warm.bytes as f64 / tasks as f64,
                "bytes/task",
                None,
                None,
                format!(
                    "size of the answer, {} bytes in all, agents and all else included",
                    warm.bytes
                ),
            ),
        ])
    }
}
