//! `cargo xtask demo`: a cluster of one machine, put through its paces.
//!
//! Everything runs below one temporary directory, on loopback, in control groups of one name, so
//! that all of it can be found again and removed: at the end, on failure and on Ctrl-C.
//!
//! - `cluster`: the master and the agent as processes, and their removal.
//! - `acts`: what is shown, each act with a measurement of its own.
//! - `processes`: what the kernel says about processes, independent of what Mezzo says.

mod acts;
mod cluster;
mod processes;

use std::time::Instant;

use anyhow::{Result, bail};

use self::cluster::Cluster;
use crate::{cargo, host};

/// One line of the table.
struct Act {
    shown: &'static str,
    outcome: Result<String>,
    seconds: f64,
}

/// # Errors
/// When the cluster does not come up, or something does not do what it should.
pub fn run() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the demo isolates tasks in control groups and namespaces, which takes root");
    }
    host::prepare_to_build()?;
    let arguments = ["build", "--package", "mezzo", "--package", "mezzo-agent-launcher"];
    cargo::run(cargo::command(arguments))?;

    let mut cluster = Cluster::new()?;
    let outcome = play(&mut cluster);
    if outcome.is_err() {
        cluster.print_logs();
    }
    println!("cleaning up");
    let cleaned = cluster.clean_up();
    outcome.and(cleaned)
}

fn play(cluster: &mut Cluster) -> Result<()> {
    println!("starting a master and an agent, data in {}", cluster.directory().display());
    cluster.start_master()?;
    cluster.start_agent()?;
    cluster.wait_for_agent()?;

    type Play = fn(&mut Cluster) -> Result<String>;
    let program: [(&'static str, Play); 4] = [
        ("a CPU burner is held to its share", acts::burner),
        ("a memory hog is ended and reported", acts::hog),
        ("a task survives kill -9 of the agent", acts::survivor),
        ("a batch of 200 short tasks", acts::batch),
    ];
    let mut acts = Vec::new();
    for (shown, act) in program {
        println!("… {shown}");
        let begin = Instant::now();
        let outcome = act(cluster);
        let seconds = begin.elapsed().as_secs_f64();
        acts.push(Act { shown, outcome, seconds });
        // What was interrupted is no finding about Mezzo, and nothing more is to be shown.
        cluster.interrupted()?;
    }
    print_table(&acts);
    let failed = acts.iter().filter(|act| act.outcome.is_err()).count();
    if failed > 0 {
        bail!("{failed} of {} acts failed", acts.len());
    }
    Ok(())
}

fn print_table(acts: &[Act]) {
    let width = acts.iter().map(|act| act.shown.len()).max().unwrap_or(0);
    println!("\n{:<width$}  {:<6}  {:>6}  what was seen", "what was shown", "result", "s");
    println!("{:-<width$}  {:-<6}  {:->6}  {:-<40}", "", "", "", "");
    for act in acts {
        let (result, seen) = match &act.outcome {
            Ok(seen) => ("ok", seen.clone()),
            Err(error) => ("FAILED", format!("{error:#}")),
        };
        println!("{:<width$}  {result:<6}  {:>6.1}  {seen}", act.shown, act.seconds);
    }
    println!();
}
