//! An executor, and the framework that launches it: tasks that sleep, all in one process.
//!
//!     executor HOST:PORT SECONDS...    # the scheduler: one task for each time
//!     executor                         # the executor, as the agent starts it

use std::collections::HashMap;
use std::time::Duration;

use mezzo_sdk::v1::{self, TaskState};
use mezzo_sdk::{
    Event, Executor, ExecutorCalls, ExecutorEvent, Framework, Scheduler, Transport, is_terminal,
    operation, resource, state_name, task_status,
};
use tokio::task::{AbortHandle, JoinSet};

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Vec::from_iter(std::env::args().skip(1));
    // Executors of Mesos' agents are to speak HTTP.
    let transport = match std::env::var("SLEEPERS_TRANSPORT").as_deref() {
        Ok("http") => Transport::Http,
        _ => Transport::Grpc,
    };
    match arguments.split_first() {
        None => execute(transport).await,
        Some((master, times)) => schedule(master, times, transport).await,
    }
}

/// The executor: runs until it is told to end.
async fn execute(transport: Transport) -> Result<(), Failure> {
    let (calls, mut events) = Executor::from_env()?.transport(transport).start().await?;
    let mut sleepers: JoinSet<v1::TaskId> = JoinSet::new();
    let mut running: HashMap<String, AbortHandle> = HashMap::new();
    let mut ending = false;
    // What it has reported is safe once the agent has confirmed it; until then it stays.
    while !ending || calls.unconfirmed() > 0 {
        tokio::select! {
            event = events.next() => match event? {
                ExecutorEvent::Launch(task) => {
                    let seconds: f64 = std::str::from_utf8(task.data())?.parse()?;
                    let task_id = task.task_id.clone();
                    calls.update(task_status(task.task_id, TaskState::TaskRunning)).await?;
                    let id = task_id.value.clone();
                    let sleeper = async move {
                        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                        task_id
                    };
                    running.insert(id, sleepers.spawn(sleeper));
                }
                ExecutorEvent::Kill { task_id, .. } => {
                    kill(&calls, &mut running, task_id).await?;
                }
                ExecutorEvent::Shutdown => {
                    ending = true;
                    for id in Vec::from_iter(running.keys().cloned()) {
                        let task_id = v1::TaskId { value: id };
                        kill(&calls, &mut running, task_id).await?;
                    }
                }
                _ => {}
            },
            Some(Ok(task_id)) = sleepers.join_next() => {
                if running.remove(&task_id.value).is_some() {
                    calls.message(format!("{} is over", task_id.value).into_bytes()).await?;
                    calls.update(task_status(task_id, TaskState::TaskFinished)).await?;
                }
            }
        }
    }
    Ok(())
}

/// Ends a sleeper, unless it is over.
async fn kill(
    calls: &ExecutorCalls,
    running: &mut HashMap<String, AbortHandle>,
    task_id: v1::TaskId,
) -> Result<(), Failure> {
    let Some(sleeper) = running.remove(&task_id.value) else { return Ok(()) };
    sleeper.abort();
    Ok(calls.update(task_status(task_id, TaskState::TaskKilled)).await?)
}

/// The scheduler: runs until each of its tasks is over.
async fn schedule(master: &str, times: &[String], transport: Transport) -> Result<(), Failure> {
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    let framework = Framework::new("sleepers", user);
    let scheduler = Scheduler::new(master, framework).transport(transport);
    let (calls, mut events) = scheduler.start().await?;
    let mut waiting = Vec::from_iter(times.iter().enumerate());
    let mut unfinished = waiting.len();
    while unfinished > 0 {
        match events.next().await? {
            Event::Offers(offers) => {
                for offer in &offers {
                    let tasks = waiting.drain(..).map(|(n, time)| task(n, time, offer, transport));
                    let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
                    if tasks.is_empty() {
                        calls.decline(vec![offer.id.clone()], None).await?;
                    } else {
                        let launch = operation::launch(tasks);
                        calls.accept(vec![offer.id.clone()], vec![launch], None).await?;
                    }
                }
            }
            Event::Message { executor_id, data, .. } => {
                println!("{} says: {}", executor_id.value, String::from_utf8_lossy(&data));
            }
            Event::Update(status) => {
                let (id, state) = (&status.task_id.value, state_name(status.state));
                println!("{id}: {state} {}", status.message());
                if is_terminal(status.state()) {
                    unfinished -= 1;
                }
            }
            _ => {}
        }
    }
    Ok(calls.teardown().await?)
}

fn task(
    number: usize,
    seconds: &str,
    offer: &v1::Offer,
    transport: Transport,
) -> Result<v1::TaskInfo, Failure> {
    let id = format!("sleeper.{number}");
    let me = std::env::current_exe()?;
    let variable = v1::environment::Variable {
        name: "SLEEPERS_TRANSPORT".to_owned(),
        value: Some(if transport == Transport::Grpc { "grpc" } else { "http" }.to_owned()),
        ..Default::default()
    };
    let executor = v1::ExecutorInfo {
        r#type: Some(v1::executor_info::Type::Custom as i32),
        executor_id: v1::ExecutorId { value: "sleepers".to_owned() },
        command: Some(v1::CommandInfo {
            value: Some(format!("exec {}", me.display())),
            environment: Some(v1::Environment { variables: vec![variable] }),
            ..Default::default()
        }),
        resources: vec![resource::scalar("cpus", 0.1), resource::scalar("mem", 64.0)],
        ..Default::default()
    };
    Ok(v1::TaskInfo {
        name: id.clone(),
        task_id: v1::TaskId { value: id },
        agent_id: offer.agent_id.clone(),
        executor: Some(executor),
        resources: vec![resource::scalar("cpus", 0.1), resource::scalar("mem", 16.0)],
        data: Some(seconds.to_owned().into_bytes().into()),
        ..Default::default()
    })
}
