//! From the request in the agent to the exec, beside the hand-written container.

use anyhow::{Context, Result};
use mezzo_sdk::is_terminal;
use mezzo_tests::{Cluster, http_get};

use super::{Driver, Sizes};
use crate::conditions::Conditions;
use crate::floor::Floor;
use crate::result::{Baseline, Goal, Measurement, median};

/// The agent's own measurement of its latest launch.
const LATEST: &str = "containerizer/launch_ms";

pub(super) async fn measure(
    driver: &mut Driver,
    cluster: &Cluster,
    sizes: &Sizes,
) -> Result<Vec<Measurement>> {
    let conditions = Conditions::now()?;
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    let mut container = Floor::start("container")?;
    for _ in 0..sizes.rounds {
        let round = container.rounds(1)?;
        floors.extend(round.iter().map(|round| round.exec.as_secs_f64() * 1e3));
        let task = driver.task(&["true"]);
        driver.start(&task).await?;
        driver.update(task.id(), is_terminal).await?;
        ours.push(latest(cluster)?);
    }
    let baseline = Baseline::paired(&ours, &floors);
    Ok(vec![Measurement {
        name: "launch/request-to-exec",
        value: baseline.ratio,
        unit: "x floor",
        goal: Some(Goal::AtMost(2.0)),
        conditions,
        note: format!(
            "median of {} paired ratios, one at a time; the agent: {:.3} ms from its loop's taking the \
             request to its hearing of the exec; the hand-written container: {:.3} ms",
            sizes.rounds,
            median(&ours),
            baseline.value,
        ),
        baseline: None,
    }])
}

fn latest(cluster: &Cluster) -> Result<f64> {
    let text = http_get(cluster.agent_address(), "/metrics/snapshot")?;
    let snapshot: serde_json::Value = serde_json::from_str(&text).context("no metrics")?;
    snapshot[LATEST].as_f64().with_context(|| format!("the agent does not say {LATEST}"))
}
