//! Tasks, from their launch until they are history.

use std::sync::Arc;

use mezzo_master_core::TaskNews;
use mezzo_proto::v1;
use mezzo_proto::v1::task_status::Reason;
use mezzo_types::{AgentId, FrameworkId, Resources, TaskId};

use super::{State, TaskIndex};
use crate::view::agent::count;
use crate::view::event::Happening;
use crate::view::role::Way;
use crate::view::task::{TaskEntry, holds};

impl State {
    pub(super) fn put_task(&mut self, task: v1::Task) {
        let framework = FrameworkId::from(task.framework_id.value.as_str());
        let id = TaskId::from(task.task_id.value.as_str());
        let agent = AgentId::from(task.agent_id.value.as_str());
        let state = task.state;
        let Some(index) = self.framework_index.get(&framework) else { return };
        match index.tasks.get(&id) {
            // Another task of that name: the one before it is over.
            Some(known) if known.agent != agent => self.complete_task(&framework, &id),
            Some(_) => {
                let status = task.statuses.last().cloned().map(Arc::new);
                let change = Change { framework: &framework, id: &id, state, status };
                return self.change_task(change, |before| TaskEntry::new(task, Some(before)));
            }
            None => {}
        }
        let Some(index) = self.framework_index.get_mut(&framework) else { return };
        let Some(entry) = self.frameworks.get_mut(index.at).map(Arc::make_mut) else { return };
        let resources =
            holds(state).then(|| Resources::from_proto(&task.resources).unwrap_or_default());
        let status = task.statuses.last().map(|status| status.state);
        let new = TaskEntry::new(task, None);
        let added = self.watched.then(|| Happening::TaskAdded(new.clone()));
        let known = TaskIndex { at: 0, agent: agent.clone(), state, status };
        let pages = if known.is_unreachable() { &mut entry.unreachable } else { &mut entry.tasks };
        let at = pages.push(new);
        index.tasks.insert(id, TaskIndex { at, ..known });
        count(&mut entry.counts, state, true);
        if let Some(resources) = &resources {
            entry.allocated.add(resources);
            self.roles.allocated(resources, Way::Add);
        }
        self.load(&agent, |load| {
            load.show(&framework, state);
            if let Some(resources) = &resources {
                load.allocated.add(resources);
            }
        });
        if let Some(added) = added {
            self.tell(added);
        }
    }

    /// There is news of a task that is known; of others it is no news.
    pub(super) fn take_news(&mut self, news: &TaskNews) {
        let change = Change {
            framework: &news.framework,
            id: &news.task,
            state: news.state as i32,
            status: news.status.clone(),
        };
        self.change_task(change, |before| before.after(news));
    }

    /// Puts what `make` makes of a known task in its place.
    fn change_task(&mut self, change: Change<'_>, make: impl FnOnce(&TaskEntry) -> TaskEntry) {
        let Change { framework, id, state, status } = change;
        let Some(index) = self.framework_index.get_mut(framework) else { return };
        let Some(known) = index.tasks.get_mut(id) else { return };
        let Some(entry) = self.frameworks.get_mut(index.at).map(Arc::make_mut) else { return };
        let (before, left) = (known.state, known.at);
        let was_unreachable = known.is_unreachable();
        let (from, to) = match was_unreachable {
            true => (&mut entry.unreachable, &mut entry.tasks),
            false => (&mut entry.tasks, &mut entry.unreachable),
        };
        let Some(old) = from.get(left) else { return };
        let updated = self.watched.then(|| happening(known, framework, id, state, &status));
        let updated = updated.flatten();
        let new = make(old);
        // Decoding a task is dear: only where its resources come or go.
        let changed = (holds(state) != holds(before)).then(|| new.resources());
        known.state = state;
        if let Some(status) = &status {
            known.status = Some(status.state);
        }
        let agent = known.agent.clone();
        if known.is_unreachable() == was_unreachable {
            if let Some(place) = from.get_mut(left) {
                *place = new;
            }
        } else {
            from.swap_remove(left);
            known.at = to.push(new);
            let moved = from.get(left).map(|moved| moved.task_id().to_owned());
            if let Some(moved) = moved.and_then(|id| index.tasks.get_mut(id.as_str())) {
                moved.at = left;
            }
        }
        count(&mut entry.counts, before, false);
        count(&mut entry.counts, state, true);
        let way = if holds(state) { Way::Add } else { Way::Subtract };
        if let Some(resources) = &changed {
            entry.allocated.change(resources, way);
            self.roles.allocated(resources, way);
        }
        if before != state {
            self.load(&agent, |load| {
                load.moved(before, state);
                if let Some(resources) = &changed {
                    load.allocated.change(resources, way);
                }
            });
        }
        if let Some(updated) = updated {
            self.tell(updated);
        }
    }

    /// The task is history from now on.
    pub(super) fn complete_task(&mut self, framework: &FrameworkId, id: &TaskId) {
        let room = self.memory.completed_tasks_per_framework;
        let Some(index) = self.framework_index.get_mut(framework) else { return };
        let Some(known) = index.tasks.remove(id) else { return };
        let Some(entry) = self.frameworks.get_mut(index.at).map(Arc::make_mut) else { return };
        let pages = if known.is_unreachable() { &mut entry.unreachable } else { &mut entry.tasks };
        let Some(task) = pages.swap_remove(known.at) else { return };
        if let Some(moved) =
            pages.get(known.at).and_then(|moved| index.tasks.get_mut(moved.task_id()))
        {
            moved.at = known.at;
        }
        let held = holds(known.state).then(|| task.resources());
        if let Some(held) = &held {
            entry.allocated.subtract(held);
            self.roles.allocated(held, Way::Subtract);
        }
        let mut forgotten = None;
        if entry.completed.len() < room {
            entry.completed.push(task);
        } else if room == 0 {
            forgotten = Some(task);
        } else {
            let at = entry.next_completed % room;
            forgotten = entry.completed.get_mut(at).map(|oldest| std::mem::replace(oldest, task));
            entry.next_completed = (at + 1) % room;
        }
        if let Some(forgotten) = &forgotten {
            count(&mut entry.counts, forgotten.state(), false);
        }
        if let Some(held) = &held {
            self.load(&known.agent, |load| load.allocated.subtract(held));
        }
        if let Some(forgotten) = forgotten {
            let agent = AgentId::from(forgotten.agent_id());
            self.load(&agent, |load| load.hide(framework, forgotten.state()));
        }
    }
}

/// What changes of a known task.
struct Change<'a> {
    framework: &'a FrameworkId,
    id: &'a TaskId,
    state: i32,
    status: Option<Arc<v1::TaskStatus>>,
}

/// The TASK_UPDATED that a change is worth: Mesos tells of new states, and of checks.
fn happening(
    known: &TaskIndex,
    framework: &FrameworkId,
    id: &TaskId,
    state: i32,
    status: &Option<Arc<v1::TaskStatus>>,
) -> Option<Happening> {
    let is_check = |status: &v1::TaskStatus| {
        matches!(
            status.reason(),
            Reason::TaskCheckStatusUpdated | Reason::TaskHealthCheckStatusUpdated
        ) && status.reason.is_some()
    };
    let fresh = |status: &v1::TaskStatus| known.status != Some(status.state) || is_check(status);
    let status = status.as_ref().filter(|status| fresh(status)).cloned();
    if known.state == state && status.is_none() {
        return None;
    }
    // A new state without a word about it: the state is the word.
    let status = status.unwrap_or_else(|| {
        Arc::new(v1::TaskStatus {
            task_id: id.into(),
            agent_id: Some((&known.agent).into()),
            state,
            ..v1::TaskStatus::default()
        })
    });
    Some(Happening::TaskUpdated { framework: framework.into(), status, state })
}
