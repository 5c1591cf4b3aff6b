//! What is said on stderr when a command fails.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use mezzo_sdk::{ConnectError, OperatorError, ServerKind};

/// Exit code of a failure without one of its own.
const FAILED: u8 = 1;

/// Exit code of a program whose reader went away, as a shell reports SIGPIPE.
pub(crate) const BROKEN_PIPE: u8 = 141;

/// A failed command: a sentence, what is behind it, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    sentence: String,
    causes: Vec<String>,
    hint: Option<String>,
    code: u8,
    starts_again: bool,
}

impl Failure {
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Failure {
            sentence: sentence.into(),
            causes: Vec::new(),
            hint: None,
            code: FAILED,
            starts_again: false,
        }
    }

    /// `sentence` says what failed, the error and its sources say why.
    pub(crate) fn from_error(sentence: impl Into<String>, error: &dyn Error) -> Self {
        let mut failure = Failure::new(sentence);
        failure.push_cause(error);
        failure
    }

    /// The error is the sentence, its sources say why.
    pub(crate) fn of(error: &dyn Error) -> Self {
        let mut failure = Failure::new(error.to_string());
        if let Some(source) = error.source() {
            failure.push_cause(source);
        }
        failure
    }

    fn push_cause(&mut self, error: &dyn Error) {
        let mut next = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            // Layers of the network stack repeat each other.
            let known = self.causes.last().is_some_and(|last| last.contains(&text))
                || self.sentence.contains(&text);
            if !known && text != "transport error" {
                self.causes.push(text);
            }
            next = cause.source();
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// It passes when this program, with the same arguments, starts again.
    pub(crate) fn and_start_again(mut self) -> Self {
        self.starts_again = true;
        self
    }

    /// Whether the program should start again.
    pub(crate) fn starts_again(&self) -> bool {
        self.starts_again
    }

    /// The output's reader has gone: nothing is said, and nobody would read it.
    pub(crate) fn broken_pipe() -> Self {
        Failure { code: BROKEN_PIPE, ..Failure::new("") }
    }

    /// Prints the failure and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.sentence.is_empty() {
            // Nothing is left to be done if stderr is closed.
            let _ = std::io::stderr().write_all(self.render(colored()).as_bytes());
        }
        ExitCode::from(self.code)
    }

    /// The exit code that goes with it.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    fn render(&self, colored: bool) -> String {
        let (error, hint, reset) =
            if colored { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
        let mut text = format!("{error}error:{reset} {}\n", self.sentence);
        for cause in &self.causes {
            let _ = writeln!(text, "  because: {cause}");
        }
        if let Some(advice) = &self.hint {
            let _ = writeln!(text, "{hint}hint:{reset} {advice}");
        }
        text
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// Prints a line of decoration on stderr.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints a warning on stderr.
pub(crate) fn warn(text: &str) {
    let (mark, reset) = if colored() { ("\x1b[1;33m", "\x1b[0m") } else { ("", "") };
    let _ = writeln!(std::io::stderr(), "{mark}warning:{reset} {text}");
}

/// Colour is for terminals whose owner did not set `NO_COLOR` (no-color.org).
fn colored() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::io::stderr().is_terminal()
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let failure = Failure::of(&error);
        let names_master = matches!(
            &error,
            ConnectError::Address { server: ServerKind::Master, .. }
                | ConnectError::Unreachable { server: ServerKind::Master, .. }
                | ConnectError::Protocol { server: ServerKind::Master, .. }
        );
        if names_master {
            failure.hint("--master HOST:PORT or MEZZO_MASTER names another master")
        } else {
            failure
        }
    }
}

impl From<OperatorError> for Failure {
    fn from(error: OperatorError) -> Self {
        Failure::of(&error)
    }
}

/// Failures to write to stdout.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Failure::broken_pipe()
        } else {
            Failure::from_error("could not write to stdout", &error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_listed_once_and_the_hint_comes_last() {
        let cause = std::io::Error::other("connection refused");
        let failure = Failure::from_error("no master", &cause).hint("start one");
        assert_eq!(
            failure.render(false),
            "error: no master\n  because: connection refused\nhint: start one\n"
        );
        let failure = Failure::from_error("connection refused", &cause);
        assert_eq!(failure.render(false), "error: connection refused\n");
        assert!(failure.render(true).starts_with("\x1b[1;31merror:\x1b[0m "));
    }

    #[test]
    fn a_reader_that_left_is_no_error_to_talk_about() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!((failure.code, failure.sentence.as_str()), (BROKEN_PIPE, ""));
    }

    #[test]
    fn a_bad_master_address_names_the_ways_to_give_a_good_one() {
        let error = ConnectError::Address {
            server: ServerKind::Master,
            address: "::".to_owned(),
            problem: "no",
        };
        let text = Failure::from(error).render(false);
        assert!(text.contains("MEZZO_MASTER") && text.contains("\"::\""), "{text}");
    }
}
