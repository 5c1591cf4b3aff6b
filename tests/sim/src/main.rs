//! `mezzo-sim`: runs seeds. `cargo xtask sim` builds and starts it; its options are checked there.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mezzo_tests_sim::{Outcome, STEPS, run};

const USAGE: &str = "usage: mezzo-sim [--seed N] [--count N] [--steps N] [--trace]";

/// What was asked for.
struct Order {
    first: u64,
    count: u64,
    steps: u64,
    trace: bool,
}

fn main() -> ExitCode {
    match order(std::env::args().skip(1)) {
        Ok(order) if order.trace => tell(&order),
        Ok(order) => sweep(&order),
        Err(message) => {
            eprintln!("error: {message}; {USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn order(mut words: impl Iterator<Item = String>) -> Result<Order, String> {
    let mut order = Order { first: 0, count: 1, steps: STEPS, trace: false };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{word} {value} is not a number"))
        };
        match word.as_str() {
            "--seed" => order.first = number()?,
            "--count" => order.count = number()?,
            "--steps" => order.steps = number()?,
            "--trace" => order.trace = true,
            _ => return Err(format!("{word} is unknown")),
        }
    }
    Ok(order)
}

/// One seed with its whole story.
fn tell(order: &Order) -> ExitCode {
    let outcome = run(order.first, order.steps, true);
    print!("{}", outcome.trace.all().unwrap_or_default());
    conclude(&outcome)
}

fn conclude(outcome: &Outcome) -> ExitCode {
    match outcome.report() {
        Some(report) => {
            eprint!("{report}");
            ExitCode::FAILURE
        }
        None => {
            println!(
                "seed {}: green; {} lines, hash {:016x}, {} launches, {} s of virtual time",
                outcome.seed,
                outcome.trace.lines(),
                outcome.trace.hash(),
                outcome.launches,
                outcome.virtual_ms / 1000
            );
            ExitCode::SUCCESS
        }
    }
}

/// Many seeds, on all processors; stops at the first that fails.
fn sweep(order: &Order) -> ExitCode {
    if order.count == 1 {
        return conclude(&run(order.first, order.steps, false));
    }
    let begin = Instant::now();
    let next = AtomicU64::new(order.first);
    let end = order.first.saturating_add(order.count);
    let (launches, lines) = (AtomicU64::new(0), AtomicU64::new(0));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let failed: Vec<Outcome> = std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return None;
                }
                let outcome = run(seed, order.steps, false);
                launches.fetch_add(outcome.launches, Ordering::Relaxed);
                lines.fetch_add(outcome.trace.lines(), Ordering::Relaxed);
                if outcome.failure.is_some() {
                    next.store(end, Ordering::Relaxed);
                    return Some(outcome);
                }
            }
        };
        let handles = Vec::from_iter((0..workers).map(|_| scope.spawn(work)));
        handles.into_iter().filter_map(|handle| handle.join().ok().flatten()).collect()
    });
    if let Some(outcome) = failed.iter().min_by_key(|outcome| outcome.seed) {
        return conclude(outcome);
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{} seeds green in {seconds:.1} s ({:.1} seeds/s); {} launches, {} lines",
        order.count,
        order.count as f64 / seconds,
        launches.into_inner(),
        lines.into_inner()
    );
    ExitCode::SUCCESS
}
