//! Readers and the writer at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// Changes until `count` were made; the time that each took.
fn write(view: &View, from: u32, count: u32) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in from..from + count {
        let id = format!("{number:08}");
        let agent = format!("a{}", number % 100);
        let change = ViewChange::Task(task("f", &id, &agent, TaskState::TaskRunning));
        let begun = Instant::now();
        view.apply(change);
        times.push(begun.elapsed());
    }
    times.sort();
    times
}

#[test]
fn readers_see_one_moment_and_do_not_hold_up_the_writer() {
    let view = View::default();
    view.apply(framework("f"));
    for number in 0..100 {
        view.apply(agent(&format!("a{number}"), AgentState::Active));
    }
    write(&view, 0, 20_000);
    let alone = write(&view, 20_000, 5_000);
    let over = AtomicBool::new(false);
    let beside = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut reads = 0;
                let mut seen = 0;
                while !over.load(Ordering::Relaxed) || reads == 0 {
                    let answer = view.snapshot().response(Read::State, Encoding::Protobuf);
                    let state = Response::decode(answer.concat()).expect("a response");
                    let state = state.get_state.expect("a state");
                    let mut ids: Vec<u32> = state
                        .get_tasks
                        .expect("tasks")
                        .tasks
                        .iter()
                        .map(|task| task.task_id.value.parse().expect("a number"))
                        .collect();
                    ids.sort_unstable();
                    // Tasks came in order: whoever sees one sees all before it, once each.
                    let all = u32::try_from(ids.len()).expect("few");
                    assert!(ids.iter().copied().eq(0..all), "a state of one moment");
                    assert!(all >= seen, "time goes on");
                    seen = all;
                    let agents = state.get_agents.expect("agents").agents;
                    let cpus: f64 = agents
                        .iter()
                        .map(|agent| Resources::from_proto(&agent.allocated_resources))
                        .map(|resources| resources.expect("resources").cpus().to_f64())
                        .sum();
                    assert_eq!(cpus, f64::from(all) * 0.5, "agents and tasks of one moment");
                    reads += 1;
                }
            });
        }
        let times = write(&view, 25_000, 20_000);
        over.store(true, Ordering::Relaxed);
        times
    });
    let median = |times: &[Duration]| times[times.len() / 2];
    let (alone, beside) = (median(&alone), median(&beside));
    println!("a change takes {alone:?} alone and {beside:?} beside readers (median)");
    // A reader that held the lock while it encodes would make it milliseconds.
    assert!(beside < alone * 10 + Duration::from_micros(100), "{alone:?} alone, {beside:?} beside");
}
