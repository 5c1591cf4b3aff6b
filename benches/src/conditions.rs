//! Under what conditions a figure was measured: without them a time means little.

use anyhow::{Context, Result};

/// Position of the policy in `/proc/<pid>/stat`, counted from the state, which is field 3 of 52; the
/// policy is field 41.
const POLICY: usize = 41 - 3;

#[derive(Clone, Debug)]
pub struct Conditions {
    /// The scheduling class of everything that was measured: all of it descends from this process.
    pub class: String,
    /// Runnable tasks on the machine, averaged over the last minute: the bench's own included.
    pub load: f64,
}

impl Conditions {
    /// Those of this moment.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn now() -> Result<Conditions> {
        let stat = std::fs::read_to_string("/proc/self/stat").context("cannot read own state")?;
        let load = std::fs::read_to_string("/proc/loadavg").context("cannot read the load")?;
        let load = load.split(' ').next().and_then(|load| load.parse().ok());
        Ok(Conditions { class: class(&stat), load: load.context("the load is no number")? })
    }
}

fn class(stat: &str) -> String {
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    match rest.split(' ').nth(POLICY) {
        Some("0") => "normal".to_owned(),
        Some("1") => "FIFO".to_owned(),
        Some("2") => "round robin".to_owned(),
        Some("3") => "batch".to_owned(),
        Some("5") => "idle".to_owned(),
        other => format!("policy {}", other.unwrap_or("unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_found_behind_an_odd_name() {
        let fields = (3..=52).map(|field| if field == 41 { 1 } else { 0 }).map(|n| n.to_string());
        let stat = format!("7 (a) b) {}", Vec::from_iter(fields).join(" "));
        assert_eq!(class(&stat), "FIFO");
        assert_eq!(class("7 (a) S"), "policy unknown");
        assert_eq!(
            Conditions::now().expect("conditions").class,
            class(&std::fs::read_to_string("/proc/self/stat").expect("stat"))
        );
    }
}
