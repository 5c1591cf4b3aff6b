//! Every figure that the docs quote. `cargo xtask bench [NAME…]` builds what is measured, runs
//! this, and makes the page.
//!
//! A bench measures its subject and its floor (or a rival) in the same run, interleaved, so that a
//! busy machine slows both, and says under what conditions it ran. It writes one JSON object a line to
//! stdout, and what it is doing to stderr.
//!
//! - `api`: what a master bears: states, watchers, pollers, tens of thousands of agents.
//! - `launch`: a task's life, in times and in what it costs.
//! - `ebpf`: what the kernel's bookkeeping costs.
//! - `floor`: what the figures are compared with.
//! - `counters`, `tracepoints`: what processes used, and which system calls they made.
//! - `conditions`: scheduling class and load.
//! - `result`: what is written, and the statistics in it.

mod api;
mod conditions;
mod counters;
mod ebpf;
mod floor;
mod launch;
mod result;
mod tracepoints;

use std::process::ExitCode;

use anyhow::{Result, bail};

use self::launch::Sizes;
use self::result::Measurement;

type Bench = fn(&Sizes, &mut dyn FnMut(Measurement)) -> Result<()>;

/// `api` stands for all that begin with it and a slash.
const BENCHES: [(&str, Bench); 6] = [
    ("api/state", api::state),
    ("api/watchers", api::watchers),
    ("api/pollers", api::pollers),
    ("api/scale", api::scale),
    ("ebpf", ebpf::run),
    ("launch", launch::run),
];

/// Fewer rounds of everything.
const QUICK: &str = "--quick";

/// As what is measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments = Vec::from_iter(std::env::args().skip(1));
    let outcome = match arguments.as_slice() {
        [command, name] if command == "floor" => floor::serve(name),
        [command, name] if command == "ebpf-work" => ebpf::serve(name),
        arguments => run(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let (flags, names): (Vec<_>, Vec<_>) = arguments.iter().partition(|word| word.starts_with('-'));
    if let Some(unknown) = flags.iter().find(|flag| **flag != QUICK) {
        bail!("there is no flag `{unknown}`; there is {QUICK}");
    }
    let sizes = if flags.is_empty() { Sizes::FULL } else { Sizes::QUICK };
    let known = BENCHES.map(|(name, _)| name);
    let is_meant = |asked: &str, name: &str| {
        name.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let is_known = |asked: &&&String| !known.iter().any(|name| is_meant(asked, name));
    if let Some(unknown) = names.iter().find(is_known) {
        bail!("there is no bench `{unknown}`; there are: {}", known.join(", "));
    }
    for (name, bench) in BENCHES {
        if names.is_empty() || names.iter().any(|asked| is_meant(asked, name)) {
            eprintln!("bench {name}");
            bench(&sizes, &mut |measurement| println!("{}", measurement.line()))?;
        }
    }
    Ok(())
}
