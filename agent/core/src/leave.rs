//! The agent leaves the cluster for good: it says so, ends every task, and goes.
//!
//! It says so at once, as a Mesos agent does on SIGUSR1: frameworks need not wait for the end of tasks
//! that are lost to them. From then on it is nobody's agent; if it is killed before all tasks ended, the
//! next start finds no identity, ends the rest and joins as a new agent. Without a master it stays who it
//! is until one comes or all tasks have ended.

use mezzo_proto::internal::v1::{LaunchPosition, Unregister, agent_to_master};
use mezzo_types::Now;

use crate::core::{Core, Leaving};
use crate::effect::{Change, Effect};
use crate::task::{Cause, TaskKey};

impl Core {
    /// Begins to leave; `barred` is what the master said if it does not want this agent.
    pub(crate) fn leave(&mut self, now: Now, barred: Option<String>) {
        if self.leaving.is_some() {
            return;
        }
        let told = barred.is_some();
        self.leaving = Some(Leaving { reason: barred, told, done: false });
        if told {
            self.forget_identity();
        } else if self.link.as_ref().is_some_and(|link| link.registered.is_some()) {
            self.tell_departure();
        }
        self.shut_executors_down(now, None);
        let keys: Vec<TaskKey> = self.tasks.keys().cloned().collect();
        for key in keys {
            self.order_kill(now, &key, None, Cause::Ordered);
        }
        self.go_if_ended();
    }

    /// Tells the master, which forgets the agent and its tasks and closes the link.
    pub(crate) fn tell_departure(&mut self) {
        let Some(leaving) = self.leaving.as_mut().filter(|leaving| !leaving.told) else { return };
        let Some(link) = self.link.as_ref() else { return };
        leaving.told = true;
        let id = link.id;
        self.forget_identity();
        // Nobody listens to updates any more.
        self.updates.disconnected();
        self.operation_updates.disconnected();
        self.send(id, agent_to_master::Message::Unregister(Unregister {}), self.position);
    }

    fn forget_identity(&mut self) {
        // A new agent of this work directory counts launches anew.
        self.last_launch = LaunchPosition::default();
        let changes = vec![Change::DeleteIdentity, Change::PutLastLaunch(self.last_launch)];
        self.persist(changes, true);
    }

    /// Goes once no process is left.
    pub(crate) fn go_if_ended(&mut self) {
        let Some(leaving) = &mut self.leaving else { return };
        let running = !self.containers.is_empty() || self.tasks.values().any(|task| !task.ended());
        if running || std::mem::replace(&mut leaving.done, true) {
            return;
        }
        let (reason, told) = (leaving.reason.clone(), leaving.told);
        if !told {
            self.forget_identity();
        }
        let keys: Vec<TaskKey> = self.tasks.keys().cloned().collect();
        if !keys.is_empty() {
            let gone = |key: &TaskKey| Change::DeleteTask(key.0.clone(), key.1.clone());
            self.persist(keys.iter().map(gone).collect(), false);
        }
        for key in keys {
            self.drop_task(&key);
        }
        self.effects.push_back(Effect::Left { reason, after: self.position });
    }
}
