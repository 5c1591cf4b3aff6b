//! A task as readers keep it: encoded, which takes a tenth of the memory of the message.

use bytes::Bytes;
use mezzo_proto::json;
use mezzo_proto::v1;
use mezzo_types::{Resources, is_terminal};
use prost::Message;

use super::pages::{Entry, Form};
use super::scan;
use mezzo_legacy_json as legacy;

// Field numbers of `v1::Task` and `v1::TaskStatus`.
const TASK_ID: u64 = 2;
const AGENT_ID: u64 = 5;
const STATE: u64 = 6;
const STATUSES: u64 = 8;
const STATUS_STATE: u64 = 2;
const STATUS_TIMESTAMP: u64 = 6;

/// Statuses that are kept of a task: one for each state that it came to. Only a task that goes to and fro has more,
/// and then the oldest are of no interest.
const STATUSES_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct TaskEntry {
    bytes: Bytes,
}

impl TaskEntry {
    /// The task as it is now, with the statuses that were known of it before. As Mesos has it, a status replaces the
    /// last one if the state is the same, and its data, which may be large, is not kept.
    pub(super) fn new(mut task: v1::Task, before: Option<&TaskEntry>) -> TaskEntry {
        for status in &mut task.statuses {
            status.data = None;
        }
        let mut bytes = Vec::new();
        if let Some(before) = before {
            let mut kept: Vec<_> =
                scan::fields(&before.bytes).filter(|field| field.number == STATUSES).collect();
            if let (Some(last), Some(next)) = (kept.last(), task.statuses.first()) {
                let state = scan::number(&before.bytes[last.content.clone()], STATUS_STATE);
                if state == u64::try_from(next.state).ok() {
                    kept.pop();
                }
            }
            let room = STATUSES_MAX.saturating_sub(task.statuses.len());
            let from = kept.len().saturating_sub(room);
            for field in &kept[from..] {
                bytes.extend_from_slice(&before.bytes[field.whole.clone()]);
            }
        }
        bytes.reserve_exact(task.encoded_len());
        // A Vec takes everything.
        task.encode(&mut bytes).ok();
        TaskEntry { bytes: bytes.into() }
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

    /// When the first status that is known was made, in seconds since the epoch: what `/tasks` sorts by.
    pub(super) fn first_timestamp(&self) -> Option<f64> {
        let status = scan::content(&self.bytes, STATUSES)?;
        Some(scan::double(status, STATUS_TIMESTAMP).unwrap_or_default())
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
        assert_eq!(entry.first_timestamp(), Some(1.0));
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
}
