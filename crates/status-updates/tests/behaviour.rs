//! One test per promise.

use std::time::Duration;

use mezzo_status_updates::{
    Acknowledged, Backoff, Effect, InvalidAcknowledgement, PushError, Pushed, Update, UpdateStreams,
};
use mezzo_types::{Now, Uuid16};

type Streams = UpdateStreams<&'static str, u32>;

const START: Now = Now { mono_ns: 1_000, unix_ns: 0 };

fn uuid(n: u8) -> Uuid16 {
    Uuid16([n; 16])
}

fn update(n: u8) -> Update<u32> {
    Update { uuid: uuid(n), terminal: false, body: n.into() }
}

fn ending(n: u8) -> Update<u32> {
    Update { terminal: true, ..update(n) }
}

fn connected() -> Streams {
    let mut streams = Streams::new(Backoff::default());
    streams.connected(START);
    streams
}

/// Bodies of what is to be sent.
fn sent(streams: &mut Streams) -> Vec<u32> {
    streams.check_invariants().unwrap();
    let mut bodies = Vec::new();
    while let Some(Effect::Send { update, .. }) = streams.poll_effect() {
        bodies.push(update.body);
    }
    bodies
}

#[test]
fn one_update_is_in_flight_and_the_next_follows_its_acknowledgement() {
    let mut streams = connected();
    for n in 1..=2 {
        assert_eq!(streams.push(START, "a", update(n)), Ok(Pushed::Queued));
    }
    streams.push(START, "b", update(9)).unwrap();
    assert_eq!(sent(&mut streams), [1, 9]);
    assert_eq!(streams.acknowledge(START, &"a", uuid(1)), Ok(Acknowledged::Advanced));
    assert_eq!(sent(&mut streams), [2]);
    assert_eq!(streams.pending(&"a").map(|u| u.body).collect::<Vec<_>>(), [2]);
}

#[test]
fn the_backstop_doubles_from_ten_seconds_to_ten_minutes_and_starts_anew_per_update() {
    let mut streams = connected();
    streams.push(START, "a", update(1)).unwrap();
    streams.push(START, "a", update(2)).unwrap();
    assert_eq!(sent(&mut streams), [1]);
    let mut now = START;
    for seconds in [10, 20, 40, 80, 160, 320, 600, 600] {
        let due = streams.poll_timeout().unwrap();
        assert_eq!(due, now.plus(Duration::from_secs(seconds)));
        let early = Now { mono_ns: due - 1, ..now };
        streams.handle_timeout(early);
        assert_eq!(sent(&mut streams), [] as [u32; 0]);
        now = Now { mono_ns: due, ..now };
        streams.handle_timeout(now);
        assert_eq!(sent(&mut streams), [1]);
    }
    streams.acknowledge(now, &"a", uuid(1)).unwrap();
    assert_eq!(sent(&mut streams), [2]);
    assert_eq!(streams.poll_timeout(), Some(now.plus(Duration::from_secs(10))));
}

#[test]
fn a_returning_connection_sends_at_once_and_a_broken_one_not_at_all() {
    let mut streams = connected();
    streams.push(START, "a", update(1)).unwrap();
    assert_eq!(sent(&mut streams), [1]);
    streams.disconnected();
    assert_eq!(streams.poll_timeout(), None);
    streams.push(START, "b", update(2)).unwrap();
    streams.handle_timeout(START.advanced(Duration::from_secs(3600)));
    assert_eq!(sent(&mut streams), [] as [u32; 0]);
    let later = START.advanced(Duration::from_secs(1));
    streams.connected(later);
    assert_eq!(sent(&mut streams), [1, 2]);
    assert_eq!(streams.poll_timeout(), Some(later.plus(Duration::from_secs(10))));
}

#[test]
fn the_acknowledged_terminal_update_closes_the_stream() {
    let mut streams = connected();
    streams.push(START, "a", ending(1)).unwrap();
    assert_eq!(streams.push(START, "a", update(2)), Err(PushError::AfterTerminal));
    assert_eq!(streams.acknowledge(START, &"a", uuid(1)), Ok(Acknowledged::Closed));
    assert!(streams.is_empty());
    assert_eq!(
        streams.acknowledge(START, &"a", uuid(1)),
        Err(InvalidAcknowledgement::UnknownStream)
    );
    assert_eq!(streams.poll_timeout(), None);
}

#[test]
fn what_comes_twice_changes_nothing() {
    let mut streams = connected();
    streams.push(START, "a", update(1)).unwrap();
    assert_eq!(streams.push(START, "a", update(1)), Ok(Pushed::Duplicate));
    streams.acknowledge(START, &"a", uuid(1)).unwrap();
    assert_eq!(streams.push(START, "a", update(1)), Ok(Pushed::Duplicate));
    assert_eq!(streams.acknowledge(START, &"a", uuid(1)), Ok(Acknowledged::Duplicate));
    assert_eq!(sent(&mut streams), [1]);
}

#[test]
fn acknowledgements_of_something_else_are_told_apart() {
    let mut streams = connected();
    let (in_flight, acknowledged) = (uuid(1), uuid(2));
    streams.push(START, "a", update(1)).unwrap();
    streams.push(START, "a", update(2)).unwrap();
    assert_eq!(
        streams.acknowledge(START, &"a", uuid(2)),
        Err(InvalidAcknowledgement::WrongUuid { in_flight, acknowledged })
    );
    streams.acknowledge(START, &"a", uuid(1)).unwrap();
    streams.acknowledge(START, &"a", uuid(2)).unwrap();
    assert_eq!(
        streams.acknowledge(START, &"a", uuid(3)),
        Err(InvalidAcknowledgement::NothingInFlight)
    );
    assert_eq!(sent(&mut streams), [1, 2]);
}

#[test]
fn a_forgotten_stream_is_silent() {
    let mut streams = connected();
    streams.push(START, "a", update(1)).unwrap();
    assert!(streams.forget(&"a"));
    assert!(!streams.forget(&"a"));
    assert_eq!(sent(&mut streams), [] as [u32; 0]);
    assert_eq!(streams.poll_timeout(), None);
}
