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
    ServerKind, Transport,
};

use crate::fake_master::{FakeMaster, Session, start_pointing_to};

const EACH: [Transport; 3] = [Transport::Grpc, Transport::Http, Transport::HttpJson];

fn scheduler(address: &str, transport: Transport) -> Scheduler {
    Scheduler::new(address, Framework::new("test", "nobody"))
        .transport(transport)
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
    for transport in EACH {
        // Bound and released: nothing listens there now.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        drop(listener);
        let error = scheduler(&address, transport).start().await.expect_err("nobody there");
        assert_eq!(
            error.to_string(),
            format!("no master answers at {address}; `mezzo dev` starts one")
        );
        assert!(error.is_temporary());
    }
}

#[tokio::test]
async fn patience_waits_for_a_master_that_comes_later() {
    for transport in EACH {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        drop(listener);
        let patient = scheduler(&address.to_string(), transport).patience(Duration::from_secs(60));
        let (subscribing, connected) = tokio::join!(patient.start(), async {
            let mut master = FakeMaster::start_at(address).await;
            master.accept_subscription("framework-1").await
        });
        let (calls, _events) = subscribing.expect("subscribed");
        assert_eq!(calls.framework_id().value, "framework-1");
        drop(connected);
    }
}

#[tokio::test]
async fn a_refused_subscription_carries_the_masters_sentence() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let (error, _session) =
            tokio::join!(scheduler(&master.address.clone(), transport).start(), async {
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
}

#[tokio::test]
async fn updates_are_acknowledged_when_the_next_event_is_asked_for() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport);
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
        let (revived, _) =
            tokio::join!(calls.revive(Vec::new()), session.expect(call::Type::Revive));
        revived.expect("taken");
    }
}

#[tokio::test]
async fn manual_acknowledgement_is_left_to_the_application() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport).acknowledgement(Acknowledgement::Manual);
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
}

#[tokio::test]
async fn a_refused_call_is_an_error_and_the_subscription_goes_on() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport);
        let (calls, mut events, mut session) = subscribe(&mut master, new).await;
        let (refused, ()) = tokio::join!(calls.kill(task("x"), None, None), async {
            let (seq, _) = session.next_call().await;
            session.answer(seq, 400, "task_id is empty").await;
        });
        assert_eq!(
            refused,
            Err(CallError::Refused {
                server: ServerKind::Master,
                call: "KILL",
                code: 400,
                message: "task_id is empty".to_owned(),
            })
        );
        session.offer("offer-1", 1.0, 1.0).await;
        assert!(matches!(events.next().await, Ok(Event::Offers(_))));
    }
}

#[tokio::test]
async fn a_lost_connection_is_renewed_with_the_frameworks_id() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport);
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
        assert_eq!(
            unanswered,
            Err(CallError::Disconnected { server: ServerKind::Master, call: "KILL" })
        );
        assert!(matches!(events.next().await, Ok(Event::Disconnected { .. })));

        let (mut session, subscribe) = master.accept_subscription("framework-1").await;
        let id = subscribe.framework_info.id.map(|id| id.value);
        assert_eq!(id.as_deref(), Some("framework-1"));
        assert!(matches!(events.next().await, Ok(Event::Subscribed { .. })));

        session.update("a", TaskState::TaskRunning, Some(1)).await;
        update(events.next().await);
        let (reconciled, call) = tokio::join!(
            calls.reconcile([(task("a"), None)]),
            session.expect(call::Type::Reconcile)
        );
        reconciled.expect("taken");
        assert_eq!(call.reconcile.expect("body").tasks[0].task_id.value, "a");
    }
}

#[tokio::test]
async fn several_failures_in_a_row_end_in_a_subscription_or_in_a_clear_end() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport);
        let (_calls, mut events, session) = subscribe(&mut master, new).await;
        drop(session);
        match events.next().await {
            Ok(Event::Disconnected { reason }) => {
                assert_eq!(reason, "the master closed the stream")
            }
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
}

#[tokio::test]
async fn an_error_event_ends_everything() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport);
        let (calls, mut events, session) = subscribe(&mut master, new).await;
        let error = event::Error { message: "framework failed over".to_owned() };
        session
            .event(event::Type::Error, WireEvent { error: Some(error), ..Default::default() })
            .await;
        let message = "framework failed over".to_owned();
        assert_eq!(events.next().await, Err(Ended::Error { server: ServerKind::Master, message }));
        assert_eq!(calls.revive(Vec::new()).await, Err(CallError::Ended { call: "REVIVE" }));
    }
}

#[tokio::test]
async fn teardown_ends_the_events() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport);
        let (calls, mut events, mut session) = subscribe(&mut master, new).await;
        let (torn_down, _) = tokio::join!(calls.teardown(), session.expect(call::Type::Teardown));
        torn_down.expect("taken");
        assert_eq!(events.next().await, Err(Ended::TornDown));
        assert!(session.try_next_call().await.is_none(), "the stream is closed");
    }
}

#[tokio::test]
async fn dropping_the_events_closes_the_stream() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport);
        let (calls, events, mut session) = subscribe(&mut master, new).await;
        drop(events);
        assert!(session.try_next_call().await.is_none());
        // Either word is right, by how far the connection had come when the call was made.
        let error = calls.revive(Vec::new()).await.expect_err("nobody there");
        assert!(
            matches!(error, CallError::Ended { .. } | CallError::Disconnected { .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_framework_that_falls_behind_is_disconnected_and_hears_the_updates_again() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport).event_queue(4);
        let (calls, mut events, mut session) = subscribe(&mut master, new).await;
        // One more than the queue holds, while the application waits for the answer to a call.
        let (unanswered, ()) = tokio::join!(calls.suppress(Vec::new()), async {
            session.next_call().await;
            for n in 1..=5 {
                session.update("a", TaskState::TaskRunning, Some(n)).await;
            }
            assert!(session.try_next_call().await.is_none(), "the stream is closed");
        });
        assert_eq!(
            unanswered,
            Err(CallError::Disconnected { server: ServerKind::Master, call: "SUPPRESS" })
        );
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
}

#[tokio::test]
async fn a_master_that_names_the_leader_is_followed() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let standby = start_pointing_to(&master.address).await;
        // Nobody is at the first address.
        let new = scheduler(&format!("127.0.0.1:1,{standby}"), transport);
        let (_calls, mut events, session) = subscribe(&mut master, new).await;
        drop(session);
        assert!(matches!(events.next().await, Ok(Event::Disconnected { .. })));
        let (_session, _) = master.accept_subscription("framework-1").await;
        assert!(matches!(events.next().await, Ok(Event::Subscribed { .. })));
    }
}

#[tokio::test]
async fn masters_that_point_at_each_other_are_not_followed_for_ever() {
    for transport in EACH {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let nobody = listener.local_addr().expect("address").to_string();
        drop(listener);
        let one = start_pointing_to(&nobody).await;
        let error = scheduler(&one, transport).start().await.expect_err("nobody there");
        assert!(error.to_string().contains(&nobody), "{error}");
    }
}

#[tokio::test]
async fn a_stream_without_heartbeats_is_renewed() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport);
        let (started, _session) = tokio::join!(new.start(), async {
            let mut session = master.accept().await;
            let (seq, _) = session.next_call().await;
            session.answer(seq, 200, "").await;
            session.subscribed_with_heartbeats("framework-1", 0.01).await;
            session
        });
        let (_calls, mut events) = started.expect("subscribed");
        assert!(matches!(events.next().await, Ok(Event::Subscribed { .. })));
        match events.next().await {
            Ok(Event::Disconnected { reason }) => {
                assert_eq!(reason, "the heartbeats of the master stopped");
            }
            other => panic!("{other:?}"),
        }
        let (_session, subscribe) = master.accept_subscription("framework-1").await;
        let id = subscribe.framework_info.id.map(|id| id.value);
        assert_eq!(id.as_deref(), Some("framework-1"));
    }
}

#[tokio::test]
async fn what_the_framework_has_changed_is_kept_over_a_reconnection() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport);
        let (calls, mut events, mut session) = subscribe(&mut master, new).await;
        let renamed = Framework::new("renamed", "nobody").roles(["a", "b"]);
        let (updated, _) = tokio::join!(
            calls.update_framework(renamed, vec!["a".to_owned()], None),
            session.expect(call::Type::UpdateFramework)
        );
        updated.expect("taken");
        let (suppressed, _) = tokio::join!(
            calls.suppress(vec!["b".to_owned()]),
            session.expect(call::Type::Suppress)
        );
        suppressed.expect("taken");
        // Refused, so nothing changes.
        let (refused, ()) = tokio::join!(calls.revive(Vec::new()), async {
            let (seq, _) = session.next_call().await;
            session.answer(seq, 400, "no").await;
        });
        refused.expect_err("refused");
        drop(session);
        assert!(matches!(events.next().await, Ok(Event::Disconnected { .. })));
        let (_session, subscribe) = master.accept_subscription("framework-1").await;
        assert_eq!(subscribe.framework_info.name, "renamed");
        assert_eq!(subscribe.suppressed_roles, ["a", "b"]);
    }
}

#[tokio::test]
async fn reconciliation_goes_on_over_a_reconnection_until_all_are_answered() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport);
        let (_calls, mut events, mut session) = subscribe(&mut master, new).await;
        events.reconcile([(task("a"), None), (task("b"), None)]);
        let asked = |call: mezzo_sdk::v1::scheduler::Call| {
            let tasks = call.reconcile.expect("body").tasks;
            Vec::from_iter(tasks.into_iter().map(|task| task.task_id.value))
        };
        let (answer, call) = tokio::join!(events.next(), async {
            let call = session.expect(call::Type::Reconcile).await;
            session.update("b", TaskState::TaskRunning, None).await;
            call
        });
        assert_eq!(asked(call), ["a", "b"]);
        assert_eq!(update(answer).task_id.value, "b");
        drop(session);
        assert!(matches!(events.next().await, Ok(Event::Disconnected { .. })));
        let (mut session, _) = master.accept_subscription("framework-1").await;
        assert!(matches!(events.next().await, Ok(Event::Subscribed { .. })));
        let (answer, call) = tokio::join!(events.next(), async {
            let call = session.expect(call::Type::Reconcile).await;
            session.update("a", TaskState::TaskFinished, None).await;
            call
        });
        assert_eq!(asked(call), ["a"]);
        assert_eq!(update(answer).task_id.value, "a");
        assert_eq!(events.next().await, Ok(Event::Reconciled));
        // With nothing to ask, that is said at once.
        events.reconcile([]);
        assert_eq!(events.next().await, Ok(Event::Reconciled));
    }
}

#[tokio::test]
async fn everything_is_reconciled_again_and_again_on_request() {
    let mut master = FakeMaster::start().await;
    let new = scheduler(&master.address, Transport::Grpc)
        .implicit_reconciliation(Duration::from_millis(5));
    let (_calls, mut events, mut session) = subscribe(&mut master, new).await;
    let (_, ()) = tokio::join!(events.next(), async {
        for _ in 0..3 {
            let call = session.expect(call::Type::Reconcile).await;
            assert!(call.reconcile.expect("body").tasks.is_empty());
        }
        session.offer("offer-1", 1.0, 1.0).await;
    });
}

#[tokio::test]
async fn every_call_reaches_the_master_as_it_was_meant() {
    for transport in EACH {
        let mut master = FakeMaster::start().await;
        let new = scheduler(&master.address, transport);
        let (calls, _events, mut session) = subscribe(&mut master, new).await;
        let offer_id = || vec![v1::OfferId { value: "offer-1".to_owned() }];
        let agent = || v1::AgentId { value: "agent-1".to_owned() };
        let executor = || v1::ExecutorId { value: "executor-1".to_owned() };
        let disk =
            mezzo_sdk::resource::reserved(mezzo_sdk::resource::scalar("disk", 64.0), "role", None);
        let reserve = mezzo_sdk::operation::with_id(
            mezzo_sdk::operation::reserve([disk.clone()]),
            "operation-1",
        );
        let operation = call::reconcile_operations::Operation {
            operation_id: v1::OperationId { value: "operation-1".to_owned() },
            agent_id: Some(agent()),
            resource_provider_id: None,
        };
        let status = v1::OperationStatus {
            operation_id: Some(operation.operation_id.clone()),
            uuid: Some(v1::Uuid { value: vec![3; 16].into() }),
            agent_id: Some(agent()),
            ..Default::default()
        };
        let minute = Some(Duration::from_secs(60));
        let all = async {
            calls.accept(offer_id(), vec![reserve.clone()], minute).await?;
            calls.decline(offer_id(), minute).await?;
            calls.accept_inverse_offers(offer_id(), minute).await?;
            calls.decline_inverse_offers(offer_id(), None).await?;
            calls.revive(vec!["r".to_owned()]).await?;
            calls.kill(task("t"), Some(agent()), minute).await?;
            calls.shutdown_executor(agent(), executor()).await?;
            calls.acknowledge_operation(&status).await?;
            calls.reconcile_operations([operation.clone()]).await?;
            calls.message(agent(), executor(), b"data".to_vec()).await?;
            calls.request(vec![v1::Request::default()]).await
        };
        let (sent, ()) = tokio::join!(all, async {
            let accept = session.expect(call::Type::Accept).await.accept.expect("body");
            assert_eq!(accept.operations, [reserve.clone()]);
            assert_eq!(accept.filters.expect("filters").refuse_seconds, Some(60.0));
            let decline = session.expect(call::Type::Decline).await.decline.expect("body");
            assert_eq!(decline.offer_ids, offer_id());
            let call = session.expect(call::Type::AcceptInverseOffers).await;
            let inverse = call.accept_inverse_offers.expect("body");
            assert_eq!(inverse.filters.expect("filters").refuse_seconds, Some(60.0));
            let call = session.expect(call::Type::DeclineInverseOffers).await;
            assert_eq!(call.decline_inverse_offers.expect("body").inverse_offer_ids, offer_id());
            let revive = session.expect(call::Type::Revive).await.revive.expect("body");
            assert_eq!(revive.roles, ["r"]);
            let kill = session.expect(call::Type::Kill).await.kill.expect("body");
            let grace = kill.kill_policy.and_then(|policy| policy.grace_period);
            assert_eq!(grace.map(|grace| grace.nanoseconds), Some(60_000_000_000));
            let shutdown = session.expect(call::Type::Shutdown).await.shutdown.expect("body");
            assert_eq!((shutdown.agent_id, shutdown.executor_id), (agent(), executor()));
            let call = session.expect(call::Type::AcknowledgeOperationStatus).await;
            let acknowledged = call.acknowledge_operation_status.expect("body");
            assert_eq!(acknowledged.uuid.as_ref(), [3; 16]);
            let call = session.expect(call::Type::ReconcileOperations).await;
            assert_eq!(call.reconcile_operations.expect("body").operations, [operation.clone()]);
            let message = session.expect(call::Type::Message).await.message.expect("body");
            assert_eq!(message.data.as_ref(), b"data");
            let request = session.expect(call::Type::Request).await.request.expect("body");
            assert_eq!(request.requests.len(), 1);
        });
        sent.expect("all are taken");
    }
}
