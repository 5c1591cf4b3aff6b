//! Fault points: named steps of the daemons at which a test can have the process killed or held up.
//!
//! A step is marked with `mezzo_fault_points::hit!("agent.launch.asked")`. Names are those of [`POINTS`];
//! one that is not there does not compile. Without the feature `armed`, as products are built, a mark is
//! nothing at all. With it, a process that was started without the variables below pays one relaxed load
//! per mark.
//!
//! The variables, read once by [`arm`]:
//!
//! | variable | value |
//! |---|---|
//! | `MEZZO_FAULT_POINTS` | `point=action` or `point=action@n`, separated by semicolons: act at the n-th time (from 1; without it, at every time). Actions: `kill` (SIGKILL to itself), `sleep(ms)` |
//! | `MEZZO_FAULT_POINTS_ONCE` | a file: `kill` acts only for the process that can remove it, so that one of many dies, once |
//! | `MEZZO_FAULT_POINTS_SEEN` | a file that the name of each point is appended to when it is first passed |
//!
//! The `fail` crate does the like, but takes a lock and hashes a name per mark, and has no way to say
//! *kill* in a variable.

mod points;

#[cfg(feature = "armed")]
mod armed;

pub use points::{POINTS, Point, index};

#[cfg(feature = "armed")]
pub use armed::{arm, reached, variables};

/// Reads the variables.
///
/// # Errors
/// A sentence about what is wrong with them; never without the feature `armed`.
#[cfg(not(feature = "armed"))]
pub fn arm() -> Result<(), String> {
    Ok(())
}

/// The variables to hand on to a daemon that this one starts with an empty environment.
#[cfg(not(feature = "armed"))]
pub fn variables() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    std::iter::empty()
}

/// What a mark becomes.
#[cfg(not(feature = "armed"))]
#[inline(always)]
pub fn reached(_: usize) {}

/// Marks a step: `hit!("agent.launch.asked")`.
#[macro_export]
macro_rules! hit {
    ($name:literal) => {{
        const POINT: usize = $crate::index($name);
        $crate::reached(POINT);
    }};
}
