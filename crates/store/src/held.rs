//! Writes that wait in memory because the disk cannot take them now.

use std::collections::VecDeque;

use crate::batch::Batch;
use crate::group::Callback;

/// Most that may wait. What waits was caused by things that were promised before, so it is bounded by
/// them already; this bounds it also where that reasoning is wrong. A batch that is larger waits alone: its writer
/// made it, and it takes no less memory elsewhere.
const HELD_BYTES_MAX: usize = 32 << 20;
const HELD_MAX: usize = 65_536;

/// Who wants to know what about a write.
pub(crate) enum Notice {
    Nobody,
    /// When it is in the log.
    Logged(Callback),
    /// When it is on the disk.
    Synced(Callback),
}

impl Notice {
    pub fn into_callback(self) -> Option<Callback> {
        match self {
            Self::Nobody => None,
            Self::Logged(callback) | Self::Synced(callback) => Some(callback),
        }
    }
}

/// Batches in the order in which they were written.
#[derive(Default)]
pub(crate) struct Held {
    batches: VecDeque<(Batch, Notice)>,
    bytes: usize,
}

impl Held {
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Takes a batch; gives the notice back if there are too many.
    pub fn push(&mut self, batch: Batch, notice: Notice) -> Result<(), Notice> {
        let bytes = batch.bytes();
        let is_first = self.batches.is_empty();
        if self.batches.len() >= HELD_MAX || !is_first && self.bytes + bytes > HELD_BYTES_MAX {
            return Err(notice);
        }
        self.bytes += bytes;
        self.batches.push_back((batch, notice));
        Ok(())
    }

    pub fn pop(&mut self) -> Option<(Batch, Notice)> {
        let (batch, notice) = self.batches.pop_front()?;
        self.bytes -= batch.bytes();
        Some((batch, notice))
    }

    /// Puts back what was popped last.
    pub fn unpop(&mut self, batch: Batch, notice: Notice) {
        self.bytes += batch.bytes();
        self.batches.push_front((batch, notice));
    }

    /// Everybody who waits, in order; the batches are dropped.
    pub fn drain(&mut self) -> Vec<Callback> {
        self.bytes = 0;
        self.batches.drain(..).filter_map(|(_, notice)| notice.into_callback()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_keeps_its_order() {
        let mut held = Held::default();
        let large = || Batch::new().put("f", "k", vec![0; HELD_BYTES_MAX / 2]);
        assert!(held.push(Batch::new().put("f", "first", "x"), Notice::Nobody).is_ok());
        assert!(held.push(large(), Notice::Nobody).is_ok());
        assert!(held.push(large(), Notice::Nobody).is_err());
        let (first, notice) = held.pop().expect("there are two");
        assert_eq!(first, Batch::new().put("f", "first", "x"));
        held.unpop(first, notice);
        assert_eq!(held.len(), 2);
        held.pop();
        assert!(held.push(large(), Notice::Nobody).is_err());
        held.pop();
        assert!(held.is_empty() && held.bytes == 0);
        let larger = Batch::new().put("f", "k", vec![0; HELD_BYTES_MAX + 1]);
        assert!(held.push(larger, Notice::Nobody).is_ok(), "alone it may be of any size");
        assert!(held.push(Batch::new().put("f", "k", "x"), Notice::Nobody).is_err());
    }
}
