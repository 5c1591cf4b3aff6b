//! A task as readers keep it: encoded, which takes a tenth of the memory of the message.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use mezzo_master_core::TaskNews;
use mezzo_proto::json;
use mezzo_proto::v1;
use mezzo_types::{Resources, is_terminal};
use prost::Message;

use super::pages::{Entry, Form};
use super::scan::{self, put_head, put_varint};
use mezzo_legacy_json as legacy;

// Field numbers of `v1::Task` and `v1::TaskStatus`.
const TASK_ID: u64 = 2;
const AGENT_ID: u64 = 5;
const STATE: u64 = 6;
const STATUSES: u64 = 8;
const STATUS_UPDATE_STATE: u64 = 9;
const STATUS_UPDATE_UUID: u64 = 10;
const STATUS_STATE: u64 = 2;
const STATUS_TIMESTAMP: u64 = 6;

/// Statuses that are kept of a task: one for each state that it came to. Only a task that goes to and fro has more,
/// and then the oldest are of no interest.
const STATUSES_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct TaskEntry {
    bytes: Bytes,
    began: f64,
}

impl TaskEntry {
    fn of(bytes: Bytes) -> TaskEntry {
        let status = scan::content(&bytes, STATUSES);
        let began = status.map_or(f64::NEG_INFINITY, |status| {
            scan::double(status, STATUS_TIMESTAMP).unwrap_or_default()
        });
        TaskEntry { bytes, began }
    }

    /// The task as it is now, with the statuses that were known of it before. As Mesos has it, a status replaces the
    /// last one if the state is the same, and its data, which may be large, is not kept.
    pub(super) fn new(mut task: v1::Task, before: Option<&TaskEntry>) -> TaskEntry {
        for status in &mut task.statuses {
            status.data = None;
        }
        let mut bytes = Vec::new();
        if let Some(before) = before {
            let next = task.statuses.first().map(|status| status.state);
            for whole in before.kept_statuses(next, task.statuses.len()) {
                bytes.extend_from_slice(&before.bytes[whole]);
            }
        }
        bytes.reserve_exact(task.encoded_len());
        // A Vec takes everything.
        task.encode(&mut bytes).ok();
        TaskEntry::of(bytes.into())
    }

    /// The task after this news: as [`new`](Self::new) would make it of the whole task.
    pub(super) fn after(&self, news: &TaskNews) -> TaskEntry {
        let status = news.status.as_deref().map(|status| match status.data {
            None => Cow::Borrowed(status),
            Some(_) => Cow::Owned(v1::TaskStatus { data: None, ..status.clone() }),
        });
        let status_len = status.as_ref().map_or(0, |status| status.encoded_len());
        let room = self.bytes.len() + status_len + 64;
        let mut bytes = Vec::with_capacity(room);
        let next = status.as_ref().map(|status| status.state);
        let statuses = self.kept_statuses(next, usize::from(status.is_some()));
        for field in scan::fields(&self.bytes) {
            let replaced =
                matches!(field.number, STATE | STATUS_UPDATE_STATE | STATUS_UPDATE_UUID | STATUSES);
            if !replaced {
                bytes.extend_from_slice(&self.bytes[field.whole]);
            }
        }
        put_varint(&mut bytes, STATE << 3);
        put_varint(&mut bytes, u64::try_from(news.state as i32).unwrap_or_default());
        for whole in statuses {
            bytes.extend_from_slice(&self.bytes[whole]);
        }
        if let Some(status) = &status {
            put_head(&mut bytes, STATUSES as u32, status_len);
            // A Vec takes everything.
            status.encode(&mut bytes).ok();
        }
        if let Some(state) = news.status_update_state {
            put_varint(&mut bytes, STATUS_UPDATE_STATE << 3);
            put_varint(&mut bytes, u64::try_from(state).unwrap_or_default());
        }
        if let Some(uuid) = &news.status_update_uuid {
            put_head(&mut bytes, STATUS_UPDATE_UUID as u32, uuid.len());
            bytes.extend_from_slice(uuid);
        }
        TaskEntry::of(Bytes::from(bytes.into_boxed_slice()))
    }

    /// Where those of its statuses are that stay when `more` come, the first of them of state `next`.
    fn kept_statuses(
        &self,
        next: Option<i32>,
        more: usize,
    ) -> impl Iterator<Item = Range<usize>> + use<> {
        let mut kept: Vec<_> =
            scan::fields(&self.bytes).filter(|field| field.number == STATUSES).collect();
        if let (Some(last), Some(next)) = (kept.last(), next) {
            let state = scan::number(&self.bytes[last.content.clone()], STATUS_STATE);
            if state == u64::try_from(next).ok() {
                kept.pop();
            }
        }
        let room = STATUSES_MAX.saturating_sub(more);
        let from = kept.len().saturating_sub(room);
        kept.into_iter().skip(from).map(|field| field.whole)
    }

    pub(super) fn decode(&self) -> v1::Task {
        // This process encoded it a while ago.
        v1::Task::decode(self.bytes.clone()).unwrap_or_default()
    }

    pub(super) fn task_id(&self) -> &str {
        scan::id(&self.bytes, TASK_ID).unwrap_or_default()
    }

    pub(super) fn agent_id(&self) -> &str {
        scan::id(&self.bytes, AGENT_ID).unwrap_or_default()
    }

    pub(super) fn state(&self) -> i32 {
        let state = scan::number(&self.bytes, STATE).unwrap_or_default();
        i32::try_from(state).unwrap_or_default()
    }

    /// When the first status that is known was made, in seconds since the epoch: what `/tasks` sorts by. Before all
    /// times if there is none.
    pub(super) fn began(&self) -> f64 {
        self.began
    }

    pub(super) fn resources(&self) -> Resources {
        Resources::from_proto(&self.decode().resources).unwrap_or_default()
    }
}

/// Whether a task in that state holds its resources.
pub(super) fn holds(state: i32) -> bool {
    match v1::TaskState::try_from(state) {
        Ok(v1::TaskState::TaskUnreachable) | Err(_) => false,
        Ok(state) => !is_terminal(state),
    }
}

impl Entry for TaskEntry {
    fn protobuf<'a>(&'a self, _: &'a mut Vec<u8>) -> &'a [u8] {
        &self.bytes
    }

    fn json(&self, form: Form, out: &mut Vec<u8>) {
        let task = self.decode();
        match form {
            Form::Json => out.extend_from_slice(&json::to_vec(&task)),
            Form::Legacy => legacy::task(out, &task),
            Form::Protobuf | Form::Summary | Form::Full => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use mezzo_proto::v1::TaskState;

    use super::*;

    fn task(state: TaskState, timestamp: f64) -> v1::Task {
        v1::Task {
            task_id: v1::TaskId { value: "t".into() },
            agent_id: v1::AgentId { value: "a".into() },
            state: state as i32,
            statuses: vec![v1::TaskStatus {
                state: state as i32,
                timestamp: Some(timestamp),
                data: Some("large".into()),
                ..v1::TaskStatus::default()
            }],
            ..v1::Task::default()
        }
    }

    #[test]
    fn statuses_gather_one_for_each_state() {
        let mut entry = TaskEntry::new(task(TaskState::TaskStarting, 1.0), None);
        for (state, at) in [
            (TaskState::TaskRunning, 2.0),
            (TaskState::TaskRunning, 3.0),
            (TaskState::TaskFinished, 4.0),
        ] {
            entry = TaskEntry::new(task(state, at), Some(&entry));
        }
        let decoded = entry.decode();
        let times: Vec<f64> = decoded.statuses.iter().filter_map(|s| s.timestamp).collect();
        assert_eq!(times, [1.0, 3.0, 4.0]);
        assert!(decoded.statuses.iter().all(|status| status.data.is_none()));
        assert_eq!(entry.began(), 1.0);
        assert_eq!((entry.task_id(), entry.agent_id()), ("t", "a"));
        assert_eq!(entry.state(), TaskState::TaskFinished as i32);
        // A change without a status keeps them all.
        let silent = v1::Task { statuses: Vec::new(), ..task(TaskState::TaskFinished, 0.0) };
        assert_eq!(TaskEntry::new(silent, Some(&entry)).decode().statuses.len(), 3);
        for at in 0..40 {
            let state = [TaskState::TaskRunning, TaskState::TaskUnreachable][at % 2];
            entry = TaskEntry::new(task(state, at as f64), Some(&entry));
        }
        assert_eq!(entry.decode().statuses.len(), STATUSES_MAX);
        assert_eq!(entry.decode().statuses.last().and_then(|s| s.timestamp), Some(39.0));
    }

    #[test]
    fn news_makes_of_a_task_what_the_whole_task_would() {
        let states = [
            TaskState::TaskStarting,
            TaskState::TaskRunning,
            TaskState::TaskRunning,
            TaskState::TaskUnreachable,
            TaskState::TaskFinished,
        ];
        let first = v1::Task {
            name: "n".into(),
            framework_id: v1::FrameworkId { value: "f".into() },
            executor_id: Some(v1::ExecutorId { value: "e".into() }),
            user: Some("nobody".into()),
            kill_policy: Some(v1::KillPolicy::default()),
            statuses: Vec::new(),
            ..task(TaskState::TaskStaging, 0.0)
        };
        let mut whole = TaskEntry::new(first.clone(), None);
        let mut by_news = whole.clone();
        for (at, state) in states.into_iter().enumerate() {
            let mut seen = first.clone();
            seen.state = state as i32;
            seen.status_update_state = Some(state as i32);
            seen.status_update_uuid = (at % 2 == 0).then(|| "uuid".into());
            seen.statuses = task(state, at as f64).statuses;
            // As of a command task, which has no executor for all that.
            seen.statuses[0].executor_id = Some(v1::ExecutorId { value: "t".into() });
            let news = TaskNews {
                framework: "f".into(),
                task: "t".into(),
                state,
                status: seen.statuses.last().cloned().map(Into::into),
                status_update_state: seen.status_update_state,
                status_update_uuid: seen.status_update_uuid.clone(),
            };
            whole = TaskEntry::new(seen, Some(&whole));
            by_news = by_news.after(&news);
            assert_eq!(by_news.decode(), whole.decode());
        }
        let silent = TaskNews {
            framework: "f".into(),
            task: "t".into(),
            state: TaskState::TaskFailed,
            status: None,
            status_update_state: None,
            status_update_uuid: None,
        };
        let after = by_news.after(&silent).decode();
        let executor_id = after.executor_id.clone();
        assert_eq!(executor_id.map(|id| id.value).as_deref(), Some("e"), "it is not forgotten");
        assert_eq!((after.state(), after.statuses.len()), (TaskState::TaskFailed, 4));
    }
}
