//! An operation on an agent's resources as the master knows it.

use mezzo_proto::storage::v1::OperationPlacement;
use mezzo_proto::v1;
use mezzo_proto::v1::OperationState;
use mezzo_types::{AgentId, Conversion, FrameworkId, ResourceOperation, Uuid16};

use crate::task::Launch;

/// One operation: from the commit of its placement until its ending is known and, where the framework
/// wants to hear of it, acknowledged.
#[derive(Debug)]
pub(crate) struct Operation {
    /// Names it between master and agent.
    pub(crate) uuid: Uuid16,
    /// `None` for an operator's.
    pub(crate) framework: Option<FrameworkId>,
    pub(crate) agent: AgentId,
    /// With `id` if the framework wants feedback; the resources as they were offered.
    pub(crate) info: v1::offer::Operation,
    /// What it does to the agent's resources, which are allocated to nobody.
    pub(crate) steps: Vec<Conversion>,
    /// Which order to the agent it was.
    pub(crate) order: Launch,
    pub(crate) latest: v1::OperationStatus,
    /// The agent's word that waits for the framework's acknowledgement; resent when it comes back.
    pub(crate) unacknowledged: Option<Box<v1::OperationStatus>>,
}

impl Operation {
    /// As it was placed; nothing is known of it but that it was ordered.
    pub(crate) fn of_placement(placement: &OperationPlacement) -> Option<Self> {
        let info = placement.info.clone()?;
        let operation = ResourceOperation::from_proto(&info).ok()?;
        let agent = AgentId::from(placement.agent_id.as_str());
        let framework = placement.framework_id.as_str();
        Some(Self {
            uuid: Uuid16::from_slice(&placement.operation_uuid)?,
            framework: (!framework.is_empty()).then(|| FrameworkId::from(framework)),
            latest: status(&info, &agent, OperationState::OperationPending, None),
            agent,
            steps: operation.unallocated().conversions(),
            info,
            order: Launch { term: placement.launch_term, sequence: placement.launch_sequence },
            unacknowledged: None,
        })
    }

    pub(crate) fn placement(&self) -> OperationPlacement {
        OperationPlacement {
            operation_uuid: self.uuid.as_bytes().to_vec().into(),
            framework_id: self.framework.as_ref().map(ToString::to_string).unwrap_or_default(),
            agent_id: self.agent.to_string(),
            info: Some(self.info.clone()),
            launch_term: self.order.term,
            launch_sequence: self.order.sequence,
        }
    }

    pub(crate) fn ended(&self) -> bool {
        is_terminal(self.latest.state())
    }

    /// The id under which its framework hears of it, if it wants to.
    pub(crate) fn id(&self) -> Option<&str> {
        self.info.id.as_ref().map(|id| id.value.as_str())
    }

    /// A status of it that the master makes: nobody acknowledges or retries it.
    pub(crate) fn status(&self, state: OperationState, message: &str) -> v1::OperationStatus {
        status(&self.info, &self.agent, state, Some(message))
    }

    /// As `GET_OPERATIONS` shows it.
    pub(crate) fn to_view(&self) -> v1::Operation {
        let pending = self.latest.state() == OperationState::OperationPending;
        v1::Operation {
            framework_id: self.framework.as_ref().map(Into::into),
            agent_id: Some((&self.agent).into()),
            info: self.info.clone(),
            latest_status: self.latest.clone(),
            statuses: if pending { Vec::new() } else { vec![self.latest.clone()] },
            uuid: v1::Uuid { value: self.uuid.as_bytes().to_vec().into() },
        }
    }
}

fn status(
    info: &v1::offer::Operation,
    agent: &AgentId,
    state: OperationState,
    message: Option<&str>,
) -> v1::OperationStatus {
    v1::OperationStatus {
        operation_id: info.id.clone(),
        state: state as i32,
        message: message.map(str::to_owned),
        agent_id: Some(agent.into()),
        ..v1::OperationStatus::default()
    }
}

/// Whether nothing can follow (Mesos' `isTerminalState`).
pub(crate) fn is_terminal(state: OperationState) -> bool {
    match state {
        OperationState::OperationFinished
        | OperationState::OperationFailed
        | OperationState::OperationError
        | OperationState::OperationDropped
        | OperationState::OperationGoneByOperator => true,
        OperationState::OperationUnsupported
        | OperationState::OperationPending
        | OperationState::OperationUnreachable
        | OperationState::OperationRecovering
        | OperationState::OperationUnknown => false,
    }
}
