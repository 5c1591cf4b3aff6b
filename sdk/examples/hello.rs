//! A framework in forty lines: runs `echo` five times and reports how it went.
//!
//! Start a cluster with `mezzo dev`, then: `cargo run -p mezzo-sdk --example hello [HOST:PORT]`

use mezzo_sdk::{Event, Framework, Room, Scheduler, Task, is_terminal, state_name};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let master = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5050".to_owned());
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    hello(&master, &user).await
}

pub async fn hello(master: &str, user: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (calls, mut events) = Scheduler::connect(master, Framework::new("hello", user)).await?;
    let mut waiting: Vec<Task> = (1..=5)
        .map(|n| Task::command(format!("hello.{n}"), "hello").cpus(0.1).mem(32.0))
        .map(|task| task.shell("echo hello from $MESOS_TASK_ID"))
        .collect();
    let mut unfinished = waiting.len();
    while unfinished > 0 {
        match events.next().await? {
            Event::Offers(offers) => {
                for offer in &offers {
                    let mut room = Room::of(offer);
                    let placed: Vec<_> = waiting.iter().map_while(|t| room.fit(t)).collect();
                    waiting.drain(..placed.len());
                    calls.launch(offer, placed).await?;
                }
            }
            Event::Update(status) => {
                println!("{}: {}", status.task_id.value, state_name(status.state));
                if is_terminal(status.state()) {
                    unfinished -= 1;
                }
            }
            _ => {}
        }
    }
    Ok(calls.teardown().await?)
}
