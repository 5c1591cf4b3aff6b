//! Reading a state out of the store, to send it to a node that lacks it.

use mezzo_store::Store;
use raft::eraftpb::SnapshotMetadata;

use crate::config::StateFamilies;
use crate::effect::Recipient;
use crate::error::StateError;
use crate::frame::{self, FRAME_BYTES, Header, Seal};
use crate::records::{self, FOUNDING, RecordError};

/// Hands the frames of the state to `sink`, in order, all read from one view of the store; `sink` may block, which holds
/// back the reading. The state may be newer than raft's pointer to it: it is what the store holds now.
///
/// # Errors
/// Those of reading, and whatever `sink` returns.
pub(crate) fn send_state(
    store: &Store,
    state: &StateFamilies,
    recipient: Recipient,
    sink: &mut dyn FnMut(Vec<u8>) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let view = store.snapshot();
    let found = records::load_state(&view)?.ok_or_else(|| unfit("there is no log"))?;
    let group = found.group.ok_or_else(|| unfit("the group has no id yet"))?;
    let (family, key) = state.applied;
    let applied = records::number(&view, family, key)?.unwrap_or(0);
    // Nobody proposes anything at the first index.
    let index = applied.max(FOUNDING.0);
    let term = if index == found.base.index {
        found.base.term
    } else {
        let entry = records::entry(&view, index)?;
        entry.ok_or_else(|| unfit(&format!("entry {index} is applied and not there")))?.term
    };
    let header = Header {
        recipient,
        group,
        metadata: SnapshotMetadata { index, term, conf_state: Some(found.conf_state) },
        conf_index: found.conf_index,
        families: state.families.iter().map(|family| (*family).to_owned()).collect(),
    };
    let mut sealed = Sealed { seal: Seal::default(), sink };
    sealed.send(header.encode())?;
    let mut frame = frame::records();
    for (place, family) in (0_u8..).zip(&state.families) {
        for record in view.scan(family, b"") {
            let (key, value) = record.map_err(StateError::Read)?;
            frame::put_record(&mut frame, place, &key, &value);
            sealed.seal.records += 1;
            if frame.len() >= FRAME_BYTES {
                sealed.send(std::mem::replace(&mut frame, frame::records()))?;
            }
        }
    }
    sealed.send(frame)?;
    let end = frame::end(&sealed.seal);
    (sealed.sink)(end)
}

struct Sealed<'a> {
    seal: Seal,
    sink: &'a mut dyn FnMut(Vec<u8>) -> Result<(), StateError>,
}

impl Sealed<'_> {
    fn send(&mut self, frame: Vec<u8>) -> Result<(), StateError> {
        self.seal.add(&frame);
        (self.sink)(frame)
    }
}

fn unfit(what: &str) -> StateError {
    StateError::Unfit { what: what.to_owned() }
}

impl From<RecordError> for StateError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Read(error) => Self::Read(error),
            RecordError::Damaged(what) => Self::Unfit { what },
        }
    }
}
