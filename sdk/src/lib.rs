//! Client library for Mezzo, over gRPC.
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
//! Where things are:
//! - `scheduler`: the subscription, which reconnects by itself, and its two halves;
//! - `framework`, `task`, `room`: building what is sent: who asks, what should run, what fits an offer;
//! - `check`: what the agent looks after: [`HealthCheck`], [`Check`];
//! - `status`: reading a task's status: is it over, how did it end;
//! - `operator`: [`Master`] and [`Agent`], the clients of people and tools;
//! - `address`, `endpoint`, `error`: finding a server and saying what went wrong.
//!
//! Messages are those of the wire, re-exported as [`v1`]; they are Mesos' v1 messages with the
//! same names and fields.

mod address;
mod check;
mod endpoint;
mod error;
mod framework;
mod operator;
mod room;
mod scheduler;
mod status;
mod task;

pub use mezzo_proto::v1;
pub use mezzo_types::is_terminal;

pub use crate::check::{Check, CheckPort, HealthCheck};
pub use crate::error::{CallError, ConnectError, Ended, OperatorError, ServerKind};
pub use crate::framework::Framework;
pub use crate::operator::{Agent, FileReader, FileRequest, Master, agent_addresses};
pub use crate::room::Room;
pub use crate::scheduler::{Acknowledgement, Calls, Event, Events, Scheduler};
pub use crate::status::{Ending, state_name};
pub use crate::task::{Demand, Task};
