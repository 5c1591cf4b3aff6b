//! Tasks, from their launch until they are history.

use std::sync::Arc;

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
        let Some(index) = self.framework_index.get(&framework) else { return };
        if index.tasks.get(&id).is_some_and(|known| known.agent != agent) {
            // Another task of that name: the one before it is over.
            self.complete_task(&framework, &id);
        }
        let state = task.state;
        let status = task.statuses.last().cloned();
        let Some(index) = self.framework_index.get_mut(&framework) else { return };
        let Some(entry) = self.frameworks.get_mut(index.at).map(Arc::make_mut) else { return };
        let known = index.tasks.get_mut(&id);
        let now_holds = holds(state);
        let did_hold = known.as_ref().is_some_and(|known| holds(known.state));
        let changed = (now_holds != did_hold)
            .then(|| Resources::from_proto(&task.resources).unwrap_or_default());
        let unreachable = state == v1::TaskState::TaskUnreachable as i32;
        let (before, happening) = match known {
            None => {
                let new = TaskEntry::new(task, None);
                let happening = Happening::TaskAdded(new.clone());
                let pages = if unreachable { &mut entry.unreachable } else { &mut entry.tasks };
                let at = pages.push(new);
                let status = status.as_ref().map(|status| status.state);
                let known = TaskIndex { at, agent: agent.clone(), state, status };
                index.tasks.insert(id, known);
                count(&mut entry.counts, state, true);
                (None, Some(happening))
            }
            Some(known) => {
                let before = known.state;
                let happening = news(known, &framework, &task, status.as_ref());
                let from = if known.is_unreachable() { &entry.unreachable } else { &entry.tasks };
                let new = TaskEntry::new(task, from.get(known.at));
                if known.is_unreachable() == unreachable {
                    let pages = if unreachable { &mut entry.unreachable } else { &mut entry.tasks };
                    if let Some(place) = pages.get_mut(known.at) {
                        *place = new;
                    }
                    known.state = state;
                } else {
                    let (from, to) = match unreachable {
                        true => (&mut entry.tasks, &mut entry.unreachable),
                        false => (&mut entry.unreachable, &mut entry.tasks),
                    };
                    let left = known.at;
                    from.swap_remove(left);
                    known.at = to.push(new);
                    known.state = state;
                    let moved = from.get(left).map(|moved| moved.task_id().to_owned());
                    if let Some(moved) = moved.and_then(|id| index.tasks.get_mut(id.as_str())) {
                        moved.at = left;
                    }
                }
                if let (Some(status), Some(known)) = (&status, index.tasks.get_mut(&id)) {
                    known.status = Some(status.state);
                }
                count(&mut entry.counts, before, false);
                count(&mut entry.counts, state, true);
                (Some(before), happening)
            }
        };
        if let Some(resources) = &changed {
            match now_holds {
                true => entry.allocated.add(resources),
                false => entry.allocated.subtract(resources),
            }
            self.roles.allocated(resources, if now_holds { Way::Add } else { Way::Subtract });
        }
        self.load(&agent, |load| {
            match before {
                None => load.show(&framework, state),
                Some(before) => load.moved(before, state),
            }
            match (&changed, now_holds) {
                (None, _) => {}
                (Some(resources), true) => load.allocated.add(resources),
                (Some(resources), false) => load.allocated.subtract(resources),
            }
        });
        if let Some(happening) = happening {
            self.tell(happening);
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

/// The TASK_UPDATED that a change is worth: Mesos tells of new states, and of checks.
fn news(
    known: &TaskIndex,
    framework: &FrameworkId,
    task: &v1::Task,
    status: Option<&v1::TaskStatus>,
) -> Option<Happening> {
    let is_check = |status: &v1::TaskStatus| {
        matches!(
            status.reason(),
            Reason::TaskCheckStatusUpdated | Reason::TaskHealthCheckStatusUpdated
        ) && status.reason.is_some()
    };
    let fresh = |status: &v1::TaskStatus| known.status != Some(status.state) || is_check(status);
    let status = status.filter(|status| fresh(status)).cloned();
    if known.state == task.state && status.is_none() {
        return None;
    }
    // A new state without a word about it: the state is the word.
    let status = status.unwrap_or_else(|| v1::TaskStatus {
        task_id: task.task_id.clone(),
        agent_id: Some(task.agent_id.clone()),
        state: task.state,
        ..v1::TaskStatus::default()
    });
    Some(Happening::TaskUpdated {
        framework: framework.into(),
        status: Box::new(status),
        state: task.state,
    })
}
