//! A table that is drawn again in its place on a terminal, and one below the other elsewhere.

use std::io::IsTerminal;

use terminal_size::{Height, Width, terminal_size};

use crate::failure::Failure;
use crate::output::{self, Row};

/// To the upper left corner; the rest of the line; the rest of the screen.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

#[derive(Debug)]
pub(crate) struct Screen {
    terminal: bool,
}

impl Screen {
    pub(crate) fn open() -> Self {
        Screen { terminal: std::io::stdout().is_terminal() }
    }

    /// Shows the heading and as many rows as fit.
    pub(crate) fn show<R: Row>(&mut self, heading: &str, rows: &[R]) -> Result<(), Failure> {
        let table = output::table(rows);
        if !self.terminal {
            return output::print_text(&format!("{heading}\n{table}\n"));
        }
        let (width, height) = terminal_size()
            .map_or((80, 24), |(Width(width), Height(height))| (width.into(), height.into()));
        output::print_text(&frame(heading, &table, width, height))
    }
}

/// `height` lines of `width` characters at most; the last one says how many rows did not fit.
fn frame(heading: &str, table: &str, width: usize, height: usize) -> String {
    let lines = Vec::from_iter(std::iter::once(heading).chain([""]).chain(table.lines()));
    let room = height.saturating_sub(1).max(4);
    let mut text = HOME.to_owned();
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    for line in &lines[..shown] {
        // A line that went on in the next one would shift all the others.
        text.extend(line.chars().take(width));
        text.push_str(CLEAR_LINE);
        text.push('\n');
    }
    if shown < lines.len() {
        text.push_str(&format!("… and {} more{CLEAR_LINE}\n", lines.len() - shown));
    }
    text + CLEAR_REST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let table = "TASK\na\nb\nc\n";
        let all = frame("heading", table, 80, 24);
        assert!(all.contains("c\x1b[K\n") && !all.contains("more"), "{all:?}");
        let some = frame("heading", table, 80, 6);
        assert_eq!(some.matches('\n').count(), 5);
        assert!(some.contains("a\x1b[K") && some.contains("… and 2 more"), "{some:?}");
        assert!(frame("heading", table, 4, 24).contains("head\x1b[K\n"));
    }
}
