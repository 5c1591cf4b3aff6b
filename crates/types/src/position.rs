//! What a message waits for before it may leave.

use std::fmt;

/// The nth `Persist` effect of a core, counted from 1. A message that carries a position is
/// released once everything up to it is durable; position 0 depends on nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

impl Position {
    /// Depends on nothing.
    pub const NONE: Position = Position(0);

    /// The position of the next `Persist`.
    pub fn next(self) -> Position {
        Position(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
