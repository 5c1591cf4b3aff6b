//! Logs to stderr.

use std::error::Error;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{fmt, prelude::*, reload};

use crate::verbosity::Verbosity;

/// What is logged when nobody says what to log.
const DEFAULT_FILTER: &str = "info";

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "the log level `{filter}` from {origin} is not one; use error, warn, info, debug, trace or off, or directives such as `info,mezzo_master=debug`"
    )]
    Filter {
        filter: String,
        origin: &'static str,
        #[source]
        source: ParseError,
    },
    #[error("logging was set up twice")]
    Twice(#[source] TryInitError),
}

/// Sends the process's `tracing` events to stderr, one line each. What is shown is decided by
/// `level` (the flag `--log-level`), else by the environment variable `RUST_LOG`, else it is
/// everything from `info` up.
///
/// # Errors
/// If the level is no level, or if a subscriber has been installed already.
pub fn init_logging(level: Option<&str>) -> Result<(), LogError> {
    let from_environment = std::env::var("RUST_LOG").ok();
    let filter = choose_filter(level, from_environment.as_deref())?;
    let original = filter.to_string();
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_filter(filter);
    tracing_subscriber::registry().with(lines).try_init().map_err(LogError::Twice)?;
    Verbosity::install(handle, original);
    Ok(())
}

fn choose_filter(flag: Option<&str>, environment: Option<&str>) -> Result<EnvFilter, LogError> {
    let given =
        |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let (filter, origin) = match (given(flag), given(environment)) {
        (Some(filter), _) => (filter, "--log-level"),
        (None, Some(filter)) => (filter, "RUST_LOG"),
        (None, None) => (DEFAULT_FILTER.to_owned(), "the default"),
    };
    // A lone word that is no level would be taken for the name of a crate, and silence the rest.
    let is_word = filter.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let read = match is_word {
        true => filter
            .parse::<LevelFilter>()
            .map(|level| EnvFilter::default().add_directive(level.into()))
            .map_err(|error| ParseError::from(Box::<dyn Error + Send + Sync>::from(error))),
        false => EnvFilter::try_new(&filter),
    };
    read.map_err(|source| LogError::Filter { filter, origin, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_comes_before_the_environment() {
        let choose = |flag, environment| choose_filter(flag, environment).unwrap().to_string();
        assert_eq!(choose(None, None), "info");
        assert_eq!(choose(None, Some("warn")), "warn");
        assert_eq!(choose(Some("debug"), Some("warn")), "debug");
        assert_eq!(choose(Some(" "), Some("")), "info");
        assert_eq!(choose(Some("info,mezzo_master=trace"), None), "mezzo_master=trace,info");
    }

    #[test]
    fn a_wrong_level_is_refused_with_its_origin() {
        let refuse = |flag, environment| choose_filter(flag, environment).unwrap_err().to_string();
        assert!(
            refuse(Some("loud"), None)
                .starts_with("the log level `loud` from --log-level is not one; use error,")
        );
        assert!(refuse(None, Some("mezzo=loud")).contains("`mezzo=loud` from RUST_LOG"));
    }
}
