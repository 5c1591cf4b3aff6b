//! A tool for operators: what the cluster holds and, with `watch`, what changes in it.
//!
//! `cargo run -p mezzo-sdk --example operator HOST:PORT [watch]`

use mezzo_sdk::{ClusterEvent, Master, Transport, state_name};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let master = arguments.next().unwrap_or_else(|| "127.0.0.1:5050".to_owned());
    // Any master of Mesos answers, too.
    let master = Master::connect_over(Transport::Http, &master).await?;
    print!("{}", summary(&master).await?);
    if arguments.next().as_deref() == Some("watch") {
        watch(&master, |line| println!("{line}")).await?;
    }
    Ok(())
}

/// A few lines about the cluster.
pub async fn summary(master: &Master) -> Result<String, Box<dyn std::error::Error>> {
    let version = master.version().await?;
    let agents = master.agents().await?;
    let frameworks = master.frameworks().await?;
    let tasks = master.tasks().await?;
    let mut text = format!("a master with the API of Mesos {}\n", version.version);
    for agent in &agents.agents {
        let state = if agent.active { "active" } else { "inactive" };
        let id = agent.agent_info.id.as_ref().map_or("?", |id| id.value.as_str());
        text += &format!("agent {id} at {}: {state}\n", agent.agent_info.hostname);
    }
    for framework in &frameworks.frameworks {
        text += &format!("framework {}\n", framework.framework_info.name);
    }
    for task in &tasks.tasks {
        text += &format!("task {}: {}\n", task.task_id.value, state_name(task.state));
    }
    Ok(text)
}

/// Tells of changes until the master closes the stream.
pub async fn watch(
    master: &Master,
    mut tell: impl FnMut(String),
) -> Result<(), Box<dyn std::error::Error>> {
    let mut events = master.subscribe().await?;
    while let Some(event) = events.next().await? {
        match event {
            ClusterEvent::Subscribed(state) => {
                let tasks = state.get_tasks.map_or(0, |tasks| tasks.tasks.len());
                tell(format!("watching, with {tasks} tasks"));
            }
            ClusterEvent::TaskAdded(task) => {
                tell(format!("task {} on {}", task.task_id.value, task.agent_id.value));
            }
            ClusterEvent::TaskUpdated { status, .. } => {
                tell(format!("task {}: {}", status.task_id.value, state_name(status.state)));
            }
            ClusterEvent::AgentAdded(agent) => {
                tell(format!("agent at {}", agent.agent_info.hostname))
            }
            ClusterEvent::AgentRemoved(agent) => tell(format!("agent {} is gone", agent.value)),
            ClusterEvent::FrameworkAdded(framework) => {
                tell(format!("framework {}", framework.framework_info.name));
            }
            ClusterEvent::FrameworkRemoved(framework) => {
                tell(format!("framework {} is over", framework.name));
            }
            _ => {}
        }
    }
    Ok(())
}
