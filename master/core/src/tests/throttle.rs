//! Framework rate limits, in virtual time.

use std::time::Duration;

use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::{Call, call, event};

use super::cluster::{Cluster, framework_info};
use crate::{Answer, CallRate, CallRates, Input, Refusal, RequestId, StreamId};

/// Calls per second, and how many may wait.
type Limit = (f64, Option<u64>);

fn cluster(principals: &[(&str, Option<Limit>)], others: Option<f64>) -> Cluster {
    let rate = |(per_second, capacity): Limit| CallRate { per_second, capacity };
    let by_principal = principals.iter().map(|(name, limit)| ((*name).to_owned(), limit.map(rate)));
    let by_principal = by_principal.collect();
    let others = others.map(|per_second| rate((per_second, None)));
    Cluster::with(|config| config.call_rates = CallRates { by_principal, others })
}

fn framework(cluster: &mut Cluster, principal: Option<&str>) -> (StreamId, v1::FrameworkId) {
    let principal = principal.map(str::to_owned);
    cluster.framework(v1::FrameworkInfo { principal, ..framework_info(true) })
}

/// Sends a call that has no consequences; its answer is found under the request.
fn send(cluster: &mut Cluster, who: &(StreamId, v1::FrameworkId), request: u64) {
    let call = Call {
        framework_id: Some(who.1.clone()),
        r#type: Some(call::Type::Revive as i32),
        ..Call::default()
    };
    cluster.input(Input::Call {
        request: RequestId(request),
        stream: Some(who.0),
        call: Box::new(call),
        task_infos: Vec::new(),
    });
}

fn answered(cluster: &Cluster, requests: std::ops::Range<u64>) -> Vec<u64> {
    requests.filter(|request| cluster.replies.contains_key(&RequestId(*request))).collect()
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn calls_are_carried_out_at_the_rate_and_in_order() {
    let mut cluster = cluster(&[("slow", Some((10.0, None)))], None);
    let slow = framework(&mut cluster, Some("slow"));
    (0..5).for_each(|request| send(&mut cluster, &slow, request));
    assert_eq!(answered(&cluster, 0..5), [0], "the first finds nobody before it");
    cluster.advance(ms(99));
    assert_eq!(answered(&cluster, 0..5), [0]);
    cluster.advance(ms(1));
    assert_eq!(answered(&cluster, 0..5), [0, 1]);
    cluster.advance(ms(200));
    assert_eq!(answered(&cluster, 0..5), [0, 1, 2, 3]);
    // Later ones wait behind, however long ago the last one was.
    send(&mut cluster, &slow, 5);
    cluster.advance(ms(200));
    assert_eq!(answered(&cluster, 0..6), [0, 1, 2, 3, 4, 5]);
    assert!(cluster.replies.values().all(|reply| *reply == Ok(Answer::Accepted)));
    // Idle time is not saved up.
    cluster.advance(Duration::from_secs(60));
    (10..13).for_each(|request| send(&mut cluster, &slow, request));
    assert_eq!(answered(&cluster, 10..13), [10]);
}

#[test]
fn a_late_timer_makes_up_for_it() {
    let mut cluster = cluster(&[("slow", Some((1000.0, None)))], None);
    let slow = framework(&mut cluster, Some("slow"));
    (0..20).for_each(|request| send(&mut cluster, &slow, request));
    let late = cluster.now.advanced(ms(10));
    cluster.now = late;
    cluster.master.handle_timeout(late);
    cluster.input(Input::Room { shortage: None });
    assert_eq!(answered(&cluster, 0..20).len(), 11);
}

#[test]
fn frameworks_of_a_principal_share_its_rate_and_others_are_free() {
    let mut cluster = cluster(&[("slow", Some((1.0, None))), ("free", None)], None);
    let pair = [framework(&mut cluster, Some("slow")), framework(&mut cluster, Some("slow"))];
    let free = framework(&mut cluster, Some("free"));
    let unknown = framework(&mut cluster, Some("unknown"));
    let nobody = framework(&mut cluster, None);
    send(&mut cluster, &pair[0], 0);
    send(&mut cluster, &pair[1], 1);
    for (request, who) in [&free, &free, &unknown, &unknown, &nobody, &nobody].iter().enumerate() {
        send(&mut cluster, who, 10 + request as u64);
    }
    assert_eq!(answered(&cluster, 0..2), [0]);
    assert_eq!(answered(&cluster, 10..16).len(), 6);
    cluster.advance(ms(1000));
    assert_eq!(answered(&cluster, 0..2), [0, 1]);
}

#[test]
fn who_is_not_listed_shares_the_default() {
    let mut cluster = cluster(&[("free", None)], Some(1.0));
    let free = framework(&mut cluster, Some("free"));
    let unknown = framework(&mut cluster, Some("unknown"));
    let nobody = framework(&mut cluster, None);
    for (request, who) in [&free, &free, &unknown, &nobody].iter().enumerate() {
        send(&mut cluster, who, request as u64);
    }
    assert_eq!(answered(&cluster, 0..4), [0, 1, 2]);
    cluster.advance(ms(1000));
    assert_eq!(answered(&cluster, 0..4), [0, 1, 2, 3]);
}

#[test]
fn calls_beyond_the_capacity_are_dropped_with_an_error_event() {
    let mut cluster = cluster(&[("slow", Some((2.5, Some(2))))], None);
    let slow = framework(&mut cluster, Some("slow"));
    (0..4).for_each(|request| send(&mut cluster, &slow, request));
    let sentence = "Call REVIVE dropped: capacity(2) exceeded: so many calls of frameworks of \
                    principal 'slow' wait for their rate limit of 2.5 a second; send fewer";
    let dropped = Some(&Err(Refusal::Unavailable(sentence.to_owned())));
    assert_eq!(cluster.replies.get(&RequestId(3)), dropped);
    let events = cluster.take_events(slow.0);
    let [error] = &events[..] else { panic!("one event: {events:?}") };
    assert_eq!(error.r#type(), event::Type::Error);
    assert_eq!(error.error.as_ref().map(|error| error.message.as_str()), Some(sentence));
    assert!(cluster.closed_streams.is_empty(), "what waits is still carried out");
    cluster.advance(ms(800));
    assert_eq!(answered(&cluster, 0..4), [0, 1, 2, 3]);
    assert_eq!(cluster.replies.get(&RequestId(2)), Some(&Ok(Answer::Accepted)));
}

#[test]
fn a_capacity_of_nothing_lets_nothing_wait() {
    let mut cluster = cluster(&[("slow", Some((1.0, Some(0))))], None);
    let slow = framework(&mut cluster, Some("slow"));
    send(&mut cluster, &slow, 0);
    send(&mut cluster, &slow, 1);
    assert_eq!(cluster.replies[&RequestId(0)], Ok(Answer::Accepted));
    assert!(matches!(cluster.replies[&RequestId(1)], Err(Refusal::Unavailable(_))));
}

#[test]
fn calls_of_a_framework_that_left_are_answered_all_the_same() {
    let mut cluster = cluster(&[("slow", Some((1.0, None)))], None);
    let slow = framework(&mut cluster, Some("slow"));
    (0..3).for_each(|request| send(&mut cluster, &slow, request));
    cluster.input(Input::StreamClosed { stream: slow.0 });
    cluster.advance(Duration::from_secs(2));
    assert_eq!(answered(&cluster, 0..3), [0, 1, 2]);
    assert!(matches!(cluster.replies[&RequestId(1)], Err(Refusal::Forbidden(_))));
}

#[test]
fn strangers_use_up_nobodys_rate() {
    let mut cluster = cluster(&[("slow", Some((1.0, None)))], None);
    let slow = framework(&mut cluster, Some("slow"));
    let stranger = (StreamId(77_777), slow.1.clone());
    send(&mut cluster, &stranger, 0);
    send(&mut cluster, &slow, 1);
    assert!(matches!(cluster.replies[&RequestId(0)], Err(Refusal::BadRequest(_))));
    assert_eq!(cluster.replies[&RequestId(1)], Ok(Answer::Accepted));
    assert_eq!(counts(&cluster, "slow"), Some((1, 1)));
}

fn counts(cluster: &Cluster, principal: &str) -> Option<(u64, u64)> {
    let statistics = cluster.master.statistics();
    statistics.messages.get(principal).map(|counts| (counts.received(), counts.processed()))
}

#[test]
fn messages_are_counted_by_principal_while_a_framework_of_it_is_known() {
    let mut cluster = cluster(&[("slow", Some((1.0, Some(1))))], None);
    assert_eq!(counts(&cluster, "slow"), None);
    let (slow, other) =
        (framework(&mut cluster, Some("slow")), framework(&mut cluster, Some("slow")));
    assert_eq!(counts(&cluster, "slow"), Some((0, 0)));
    (0..3).for_each(|request| send(&mut cluster, &slow, request));
    assert_eq!(counts(&cluster, "slow"), Some((3, 1)), "one was dropped, one waits");
    cluster.advance(Duration::from_secs(1));
    assert_eq!(counts(&cluster, "slow"), Some((3, 2)));
    for (at, (_, id)) in [&slow, &other].into_iter().enumerate() {
        assert!(counts(&cluster, "slow").is_some());
        let framework = id.value.as_str().into();
        cluster.input(Input::Teardown { request: RequestId(100 + at as u64), framework });
    }
    assert_eq!(counts(&cluster, "slow"), None);
}
