//! The subscription against a scripted master.

mod fake_master;
#[path = "../../examples/hello.rs"]
#[allow(dead_code, reason = "the example's `main` is not called here")]
mod hello;

use std::time::Duration;

use mezzo_sdk::v1::scheduler::{Event as WireEvent, call, event};
use mezzo_sdk::v1::{self, TaskState};
use mezzo_sdk::{
    Acknowledgement, CallError, Calls, ConnectError, Ended, Event, Events, Framework, Scheduler,
};

use crate::fake_master::{FakeMaster, Session};

fn scheduler(address: &str) -> Scheduler {
    Scheduler::new(address, Framework::new("test", "nobody"))
        .backoff(Duration::from_millis(1), Duration::from_millis(5))
}

async fn subscribe(master: &mut FakeMaster, scheduler: Scheduler) -> (Calls, Events, Session) {
    let (started, (session, _)) =
        tokio::join!(scheduler.start(), master.accept_subscription("framework-1"));
    let (calls, mut events) = started.expect("subscribed");
    assert!(matches!(events.next().await, Ok(Event::Subscribed { .. })));
    (calls, events, session)
}

fn update(event: Result<Event, Ended>) -> v1::TaskStatus {
    match event.expect("an event") {
        Event::Update(status) => status,
        other => panic!("not an update: {other:?}"),
    }
}

fn task(id: &str) -> v1::TaskId {
    v1::TaskId { value: id.to_owned() }
}

#[tokio::test]
async fn hello_runs_five_tasks_and_tears_itself_down() {
    let mut master = FakeMaster::start().await;
    let address = master.address.clone();
    let framework = tokio::spawn(async move {
        hello::hello(&address, "nobody").await.map_err(|error| error.to_string())
    });
    let (mut session, subscribe) = master.accept_subscription("framework-1").await;
    assert_eq!(subscribe.framework_info.name, "hello");

    // Room for three, then for the rest.
    let mut launched = Vec::new();
    for (offer, cpus, expect) in [("offer-1", 0.3, 3), ("offer-2", 4.0, 2)] {
        session.offer(offer, cpus, 1024.0).await;
        let accept = session.expect(call::Type::Accept).await.accept.expect("body");
        assert_eq!(accept.offer_ids[0].value, offer);
        let launch = accept.operations[0].launch.clone().expect("LAUNCH");
        assert_eq!(launch.task_infos.len(), expect);
        launched.extend(launch.task_infos);
    }
    for (n, info) in launched.iter().enumerate() {
        assert_eq!(info.agent_id.value, "agent-1");
        let command = info.command.as_ref().and_then(|command| command.value.as_deref());
        assert_eq!(command, Some("echo hello from $MESOS_TASK_ID"));
        session.update(&info.task_id.value, TaskState::TaskFinished, Some(n as u8)).await;
    }
    for n in 0..4 {
        let acknowledged = session.expect(call::Type::Acknowledge).await.acknowledge.expect("body");
        assert_eq!(acknowledged.uuid.as_ref(), [n; 16]);
    }
    session.expect(call::Type::Teardown).await;
    assert_eq!(framework.await.expect("no panic"), Ok(()));
}

#[tokio::test]
async fn nobody_at_the_address_is_said_with_the_address_and_the_next_step() {
    // Bound and released: nothing listens there now.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    drop(listener);
    let error = scheduler(&address).start().await.expect_err("nobody there");
    assert_eq!(
        error.to_string(),
        format!("no master answers at {address}; `mezzo dev` starts one")
    );
    assert!(error.is_temporary());
}

#[tokio::test]
async fn patience_waits_for_a_master_that_comes_later() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let patient = scheduler(&address.to_string()).patience(Duration::from_secs(60));
    let (subscribing, connected) = tokio::join!(patient.start(), async {
        let mut master = FakeMaster::start_at(address).await;
        master.accept_subscription("framework-1").await
    });
    let (calls, _events) = subscribing.expect("subscribed");
    assert_eq!(calls.framework_id().value, "framework-1");
    drop(connected);
}

#[tokio::test]
async fn a_refused_subscription_carries_the_masters_sentence() {
    let mut master = FakeMaster::start().await;
    let (error, _session) = tokio::join!(scheduler(&master.address.clone()).start(), async {
        let mut session = master.accept().await;
        let (seq, _) = session.next_call().await;
        session.answer(seq, 400, "role \"a b\" contains a space").await;
        session
    });
    match error.expect_err("refused") {
        ConnectError::Refused { code, message, .. } => {
            assert_eq!((code, message.as_str()), (400, "role \"a b\" contains a space"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn updates_are_acknowledged_when_the_next_event_is_asked_for() {
    let mut master = FakeMaster::start().await;
    let new = scheduler(&master.address);
    let (calls, mut events, mut session) = subscribe(&mut master, new).await;

    session.update("a", TaskState::TaskRunning, Some(1)).await;
    // From the master itself, so without a uuid: must not be acknowledged.
    session.update("a", TaskState::TaskRunning, None).await;
    session.update("a", TaskState::TaskFinished, Some(2)).await;
    let first = update(events.next().await);
    assert_eq!(first.uuid.as_deref(), Some([1u8; 16].as_slice()));
    // Nothing has been acknowledged yet: the call below arrives first.
    let (suppressed, _) =
        tokio::join!(calls.suppress(Vec::new()), session.expect(call::Type::Suppress));
    suppressed.expect("taken");

    assert!(update(events.next().await).uuid.is_none());
    let acknowledged = session.expect(call::Type::Acknowledge).await;
    assert_eq!(acknowledged.framework_id.map(|id| id.value).as_deref(), Some("framework-1"));
    let acknowledged = acknowledged.acknowledge.expect("body");
    assert_eq!(acknowledged.uuid.as_ref(), [1; 16]);
    assert_eq!(
        (acknowledged.task_id.value.as_str(), acknowledged.agent_id.value.as_str()),
        ("a", "agent-1")
    );

    assert_eq!(update(events.next().await).state(), TaskState::TaskFinished);
    let (settled, acknowledged) =
        tokio::join!(events.settle(), session.expect(call::Type::Acknowledge));
    settled.expect("taken");
    assert_eq!(acknowledged.acknowledge.expect("body").uuid.as_ref(), [2; 16]);
    // Settled once is settled: the next call on the wire is another one.
    events.settle().await.expect("nothing to do");
    let (revived, _) = tokio::join!(calls.revive(Vec::new()), session.expect(call::Type::Revive));
    revived.expect("taken");
}

#[tokio::test]
async fn manual_acknowledgement_is_left_to_the_application() {
    let mut master = FakeMaster::start().await;
    let new = scheduler(&master.address).acknowledgement(Acknowledgement::Manual);
    let (calls, mut events, mut session) = subscribe(&mut master, new).await;
    session.update("a", TaskState::TaskRunning, Some(1)).await;
    session.update("b", TaskState::TaskRunning, Some(2)).await;
    let first = update(events.next().await);
    update(events.next().await);
    let (taken, acknowledged) =
        tokio::join!(calls.acknowledge(&first), session.expect(call::Type::Acknowledge));
    taken.expect("taken");
    assert_eq!(acknowledged.acknowledge.expect("body").uuid.as_ref(), [1; 16]);

    let without_uuid = v1::TaskStatus { uuid: None, ..first };
    let error = calls.acknowledge(&without_uuid).await.expect_err("nothing to acknowledge");
    assert_eq!(error.to_string(), "ACKNOWLEDGE needs a status with a uuid and an agent id");
}

#[tokio::test]
async fn a_refused_call_is_an_error_and_the_subscription_goes_on() {
    let mut master = FakeMaster::start().await;
    let new = scheduler(&master.address);
    let (calls, mut events, mut session) = subscribe(&mut master, new).await;
    let (refused, ()) = tokio::join!(calls.kill(task("x"), None, None), async {
        let (seq, _) = session.next_call().await;
        session.answer(seq, 400, "task_id is empty").await;
    });
    assert_eq!(
        refused,
        Err(CallError::Refused { call: "KILL", code: 400, message: "task_id is empty".to_owned() })
    );
    session.offer("offer-1", 1.0, 1.0).await;
    assert!(matches!(events.next().await, Ok(Event::Offers(_))));
}

#[tokio::test]
async fn a_lost_connection_is_renewed_with_the_frameworks_id() {
    let mut master = FakeMaster::start().await;
    let new = scheduler(&master.address);
    let (calls, mut events, mut session) = subscribe(&mut master, new).await;
    // Unacknowledged when the connection breaks: its acknowledgement may be lost, and the update
    // comes again.
    session.update("a", TaskState::TaskRunning, Some(1)).await;
    update(events.next().await);

    let (unanswered, ()) = tokio::join!(calls.kill(task("a"), None, None), async {
        let (_, kill) = session.next_call().await;
        assert_eq!(kill.r#type, Some(call::Type::Kill as i32));
        drop(session);
    });
    assert_eq!(unanswered, Err(CallError::Disconnected { call: "KILL" }));
    assert!(matches!(events.next().await, Ok(Event::Disconnected { .. })));

    let (mut session, subscribe) = master.accept_subscription("framework-1").await;
    let id = subscribe.framework_info.id.map(|id| id.value);
    assert_eq!(id.as_deref(), Some("framework-1"));
    assert!(matches!(events.next().await, Ok(Event::Subscribed { .. })));

    session.update("a", TaskState::TaskRunning, Some(1)).await;
    update(events.next().await);
    let (reconciled, call) =
        tokio::join!(calls.reconcile([(task("a"), None)]), session.expect(call::Type::Reconcile));
    reconciled.expect("taken");
    assert_eq!(call.reconcile.expect("body").tasks[0].task_id.value, "a");
}

#[tokio::test]
async fn several_failures_in_a_row_end_in_a_subscription_or_in_a_clear_end() {
    let mut master = FakeMaster::start().await;
    let new = scheduler(&master.address);
    let (_calls, mut events, session) = subscribe(&mut master, new).await;
    session.fail(tonic::Status::unavailable("stepping down")).await;
    drop(session);
    match events.next().await {
        Ok(Event::Disconnected { reason }) => assert_eq!(reason, "stepping down"),
        other => panic!("{other:?}"),
    }
    for message in ["recovering", "no leader"] {
        let mut session = master.accept().await;
        let (seq, _) = session.next_call().await;
        session.answer(seq, 503, message).await;
    }
    let mut session = master.accept().await;
    let (seq, _) = session.next_call().await;
    session.answer(seq, 403, "the framework has been removed").await;
    let ended = events.next().await.expect_err("over");
    assert_eq!(
        ended.to_string(),
        "the master refused to renew the subscription with 403: the framework has been removed"
    );
    assert_eq!(events.next().await, Err(ended), "it stays over");
}

#[tokio::test]
async fn an_error_event_ends_everything() {
    let mut master = FakeMaster::start().await;
    let new = scheduler(&master.address);
    let (calls, mut events, session) = subscribe(&mut master, new).await;
    let error = event::Error { message: "framework failed over".to_owned() };
    session.event(event::Type::Error, WireEvent { error: Some(error), ..Default::default() }).await;
    let message = "framework failed over".to_owned();
    assert_eq!(events.next().await, Err(Ended::Error { message }));
    assert_eq!(calls.revive(Vec::new()).await, Err(CallError::Ended { call: "REVIVE" }));
}

#[tokio::test]
async fn teardown_ends_the_events() {
    let mut master = FakeMaster::start().await;
    let new = scheduler(&master.address);
    let (calls, mut events, mut session) = subscribe(&mut master, new).await;
    let (torn_down, _) = tokio::join!(calls.teardown(), session.expect(call::Type::Teardown));
    torn_down.expect("taken");
    assert_eq!(events.next().await, Err(Ended::TornDown));
    assert!(session.try_next_call().await.is_none(), "the stream is closed");
}

#[tokio::test]
async fn dropping_the_events_closes_the_stream() {
    let mut master = FakeMaster::start().await;
    let new = scheduler(&master.address);
    let (calls, events, mut session) = subscribe(&mut master, new).await;
    drop(events);
    assert!(session.try_next_call().await.is_none());
    // Either word is right, by how far the connection had come when the call was made.
    let error = calls.revive(Vec::new()).await.expect_err("nobody there");
    assert!(matches!(error, CallError::Ended { .. } | CallError::Disconnected { .. }), "{error}");
}

#[tokio::test]
async fn a_framework_that_falls_behind_is_disconnected_and_hears_the_updates_again() {
    let mut master = FakeMaster::start().await;
    let new = scheduler(&master.address).event_queue(4);
    let (calls, mut events, mut session) = subscribe(&mut master, new).await;
    // One more than the queue holds, while the application waits for the answer to a call.
    let (unanswered, ()) = tokio::join!(calls.suppress(Vec::new()), async {
        session.next_call().await;
        for n in 1..=5 {
            session.update("a", TaskState::TaskRunning, Some(n)).await;
        }
        assert!(session.try_next_call().await.is_none(), "the stream is closed");
    });
    assert_eq!(unanswered, Err(CallError::Disconnected { call: "SUPPRESS" }));
    for n in 1..=4u8 {
        assert_eq!(update(events.next().await).uuid.as_deref(), Some([n; 16].as_slice()));
    }
    match events.next().await {
        Ok(Event::Disconnected { reason }) => {
            assert_eq!(reason, "4 events were waiting for the framework");
        }
        other => panic!("{other:?}"),
    }
    let (session, _) = master.accept_subscription("framework-1").await;
    assert!(matches!(events.next().await, Ok(Event::Subscribed { .. })));
    session.update("a", TaskState::TaskRunning, Some(5)).await;
    assert_eq!(update(events.next().await).uuid.as_deref(), Some([5; 16].as_slice()));
}
