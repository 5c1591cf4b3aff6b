//! What the master tells a framework.

use crate::v1::{self, scheduler};

/// An event of the subscription. Heartbeats are dealt with inside.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The subscription stands, for the first time or again after `Disconnected`. Offers made
    /// before are void.
    Subscribed {
        /// The id that the master knows the framework by.
        framework_id: v1::FrameworkId,
        /// Who leads, if it says so.
        master: Option<v1::MasterInfo>,
    },
    /// Resources to be used with [`crate::Calls::launch`] or [`crate::Calls::accept`], or declined.
    Offers(Vec<v1::Offer>),
    /// Requests to give resources back before a maintenance.
    InverseOffers(Vec<v1::InverseOffer>),
    /// The offer is void.
    Rescinded(v1::OfferId),
    /// The request to give resources back is void.
    InverseRescinded(v1::OfferId),
    /// News of a task. To be acknowledged if it has a `uuid`, see [`crate::Acknowledgement`].
    Update(v1::TaskStatus),
    /// News of an operation on resources. To be acknowledged if it has a `uuid`, see
    /// [`crate::Acknowledgement`].
    OperationUpdate(v1::OperationStatus),
    /// Data from an executor of the framework.
    Message {
        /// Where the executor runs.
        agent_id: v1::AgentId,
        /// Which executor.
        executor_id: v1::ExecutorId,
        /// As the executor sent it.
        data: Vec<u8>,
    },
    /// An agent was removed or, with an executor id, an executor ended.
    Failure {
        /// Which agent, or the executor's.
        agent_id: Option<v1::AgentId>,
        /// Which executor.
        executor_id: Option<v1::ExecutorId>,
        /// How the executor ended, as `wait` has it.
        status: Option<i32>,
    },
    /// Every task named to [`crate::Events::reconcile`] has been heard of since.
    Reconciled,
    /// The connection is lost and will be made anew.
    Disconnected {
        /// What happened to it.
        reason: String,
    },
}

/// A message of the master as the connection has to treat it.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, taken apart at once")]
pub(crate) enum Heard {
    Event(Event),
    Heartbeat,
    /// The subscription is over.
    Error(String),
    /// Of a later version of the protocol, or without the part that its type announces.
    Unintelligible,
}

impl Heard {
    pub(crate) fn from_wire(event: scheduler::Event) -> Self {
        use scheduler::event::Type;
        let kind = event.r#type.and_then(|number| Type::try_from(number).ok());
        let heard = match kind {
            Some(Type::Heartbeat) => return Heard::Heartbeat,
            Some(Type::Error) => {
                let message = event.error.map(|error| error.message);
                return Heard::Error(message.unwrap_or_else(|| "no reason given".to_owned()));
            }
            Some(Type::Subscribed) => event.subscribed.map(|subscribed| Event::Subscribed {
                framework_id: subscribed.framework_id,
                master: subscribed.master_info,
            }),
            Some(Type::Offers) => event.offers.map(|offers| Event::Offers(offers.offers)),
            Some(Type::InverseOffers) => {
                event.inverse_offers.map(|offers| Event::InverseOffers(offers.inverse_offers))
            }
            Some(Type::Rescind) => event.rescind.map(|rescind| Event::Rescinded(rescind.offer_id)),
            Some(Type::RescindInverseOffer) => event
                .rescind_inverse_offer
                .map(|rescind| Event::InverseRescinded(rescind.inverse_offer_id)),
            Some(Type::Update) => event.update.map(|update| Event::Update(update.status)),
            Some(Type::UpdateOperationStatus) => {
                event.update_operation_status.map(|update| Event::OperationUpdate(update.status))
            }
            Some(Type::Message) => event.message.map(|message| Event::Message {
                agent_id: message.agent_id,
                executor_id: message.executor_id,
                data: message.data.to_vec(),
            }),
            Some(Type::Failure) => event.failure.map(|failure| Event::Failure {
                agent_id: failure.agent_id,
                executor_id: failure.executor_id,
                status: failure.status,
            }),
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
        let event = scheduler::Event {
            r#type: Some(scheduler::event::Type::Offers as i32),
            ..Default::default()
        };
        assert!(matches!(Heard::from_wire(event), Heard::Unintelligible));
        let event = scheduler::Event { r#type: Some(4711), ..Default::default() };
        assert!(matches!(Heard::from_wire(event), Heard::Unintelligible));
    }

    #[test]
    fn an_error_without_a_message_still_ends_the_subscription() {
        let event = scheduler::Event {
            r#type: Some(scheduler::event::Type::Error as i32),
            ..Default::default()
        };
        assert!(matches!(Heard::from_wire(event), Heard::Error(_)));
    }
}
