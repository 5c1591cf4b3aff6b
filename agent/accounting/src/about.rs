//! Which object the attached programs came from.

use mezzo_agent_ebpf_common::{About, LAYOUT};
use mezzo_agent_sys::BpfMap;
use zerocopy::{FromBytes, IntoBytes};

use crate::error::OpenError;
use crate::host::Root;
use crate::object::Object;
use crate::pins::Pins;

const MAP: &str = "ABOUT";

/// What the last agent has written; `None` if there was none, or it did not come that far.
pub(crate) fn read(pins: &Pins) -> Option<About> {
    let map = BpfMap::open(&pins.map(MAP)).ok()?;
    let bytes = map.get(0u32.as_bytes()).ok()??;
    About::read_from_bytes(&bytes[..]).ok()
}

/// Says that the programs of `object` are attached at `root`; of no object, that they are being changed.
pub(crate) fn write(pins: &Pins, root: &Root, object: Option<&Object>) -> Result<(), OpenError> {
    let path = pins.map(MAP);
    let about = of(root, object);
    BpfMap::open(&path)
        .and_then(|map| map.set(0u32.as_bytes(), about.as_bytes()))
        .map_err(|source| OpenError::Pin { action: "write", path, source })
}

pub(crate) fn of(root: &Root, object: Option<&Object>) -> About {
    About {
        object: object.map(Object::digest).unwrap_or_default(),
        root: root.id,
        layout: LAYOUT,
        level: root.level,
    }
}
