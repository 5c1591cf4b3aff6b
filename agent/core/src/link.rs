//! The link to the master: registration, fencing by term, and what arrives.

use std::time::Duration;

use mezzo_proto::internal::v1::{
    AgentTask, MasterToAgent, Pong, Refused, Register, Registered, agent_to_master, master_to_agent,
};
use mezzo_proto::v1;
use mezzo_types::{ContainerId, Now};

use crate::core::Core;
use crate::effect::{Change, Effect, ViewChange};
use crate::input::LinkId;
use crate::timers::Timer;

/// How long a master may take to answer a registration. It answers once its log has the agent, which
/// takes milliseconds; one that is this slow has stopped or is cut off, and another dial may find
/// another one.
pub(crate) const REGISTRATION_PATIENCE: Duration = Duration::from_secs(60);

/// The stream in use.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    /// `Register` was sent.
    pub(crate) introduced: bool,
    /// Set by `Registered`.
    pub(crate) registered: Option<Registration>,
    /// The master is taken for dead when nothing arrives for this long; zero for never.
    pub(crate) patience: Duration,
    /// Monotonic time of the last message.
    pub(crate) heard_ns: u64,
    /// The timer that is set. It is not moved by every message: when it fires, it looks at `heard_ns`.
    pub(crate) silence_due_ns: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Registration {
    /// Of the master on the other side.
    pub(crate) term: u64,
}

impl Core {
    pub(crate) fn link_up(&mut self, now: Now, id: LinkId) {
        if self.leaving.as_ref().is_some_and(|leaving| leaving.told || leaving.done) {
            // To register now would make a new agent that is never heard of again.
            return self.close_link(id, "the agent left the cluster");
        }
        if let Some(old) = self.link.as_ref().map(|link| link.id) {
            self.close_link(old, "a newer link to the master is in use");
        }
        let silence_due_ns = now.plus(REGISTRATION_PATIENCE);
        self.timers.set(silence_due_ns, Timer::Silence(id));
        self.link = Some(Link {
            id,
            introduced: false,
            registered: None,
            patience: REGISTRATION_PATIENCE,
            heard_ns: now.mono_ns,
            silence_due_ns: Some(silence_due_ns),
        });
        self.introduce();
    }

    /// Registers over a link that came up, once nothing is under way that the registration must tell of.
    pub(crate) fn introduce(&mut self) {
        if self.clears_up() || self.applying.is_some() {
            return;
        }
        let Some(link) = self.link.as_mut().filter(|link| !link.introduced) else { return };
        link.introduced = true;
        let id = link.id;
        self.send_register(id);
    }

    /// A new agent offers all that its host has, so that nothing of an earlier one may be left.
    fn clears_up(&self) -> bool {
        self.agent_id().is_none() && !self.strangers.is_empty()
    }

    /// The host is a container of nobody's lighter.
    pub(crate) fn stranger_gone(&mut self, container: &ContainerId) {
        self.strangers.remove(container);
        self.introduce();
    }

    fn send_register(&mut self, id: LinkId) {
        let register = agent_to_master::Message::Register(Box::new(self.register()));
        // It tells of tasks and of a last launch: nothing may be told that a crash can take back.
        self.send(id, register, self.position);
    }

    pub(crate) fn link_down(&mut self, id: LinkId) {
        if self.link.as_ref().is_some_and(|link| link.id == id) {
            self.drop_link();
        }
    }

    /// Ends the link from this side.
    pub(crate) fn close_link(&mut self, id: LinkId, reason: impl Into<String>) {
        if self.link.as_ref().is_some_and(|link| link.id == id) {
            self.drop_link();
        }
        self.effects.push_back(Effect::CloseLink { link: id, reason: reason.into() });
    }

    fn drop_link(&mut self) {
        self.updates.disconnected();
        self.operation_updates.disconnected();
        self.waiting.clear();
        let Some(link) = self.link.take() else { return };
        if let Some(due) = link.silence_due_ns {
            self.timers.cancel(due, Timer::Silence(link.id));
        }
        if link.registered.is_some() {
            self.view(ViewChange::Registered(None));
        }
    }

    fn register(&self) -> Register {
        let task = |(key, task): (&(_, _), &crate::task::Task)| AgentTask {
            framework_id: crate::record::text(&key.0),
            task_info: task.raw.clone(),
            latest: task.latest.as_deref().cloned(),
        };
        Register {
            agent_info: self.identity.info.clone(),
            version: self.config.version.clone(),
            ip: self.config.ip.clone(),
            boot_id: self.config.boot_id.clone(),
            highest_term: self.identity.highest_term,
            last_launch: Some(self.last_launch),
            // A forsaken task's framework is gone at the master as well.
            tasks: self.tasks.iter().filter(|(_, task)| !task.forsaken).map(task).collect(),
            frameworks: self.frameworks.values().map(|owner| (*owner.info).clone()).collect(),
            executors: self.registered_executors(),
            total_resources: self.registered_total(),
            operations: self.registered_operations(),
        }
    }

    pub(crate) fn master_message(&mut self, now: Now, id: LinkId, message: MasterToAgent) {
        if self.leaving.as_ref().is_some_and(|leaving| leaving.done) {
            return;
        }
        let Some(link) = self.link.as_mut().filter(|link| link.id == id) else { return };
        link.heard_ns = now.mono_ns;
        let message = match link.registered {
            Some(_) => self.hold_back(id, message),
            None => Some(message),
        };
        if let Some(message) = message {
            self.handle_message(now, id, message);
        }
    }

    pub(crate) fn handle_message(&mut self, now: Now, id: LinkId, message: MasterToAgent) {
        let link = self.link.as_ref().filter(|link| link.id == id);
        let registered = link.is_some_and(|link| link.registered.is_some());
        use master_to_agent::Message;
        match (message.message, registered) {
            (Some(Message::Registered(registered)), false) => self.registered(now, id, registered),
            (Some(Message::Refused(refused)), _) => self.refused(now, id, refused),
            (Some(Message::RunTask(run)), true) => self.run_task(now, id, *run),
            (Some(Message::KillTask(kill)), true) => self.kill_task(now, kill),
            (Some(Message::Acknowledge(acknowledge)), true) => self.acknowledge(now, &acknowledge),
            (Some(Message::ShutdownFramework(shutdown)), true) => {
                self.shutdown_framework(now, &shutdown.framework_id.into());
            }
            (Some(Message::ApplyOperation(apply)), true) => self.apply_operation(now, id, *apply),
            (Some(Message::AcknowledgeOperation(acknowledge)), true) => {
                self.acknowledge_operation(now, &acknowledge);
            }
            (Some(Message::Drain(drain)), true) => self.drain(now, drain),
            (Some(Message::UpdateFramework(update)), true) => {
                if let Some(info) = update.framework_info {
                    self.update_framework(info);
                }
            }
            (Some(Message::Ping(_)), true) => {
                self.send(id, agent_to_master::Message::Pong(Pong {}), mezzo_types::Position::NONE);
            }
            (Some(Message::RunTaskGroup(run)), true) => self.run_task_group(now, id, *run),
            (Some(Message::ShutdownExecutor(shutdown)), true) => {
                let key = (shutdown.framework_id.into(), shutdown.executor_id.into());
                self.shut_executor_down(now, &key);
            }
            (Some(Message::ExecutorMessage(message)), true) => self.message_for_executor(message),
            // A newer master's message: what an agent must understand, a master does not send to an older one.
            (None, true) => {}
            (_, false) => {
                self.close_link(id, "the master sent orders before it confirmed the registration")
            }
            (Some(Message::Registered(_)), true) => {
                self.close_link(id, "the master confirmed the registration twice");
            }
        }
    }

    fn registered(&mut self, now: Now, id: LinkId, message: Registered) {
        let highest = self.identity.highest_term;
        if message.term < highest {
            let reason = format!(
                "the master leads in term {} but term {highest} was seen: it is not the leader any more",
                message.term
            );
            return self.close_link(id, reason);
        }
        let assigned = v1::AgentId { value: message.agent_id };
        if let Some(own) = self.agent_id().filter(|own| **own != assigned) {
            let reason = format!(
                "the master takes this agent for '{}' but it is '{}'",
                assigned.value, own.value
            );
            return self.close_link(id, reason);
        }
        let leaving = self.leaving.is_some();
        if !leaving && (message.term > highest || self.agent_id().is_none()) {
            self.identity.highest_term = message.term;
            let info = self.identity.info.get_or_insert_with(|| self.config.info.clone());
            info.id = Some(assigned);
            let info = Box::new(info.clone());
            self.persist(vec![Change::PutIdentity(Box::new(self.identity.clone()))], true);
            self.view(ViewChange::Agent(info));
        }
        let patience = Duration::from_millis(message.ping_timeout_ms);
        let silence_due_ns = (!patience.is_zero()).then(|| now.plus(patience));
        let term = message.term;
        if let Some(link) = &mut self.link {
            link.registered = Some(Registration { term });
            link.patience = patience;
            let was = std::mem::replace(&mut link.silence_due_ns, silence_due_ns);
            if let Some(due) = was {
                self.timers.cancel(due, Timer::Silence(id));
            }
            if let Some(due) = silence_due_ns {
                self.timers.set(due, Timer::Silence(id));
            }
        }
        // If it still is drained, the master says so next.
        self.end_drain();
        self.statistics.registrations += 1;
        self.view(ViewChange::Registered(Some(term)));
        if leaving {
            return self.tell_departure();
        }
        self.updates.connected(now);
        self.operation_updates.connected(now);
    }

    fn refused(&mut self, now: Now, id: LinkId, refused: Refused) {
        self.close_link(id, format!("the master refused: {}", refused.message));
        if refused.shutdown {
            self.leave(now, Some(refused.message));
        }
    }

    pub(crate) fn silence_over(&mut self, now: Now, id: LinkId) {
        let Some(link) = self.link.as_mut().filter(|link| link.id == id) else { return };
        link.silence_due_ns = None;
        let patience = link.patience;
        let heard = Now { mono_ns: link.heard_ns, ..now };
        let due = heard.plus(patience);
        if now.reached(due) {
            let reason = format!("the master was silent for {} s", patience.as_secs_f64());
            self.close_link(id, reason);
            return;
        }
        link.silence_due_ns = Some(due);
        self.timers.set(due, Timer::Silence(id));
    }
}
