//! What the invariants get to see: everything that matters, at the moment it happens.

use mezzo_agent_core::{Change, Launch};
use mezzo_master_core::{Registry, ViewChange};
use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::storage::v1::Command;
use mezzo_proto::v1::scheduler::{Call, Event};
use mezzo_types::{ContainerId, FrameworkId, Resource, Resources};

use crate::store::Records;

/// (framework, task), as messages have them.
pub type TaskKey = (String, String);

/// Agents, frameworks and incarnations of masters are numbered by the world.
#[derive(Debug)]
pub enum Fact<'a> {
    /// An event is about to be handled; `waiting` are to come.
    Step { now_ns: u64, waiting: usize },
    /// A master took the lead, starting from what the log holds.
    Leads { master: usize, term: u64, registry: &'a Registry },
    /// What a master tells its readers, as the core said it.
    View { master: usize, change: &'a ViewChange },
    /// A command is durable; `registry` has it.
    Committed { command: &'a Command, registry: &'a Registry },
    /// A master lets a message for an agent go; `registry` is what is durable by now.
    Ordered { agent: usize, term: u64, message: &'a ToAgent, registry: &'a Registry },
    /// A master lets an event for a framework go; one that was deposed and does not know it still does.
    Told { framework: usize, deposed: bool, event: &'a Event, registry: &'a Registry },
    /// Messages that wait for the log at a master.
    Waiting { count: usize },
    /// An agent wrote this down.
    Recorded { agent: usize, change: &'a Change },
    /// An agent lets a message go; `written` survives it, `flushed` its host.
    Reports { agent: usize, message: &'a ToMaster, written: &'a Records },
    /// An agent's core is handed a message.
    Obeys { agent: usize, message: &'a ToAgent },
    /// An agent takes a master of this term for its leader.
    Registered { agent: usize, term: u64 },
    /// An agent has a container made.
    Launches { agent: usize, launch: &'a Launch, written: &'a Records, flushed: &'a Records },
    /// An agent signals or destroys a container; `runs`: a command runs in it.
    Ends { agent: usize, container: &'a ContainerId, key: &'a TaskKey, runs: bool },
    /// An agent was told to leave, or left and starts over.
    Leaves { agent: usize },
    /// A command began.
    Began { agent: usize, container: &'a ContainerId, key: &'a TaskKey, resources: &'a Resources },
    /// A command ended.
    Ended { agent: usize, container: &'a ContainerId, success: bool },
    /// A container met a limit.
    Limited { agent: usize, container: &'a ContainerId },
    /// A task's time is limited, and over.
    TimeOver { agent: usize, container: &'a ContainerId },
    /// Every process of the host is gone.
    Rebooted { agent: usize },
    /// A framework reads an event.
    Hears { framework: usize, honest: bool, id: Option<&'a FrameworkId>, event: &'a Event },
    /// A framework makes a call.
    Calls { framework: usize, id: Option<&'a FrameworkId>, call: &'a Call },
    /// The directory of a volume goes with its data; `flushed` is what a loss of power leaves.
    Removes { agent: usize, volume: &'a Resource, flushed: &'a Records },
    /// A task writes to a volume: how often that was done by now, if the volume is there.
    Writes { agent: usize, volume: &'a Resource, found: Option<u64> },
    /// An operator wants a task ended.
    OperatorKills { key: TaskKey },
}
