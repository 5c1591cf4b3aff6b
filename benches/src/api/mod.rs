//! `api`: what a master bears: large states read, many watchers, pollers beside launches, and tens of
//! thousands of agents.
//!
//! The master is a process of its own and real; so are the frameworks and the protocol. The agents are
//! simulated (`mezzo-agent-simulated`), in another process: nothing is executed, a task runs from its
//! launch for as long as its command says.
//!
//! - `stage`: a master with simulated agents.
//! - `load`: frameworks that launch tasks at a rate, or so many.
//! - `http`: reading an answer to its last byte; events as they come.
//! - `state`, `watchers`, `pollers`, `scale`: one question each.

mod http;
mod load;
mod pollers;
mod scale;
mod stage;
mod state;
mod watchers;

use std::future::Future;

use anyhow::{Context, Result};

use crate::launch;
use crate::result::Measurement;

/// How much of everything there is.
struct Sizes {
    state: state::Size,
    watchers: watchers::Size,
    pollers: pollers::Size,
    scale: scale::Size,
}

/// What the docs quote, and a part of it that takes minutes.
fn sizes(sizes: &launch::Sizes) -> &'static Sizes {
    if sizes.quick { &QUICK } else { &FULL }
}

static FULL: Sizes = Sizes {
    state: state::Size { agents: 20_000, tasks_per_agent: 20, frameworks: 20, reads: 20 },
    watchers: watchers::Size { agents: 500, watchers: 1000, updates_per_second: 3000, seconds: 20 },
    pollers: pollers::Size { agents: 1000, pollers: 20, rounds: 7, tasks: 20_000 },
    scale: scale::Size {
        agents: 50_000,
        frameworks: 200,
        launches_per_second: 3333,
        calm_per_second: 1000,
        mean_s: 30.0,
        warm_up_s: 45,
        seconds: 60,
    },
};

static QUICK: Sizes = Sizes {
    state: state::Size { agents: 1000, tasks_per_agent: 20, frameworks: 5, reads: 5 },
    watchers: watchers::Size { agents: 100, watchers: 100, updates_per_second: 900, seconds: 5 },
    pollers: pollers::Size { agents: 100, pollers: 20, rounds: 3, tasks: 500 },
    scale: scale::Size {
        agents: 2000,
        frameworks: 20,
        launches_per_second: 400,
        calm_per_second: 200,
        mean_s: 10.0,
        warm_up_s: 15,
        seconds: 10,
    },
};

/// What the bench says with each figure.
type Tell<'a> = &'a mut dyn FnMut(Measurement);

/// `api/state`.
///
/// # Errors
/// As all of these: when master or agents cannot be started, or do not do what was asked.
pub fn state(all: &launch::Sizes, tell: Tell<'_>) -> Result<()> {
    run("state", state::measure(&sizes(all).state), tell)
}

/// `api/watchers`.
pub fn watchers(all: &launch::Sizes, tell: Tell<'_>) -> Result<()> {
    run("watchers", watchers::measure(&sizes(all).watchers), tell)
}

/// `api/pollers`.
pub fn pollers(all: &launch::Sizes, tell: Tell<'_>) -> Result<()> {
    run("pollers", pollers::measure(&sizes(all).pollers), tell)
}

/// `api/scale`.
pub fn scale(all: &launch::Sizes, tell: Tell<'_>) -> Result<()> {
    run("scale", scale::measure(&sizes(all).scale), tell)
}

fn run(
    name: &str,
    work: impl Future<Output = Result<Vec<Measurement>>>,
    tell: Tell<'_>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let measured = runtime.block_on(work).with_context(|| format!("bench `api/{name}` failed"))?;
    measured.into_iter().for_each(tell);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each question is asked of a small cluster: no time is judged, but every answer is checked.
    fn small<F: Future<Output = Result<Vec<Measurement>>>>(work: F) -> Vec<&'static str> {
        let mut names = Vec::new();
        run("small", work, &mut |measurement| names.push(measurement.name)).expect("measured");
        names
    }

    #[test]
    fn a_state_is_read_whole() {
        let size = state::Size { agents: 20, tasks_per_agent: 3, frameworks: 2, reads: 2 };
        let names = small(state::measure(&size));
        for name in ["api/state", "api/state-json", "api/legacy-state", "api/legacy-tasks"] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
    }

    #[test]
    fn pollers_and_launches_go_on_beside_each_other() {
        let size = pollers::Size { agents: 20, pollers: 3, rounds: 2, tasks: 20 };
        assert_eq!(small(pollers::measure(&size)).len(), 2);
    }

    #[test]
    fn simulated_agents_run_what_many_frameworks_launch() {
        let size = scale::Size {
            agents: 20,
            frameworks: 3,
            launches_per_second: 50,
            calm_per_second: 20,
            mean_s: 0.2,
            warm_up_s: 1,
            seconds: 2,
        };
        let names = small(scale::measure(&size));
        assert!(names.contains(&"api/scale-launches") && names.contains(&"api/scale-memory"));
    }
}
