//! The subscription of an executor against a scripted agent.

mod fake_agent;

use std::time::Duration;

use mezzo_sdk::v1::executor::{Event as WireEvent, call, event};
use mezzo_sdk::v1::{self, TaskState, task_status::Source};
use mezzo_sdk::{
    CallError, ConnectError, Ended, Environment, Executor, ExecutorCalls, ExecutorEvent,
    ExecutorEvents, ServerKind, Transport, task_status,
};

use crate::fake_agent::{FakeAgent, Session};

const EACH: [Transport; 3] = [Transport::Grpc, Transport::Http, Transport::HttpJson];

fn environment(agent: &str) -> Environment {
    Environment {
        agent: agent.to_owned(),
        framework_id: v1::FrameworkId { value: "framework-1".to_owned() },
        executor_id: v1::ExecutorId { value: "executor-1".to_owned() },
        checkpoint: true,
        recovery_timeout: Duration::from_secs(60),
        subscription_backoff_max: Duration::from_millis(5),
        shutdown_grace: Duration::from_secs(5),
        token: None,
    }
}

async fn subscribe(
    agent: &mut FakeAgent,
    environment: Environment,
    transport: Transport,
) -> (ExecutorCalls, ExecutorEvents, Session) {
    let executor = Executor::new(environment).transport(transport);
    let (started, (session, _)) = tokio::join!(executor.start(), agent.accept_subscription());
    let (calls, mut events) = started.expect("subscribed");
    assert!(matches!(events.next().await, Ok(ExecutorEvent::Subscribed { .. })));
    (calls, events, session)
}

fn status(task: &str, state: TaskState) -> v1::TaskStatus {
    task_status(v1::TaskId { value: task.to_owned() }, state)
}

async fn launched(events: &mut ExecutorEvents) -> String {
    match events.next().await.expect("an event") {
        ExecutorEvent::Launch(task) => task.task_id.value,
        other => panic!("not a launch: {other:?}"),
    }
}

/// Makes an update that the agent takes, and returns it as the agent saw it.
async fn update(
    calls: &ExecutorCalls,
    session: &mut Session,
    status: v1::TaskStatus,
) -> v1::TaskStatus {
    let (taken, seen) = tokio::join!(calls.update(status), async {
        let (seq, status) = session.next_update().await;
        session.answer(seq, 202, "").await;
        status
    });
    taken.expect("taken");
    seen
}

#[tokio::test]
async fn an_update_is_complete() {
    for transport in EACH {
        let mut agent = FakeAgent::start().await;
        let environment = environment(&agent.address);
        let (calls, mut events, mut session) = subscribe(&mut agent, environment, transport).await;
        session.launch("a").await;
        assert_eq!(launched(&mut events).await, "a");
        let seen = update(&calls, &mut session, status("a", TaskState::TaskRunning)).await;
        assert_eq!(seen.state(), TaskState::TaskRunning);
        assert_eq!(seen.source, Some(Source::Executor as i32));
        assert_eq!(seen.executor_id.as_ref().map(|id| id.value.as_str()), Some("executor-1"));
        assert!(seen.timestamp.is_some_and(|seconds| seconds > 1e9));
        let uuid = seen.uuid.clone().expect("a uuid");
        assert_eq!(uuid.len(), 16);
        let other = update(&calls, &mut session, status("a", TaskState::TaskRunning)).await;
        assert_ne!(other.uuid, seen.uuid);
        session.acknowledge(&seen).await;
        match events.next().await {
            Ok(ExecutorEvent::Acknowledged { task_id, uuid: confirmed }) => {
                assert_eq!((task_id.value.as_str(), confirmed.as_slice()), ("a", uuid.as_ref()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_new_subscription_tells_what_is_not_confirmed() {
    for transport in EACH {
        let mut agent = FakeAgent::start().await;
        let environment = environment(&agent.address);
        let (calls, mut events, mut session) = subscribe(&mut agent, environment, transport).await;
        for task in ["a", "b"] {
            session.launch(task).await;
            assert_eq!(launched(&mut events).await, task);
        }
        let first = update(&calls, &mut session, status("a", TaskState::TaskRunning)).await;
        session.acknowledge(&first).await;
        assert!(matches!(events.next().await, Ok(ExecutorEvent::Acknowledged { .. })));
        let second = update(&calls, &mut session, status("a", TaskState::TaskFinished)).await;

        // The connection breaks before this one is answered: it is kept, which is as good.
        let (kept, third) =
            tokio::join!(calls.update(status("b", TaskState::TaskRunning)), async {
                let (_, status) = session.next_update().await;
                drop(session);
                status
            });
        kept.expect("kept");
        assert!(matches!(events.next().await, Ok(ExecutorEvent::Disconnected { .. })));

        let (mut session, seq, subscribe) = agent.accept().await;
        let tasks = subscribe.unacknowledged_tasks.iter().map(|task| task.task_id.value.as_str());
        assert_eq!(Vec::from_iter(tasks), ["b"]);
        let told = subscribe.unacknowledged_updates.iter().map(|update| &update.status);
        assert_eq!(Vec::from_iter(told), [&second, &third]);
        // Made while the subscription is under way: told after it.
        calls.update(status("b", TaskState::TaskFinished)).await.expect("kept");
        session.subscribed(seq).await;
        assert!(matches!(events.next().await, Ok(ExecutorEvent::Subscribed { .. })));
        let (_, fourth) = session.next_update().await;
        assert_eq!(fourth.state(), TaskState::TaskFinished);
    }
}

#[tokio::test]
async fn a_refused_update_is_an_error_and_is_not_repeated() {
    for transport in EACH {
        let mut agent = FakeAgent::start().await;
        let environment = environment(&agent.address);
        let (calls, mut events, mut session) = subscribe(&mut agent, environment, transport).await;
        let (refused, ()) =
            tokio::join!(calls.update(status("x", TaskState::TaskRunning)), async {
                let (seq, _) = session.next_update().await;
                session.answer(seq, 400, "no such task").await;
            });
        let refused = refused.expect_err("refused");
        assert_eq!(refused.to_string(), "the agent refused UPDATE with 400: no such task");
        drop(session);
        assert!(matches!(events.next().await, Ok(ExecutorEvent::Disconnected { .. })));
        let (_session, subscribe) = agent.accept_subscription().await;
        assert!(subscribe.unacknowledged_updates.is_empty());
    }
}

#[tokio::test]
async fn without_checkpoints_the_end_of_the_agent_is_the_end() {
    for transport in EACH {
        let mut agent = FakeAgent::start().await;
        let environment = Environment { checkpoint: false, ..environment(&agent.address) };
        let (calls, mut events, session) = subscribe(&mut agent, environment, transport).await;
        drop(session);
        assert_eq!(events.next().await, Ok(ExecutorEvent::Shutdown));
        let ended = events.next().await.expect_err("over");
        assert_eq!(
            ended.to_string(),
            "the executor is to end: the agent closed the stream, and its framework does not \
             checkpoint"
        );
        assert_eq!(events.next().await, Err(ended), "it stays over");
        let error = calls.message(Vec::new()).await.expect_err("over");
        assert_eq!(error, CallError::Ended { call: "MESSAGE" });
    }
}

#[tokio::test]
async fn an_agent_that_stays_away_is_not_awaited_for_ever() {
    for transport in EACH {
        let mut agent = FakeAgent::start().await;
        let environment = Environment {
            recovery_timeout: Duration::from_millis(20),
            ..environment(&agent.address)
        };
        let (_calls, mut events, session) = subscribe(&mut agent, environment, transport).await;
        agent.stop_listening();
        drop(session);
        assert!(matches!(events.next().await, Ok(ExecutorEvent::Disconnected { .. })));
        assert_eq!(events.next().await, Ok(ExecutorEvent::Shutdown));
        let reason = "the agent did not return within 0 s".to_owned();
        assert_eq!(events.next().await, Err(Ended::Shutdown { reason }));
    }
}

#[tokio::test]
async fn a_told_shutdown_ends_without_another() {
    for transport in EACH {
        let mut agent = FakeAgent::start().await;
        let environment = environment(&agent.address);
        let (calls, mut events, mut session) = subscribe(&mut agent, environment, transport).await;
        session.event(event::Type::Shutdown, WireEvent::default()).await;
        assert_eq!(events.next().await, Ok(ExecutorEvent::Shutdown));
        // Its last words are still heard.
        update(&calls, &mut session, status("a", TaskState::TaskKilled)).await;
        drop(session);
        assert!(matches!(events.next().await, Err(Ended::Shutdown { .. })));
    }
}

#[tokio::test]
async fn orders_and_messages_are_handed_on() {
    for transport in EACH {
        let mut agent = FakeAgent::start().await;
        let environment = environment(&agent.address);
        let (calls, mut events, mut session) = subscribe(&mut agent, environment, transport).await;
        let task_id = v1::TaskId { value: "a".to_owned() };
        let kill = Some(event::Kill { task_id: task_id.clone(), kill_policy: None });
        session.event(event::Type::Kill, WireEvent { kill, ..Default::default() }).await;
        session.event(event::Type::Heartbeat, WireEvent::default()).await;
        let message = Some(event::Message { data: b"down".to_vec().into() });
        session.event(event::Type::Message, WireEvent { message, ..Default::default() }).await;
        assert_eq!(events.next().await, Ok(ExecutorEvent::Kill { task_id, policy: None }));
        assert_eq!(events.next().await, Ok(ExecutorEvent::Message(b"down".to_vec())));
        let (sent, ()) = tokio::join!(calls.message(b"up".to_vec()), async {
            let (seq, call) = session.next_call().await;
            assert_eq!(call.r#type, Some(call::Type::Message as i32));
            assert_eq!(call.message.expect("body").data.as_ref(), b"up");
            session.answer(seq, 202, "").await;
        });
        sent.expect("taken");
        let error = Some(event::Error { message: "broken".to_owned() });
        session.event(event::Type::Error, WireEvent { error, ..Default::default() }).await;
        let message = "broken".to_owned();
        let ended = Ended::Error { server: ServerKind::Agent, message };
        assert_eq!(events.next().await, Err(ended));
    }
}

#[tokio::test]
async fn the_token_is_shown_and_a_refusal_is_final() {
    let mut agent = FakeAgent::start().await;
    let environment =
        Environment { token: Some("secret".to_owned()), ..environment(&agent.address) };
    let executor = Executor::new(environment).transport(Transport::Http);
    let (refused, authorization) = tokio::join!(executor.start(), async {
        let (session, seq, _) = agent.accept().await;
        session.answer(seq, 403, "the token is another executor's").await;
        session.authorization
    });
    assert_eq!(authorization.as_deref(), Some("Bearer secret"));
    match refused.expect_err("refused") {
        ConnectError::Refused { server, code, message, .. } => {
            assert_eq!((server, code), (ServerKind::Agent, 403));
            assert_eq!(message, "the token is another executor's");
        }
        other => panic!("{other:?}"),
    }
}
