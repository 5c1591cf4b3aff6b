//! How long daemons take from their start until they serve.

use anyhow::Result;
use mezzo_tests::{Cluster, Options};
use nix::sys::signal::Signal;

use super::Sizes;
use crate::conditions::Conditions;
use crate::result::{Goal, Measurement, Times};

/// Of starts in an empty work directory and of starts again, as many of each.
pub(super) fn measure(sizes: &Sizes) -> Result<Vec<Measurement>> {
    let conditions = Conditions::now()?;
    let mut first = [Times::default(), Times::default()];
    let mut again = [Times::default(), Times::default()];
    for _ in 0..sizes.starts {
        let mut cluster = Cluster::start(Options::default())?;
        first[0].add(cluster.master_start());
        first[1].add(cluster.agent_start());
        cluster.end_agent(Signal::SIGTERM)?;
        cluster.kill_master()?;
        cluster.start_master()?;
        cluster.start_agent()?;
        again[0].add(cluster.master_start());
        again[1].add(cluster.agent_start());
    }
    let names = [
        ("launch/start-master", "leads and serves"),
        ("launch/start-agent", "has a launcher and serves"),
    ];
    let measured = names.into_iter().zip(first.iter().zip(&again));
    Ok(measured
        .map(|((name, what), (first, again))| {
            let slower = first.quantile_ms(0.5).max(again.quantile_ms(0.5));
            Measurement {
                name,
                value: slower,
                unit: "ms",
                goal: Some(Goal::AtMost(50.0)),
                baseline: None,
                conditions: conditions.clone(),
                note: format!(
                    "from the start of the process until it {what}: the worse of two medians of {}; \
                     {:.1} with an empty work directory, {:.1} again",
                    sizes.starts,
                    first.quantile_ms(0.5),
                    again.quantile_ms(0.5),
                ),
            }
        })
        .collect())
}
