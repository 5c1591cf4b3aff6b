//! The executor API, whatever way it comes: what is sent, and how it is written.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use mezzo_agent_core::{ExecutorEvent, TaskForExecutor};
use mezzo_proto::json;
use mezzo_proto::v1;
use mezzo_proto::v1::executor::{Event, event};
use prost::Message;

use super::encoding::Encoding;
use crate::executors::Subscription;

/// Between HEARTBEAT events (Mesos: `DEFAULT_EXECUTOR_HEARTBEAT_INTERVAL`).
const HEARTBEAT: Duration = Duration::from_secs(30 * 60);

// Field numbers on the way from `executor::Event` to the TaskInfos in it.
const EVENT_TYPE: u32 = 1;
const EVENT_LAUNCH: u32 = 4;
const EVENT_LAUNCH_GROUP: u32 = 8;
const LAUNCH_TASK: u32 = 1;
const LAUNCH_GROUP_TASK_GROUP: u32 = 1;
const TASK_GROUP_TASKS: u32 = 1;

/// The events of a subscription, with heartbeats between them. Ends when the agent is done with it.
pub(super) fn events(subscription: Subscription) -> impl Stream<Item = ExecutorEvent> + Send {
    let first = tokio::time::Instant::now() + HEARTBEAT;
    let ticks = tokio::time::interval_at(first, HEARTBEAT);
    futures::stream::unfold((subscription, ticks), |(mut subscription, mut ticks)| async move {
        let event = tokio::select! {
            // Cancel-safe: an event is taken or stays.
            event = subscription.events.recv() => event?,
            // Cancel-safe: a tick is taken or comes again.
            _ = ticks.tick() => ExecutorEvent::Other(Event {
                r#type: Some(event::Type::Heartbeat as i32),
                ..Event::default()
            }),
        };
        Some((event, (subscription, ticks)))
    })
}

/// An event as it goes over the wire.
pub(super) fn encode(event: &ExecutorEvent, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Json => json::to_vec(&decoded(event)).into(),
        Encoding::Protobuf => encoded(event),
    }
}

fn decoded(event: &ExecutorEvent) -> Event {
    match event {
        ExecutorEvent::Launch(task) => Event {
            r#type: Some(event::Type::Launch as i32),
            launch: Some(event::Launch { task: (*task.info).clone() }),
            ..Event::default()
        },
        ExecutorEvent::LaunchGroup(tasks) => {
            let tasks = tasks.iter().map(|task| (*task.info).clone()).collect();
            Event {
                r#type: Some(event::Type::LaunchGroup as i32),
                launch_group: Some(event::LaunchGroup { task_group: v1::TaskGroupInfo { tasks } }),
                ..Event::default()
            }
        }
        ExecutorEvent::Other(event) => event.clone(),
    }
}

/// Tasks byte for byte as their framework sent them.
fn encoded(event: &ExecutorEvent) -> Bytes {
    match event {
        ExecutorEvent::Launch(task) => {
            let launch = field(LAUNCH_TASK, &task.raw);
            of_type(event::Type::Launch, &field(EVENT_LAUNCH, &launch))
        }
        ExecutorEvent::LaunchGroup(tasks) => {
            let one = |task: &TaskForExecutor| field(TASK_GROUP_TASKS, &task.raw);
            let group: Vec<u8> = tasks.iter().flat_map(one).collect();
            let launch = field(LAUNCH_GROUP_TASK_GROUP, &group);
            of_type(event::Type::LaunchGroup, &field(EVENT_LAUNCH_GROUP, &launch))
        }
        ExecutorEvent::Other(event) => event.encode_to_vec().into(),
    }
}

fn of_type(kind: event::Type, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(2 + body.len());
    prost::encoding::encode_varint(u64::from(EVENT_TYPE << 3), &mut bytes);
    prost::encoding::encode_varint(kind as u64, &mut bytes);
    bytes.put_slice(body);
    bytes.freeze()
}

/// One length-delimited field.
pub(super) fn field(number: u32, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(10 + body.len());
    prost::encoding::encode_varint(u64::from(number << 3 | 2), &mut bytes);
    prost::encoding::encode_varint(body.len() as u64, &mut bytes);
    bytes.put_slice(body);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn task(id: &str) -> TaskForExecutor {
        let info = v1::TaskInfo {
            name: id.to_owned(),
            task_id: v1::TaskId { value: id.to_owned() },
            agent_id: v1::AgentId { value: "S0".to_owned() },
            ..v1::TaskInfo::default()
        };
        let mut raw = info.encode_to_vec();
        // Field 900, a varint: nothing that this release knows.
        raw.extend([0xa0, 0x38, 0x07]);
        TaskForExecutor { raw: raw.into(), info: Arc::new(info) }
    }

    #[test]
    fn both_encodings_say_the_same_and_protobuf_all_of_it() {
        for event in [
            ExecutorEvent::Launch(task("a")),
            ExecutorEvent::LaunchGroup(vec![task("a"), task("b")]),
            ExecutorEvent::Other(Event {
                r#type: Some(event::Type::Shutdown as i32),
                ..Event::default()
            }),
        ] {
            let protobuf = encode(&event, Encoding::Protobuf);
            let json = encode(&event, Encoding::Json);
            let read = Event::decode(protobuf.clone()).expect("protobuf");
            assert_eq!(read, json::from_slice::<Event>(&json).expect("JSON"));
            let unknown = protobuf.windows(3).filter(|part| *part == [0xa0, 0x38, 0x07]).count();
            let tasks = read.launch.iter().count()
                + read.launch_group.iter().map(|group| group.task_group.tasks.len()).sum::<usize>();
            assert_eq!(unknown, tasks);
        }
    }
}
