//! How much is logged, changed for a while by an operator.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::{Registry, reload};

/// The control of this process's log. There is one log, as there is one stderr.
static CONTROL: OnceLock<Verbosity> = OnceLock::new();

/// Mesos' verbosity of a process: 0 is what it was started with, more is more.
///
/// | level | what is logged |
/// |---|---|
/// | 0 | what `--log-level` or `RUST_LOG` asked for |
/// | 1 | also Mezzo's own `debug` lines |
/// | 2 | Mezzo's own `trace` lines, and `debug` of everything else |
/// | 3 and more | everything |
#[derive(Clone, Debug)]
pub struct Verbosity {
    filter: reload::Handle<EnvFilter, Registry>,
    /// What the process was started with, as directives.
    original: Arc<str>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    level: u32,
    /// Counts orders, so that an older one does not end a newer.
    order: u64,
}

impl Verbosity {
    /// Takes the control of the log into keeping.
    pub(crate) fn install(filter: reload::Handle<EnvFilter, Registry>, original: String) {
        let state = Arc::default();
        CONTROL.set(Verbosity { filter, original: original.into(), state }).ok();
    }

    /// The control of this process's log, once [`crate::init_logging`] has set it up.
    pub fn of_this_process() -> Option<&'static Verbosity> {
        CONTROL.get()
    }

    /// The level in force.
    pub fn level(&self) -> u32 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).level
    }

    /// Sets the level; after `duration` it is as at the start again. The newest order counts. Call it in
    /// a tokio runtime, which keeps the time.
    pub fn set(&self, level: u32, duration: Duration) {
        let order = self.apply(level, None);
        if level == 0 {
            return;
        }
        let control = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(duration).await;
            control.apply(0, Some(order));
        });
    }

    /// Puts a level in force, unless it follows an order that was overtaken. Returns the order's number.
    fn apply(&self, level: u32, follows: Option<u64>) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if follows.is_some_and(|order| order != state.order) {
            return state.order;
        }
        state.order += 1;
        if state.level != level {
            state.level = level;
            // It fails only once the subscriber is gone, which is the end of the process.
            self.filter.reload(filter(&self.original, level)).ok();
            tracing::info!(level, "the verbosity of the log was set");
        }
        state.order
    }
}

fn filter(original: &str, level: u32) -> EnvFilter {
    let directives = match level {
        0 => original.to_owned(),
        1 => format!("{original},mezzo=debug"),
        2 => "debug,mezzo=trace".to_owned(),
        _ => "trace".to_owned(),
    };
    EnvFilter::new(directives)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    #[test]
    fn more_is_more() {
        let shown = |level| filter("warn", level).to_string();
        assert_eq!(shown(0), "warn");
        assert_eq!(shown(1), "mezzo=debug,warn");
        assert_eq!(shown(2), "mezzo=trace,debug");
        assert_eq!(shown(9), "trace");
        assert_eq!(filter("warn", 1).max_level_hint(), Some(LevelFilter::DEBUG));
    }

    #[test]
    fn it_ends_by_itself_unless_a_newer_order_came() {
        let (_layer, handle) = reload::Layer::<EnvFilter, Registry>::new(filter("info", 0));
        let control = Verbosity { filter: handle, original: "info".into(), state: Arc::default() };
        let first = control.apply(1, None);
        let second = control.apply(2, None);
        control.apply(0, Some(first));
        assert_eq!(control.level(), 2, "the first order is over, the second is not");
        control.apply(0, Some(second));
        assert_eq!(control.level(), 0);
    }
}
