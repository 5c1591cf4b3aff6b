//! `mezzo mark-agent-gone`.

use mezzo_sdk::{Master, v1};

use crate::arguments::Global;
use crate::failure::Failure;

pub(crate) async fn mark(global: &Global, agent: &str) -> Result<(), Failure> {
    let master = Master::connect(&global.master).await?;
    Ok(master.mark_agent_gone(v1::AgentId { value: agent.to_owned() }).await?)
}
