//! The armed form.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, raise};

use crate::points::POINTS;

const ACTIONS: &str = "MEZZO_FAULT_POINTS";
const ONCE: &str = "MEZZO_FAULT_POINTS_ONCE";
const SEEN: &str = "MEZZO_FAULT_POINTS_SEEN";

static ARMED: AtomicBool = AtomicBool::new(false);
static PLAN: OnceLock<Plan> = OnceLock::new();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Sleep(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    action: Action,
    /// None: every time.
    at: Option<u32>,
}

#[derive(Debug)]
struct Plan {
    /// By point.
    orders: Vec<Vec<Order>>,
    passed: Vec<AtomicU32>,
    once: Option<PathBuf>,
    seen: Option<File>,
}

/// Reads the variables. To be called once, at the start.
///
/// # Errors
/// A sentence about what is wrong with them.
pub fn arm() -> Result<(), String> {
    let text = std::env::var(ACTIONS).unwrap_or_default();
    let seen = std::env::var_os(SEEN);
    if text.is_empty() && seen.is_none() {
        return Ok(());
    }
    let seen = match seen {
        None => None,
        Some(path) => {
            let file = File::options().create(true).append(true).open(&path);
            Some(file.map_err(|error| format!("could not open {SEEN}={path:?}: {error}"))?)
        }
    };
    let plan = Plan {
        orders: parse(&text).map_err(|problem| format!("{ACTIONS}={text:?}: {problem}"))?,
        passed: POINTS.iter().map(|_| AtomicU32::new(0)).collect(),
        once: std::env::var_os(ONCE).map(PathBuf::from),
        seen,
    };
    if PLAN.set(plan).is_ok() {
        ARMED.store(true, Ordering::Release);
    }
    Ok(())
}

/// The variables to hand on to a daemon that this one starts with an empty environment.
pub fn variables() -> impl Iterator<Item = (&'static str, OsString)> {
    [ACTIONS, ONCE, SEEN].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// What a mark becomes.
#[inline]
pub fn reached(point: usize) {
    if ARMED.load(Ordering::Relaxed) {
        act(point);
    }
}

#[cold]
fn act(point: usize) {
    let Some(plan) = PLAN.get() else { return };
    let (Some(passed), Some(orders)) = (plan.passed.get(point), plan.orders.get(point)) else {
        return;
    };
    let time = passed.fetch_add(1, Ordering::Relaxed) + 1;
    if time == 1
        && let (Some(mut seen), Some(point)) = (plan.seen.as_ref(), POINTS.get(point))
    {
        // One write, appended: many processes share the file. A test that misses the line says so.
        let _ = seen.write_all(format!("{}\n", point.name).as_bytes());
    }
    for order in orders.iter().filter(|order| order.at.is_none_or(|at| at == time)) {
        match order.action {
            Action::Sleep(time) => std::thread::sleep(time),
            Action::Kill => {
                let chosen =
                    plan.once.as_ref().is_none_or(|once| std::fs::remove_file(once).is_ok());
                if chosen {
                    // The whole process ends, also where only this thread's mask could block it.
                    let _ = raise(Signal::SIGKILL);
                }
            }
        }
    }
}

fn parse(text: &str) -> Result<Vec<Vec<Order>>, String> {
    let mut orders = vec![Vec::new(); POINTS.len()];
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, order) = part.split_once('=').ok_or_else(|| format!("'{part}' has no '='"))?;
        let found = POINTS.iter().position(|point| point.name == name);
        let found = found.and_then(|found| orders.get_mut(found));
        let orders = found.ok_or_else(|| format!("there is no point '{name}'"))?;
        let (action, at) = match order.split_once('@') {
            Some((action, at)) => {
                let at = at.parse().ok().filter(|at| *at > 0);
                (action, Some(at.ok_or_else(|| format!("'{part}': a time is 1 or more"))?))
            }
            None => (order, None),
        };
        let sleep = action.strip_prefix("sleep(").and_then(|rest| rest.strip_suffix(')'));
        let action = match (action, sleep.map(str::parse)) {
            ("kill", _) => Action::Kill,
            (_, Some(Ok(ms))) => Action::Sleep(Duration::from_millis(ms)),
            _ => return Err(format!("'{part}': an action is kill or sleep(MILLISECONDS)")),
        };
        orders.push(Order { action, at });
    }
    Ok(orders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        let (first, second) = (POINTS[0].name, POINTS[1].name);
        let orders =
            parse(&format!("{first}=kill@3; {second}=sleep(50);{first}=sleep(1)@1")).unwrap();
        let sleep = |ms| Action::Sleep(Duration::from_millis(ms));
        let expected =
            [Order { action: Action::Kill, at: Some(3) }, Order { action: sleep(1), at: Some(1) }];
        assert_eq!(orders[0], expected);
        assert_eq!(orders[1], [Order { action: sleep(50), at: None }]);
        assert!(orders[2..].iter().all(Vec::is_empty));
        for wrong in ["x", "x=kill", "=kill"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["kill@0", "kill@x", "sleep(x)", "sleep", "die", ""] {
            assert!(parse(&format!("{first}={wrong}")).is_err(), "{wrong}");
        }
    }
}
