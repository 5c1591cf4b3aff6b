//! Every message of the v1 API through both encodings and back.

use proptest::prelude::*;
use prost::Message;

use crate::arbitrary::{Descriptors, Options};
use crate::json::{self, JsonMessage};
use crate::raw::task_infos;
use crate::v1::{agent, executor, maintenance, master, resource_provider, scheduler};
use crate::{DecodeError, Required, decode_checked};

const FULL: Options = Options { set_defaulted: true, drop_required: None };
const SPARSE: Options = Options { set_defaulted: false, drop_required: None };

fn check<T: Required + JsonMessage + PartialEq + std::fmt::Debug>(
    all: &Descriptors,
    name: &str,
    tape: &[u8],
) {
    // Fields with defaults set: nothing is added on the way.
    let (bytes, _) = all.bytes(name, FULL, tape);
    let message: T = decode_checked(&bytes).expect("valid bytes");
    let again: T = decode_checked(&message.encode_to_vec()).expect("own bytes");
    assert_eq!(message, again, "{name}");
    let text = json::to_vec(&message);
    assert!(!text.contains(&b'\n'), "a newline in {name}");
    let again: T = json::from_slice(&text).expect("own text");
    assert_eq!(message, again, "{name}: {}", String::from_utf8_lossy(&text));
    assert_eq!(message.encode_to_vec(), again.encode_to_vec());

    // Fields unset: JSON may write defaults, but then stands still.
    let (bytes, _) = all.bytes(name, SPARSE, tape);
    let message: T = decode_checked(&bytes).expect("valid bytes");
    let text = json::to_vec(&message);
    let again: T = json::from_slice(&text).expect("own text");
    assert_eq!(text, json::to_vec(&again), "{name}");
}

/// Leaves out one required field; both encodings must name it.
fn check_missing<T: Required + JsonMessage>(
    all: &Descriptors,
    name: &str,
    which: usize,
    tape: &[u8],
) {
    let options = Options { set_defaulted: false, drop_required: Some(which) };
    let (bytes, dropped) = all.bytes(name, options, tape);
    match (decode_checked::<T>(&bytes), dropped) {
        (Ok(_), None) => {}
        (Err(DecodeError::Missing { fields }), Some(path)) => assert_eq!(fields, [path]),
        (result, dropped) => panic!("{name}: left out {dropped:?}, got {:?}", result.err()),
    }
}

macro_rules! for_each_api {
    ($call:ident($($argument:expr),*)) => {{
        $call::<scheduler::Call>(&DESCRIPTORS, ".mezzo.v1.scheduler.Call", $($argument),*);
        $call::<scheduler::Event>(&DESCRIPTORS, ".mezzo.v1.scheduler.Event", $($argument),*);
        $call::<scheduler::ApiResult>(&DESCRIPTORS, ".mezzo.v1.scheduler.APIResult", $($argument),*);
        $call::<executor::Call>(&DESCRIPTORS, ".mezzo.v1.executor.Call", $($argument),*);
        $call::<executor::Event>(&DESCRIPTORS, ".mezzo.v1.executor.Event", $($argument),*);
        $call::<master::Call>(&DESCRIPTORS, ".mezzo.v1.master.Call", $($argument),*);
        $call::<master::Response>(&DESCRIPTORS, ".mezzo.v1.master.Response", $($argument),*);
        $call::<master::Event>(&DESCRIPTORS, ".mezzo.v1.master.Event", $($argument),*);
        $call::<agent::Call>(&DESCRIPTORS, ".mezzo.v1.agent.Call", $($argument),*);
        $call::<agent::Response>(&DESCRIPTORS, ".mezzo.v1.agent.Response", $($argument),*);
        $call::<agent::ProcessIo>(&DESCRIPTORS, ".mezzo.v1.agent.ProcessIO", $($argument),*);
        $call::<maintenance::Schedule>(&DESCRIPTORS, ".mezzo.v1.maintenance.Schedule", $($argument),*);
        $call::<resource_provider::Call>(&DESCRIPTORS, ".mezzo.v1.resource_provider.Call", $($argument),*);
        $call::<resource_provider::Event>(&DESCRIPTORS, ".mezzo.v1.resource_provider.Event", $($argument),*);
        $call::<crate::v1::Resource>(&DESCRIPTORS, ".mezzo.v1.Resource", $($argument),*);
        $call::<crate::v1::TaskInfo>(&DESCRIPTORS, ".mezzo.v1.TaskInfo", $($argument),*);
        $call::<crate::v1::ResourceUsage>(&DESCRIPTORS, ".mezzo.v1.ResourceUsage", $($argument),*);
    }};
}

static DESCRIPTORS: std::sync::LazyLock<Descriptors> = std::sync::LazyLock::new(Descriptors::new);

fn tape() -> impl Strategy<Value = Vec<u8>> {
    // Often 1, which sets an optional field.
    proptest::collection::vec(prop_oneof![2 => Just(1u8), 3 => any::<u8>()], 0..600)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_survive_both_encodings(tape in tape()) {
        for_each_api!(check(&tape));
    }

    #[test]
    fn a_missing_required_field_is_named(which in 0usize..12, tape in tape()) {
        for_each_api!(check_missing(which, &tape));
    }

    /// The raw TaskInfos are those that a walk over the decoded call finds, one for one.
    #[test]
    fn raw_tasks_line_up_with_decoded_ones(tape in tape()) {
        let (accept, _) = DESCRIPTORS.bytes(".mezzo.v1.scheduler.Call.Accept", SPARSE, &tape);
        let accept = scheduler::call::Accept::decode(accept.as_slice()).unwrap();
        let call = scheduler::Call { accept: Some(accept), ..Default::default() };
        let bytes = bytes::Bytes::from(call.encode_to_vec());
        let mut decoded = Vec::new();
        for operation in &call.accept.as_ref().unwrap().operations {
            decoded.extend(operation.launch.iter().flat_map(|l| &l.task_infos));
            decoded.extend(operation.launch_group.iter().flat_map(|g| &g.task_group.tasks));
        }
        let raw = task_infos(&bytes).unwrap();
        prop_assert_eq!(raw.len(), decoded.len());
        for (raw, decoded) in raw.iter().zip(decoded) {
            prop_assert_eq!(&crate::v1::TaskInfo::decode(raw.clone()).unwrap(), decoded);
        }
    }

    #[test]
    fn garbage_is_refused_quietly(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_checked::<scheduler::Call>(&bytes);
        let _ = json::from_slice::<scheduler::Call>(&bytes);
        let _ = task_infos(&bytes.clone().into());
        let mut decoder = crate::recordio::Decoder::new(100);
        decoder.push(&bytes);
        while let Ok(Some(_)) = decoder.next_record() {}
    }

    /// Valid texts and bytes with a few bytes changed, cut or doubled get further than noise does.
    #[test]
    fn damaged_messages_are_refused_quietly(
        tape in tape(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..6),
    ) {
        let (valid, _) = DESCRIPTORS.bytes(".mezzo.v1.scheduler.Call", SPARSE, &tape);
        let text = json::to_vec(&scheduler::Call::decode(valid.as_slice()).unwrap());
        for mut bytes in [valid, text] {
            for (at, value, what) in &damage {
                if bytes.is_empty() {
                    break;
                }
                let at = at.index(bytes.len());
                match what {
                    0 => bytes[at] = *value,
                    1 => bytes.truncate(at),
                    _ => bytes.insert(at, bytes[at]),
                }
            }
            let _ = decode_checked::<scheduler::Call>(&bytes);
            let _ = json::from_slice::<scheduler::Call>(&bytes);
            let _ = task_infos(&bytes.into());
        }
    }
}
