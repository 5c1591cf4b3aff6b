//! `mezzo master repair` and `mezzo agent repair`.

use std::fmt::Display;

use crate::failure::Failure;
use crate::output::print_text;

/// Prints what a repair found and did. Damage that is left is a failure, for scripts.
pub(crate) fn print(report: &impl Display, sound: bool, replaced: bool) -> Result<(), Failure> {
    print_text(&report.to_string())?;
    if sound || replaced {
        return Ok(());
    }
    Err(Failure::new("nothing was changed")
        .hint("--yes repairs, and keeps the damaged store beside"))
}
