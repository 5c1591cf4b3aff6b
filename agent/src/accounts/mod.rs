//! What the kernel counts and guards for containers (`mezzo-agent-accounting`), as the agent uses it.
//!
//! - [`Accounts`]: opened behind the start, asked for by launches, endings and readers.
//! - [`Holder`]: whose container it is; [`Refusal`]: what the kernel kept a container from.
//!
//! Opening takes up to half a second where nothing was there, so the agent serves meanwhile and only launches wait. Where nothing works
//! one line says why, containers run as before, and [`Accounts::features`] tells readers what is missing.

mod book;
mod handle;
mod keeper;
mod place;
mod refusal;

pub use book::Holder;
pub use handle::{Accounts, AdmitFailed, Totals};
pub use place::AccountsOptions;
pub use refusal::Refusal;
