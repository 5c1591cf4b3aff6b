//! `launch`: a task's life through a real master and a real agent, as a framework sees it, and what
//! it costs the machine.
//!
//! - `driver`: the framework that everything here is measured with.
//! - `start`: how long daemons take until they serve.
//! - `rate`: whole lives a second, one batch after the other, beside floor and rival.
//! - `economy`: processor time, system calls, switches and bytes that one life takes.
//! - `open_loop`: tasks that start at a fixed rate whatever the system does: latency, and syncs.
//! - `exec`: from the request in the agent to the exec, beside the hand-written container.
//! - `crowd`: a thousand tasks on the host: endings, memory, idle time, recovery.

mod crowd;
mod driver;
mod economy;
mod exec;
mod open_loop;
mod rate;
mod start;

use std::future::Future;

use anyhow::{Context, Result};
use mezzo_tests::{Cluster, Options};

use crate::result::Measurement;
use driver::Driver;

/// How much of everything is measured.
pub struct Sizes {
    /// Too few for the docs.
    pub quick: bool,
    /// Rounds of things that are done one at a time.
    pub rounds: usize,
    /// Rounds of batches.
    pub batches: usize,
    /// Tasks in a batch.
    pub batch: usize,
    /// Runs of the rival beside each batch.
    pub crun: usize,
    /// Starts of each daemon.
    pub starts: usize,
    /// Tasks on the host for what is measured in a crowd.
    pub crowd: usize,
    /// Recoveries of the crowd.
    pub recoveries: usize,
    /// Length of an open loop, and of watching an idle agent, in seconds.
    pub seconds: u32,
}

impl Sizes {
    /// What the docs quote.
    pub const FULL: Sizes = Sizes {
        quick: false,
        rounds: 300,
        batches: 15,
        batch: 200,
        crun: 20,
        starts: 9,
        crowd: 1000,
        recoveries: 5,
        seconds: 20,
    };

    /// To see quickly whether a change helped: too few for the docs.
    pub const QUICK: Sizes = Sizes {
        quick: true,
        rounds: 30,
        batches: 3,
        batch: 100,
        crun: 5,
        starts: 3,
        crowd: 100,
        recoveries: 2,
        seconds: 3,
    };
}

/// Measures everything; `tell` gets each figure as soon as there is one.
///
/// # Errors
/// When the cluster cannot be started, or does not do what a task's life takes.
pub fn run(sizes: &Sizes, tell: &mut dyn FnMut(Measurement)) -> Result<()> {
    // Room for the crowd; the agent's own view of the machine would be smaller.
    let resources = "cpus:4000;mem:4000000;disk:4000000".to_owned();
    let mut cluster = Cluster::start(Options { resources, ..Options::default() })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let measured = runtime.block_on(all(&mut cluster, sizes, tell));
    measured.with_context(|| format!("logs: {}\nbench `launch` failed", cluster.logs()))
}

async fn all(
    cluster: &mut Cluster,
    sizes: &Sizes,
    tell: &mut dyn FnMut(Measurement),
) -> Result<()> {
    let mut tell = |measured: Vec<Measurement>| measured.into_iter().for_each(&mut *tell);
    tell(step("start to serving", async { start::measure(sizes) }).await?);
    let mut driver = Driver::connect(cluster.address()).await?;
    tell(step("open loop", open_loop::latency(&mut driver, sizes)).await?);
    tell(step("request to exec", exec::measure(&mut driver, cluster, sizes)).await?);
    tell(step("rate", rate::measure(&mut driver, sizes)).await?);
    tell(step("economy", economy::measure(&mut driver, cluster, sizes)).await?);
    tell(step("syncs", open_loop::syncs(&mut driver, cluster, sizes)).await?);
    tell(step("a crowd", crowd::measure(&mut driver, cluster, sizes)).await?);
    driver.teardown().await
}

async fn step<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    eprintln!("  {name}");
    work.await.with_context(|| format!("cannot measure: {name}"))
}
