//! Every figure that the docs quote. `cargo xtask bench [NAME…]` builds what is measured, runs
//! this, and makes the page.
//!
//! A bench measures its subject and its floor (or a rival) in the same run, interleaved, so that a
//! busy machine slows both. It writes one JSON object a line to stdout, and what it is doing to
//! stderr.
//!
//! - `launch`: from accept to running, from exit to update, and tasks a second.
//! - `result`: what is written, and the statistics in it.

mod launch;
mod result;

use std::process::ExitCode;

use anyhow::{Result, bail};

use self::result::Measurement;

type Bench = fn() -> Result<Vec<Measurement>>;

const BENCHES: [(&str, Bench); 1] = [("launch", launch::run)];

fn main() -> ExitCode {
    let names = Vec::from_iter(std::env::args().skip(1));
    match run(&names) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(names: &[String]) -> Result<()> {
    let known = BENCHES.map(|(name, _)| name);
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("there is no bench `{unknown}`; there are: {}", known.join(", "));
    }
    for (name, bench) in BENCHES {
        if names.is_empty() || names.iter().any(|asked| asked == name) {
            eprintln!("bench {name}");
            for measurement in bench()? {
                println!("{}", measurement.line());
            }
        }
    }
    Ok(())
}
