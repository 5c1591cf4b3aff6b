//! The stream of events: what it begins with and what follows make the state.

use std::collections::BTreeMap;

use bytes::Bytes;
use mezzo_proto::recordio::Decoder;
use mezzo_proto::v1::master::Event;
use mezzo_proto::v1::master::event::Type;

use super::*;
use crate::view::{Cut, Memory, Watch};

/// A listener that keeps the state up to date with what it hears.
struct Mirror {
    watch: Watch,
    encoding: Encoding,
    decoder: Decoder,
    tasks: BTreeMap<String, TaskState>,
    agents: Vec<String>,
    frameworks: Vec<String>,
    heard: Vec<Type>,
}

impl Mirror {
    fn new(view: &View, encoding: Encoding) -> Mirror {
        let mut watch = view.watch(encoding);
        let first = watch.subscribed();
        let mut mirror = Mirror {
            watch,
            encoding,
            decoder: Decoder::new(1 << 20),
            tasks: BTreeMap::new(),
            agents: Vec::new(),
            frameworks: Vec::new(),
            heard: Vec::new(),
        };
        mirror.take(first.concat());
        assert_eq!(mirror.heard, [Type::Subscribed]);
        mirror
    }

    async fn hear(&mut self) {
        for piece in self.watch.records().await.expect("goes on") {
            self.take(piece);
        }
    }

    fn take(&mut self, piece: Bytes) {
        self.decoder.push(&piece);
        while let Some(record) = self.decoder.next_record().expect("RecordIO") {
            let event: Event = match self.encoding {
                Encoding::Json => mezzo_proto::json::from_slice(&record).expect("JSON"),
                Encoding::Protobuf => Event::decode(record).expect("protobuf"),
            };
            self.note(event);
        }
    }

    fn note(&mut self, event: Event) {
        self.heard.push(event.r#type());
        if let Some(subscribed) = event.subscribed {
            assert_eq!(subscribed.heartbeat_interval_seconds, Some(15.0));
            let state = subscribed.get_state.expect("a state");
            for task in state.get_tasks.expect("tasks").tasks {
                self.tasks.insert(task.task_id.value.clone(), task.state());
            }
            for agent in state.get_agents.expect("agents").agents {
                self.agents.push(agent.agent_info.id.expect("an id").value);
            }
            for framework in state.get_frameworks.expect("frameworks").frameworks {
                self.frameworks.push(framework.framework_info.id.expect("an id").value);
            }
        }
        if let Some(added) = event.task_added {
            let before = self.tasks.insert(added.task.task_id.value.clone(), added.task.state());
            assert_eq!(before, None, "added once");
        }
        if let Some(updated) = event.task_updated {
            let id = updated.status.task_id.value.clone();
            let state = self.tasks.get_mut(&id).expect("added before");
            *state = updated.state();
        }
        if let Some(added) = event.agent_added {
            self.agents.push(added.agent.agent_info.id.expect("an id").value);
        }
        if let Some(removed) = event.agent_removed {
            let at = self.agents.iter().position(|id| *id == removed.agent_id.value);
            self.agents.remove(at.expect("added before"));
        }
        if let Some(added) = event.framework_added {
            self.frameworks.push(added.framework.framework_info.id.expect("an id").value);
        }
        if let Some(removed) = event.framework_removed {
            let id = removed.framework_info.id.expect("an id").value;
            let at = self.frameworks.iter().position(|known| *known == id);
            self.frameworks.remove(at.expect("added before"));
        }
    }
}

#[tokio::test]
async fn who_listens_knows_the_state_whenever_it_began() {
    let view = View::default();
    let passing = tokio::spawn(view.clone().pass_on());
    view.apply(framework("f"));
    view.apply(agent("a", AgentState::Active));
    let mut mirrors = Vec::new();
    let mut expected = BTreeMap::new();
    for number in 0..500_u32 {
        let id = format!("t{number}");
        view.apply(ViewChange::Task(task("f", &id, "a", TaskState::TaskStaging)));
        if number % 3 == 0 {
            view.apply(ViewChange::Task(task("f", &id, "a", TaskState::TaskRunning)));
        }
        let state = if number % 3 == 0 { TaskState::TaskRunning } else { TaskState::TaskStaging };
        expected.insert(id, state);
        if number % 100 == 50 {
            let encoding = if number % 200 == 50 { Encoding::Json } else { Encoding::Protobuf };
            mirrors.push(Mirror::new(&view, encoding));
            tokio::task::yield_now().await;
        }
    }
    view.apply(agent("b", AgentState::Active));
    view.apply(agent("a", AgentState::Unreachable));
    view.apply(framework("g"));
    view.apply(ViewChange::FrameworkCompleted { id: "g".into(), unix_ns: SECOND });
    assert_eq!(view.subscribers(), 5);
    for mirror in &mut mirrors {
        while mirror.heard.last() != Some(&Type::FrameworkRemoved) {
            mirror.hear().await;
        }
        assert_eq!(mirror.tasks, expected);
        assert_eq!(mirror.agents, ["b"]);
        assert_eq!(mirror.frameworks, ["f"]);
    }
    drop(mirrors);
    assert_eq!(view.subscribers(), 0);
    passing.abort();
}

#[tokio::test]
async fn news_is_what_mesos_calls_news() {
    let view = View::default();
    let passing = tokio::spawn(view.clone().pass_on());
    view.apply(framework("f"));
    let mut mirror = Mirror::new(&view, Encoding::Json);
    let running = task("f", "t", "a", TaskState::TaskRunning);
    view.apply(ViewChange::Task(running.clone()));
    // The same again is no news, a check is.
    view.apply(ViewChange::Task(running.clone()));
    view.apply(framework("f"));
    let mut checked = running.clone();
    checked.statuses[0].reason = Some(v1::task_status::Reason::TaskHealthCheckStatusUpdated as i32);
    view.apply(ViewChange::Task(checked));
    let silent = v1::Task {
        state: TaskState::TaskUnreachable as i32,
        statuses: Vec::new(),
        ..running.clone()
    };
    view.apply(ViewChange::Task(silent));
    view.apply(ViewChange::TaskCompleted("f".into(), "t".into()));
    view.apply(agent("a", AgentState::Recovered));
    view.apply(agent("a", AgentState::Active));
    view.apply(agent("a", AgentState::Disconnected));
    view.apply(ViewChange::AgentRemoved("a".into()));
    while mirror.heard.last() != Some(&Type::AgentRemoved) {
        mirror.hear().await;
    }
    assert_eq!(
        mirror.heard[1..],
        [
            Type::TaskAdded,
            Type::TaskUpdated,
            Type::TaskUpdated,
            Type::AgentAdded,
            Type::AgentRemoved
        ]
    );
    assert_eq!(mirror.tasks["t"], TaskState::TaskUnreachable);
    passing.abort();
}

#[tokio::test]
async fn the_oldest_goes_when_there_are_too_many() {
    let view = View::new(Memory::default(), 2);
    let mut first = view.watch(Encoding::Json);
    let _second = view.watch(Encoding::Json);
    let _third = view.watch(Encoding::Json);
    assert_eq!(first.records().await, Err(Cut::Oldest));
    drop(first);
    assert_eq!(view.subscribers(), 2);
}

#[tokio::test]
async fn who_is_too_slow_is_cut_off_and_others_go_on() {
    let view = View::default();
    let mut slow = view.watch(Encoding::Protobuf);
    let mut quick = view.watch(Encoding::Protobuf);
    // Large statuses, so that what is kept is full soon.
    let mut big = task("f", "t", "a", TaskState::TaskRunning);
    big.statuses[0].message = Some("x".repeat(1 << 20));
    view.apply(framework("f"));
    view.pass().await;
    quick.records().await.expect("goes on");
    for number in 0..100_u32 {
        let state = [TaskState::TaskRunning, TaskState::TaskUnreachable][number as usize % 2];
        big.state = state as i32;
        big.statuses[0].state = state as i32;
        view.apply(ViewChange::Task(big.clone()));
        view.pass().await;
        assert_eq!(quick.records().await.expect("goes on").len(), 1);
    }
    let cut = slow.records().await.expect_err("too slow");
    assert_eq!(cut, Cut::Slow { behind: 101 });
    assert!(cut.to_string().contains("subscribe again"), "{cut}");
}
