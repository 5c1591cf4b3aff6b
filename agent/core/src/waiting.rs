//! Orders that arrive while an operation's directories are being made. The master's orders rest on each
//! other in the order in which they were given, so those behind the operation wait for it.

use mezzo_proto::internal::v1::{MasterToAgent, master_to_agent};
use mezzo_types::Now;

use crate::core::Core;
use crate::input::LinkId;

/// Directories are made within milliseconds; a master that sends more than this meanwhile is told to
/// register the agent anew.
const WAITING_MAX: usize = 4096;

impl Core {
    /// Keeps an order back if it must wait; gives back what may be handled at once.
    pub(crate) fn hold_back(
        &mut self,
        id: LinkId,
        message: MasterToAgent,
    ) -> Option<MasterToAgent> {
        use master_to_agent::Message;
        if self.applying.is_none() && self.waiting.is_empty() {
            return Some(message);
        }
        let at_once = matches!(
            message.message,
            Some(
                Message::Ping(_)
                    | Message::Registered(_)
                    | Message::Refused(_)
                    | Message::Acknowledge(_)
                    | Message::AcknowledgeOperation(_)
            ) | None
        );
        if at_once {
            return Some(message);
        }
        if self.waiting.len() >= WAITING_MAX {
            self.close_link(id, "too many orders arrived while a volume was being made");
            return None;
        }
        self.waiting.push_back(message);
        None
    }

    /// The operation is over: the orders that waited are carried out, up to the next one to wait for.
    pub(crate) fn take_waiting(&mut self, now: Now) {
        while self.applying.is_none() {
            let Some(link) = self.link.as_ref().map(|link| link.id) else { return };
            let Some(message) = self.waiting.pop_front() else { return };
            self.handle_message(now, link, message);
        }
    }
}
