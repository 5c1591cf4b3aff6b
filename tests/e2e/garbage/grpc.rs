//! gRPC is as strict as HTTP, and as careful with what it does not know.

use bytes::Bytes;
use mezzo_proto::grpc::CheckedCodec;
use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::connect_response::Message as Outgoing;
use mezzo_proto::v1::scheduler::{Call, ConnectResponse, call, event};
use mezzo_tests::{Cluster, Options};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::{Baseline, check_service};
use crate::framework::Probe;

/// A `ConnectRequest` whose call may be anything.
#[derive(Clone, PartialEq, prost::Message)]
struct Raw {
    #[prost(uint64, tag = "1")]
    seq: u64,
    #[prost(bytes = "vec", tag = "2")]
    call: Vec<u8>,
}

async fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("connects")
}

async fn connect(
    address: &str,
    first: Raw,
) -> Result<(mpsc::Sender<Raw>, Streaming<ConnectResponse>), Status> {
    let (sender, requests) = mpsc::channel(8);
    sender.send(first).await.expect("room");
    let mut grpc = Grpc::new(channel(address).await);
    grpc.ready().await.expect("ready");
    let path = "/mezzo.v1.scheduler.Scheduler/Connect".parse().expect("a path");
    let codec = CheckedCodec::<Raw, ConnectResponse>::default();
    let request = Request::new(ReceiverStream::new(requests));
    let answer = grpc.streaming(request, path, codec).await?;
    Ok((sender, answer.into_inner()))
}

fn subscribe() -> Call {
    Call {
        r#type: Some(call::Type::Subscribe as i32),
        subscribe: Some(Box::new(call::Subscribe {
            framework_info: v1::FrameworkInfo {
                user: "root".to_owned(),
                name: "raw".to_owned(),
                ..Default::default()
            },
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn field(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::bytes::encode(number, &payload.to_vec(), &mut out);
    out
}

#[tokio::test]
async fn a_grpc_call_is_checked_and_kept_whole() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    // SUBSCRIBE of a framework with a user and no name.
    let nameless = [vec![0x10, 1], field(3, &field(1, &field(1, b"root")))].concat();
    let refused = connect(cluster.address(), Raw { seq: 1, call: nameless }).await;
    let status = refused.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert_eq!(
        status.message(),
        "Failed to parse body into scheduler::Call: Missing required fields: subscribe.framework_info.name"
    );

    let first = Raw { seq: 1, call: subscribe().encode_to_vec() };
    let (calls, mut answers) = connect(cluster.address(), first).await.expect("subscribed");
    let (mut framework_id, mut offer) = (None, None);
    while offer.is_none() {
        let answer = answers.message().await.expect("goes on").expect("goes on");
        let Some(Outgoing::Event(event)) = answer.message else { continue };
        match event.r#type() {
            event::Type::Subscribed => framework_id = event.subscribed.map(|s| s.framework_id),
            event::Type::Offers => {
                offer = event.offers.and_then(|all| all.offers.into_iter().next())
            }
            _ => {}
        }
    }
    let (framework_id, offer) = (framework_id.expect("SUBSCRIBED"), offer.expect("an offer"));

    // KILL of a task without a name: an answer, and the stream goes on.
    let kill = [field(1, &framework_id.encode_to_vec()), vec![0x10, 5], field(6, b"")].concat();
    calls.send(Raw { seq: 2, call: kill }).await.expect("sent");
    let result = result(&mut answers, 2).await;
    assert_eq!(result.code, 400);
    assert!(result.message.contains("Missing required fields: kill.task_id"), "{}", result.message);

    // What this release does not know of a task reaches the agent.
    let task = v1::TaskInfo {
        name: "t".to_owned(),
        task_id: v1::TaskId { value: "t".to_owned() },
        agent_id: offer.agent_id.clone(),
        command: Some(v1::CommandInfo {
            value: Some("sleep 1000".to_owned()),
            ..Default::default()
        }),
        resources: mezzo_types_resources(),
        ..v1::TaskInfo::default()
    };
    let marker = b"a field of a later release";
    let task = [task.encode_to_vec(), field(5000, marker)].concat();
    let operation = [vec![0x08, 1], field(2, &field(1, &task))].concat();
    let accept = [field(1, &offer.id.encode_to_vec()), field(2, &operation)].concat();
    let accept =
        [field(1, &framework_id.encode_to_vec()), vec![0x10, 3], field(4, &accept)].concat();
    calls.send(Raw { seq: 3, call: accept }).await.expect("sent");
    assert_eq!(self::result(&mut answers, 3).await.code, 202);
    let mut cluster = cluster;
    let seen = cluster.wait("the agent to write the task down", |cluster| {
        let records = std::fs::read_dir(cluster.agent_work_dir().join("meta")).ok()?;
        let files = records.flatten().filter_map(|entry| std::fs::read(entry.path()).ok());
        let mut files = files.map(Bytes::from);
        files.any(|file| file.windows(marker.len()).any(|part| part == marker)).then_some(())
    });
    seen.expect("the field is in its records");
}

fn mezzo_types_resources() -> Vec<v1::Resource> {
    let scalar = |name: &str, value: f64| v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar as i32,
        scalar: Some(v1::value::Scalar { value }),
        ..v1::Resource::default()
    };
    vec![scalar("cpus", 0.1), scalar("mem", 32.0)]
}

async fn result(
    answers: &mut Streaming<ConnectResponse>,
    seq: u64,
) -> mezzo_proto::v1::scheduler::CallResult {
    loop {
        let answer = answers.message().await.expect("goes on").expect("goes on");
        if let Some(Outgoing::Result(result)) = answer.message
            && result.seq == seq
        {
            return result;
        }
    }
}

/// Streams to the internal service of agents, and messages that announce more than may come.
#[tokio::test]
async fn garbage_on_grpc_streams_ends_them_alone() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    check_service(&mut probe, "before", 1).await;
    let baseline = Baseline::of(&cluster);
    let channel = channel(cluster.address()).await;
    for (path, call) in [
        ("/mezzo.internal.v1.AgentLink/Connect", vec![0xff; 100]),
        ("/mezzo.internal.v1.AgentLink/Connect", vec![]),
        ("/mezzo.internal.v1.AgentLink/Connect", vec![0; 65 * 1024 * 1024]),
        ("/mezzo.v1.scheduler.Scheduler/Connect", vec![0xff; 100]),
        ("/mezzo.v1.scheduler.Scheduler/Connect", vec![0; 65 * 1024 * 1024]),
        ("/mezzo.v1.master.Operator/Invoke", vec![7; 1000]),
        ("/mezzo.v1.master.Operator/Nothing", vec![]),
    ] {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.expect("ready");
        let codec = CheckedCodec::<Raw, ConnectResponse>::default();
        let raw = tokio_stream::once(Raw { seq: 1, call });
        let answer = grpc.streaming(Request::new(raw), path.parse().expect("a path"), codec).await;
        // Refused at once, or closed after the first look.
        if let Ok(answer) = answer {
            let mut messages = answer.into_inner();
            while let Ok(Some(_)) = messages.message().await {}
        }
    }
    drop(channel);
    check_service(&mut probe, "after", 3).await;
    baseline.await_files(0);
}
