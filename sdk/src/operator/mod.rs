//! Clients for people and tools: questions and orders outside of any framework.

mod agent;
mod location;
mod master;

pub use crate::operator::agent::{Agent, FileReader, FileRequest};
pub use crate::operator::location::agent_addresses;
pub use crate::operator::master::Master;
