//! Client library for Mezzo: schedulers, executors and operators, over gRPC or Mesos' HTTP API.
//!
//! A *framework* decides what runs where: it subscribes to the master, receives offers of
//! resources, answers them with tasks to launch and follows the status updates of those tasks.
//! [`Scheduler`] connects one and returns two halves: [`Calls`], a cheap handle whose methods
//! tell the master something and return its answer, and [`Events`], the stream of what the master
//! has to say. `examples/hello.rs` is a complete framework in forty lines.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use mezzo_sdk::{Event, Framework, Room, Scheduler, Task};
//!
//! let framework = Framework::new("example", "nobody");
//! let (calls, mut events) = Scheduler::connect("127.0.0.1:5050", framework).await?;
//! let task = Task::command("sleep.0", "sleep").cpus(0.1).mem(32.0).shell("sleep 1");
//! loop {
//!     match events.next().await? {
//!         Event::Offers(offers) => {
//!             for offer in &offers {
//!                 let tasks = Room::of(offer).fit(&task).into_iter().collect();
//!                 calls.launch(offer, tasks).await?;
//!             }
//!         }
//!         Event::Update(status) => println!("{status:?}"),
//!         _ => {}
//!     }
//! }
//! # }
//! ```
//!
//! An *executor* is started by an agent and runs a framework's tasks in a way of its own:
//! [`Executor`] connects it, [`ExecutorCalls`] and [`ExecutorEvents`] are its two halves.
//!
//! An *operator* asks and orders outside of any framework: [`Master`] and [`Agent`] have a method
//! for each call of the v1 operator API, and [`Master::subscribe`] follows what changes.
//!
//! All of them are told by [`Transport`] how to talk: over gRPC, which is the default, or over
//! HTTP, which masters and agents of Mesos understand, too.
//!
//! What can be relied on:
//! - A lost or silent connection is made anew after a pause that grows, up to a bound, with the
//!   same framework id; what was suppressed stays suppressed. Silent is one on which five
//!   heartbeats did not come.
//! - Updates are acknowledged when the application asks for the event after them, or by itself:
//!   [`Acknowledgement`]. [`Events::reconcile`] asks for the state of tasks until all are answered.
//! - An executor's updates are kept and repeated until the agent has confirmed them.
//! - Every queue is bounded; whoever falls behind is disconnected, and hears again what it missed.
//! - Futures may be dropped at any point; where that matters the method says so.
//!
//! Where things are:
//! - `scheduler`, `executor`: subscriptions, which reconnect by themselves, and their halves;
//! - `framework`, `task`, `room`, [`resource`], [`operation`]: building what is sent: who asks,
//!   what should run, what fits an offer, what becomes of resources;
//! - `check`: what the agent looks after: [`HealthCheck`], [`Check`];
//! - `status`: reading a task's status: is it over, how did it end;
//! - `operator`: [`Master`] and [`Agent`], the clients of people and tools;
//! - `detection`, `address`, `endpoint`: finding a server; `error`: saying what went wrong;
//! - `link`, `http_api`, `heartbeat`, `backoff`: what subscriptions are made of.
//!
//! Messages are those of the wire, re-exported as [`v1`]; they are Mesos' v1 messages with the
//! same names and fields.
//!
//! What is public here is versioned by its meaning: a release that could break a program that
//! compiled before has a new major number (as long as that is 0: a new minor one). Messages grow
//! with the API, so write them with `..Default::default()`; enums that may grow are
//! `#[non_exhaustive]`.

#![warn(missing_docs)]

/// The programs in the guide compile.
#[cfg(doctest)]
#[doc = include_str!("../../docs/frameworks.md")]
struct Guide;

mod address;
mod backoff;
mod check;
mod detection;
mod endpoint;
mod error;
mod executor;
mod framework;
mod heartbeat;
mod http_api;
mod link;
pub mod operation;
mod operator;
pub mod resource;
mod room;
mod scheduler;
mod status;
mod task;
mod transport;

pub use mezzo_proto::v1;
pub use mezzo_types::is_terminal;

pub use crate::check::{Check, CheckPort, HealthCheck};
pub use crate::error::{CallError, ConnectError, Ended, OperatorError, ServerKind};
pub use crate::executor::{
    Environment, EnvironmentError, Executor, ExecutorCalls, ExecutorEvent, ExecutorEvents,
    task_status,
};
pub use crate::framework::Framework;
pub use crate::operator::{
    Agent, ClusterEvent, ClusterEvents, FileReader, FileRequest, Master, agent_addresses,
};
pub use crate::room::Room;
pub use crate::scheduler::{Acknowledgement, Calls, Event, Events, Scheduler};
pub use crate::status::{Ending, state_name};
pub use crate::task::{Demand, Task};
pub use crate::transport::Transport;
