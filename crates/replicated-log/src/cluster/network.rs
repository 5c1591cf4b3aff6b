//! Messages and states on their way, and who cannot reach whom.

use std::collections::BTreeSet;

use crate::effect::Recipient;
use crate::random::Random;
use crate::spool::Spool;

#[derive(Debug, Clone)]
pub(super) struct Message {
    pub from: u64,
    pub to: u64,
    pub bytes: Vec<u8>,
}

/// A state on its way.
pub(super) struct Transfer {
    pub recipient: Recipient,
    pub frames: Vec<Vec<u8>>,
    pub next: usize,
    pub spool: Option<Spool>,
}

#[derive(Default)]
pub(super) struct Network {
    messages: Vec<Message>,
    pub transfers: Vec<Transfer>,
    /// (from, to): one way each.
    pub cuts: BTreeSet<(u64, u64)>,
    /// Of a hundred messages.
    pub lost_percent: u64,
    pub repeated_percent: u64,
}

/// More are as good as lost.
const MESSAGES: usize = 5000;

impl Network {
    pub fn send(&mut self, message: Message, chance: &mut Random) {
        if chance.percent(self.lost_percent) || self.messages.len() >= MESSAGES {
            return;
        }
        if chance.percent(self.repeated_percent) {
            self.messages.push(message.clone());
        }
        self.messages.push(message);
    }

    /// Any message, if there is one: mostly an early one, so that some stay behind for long.
    pub fn take(&mut self, chance: &mut Random) -> Option<Message> {
        let reach =
            if chance.percent(80) { self.messages.len().min(4) } else { self.messages.len() };
        if reach == 0 {
            return None;
        }
        let message = self.messages.remove(chance.below(reach as u64) as usize);
        (!self.cuts.contains(&(message.from, message.to))).then_some(message)
    }

    /// The oldest message.
    pub fn take_first(&mut self) -> Option<Message> {
        (!self.messages.is_empty()).then(|| self.messages.remove(0))
    }

    /// Everything works from now on.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.lost_percent = 0;
        self.repeated_percent = 0;
    }
}
