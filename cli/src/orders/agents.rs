//! `mezzo drain`, `mezzo deactivate`, `mezzo reactivate`.

use std::time::Duration;

use mezzo_sdk::v1;
use mezzo_sdk::v1::master::{Call, call};

use super::{call_of, invoke};
use crate::arguments::Global;
use crate::failure::{Failure, note};
use crate::quantity::parse_duration;

#[derive(Debug, clap::Args)]
pub(crate) struct DrainArguments {
    /// The agent's id, as `mezzo agents` shows it.
    agent: String,

    /// No task gets more time than this between SIGTERM and SIGKILL, whatever it asked for.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    max_grace: Option<Duration>,

    /// When all tasks have ended, say that the agent never comes back, and bar its id.
    #[arg(long)]
    mark_gone: bool,
}

pub(crate) async fn drain(global: &Global, arguments: DrainArguments) -> Result<(), Failure> {
    let DrainArguments { agent, max_grace, mark_gone } = arguments;
    let drain = call::DrainAgent {
        agent_id: v1::AgentId { value: agent.clone() },
        max_grace_period: max_grace.and_then(|grace| grace.try_into().ok()),
        mark_gone: Some(mark_gone),
    };
    invoke(global, Call { drain_agent: Some(drain), ..call_of(call::Type::DrainAgent) }).await?;
    note(&format!("agent {agent} ends its tasks and gets no new ones; `mezzo agents` shows it"));
    Ok(())
}

pub(crate) async fn deactivate(global: &Global, agent: &str) -> Result<(), Failure> {
    let agent_id = v1::AgentId { value: agent.to_owned() };
    let order = call::DeactivateAgent { agent_id };
    let call = Call { deactivate_agent: Some(order), ..call_of(call::Type::DeactivateAgent) };
    invoke(global, call).await?;
    note(&format!("agent {agent} gets no new tasks; those it has go on"));
    Ok(())
}

pub(crate) async fn reactivate(global: &Global, agent: &str) -> Result<(), Failure> {
    let agent_id = v1::AgentId { value: agent.to_owned() };
    let order = call::ReactivateAgent { agent_id };
    let call = Call { reactivate_agent: Some(order), ..call_of(call::Type::ReactivateAgent) };
    invoke(global, call).await?;
    note(&format!("agent {agent} gets tasks again"));
    Ok(())
}
