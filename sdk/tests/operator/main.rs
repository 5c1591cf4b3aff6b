//! The clients of operators against servers that note down what they are asked.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mezzo_proto::recordio;
use mezzo_sdk::v1::{self, agent, master};
use mezzo_sdk::{Agent, ClusterEvent, Master, OperatorError, Transport};
use prost::Message;
use tokio::net::TcpListener;

/// Calls as they came, encoded.
type Asked = Arc<Mutex<Vec<Bytes>>>;

/// Answers every call with the same body.
async fn start(answer: Vec<u8>) -> (String, Asked) {
    let asked = Asked::default();
    let state = (asked.clone(), Bytes::from(answer));
    let app = axum::Router::new().route("/api/v1", axum::routing::post(post)).with_state(state);
    (serve(app).await, asked)
}

async fn post(State((asked, answer)): State<(Asked, Bytes)>, call: Bytes) -> Response {
    asked.lock().unwrap().push(call);
    answer.into_response()
}

async fn serve(app: axum::Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Every part that a master's answer can have.
fn of_master() -> master::Response {
    use master::response::*;
    master::Response {
        r#type: None,
        get_health: Some(GetHealth { healthy: true }),
        get_flags: Some(GetFlags::default()),
        get_version: Some(GetVersion::default()),
        get_metrics: Some(GetMetrics::default()),
        get_logging_level: Some(GetLoggingLevel { level: 3 }),
        list_files: Some(ListFiles::default()),
        read_file: Some(ReadFile::default()),
        get_state: Some(GetState::default()),
        get_agents: Some(GetAgents::default()),
        get_frameworks: Some(GetFrameworks::default()),
        get_executors: Some(GetExecutors::default()),
        get_operations: Some(GetOperations::default()),
        get_tasks: Some(GetTasks::default()),
        get_roles: Some(GetRoles::default()),
        get_weights: Some(GetWeights::default()),
        get_master: Some(GetMaster::default()),
        get_maintenance_status: Some(GetMaintenanceStatus::default()),
        get_maintenance_schedule: Some(GetMaintenanceSchedule::default()),
        get_quota: Some(GetQuota::default()),
    }
}

#[expect(deprecated, reason = "calls that Mesos has replaced are calls, too")]
#[tokio::test]
async fn every_call_to_a_master_has_a_method() -> Result<(), OperatorError> {
    let (address, asked) = start(of_master().encode_to_vec()).await;
    let master = Master::connect_over(Transport::Http, &address).await.expect("connects");
    let agent_id = || v1::AgentId { value: "agent-1".to_owned() };
    let disk = || mezzo_sdk::resource::scalar("disk", 1.0);
    let second = Duration::from_millis(1500);

    assert!(master.health().await?);
    master.flags().await?;
    master.version().await?;
    master.metrics().await?;
    assert_eq!(master.logging_level().await?, 3);
    master.set_logging_level(2, second).await?;
    master.list_files("/master/log").await?;
    master.read_file("/master/log", 7, Some(9)).await?;
    master.state().await?;
    master.agents().await?;
    master.frameworks().await?;
    master.executors().await?;
    master.operations().await?;
    master.tasks().await?;
    master.roles().await?;
    master.weights().await?;
    master.update_weights([v1::WeightInfo { weight: 2.0, role: Some("r".to_owned()) }]).await?;
    master.leader().await?;
    master.reserve_resources(agent_id(), [disk()], [disk(), disk()]).await?;
    master.unreserve_resources(agent_id(), [disk()]).await?;
    master.create_volumes(agent_id(), [disk()]).await?;
    master.destroy_volumes(agent_id(), [disk()]).await?;
    master.grow_volume(agent_id(), disk(), disk()).await?;
    master.shrink_volume(agent_id(), disk(), 0.5).await?;
    master.maintenance_status().await?;
    master.maintenance_schedule().await?;
    master.update_maintenance_schedule(v1::maintenance::Schedule::default()).await?;
    master.start_maintenance([v1::MachineId::default()]).await?;
    master.stop_maintenance([v1::MachineId::default()]).await?;
    master.drain_agent(agent_id(), Some(second), true).await?;
    master.deactivate_agent(agent_id()).await?;
    master.reactivate_agent(agent_id()).await?;
    master.quota().await?;
    master.update_quota([v1::quota::QuotaConfig::default()], true).await?;
    master.set_quota(v1::quota::QuotaRequest::default()).await?;
    master.remove_quota("r").await?;
    master.teardown(v1::FrameworkId::default()).await?;
    master.mark_agent_gone(agent_id()).await?;

    let calls = asked.lock().unwrap().clone();
    let decode = |bytes: &Bytes| master::Call::decode(bytes.clone()).expect("a call");
    let calls = Vec::from_iter(calls.iter().map(decode));
    let seen = BTreeSet::from_iter(calls.iter().map(|call| call.r#type() as i32));
    // UNKNOWN is none, and SUBSCRIBE has a test of its own.
    let all = (1..64).filter(|number| master::call::Type::try_from(*number).is_ok());
    let all = BTreeSet::from_iter(all.filter(|number| *number != 18));
    assert_eq!(seen, all);
    let of = |kind: master::call::Type| {
        calls.iter().find(|call| call.r#type() == kind).expect("it was made").clone()
    };
    let read = of(master::call::Type::ReadFile).read_file.expect("body");
    assert_eq!((read.offset, read.length), (7, Some(9)));
    let level = of(master::call::Type::SetLoggingLevel).set_logging_level.expect("body");
    assert_eq!((level.level, level.duration.nanoseconds), (2, 1_500_000_000));
    let drain = of(master::call::Type::DrainAgent).drain_agent.expect("body");
    let grace = drain.max_grace_period.expect("grace");
    assert_eq!((grace.seconds, grace.nanos, drain.mark_gone), (1, 500_000_000, Some(true)));
    let reserve = of(master::call::Type::ReserveResources).reserve_resources.expect("body");
    assert_eq!((reserve.source.len(), reserve.resources.len()), (1, 2));
    let shrink = of(master::call::Type::ShrinkVolume).shrink_volume.expect("body");
    assert_eq!(shrink.subtract.value, 0.5);
    Ok(())
}

/// Every part that an agent's answer can have.
fn of_agent() -> agent::Response {
    use agent::response::*;
    agent::Response {
        get_health: Some(GetHealth { healthy: true }),
        get_flags: Some(GetFlags::default()),
        get_version: Some(GetVersion::default()),
        get_metrics: Some(GetMetrics::default()),
        get_logging_level: Some(GetLoggingLevel { level: 3 }),
        list_files: Some(ListFiles::default()),
        read_file: Some(ReadFile::default()),
        get_state: Some(GetState::default()),
        get_containers: Some(GetContainers::default()),
        get_frameworks: Some(GetFrameworks::default()),
        get_executors: Some(GetExecutors::default()),
        get_operations: Some(GetOperations::default()),
        get_tasks: Some(GetTasks::default()),
        get_agent: Some(GetAgent::default()),
        get_resource_providers: Some(GetResourceProviders::default()),
        wait_container: Some(WaitContainer { exit_status: Some(7), ..Default::default() }),
        ..Default::default()
    }
}

#[tokio::test]
async fn every_call_to_an_agent_has_a_method() -> Result<(), OperatorError> {
    let (address, asked) = start(of_agent().encode_to_vec()).await;
    let agent = Agent::connect_over(Transport::Http, &address).await.expect("connects");
    let container = || v1::ContainerId { value: "c".to_owned(), ..Default::default() };
    assert!(agent.health().await?);
    agent.flags().await?;
    agent.version().await?;
    agent.metrics().await?;
    agent.logging_level().await?;
    agent.set_logging_level(1, Duration::from_secs(1)).await?;
    agent.list_files("/").await?;
    agent.read_piece("/", 0, None).await?;
    agent.state().await?;
    agent.containers(true, false).await?;
    agent.frameworks().await?;
    agent.executors().await?;
    agent.operations().await?;
    agent.tasks().await?;
    agent.info().await?;
    agent.resource_providers().await?;
    agent.launch_container(agent::call::LaunchContainer::default()).await?;
    assert_eq!(agent.wait_container(container()).await?.exit_status, Some(7));
    agent.kill_container(container(), Some(15)).await?;
    agent.remove_container(container()).await?;
    agent.add_resource_provider(v1::ResourceProviderInfo::default()).await?;
    agent.update_resource_provider(v1::ResourceProviderInfo::default()).await?;
    agent.remove_resource_provider("type", "name").await?;
    agent.mark_resource_provider_gone(v1::ResourceProviderId::default()).await?;
    agent.prune_images([]).await?;

    let calls = asked.lock().unwrap().clone();
    let kind = |bytes: &Bytes| agent::Call::decode(bytes.clone()).expect("a call").r#type() as i32;
    let seen = BTreeSet::from_iter(calls.iter().map(kind));
    // UNKNOWN is none; 14 to 16 and 21 are older names of the calls for containers; 17 to 19 open
    // streams of a container's input and output, which the agent does not serve yet.
    let without = [14, 15, 16, 17, 18, 19, 21];
    let all = (1..64).filter(|number| agent::call::Type::try_from(*number).is_ok());
    let all = BTreeSet::from_iter(all.filter(|number| !without.contains(number)));
    assert_eq!(seen, all);
    Ok(())
}

#[tokio::test]
async fn what_changes_is_followed_until_the_stream_ends() {
    async fn post(call: Bytes) -> Response {
        let call = master::Call::decode(call).expect("a call");
        assert_eq!(call.r#type(), master::call::Type::Subscribe);
        let event = |event: master::Event| {
            Ok::<_, std::convert::Infallible>(recordio::encode(&event.encode_to_vec()))
        };
        let subscribed = master::event::Subscribed {
            get_state: Some(master::response::GetState::default()),
            heartbeat_interval_seconds: Some(15.0),
        };
        let removed =
            master::event::AgentRemoved { agent_id: v1::AgentId { value: "agent-1".to_owned() } };
        let events = [
            event(master::Event {
                r#type: Some(master::event::Type::Subscribed as i32),
                subscribed: Some(subscribed),
                ..Default::default()
            }),
            event(master::Event {
                r#type: Some(master::event::Type::Heartbeat as i32),
                ..Default::default()
            }),
            event(master::Event {
                r#type: Some(master::event::Type::AgentRemoved as i32),
                agent_removed: Some(removed),
                ..Default::default()
            }),
        ];
        Body::from_stream(tokio_stream::iter(events)).into_response()
    }
    let app = axum::Router::new().route("/api/v1", axum::routing::post(post));
    let address = serve(app).await;
    let master = Master::connect_over(Transport::Http, &address).await.expect("connects");
    let mut events = master.subscribe().await.expect("subscribes");
    assert!(matches!(events.next().await, Ok(Some(ClusterEvent::Subscribed(_)))));
    match events.next().await {
        Ok(Some(ClusterEvent::AgentRemoved(agent))) => assert_eq!(agent.value, "agent-1"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(events.next().await, Ok(None)));
}

#[tokio::test]
async fn refusals_and_answers_without_the_part_are_said() {
    let (address, _) = start(Vec::new()).await;
    let master = Master::connect_over(Transport::Http, &address).await.expect("connects");
    let error = master.health().await.expect_err("nothing in it");
    let expected = format!("the master at {address} answered GET_HEALTH without a get_health part");
    assert_eq!(error.to_string(), expected);
    let error = master.kill_task(v1::TaskId::default(), None, None).await.expect_err("not Mesos'");
    assert_eq!(
        error.to_string(),
        "KillTask cannot be asked over HTTP; connect with Transport::Grpc"
    );

    let refuse = || async { (StatusCode::NOT_FOUND, "there is none") };
    let app = axum::Router::new().route("/api/v1", axum::routing::post(refuse));
    let address = serve(app).await;
    let agent = Agent::connect_over(Transport::HttpJson, &address).await.expect("connects");
    // Twice, so that the second one goes over the connection of the first.
    for _ in 0..2 {
        let error = agent.list_files("/x").await.expect_err("refused");
        assert!(error.is_not_found());
        let expected = format!("the agent at {address} refused LIST_FILES: there is none");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn a_master_that_names_the_leader_is_followed() {
    let (leader, asked) = start(of_master().encode_to_vec()).await;
    let point = move || async move {
        (StatusCode::TEMPORARY_REDIRECT, [("location", format!("//{leader}/api/v1"))])
    };
    let app = axum::Router::new().route("/api/v1", axum::routing::post(point));
    let standby = serve(app).await;
    let list = format!("127.0.0.1:1,{standby}");
    let master = Master::connect_over(Transport::Http, &list).await.expect("connects");
    assert_eq!(master.address(), standby);
    assert!(master.health().await.expect("answered"));
    assert_eq!(asked.lock().unwrap().len(), 1);
}
