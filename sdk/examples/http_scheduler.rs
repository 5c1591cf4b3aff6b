//! A framework that talks to any master of Mesos' v1 HTTP API, Mezzo's or Mesos' own: runs one
//! command and reports how it ended. It acknowledges updates by itself, after it has dealt with
//! them, and reconciles after each subscription.
//!
//! `cargo run -p mezzo-sdk --example http_scheduler HOST:PORT COMMAND`

use mezzo_sdk::{
    Acknowledgement, Event, Framework, Room, Scheduler, Task, Transport, is_terminal, state_name,
    v1,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(master), Some(command)) = (arguments.next(), arguments.next()) else {
        return Err("usage: http_scheduler HOST:PORT COMMAND".into());
    };
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    let state = run(&master, &user, &command, Transport::Http).await?;
    println!("it ended as {}", state_name(state));
    Ok(())
}

/// The state in which the command ended.
pub async fn run(
    master: &str,
    user: &str,
    command: &str,
    transport: Transport,
) -> Result<i32, Box<dyn std::error::Error>> {
    let (calls, mut events) = Scheduler::new(master, Framework::new("http-scheduler", user))
        .transport(transport)
        .acknowledgement(Acknowledgement::Manual)
        .start()
        .await?;
    let task = Task::command("command", "command").cpus(0.1).mem(32.0).shell(command);
    let mut launched_on: Option<v1::AgentId> = None;
    loop {
        match events.next().await? {
            Event::Subscribed { framework_id, .. } => {
                println!("subscribed as {}", framework_id.value);
                let task_id = || v1::TaskId { value: task.id().to_owned() };
                events.reconcile(launched_on.iter().map(|agent| (task_id(), Some(agent.clone()))));
            }
            Event::Offers(offers) => {
                for offer in &offers {
                    let waiting = launched_on.is_none();
                    let placed = Room::of(offer).fit(&task).filter(|_| waiting);
                    if placed.is_some() {
                        launched_on = Some(offer.agent_id.clone());
                    }
                    calls.launch(offer, placed.into_iter().collect()).await?;
                }
            }
            Event::Update(status) => {
                println!("{}: {}", status.task_id.value, state_name(status.state));
                if status.uuid.is_some() {
                    calls.acknowledge(&status).await?;
                }
                if is_terminal(status.state()) {
                    calls.teardown().await?;
                    return Ok(status.state);
                }
            }
            _ => {}
        }
    }
}
