use std::time::Duration;

use mezzo_master_allocator::{AllocatorConfig, DrfAllocator};
use mezzo_master_core::{Config, Effect, Input, LinkId, Master, Registry, RequestId, StreamId};
use mezzo_proto::internal::v1::AgentToMaster;
use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::storage::v1::CommandBatch;
use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::{Call, call};
use mezzo_proto::{decode_checked, raw};
use mezzo_types::Now;
use prost::Message;

use super::{pieces, seeds};

const NOW: Now = Now { mono_ns: 1_000_000_000, unix_ns: 1_700_000_000_000_000_000 };
/// Messages are taken from clients up to some size; here a smaller one keeps the executions fast.
const PIECES: usize = 64;

fn master(registry: &Registry) -> Master {
    let config = Config::new(v1::MasterInfo { id: "m".to_owned(), ..v1::MasterInfo::default() });
    let allocator = Box::new(DrfAllocator::new(AllocatorConfig::default()));
    Master::recover(config, 2, registry, allocator, NOW)
}

/// Whatever the log says, a master comes up. What it says is believed: only masters write to it.
pub(super) fn records(data: &[u8]) {
    let mut registry = Registry::default();
    for (_, piece) in pieces(data).take(PIECES) {
        let Ok(batch) = CommandBatch::decode(piece) else { continue };
        batch.commands.iter().for_each(|command| registry.apply(command));
    }
    let mut master = master(&registry);
    drain(&mut master, &mut registry);
    for seconds in [1, 100, 1000, 1_000_000] {
        master.handle_timeout(NOW.advanced(Duration::from_secs(seconds)));
        drain(&mut master, &mut registry);
    }
}

/// Whatever frameworks and agents say, the master goes on, and a successor comes up; while agents are honest
/// about themselves, its state holds together.
pub(super) fn inputs(data: &[u8]) {
    let mut registry = Registry::default();
    let mut master = self::master(&registry);
    let mut now = NOW;
    // One agent and one framework that are there.
    let registered = AgentToMaster::decode(seeds::register().as_slice()).expect("a seed");
    let (link, stream) = (LinkId(1), StreamId(2));
    master.handle(now, Input::AgentMessage { link, message: Box::new(registered) });
    let subscribe = Call::decode(seeds::subscribe().as_slice()).expect("a seed");
    let call = Box::new(subscribe);
    master.handle(now, Input::Subscribe { stream, call, principal: None });
    let mut framework = None;
    let mut honest = true;
    settle(&mut master, &mut registry);
    let mut next = 10;
    for (kind, piece) in pieces(data).take(PIECES) {
        framework = framework.or_else(|| registry.frameworks.keys().next().cloned());
        next += 1;
        match kind % 4 {
            0 => {
                now = now.advanced(Duration::from_millis(u64::from(kind) * 100));
                master.handle_timeout(now);
            }
            1 => {
                let Ok(message) = decode_checked::<AgentToMaster>(piece) else { continue };
                // What an agent says of itself is believed, and may be more than it has.
                honest &= !matches!(&message.message, Some(ToMaster::Register(_)));
                let link = LinkId(1 + u64::from(kind / 4 % 2) * 100);
                master.handle(now, Input::AgentMessage { link, message: Box::new(message) });
            }
            _ => {
                let Ok(mut call) = decode_checked::<Call>(piece) else { continue };
                if call.r#type == Some(call::Type::Subscribe as i32) {
                    let valid = mezzo_master_core::validation::scheduler_call(&call).is_ok();
                    if valid {
                        let (stream, call) = (StreamId(next), Box::new(call));
                        master.handle(now, Input::Subscribe { stream, call, principal: None });
                    }
                } else {
                    if kind & 0x40 == 0 {
                        call.framework_id = framework.as_ref().map(Into::into);
                    }
                    if mezzo_master_core::validation::scheduler_call(&call).is_err() {
                        continue;
                    }
                    let bytes = bytes::Bytes::copy_from_slice(piece);
                    let task_infos = raw::task_infos(&bytes).unwrap_or_default();
                    let (request, call) = (RequestId(next), Box::new(call));
                    let stream = Some(stream);
                    master.handle(now, Input::Call { request, stream, call, task_infos });
                }
            }
        }
        match honest {
            true => settle(&mut master, &mut registry),
            false => drain(&mut master, &mut registry),
        }
    }
    let mut successor = self::master(&registry);
    drain(&mut successor, &mut registry);
}

fn settle(master: &mut Master, registry: &mut Registry) {
    drain(master, registry);
    if let Err(violation) = master.check_invariants() {
        panic!("{violation}");
    }
}

fn drain(master: &mut Master, registry: &mut Registry) {
    while let Some(effect) = master.poll_effect() {
        if let Effect::Persist(command) = effect {
            registry.apply(&command);
        }
    }
}
