//! Each call, event and response, in JSON and in protobuf, as Mesos says it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::PathBuf;

use mezzo_proto::json::{self, JsonMessage};
use mezzo_proto::v1::{agent, executor, master, scheduler};
use mezzo_proto::{DecodeError, Required, decode_checked};

/// Three lines.
struct Case {
    /// File and name.
    name: String,
    second: String,
    third: String,
}

/// The cases in a file, or none if there is no such file.
fn cases(file: &str) -> Vec<Case> {
    let path: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "conformance", "vectors", file].iter().collect();
    let Ok(text) = std::fs::read_to_string(&path) else { return Vec::new() };
    let blocks = text.split("\n\n").map(str::trim).filter(|block| !block.is_empty());
    blocks
        .map(|block| {
            let [name, second, third] = block.lines().collect::<Vec<_>>()[..] else {
                panic!("{file}: a case has three lines: {block}")
            };
            Case {
                name: format!("{file}, {name}"),
                second: second.to_owned(),
                third: third.to_owned(),
            }
        })
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).expect("a hexadecimal digit") as u8).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A message of the API that is tested here.
trait Api: Required + JsonMessage + PartialEq + Debug {
    /// As the files are called.
    const NAME: &str;

    /// Name of the message's type; `None` of a message without one.
    fn kind(&self) -> Option<String>;

    /// All types there are.
    fn kinds() -> Vec<&'static str>;
}

macro_rules! api {
    ($($name:literal $message:ty, $kind:ty, $last:literal;)*) => {$(
        impl Api for $message {
            const NAME: &str = $name;

            fn kind(&self) -> Option<String> {
                Some(self.r#type().as_str_name().to_owned())
            }

            fn kinds() -> Vec<&'static str> {
                let kinds = (1..).map_while(|number| <$kind>::try_from(number).ok());
                let kinds: Vec<&str> = kinds.map(|kind| kind.as_str_name()).collect();
                assert!(kinds.len() >= $last, "{} has more types", $name);
                kinds
            }
        }
    )*};
}

api! {
    "scheduler.Call" scheduler::Call, scheduler::call::Type, 17;
    "scheduler.Event" scheduler::Event, scheduler::event::Type, 11;
    "executor.Call" executor::Call, executor::call::Type, 4;
    "executor.Event" executor::Event, executor::event::Type, 9;
    "master.Call" master::Call, master::call::Type, 39;
    "master.Response" master::Response, master::response::Type, 19;
    "master.Event" master::Event, master::event::Type, 9;
    "agent.Call" agent::Call, agent::call::Type, 32;
    "agent.Response" agent::Response, agent::response::Type, 17;
    "agent.ProcessIO" agent::ProcessIo, agent::process_io::Type, 2;
}

impl Api for scheduler::ApiResult {
    const NAME: &str = "scheduler.APIResult";

    fn kind(&self) -> Option<String> {
        None
    }

    fn kinds() -> Vec<&'static str> {
        Vec::new()
    }
}

/// Both encodings say the same, and each is written exactly so.
fn check<M: Api>() {
    let cases = cases(&format!("{}.txt", M::NAME));
    let mut kinds = BTreeSet::new();
    for Case { name, second: text, third: hex } in &cases {
        let bytes = unhex(hex);
        let decoded: M = decode_checked(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let read: M =
            json::from_slice(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read, decoded, "{name}: text and bytes differ");
        assert_eq!(&json::to_string(&decoded), text, "{name}: written differently");
        assert_eq!(to_hex(&read.encode_to_vec()), *hex, "{name}: encoded differently");
        kinds.extend(decoded.kind());
    }
    let untested: Vec<&str> =
        M::kinds().into_iter().filter(|kind| !kinds.contains(*kind)).collect();
    assert!(!cases.is_empty() && untested.is_empty(), "{} has no case for {untested:?}", M::NAME);
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that leave out what has a default: JSON says it.
fn check_defaults<M: Api>() -> usize {
    let cases = cases(&format!("defaults/{}.txt", M::NAME));
    for Case { name, second: text, third: hex } in &cases {
        let decoded: M =
            decode_checked(&unhex(hex)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(&json::to_string(&decoded), text, "{name}");
        assert_eq!(to_hex(&decoded.encode_to_vec()), *hex, "{name}: encoded differently");
    }
    cases.len()
}

/// Texts that Mesos does not write and takes, or does not take.
fn check_tolerant<M: Api>() -> usize {
    let cases = cases(&format!("tolerant/{}.txt", M::NAME));
    for Case { name, second: text, third: expected } in &cases {
        let got = match json::from_slice::<M>(text.as_bytes()) {
            Ok(message) => json::to_string(&message),
            Err(error) => format!("refused: {error}"),
        };
        assert_eq!(&got, expected, "{name}");
    }
    cases.len()
}

/// Bytes in which required fields are missing: all are named, as Google's protobuf names them.
fn check_broken<M: Api>() -> usize {
    let cases = cases(&format!("broken/{}.txt", M::NAME));
    for Case { name, second: hex, third: sentence } in &cases {
        let error = decode_checked::<M>(&unhex(hex)).expect_err(name);
        let DecodeError::Missing { fields } = &error else { panic!("{name}: {error}") };
        let expected = sentence.strip_prefix("Missing required fields: ").expect("the sentence");
        let found: BTreeSet<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(found, expected.split(", ").collect::<BTreeSet<&str>>(), "{name}");
        assert!(error.to_string().starts_with("Missing required fields: "), "{error}");
    }
    cases.len()
}

macro_rules! all {
    ($check:ident) => {
        [
            $check::<scheduler::Call>(),
            $check::<scheduler::Event>(),
            $check::<scheduler::ApiResult>(),
            $check::<executor::Call>(),
            $check::<executor::Event>(),
            $check::<master::Call>(),
            $check::<master::Response>(),
            $check::<master::Event>(),
            $check::<agent::Call>(),
            $check::<agent::Response>(),
            $check::<agent::ProcessIo>(),
        ]
    };
}

#[test]
fn every_call_event_and_response_is_said_as_mesos_says_it() {
    all!(check);
}

#[test]
fn defaults_are_said_in_json() {
    assert!(all!(check_defaults).into_iter().sum::<usize>() >= 9);
}

#[test]
fn what_clients_send_instead_is_taken_or_refused_by_name() {
    assert!(all!(check_tolerant).into_iter().sum::<usize>() >= 40);
}

#[test]
fn missing_fields_are_named_in_bytes() {
    assert!(all!(check_broken).into_iter().sum::<usize>() >= 10);
}
