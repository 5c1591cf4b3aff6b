//! Memory that large requests and answers share. What is small is free.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::FREE_BYTES;

/// Counted in pages, since a semaphore counts in 32 bits.
const PAGE: usize = 4096;

/// So many bytes for all large requests and answers. Clones share them.
#[derive(Debug, Clone)]
pub struct Budget {
    pages: Arc<Semaphore>,
    bytes: usize,
}

/// A part of a budget, given back when dropped.
#[derive(Debug, Default)]
pub struct Charge {
    bytes: usize,
    _pages: Option<OwnedSemaphorePermit>,
}

/// The budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "requests and answers that are under way hold {of} bytes of memory, which is the limit; try again"
)]
pub struct Busy {
    of: usize,
}

impl Budget {
    pub fn new(bytes: usize) -> Budget {
        Budget { pages: Arc::new(Semaphore::new(bytes / PAGE)), bytes }
    }

    /// Takes `bytes`, at once or not at all.
    ///
    /// # Errors
    /// Others hold too much.
    pub fn charge(&self, bytes: usize) -> Result<Charge, Busy> {
        if bytes <= FREE_BYTES {
            return Ok(Charge { bytes, _pages: None });
        }
        let busy = Busy { of: self.bytes };
        let pages = u32::try_from(bytes.div_ceil(PAGE)).map_err(|_| busy)?;
        let pages = Arc::clone(&self.pages).try_acquire_many_owned(pages).map_err(|_| busy)?;
        Ok(Charge { bytes, _pages: Some(pages) })
    }
}

impl Charge {
    /// Grows to `bytes` where it is smaller.
    ///
    /// # Errors
    /// Others hold too much; the charge is as before.
    pub fn grow(&mut self, budget: &Budget, bytes: usize) -> Result<(), Busy> {
        if bytes > self.bytes {
            // Doubled, so that a body which comes in small pieces is charged for a few times only.
            let larger = budget.charge(bytes.max(2 * self.bytes))?;
            *self = larger;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_is_charged_until_it_is_dropped() {
        let budget = Budget::new(1024 * 1024);
        let first = budget.charge(700_000).expect("room");
        let error = budget.charge(700_000).expect_err("no room");
        assert!(error.to_string().contains("1048576 bytes"), "{error}");
        let mut free = budget.charge(FREE_BYTES).expect("free");
        free.grow(&budget, FREE_BYTES + 1).expect("room for a small one");
        free.grow(&budget, 1_000_000).expect_err("no room for a large one");
        drop(first);
        free.grow(&budget, 500_000).expect("room");
        drop(free);
        budget.charge(1024 * 1024).expect("all of it");
        budget.charge(usize::MAX).expect_err("more than there is");
    }
}
