//! The embedded store of a Mezzo daemon: families of ordered keys, batches that land whole, and
//! syncs that many writers share.
//!
//! This is the only crate that knows RocksDB. What the others get:
//!
//! - [`Store::open`] with a [`Layout`] (kind, format version, families) creates or opens a directory
//!   and says in one sentence why it cannot ([`OpenError`]).
//! - [`Batch`] gathers puts and deletes. [`Store::write`] puts it into the write-ahead log without a
//!   sync: it survives `kill -9` of the process at once and a power loss after at most
//!   [`FLUSH_INTERVAL`]. [`Store::write_derived`] causes no sync at all, [`Store::write_synced`] answers when the batch is on the disk; all writers
//!   that wait at the same moment share one sync. [`Store::write_and_sync`] does the same on the
//!   calling thread, for a thread that has nothing else to do.
//! - [`Store::get`], [`Store::scan`], [`Store::range`] and, for a frozen view, [`Store::snapshot`].
//!
//! Durability in three sentences. The log is replayed up to the first damaged record, so the torn tail
//! that a power loss leaves costs only what was never acknowledged. Writes keep their order: if one is
//! found after a crash, all earlier ones are. After a failed write or sync the store refuses every later
//! write ([`WriteError::Refusing`]), because nobody knows how much of the failed one is on the disk.
//!
//! A full disk is no failure: what has to be written waits in memory, in order and within bounds, until there
//! is space, and whoever is about to promise something new asks [`Store::check_room`] first, which refuses
//! while there is still room for what was promised before ([`Shortage`]). So it is with a quota that is used up, but for its
//! end: then the store has to be opened anew ([`WriteError::Reopen`]).
//!
//! Map: `batch` (what to write), `layout` (what is expected in the directory), `open` (finding out what
//! is there), `tuning` (RocksDB's options), `store` (the handle), `group` (the shared sync), `ticket`
//! (waiting for it), `held` (writes that wait for the disk), `room` (headroom and reserve), `pace` (is the disk
//! slow), `place` (is it still the same directory), `view` (reading), `wal` (the log without RocksDB), `salvage` (what is
//! left of a damaged store), `report` (saying so), `error`.

mod batch;
mod error;
mod group;
mod held;
mod layout;
mod open;
mod pace;
mod place;
mod report;
mod room;
mod salvage;
mod store;
mod ticket;
mod tuning;
mod view;
mod wal;

#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use error::{EngineError, OpenError, ReadError, WriteError};
pub use group::{Counts, FLUSH_INTERVAL};
pub use layout::Layout;
pub use pace::Slowness;
pub use report::RepairReport;
pub use room::Shortage;
pub use salvage::{Records, Salvage, SalvageError};
pub use store::{ClaimError, Progress, Store};
pub use ticket::Ticket;
pub use view::{Scan, Snapshot};
