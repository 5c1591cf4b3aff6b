//! What the agent tells an executor.

use crate::v1;
use crate::v1::executor;

/// An event of the subscription. Heartbeats are dealt with inside.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ExecutorEvent {
    /// The subscription stands, for the first time or again after `Disconnected`.
    Subscribed {
        /// The executor as the framework described it.
        executor: v1::ExecutorInfo,
        /// The framework.
        framework: v1::FrameworkInfo,
        /// The agent.
        agent: v1::AgentInfo,
        /// The container that the executor runs in.
        container_id: Option<v1::ContainerId>,
    },
    /// A task to run.
    Launch(v1::TaskInfo),
    /// Tasks to run together: when one fails, all end.
    LaunchGroup(v1::TaskGroupInfo),
    /// A task to end; a last update of it is expected.
    Kill {
        /// Which one.
        task_id: v1::TaskId,
        /// How much time it has, in place of what its description says.
        policy: Option<v1::KillPolicy>,
    },
    /// The agent has an update and will see to it that the framework hears of it.
    Acknowledged {
        /// Whose update.
        task_id: v1::TaskId,
        /// Which one: the uuid that the update was given.
        uuid: Vec<u8>,
    },
    /// Data from the framework's scheduler.
    Message(Vec<u8>),
    /// All tasks are to end and then the executor, within its grace period
    /// ([`crate::Environment::shutdown_grace`]). Comes from the agent, or from the client itself
    /// when the agent stays away for too long.
    Shutdown,
    /// The connection is lost and will be made anew, for a time.
    Disconnected {
        /// What happened to it.
        reason: String,
    },
}

/// A message of the agent as the connection has to treat it.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, taken apart at once")]
pub(crate) enum Heard {
    Event(ExecutorEvent),
    Heartbeat,
    /// The subscription is over.
    Error(String),
    /// Of a later version of the protocol, or without the part that its type announces.
    Unintelligible,
}

impl Heard {
    pub(crate) fn from_wire(event: executor::Event) -> Self {
        use executor::event::Type;
        let heard = match event.r#type.and_then(|number| Type::try_from(number).ok()) {
            Some(Type::Heartbeat) => return Heard::Heartbeat,
            Some(Type::Error) => {
                let message = event.error.map(|error| error.message);
                return Heard::Error(message.unwrap_or_else(|| "no reason given".to_owned()));
            }
            Some(Type::Shutdown) => Some(ExecutorEvent::Shutdown),
            Some(Type::Subscribed) => {
                event.subscribed.map(|subscribed| ExecutorEvent::Subscribed {
                    executor: subscribed.executor_info,
                    framework: subscribed.framework_info,
                    agent: subscribed.agent_info,
                    container_id: subscribed.container_id,
                })
            }
            Some(Type::Launch) => event.launch.map(|launch| ExecutorEvent::Launch(launch.task)),
            Some(Type::LaunchGroup) => {
                event.launch_group.map(|launch| ExecutorEvent::LaunchGroup(launch.task_group))
            }
            Some(Type::Kill) => event.kill.map(|kill| ExecutorEvent::Kill {
                task_id: kill.task_id,
                policy: kill.kill_policy,
            }),
            Some(Type::Acknowledged) => {
                event.acknowledged.map(|acknowledged| ExecutorEvent::Acknowledged {
                    task_id: acknowledged.task_id,
                    uuid: acknowledged.uuid.to_vec(),
                })
            }
            Some(Type::Message) => {
                event.message.map(|message| ExecutorEvent::Message(message.data.to_vec()))
            }
            Some(Type::Unknown) | None => None,
        };
        heard.map_or(Heard::Unintelligible, Heard::Event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_without_its_body_is_not_made_up() {
        for kind in [executor::event::Type::Launch, executor::event::Type::Unknown] {
            let event = executor::Event { r#type: Some(kind as i32), ..Default::default() };
            assert!(matches!(Heard::from_wire(event), Heard::Unintelligible));
        }
        let kind = Some(executor::event::Type::Shutdown as i32);
        let event = executor::Event { r#type: kind, ..Default::default() };
        assert!(matches!(Heard::from_wire(event), Heard::Event(ExecutorEvent::Shutdown)));
    }
}
