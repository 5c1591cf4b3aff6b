//! Agents that are silent or away for too long, and how fast they are given up.

use std::time::Duration;

use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::internal::v1::{LaunchPosition, Pong};
use mezzo_proto::storage::v1::agent_record;
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::scheduler::call;
use mezzo_proto::v1::task_status::{Reason, Source};

use super::agents::{RESOURCES, reported};
use super::cluster::{Cluster, framework_info, task};
use crate::{Config, Input, LinkId, RateLimit, StreamId};

const LAST: LaunchPosition = LaunchPosition { term: 1, sequence: 1 };

/// An agent that runs the task `t` of a framework.
struct Scene {
    cluster: Cluster,
    stream: StreamId,
    id: v1::FrameworkId,
    link: LinkId,
    agent: String,
}

fn scene(aware: bool, change: impl FnOnce(&mut Config)) -> Scene {
    let mut cluster = Cluster::with(change);
    let (link, agent) = cluster.agent(RESOURCES);
    let (stream, id) = cluster.framework(framework_info(aware));
    cluster.advance(Duration::from_millis(10));
    let offer = cluster.take_offers(stream).remove(0);
    cluster.launch(stream, &id, &[&offer], vec![task("t", &agent, "cpus:1")]);
    cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
    cluster.take_events(stream);
    Scene { cluster, stream, id, link, agent }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Scene {
    fn state(&self) -> agent_record::State {
        self.cluster.registry.agents[self.agent.as_str()].state()
    }

    fn break_link(&mut self) {
        let link = self.link;
        self.cluster.input(Input::LinkClosed { link });
        self.cluster.take_events(self.stream);
    }

    /// The agent is back with its task in `state`; returns the statuses that follow.
    fn come_back(&mut self, state: TaskState) -> Vec<v1::TaskStatus> {
        let tasks = vec![reported(&self.id, &self.agent, state)];
        let (link, id) = self.cluster.register(Some(&self.agent), RESOURCES, LAST, tasks, "boot-1");
        assert_eq!(id, self.agent);
        self.link = link;
        self.cluster.take_statuses(self.stream)
    }

    fn reconcile(&mut self) -> v1::TaskStatus {
        let kind = call::Type::Reconcile;
        self.cluster
            .call(self.stream, &self.id, kind, |c| c.reconcile = Some(call::Reconcile::default()))
            .expect("accepted");
        self.cluster.take_statuses(self.stream).remove(0)
    }

    fn pong(&mut self) {
        self.cluster.agent_says(self.link, ToMaster::Pong(Pong {}));
    }
}

#[test]
fn frameworks_hear_of_it_in_the_states_they_know() {
    for aware in [true, false] {
        let mut scene = scene(aware, |_| {});
        scene.break_link();
        scene.cluster.advance(secs(599));
        assert!(scene.cluster.take_statuses(scene.stream).is_empty());
        assert_eq!(scene.state(), agent_record::State::Admitted);
        scene.cluster.advance(secs(1));
        let expected = if aware { TaskState::TaskUnreachable } else { TaskState::TaskLost };
        let status = scene.cluster.take_statuses(scene.stream).remove(0);
        assert_eq!(status.state(), expected);
        assert_eq!(status.reason(), Reason::AgentRemoved);
        assert_eq!(status.source(), Source::Master);
        assert_eq!(status.unreachable_time.is_some(), aware);
        assert_eq!(status.uuid, None);
        assert_eq!(scene.state(), agent_record::State::Unreachable);
        assert_eq!(scene.cluster.registry.placements.len(), 1, "the ledger keeps it");
        let status = scene.reconcile();
        assert_eq!((status.state(), status.reason()), (expected, Reason::Reconciliation));
        assert_eq!(status.unreachable_time.is_some(), aware);
        let statistics = scene.cluster.master.statistics();
        assert_eq!(statistics.tasks_now[TaskState::TaskUnreachable as usize], 1);
        assert_eq!(statistics.tasks_reached[TaskState::TaskLost as usize], u64::from(!aware));
        assert_eq!((statistics.agents_unreachable, statistics.agents_disconnected), (1, 0));
        assert_eq!((statistics.removals, statistics.removals_unhealthy), (1, 1));
        // Whatever its framework understands, the task is there again.
        let status = scene.come_back(TaskState::TaskRunning).remove(0);
        assert_eq!(status.state(), TaskState::TaskRunning);
        assert_eq!(status.reason(), Reason::AgentReregistered);
        assert_eq!((status.source(), status.uuid.as_ref()), (Source::Master, None));
        assert_eq!(scene.reconcile().state(), TaskState::TaskRunning);
        assert_eq!(scene.state(), agent_record::State::Admitted);
        let statistics = scene.cluster.master.statistics();
        assert_eq!(statistics.tasks_now[TaskState::TaskRunning as usize], 1);
        assert_eq!(statistics.tasks_now[TaskState::TaskUnreachable as usize], 0);
        assert_eq!(statistics.agents_unreachable, 0);
    }
}

/// What the outside hears depends on the position at which the log marks the agent.
#[test]
fn nothing_is_told_before_the_log_has_it() {
    let mut scene = scene(true, |_| {});
    scene.break_link();
    let before = scene.cluster.log.len();
    scene.cluster.advance(secs(600));
    assert_eq!(scene.cluster.log.len(), before + 1);
    assert_eq!(scene.cluster.latest_after[&scene.stream].0, before as u64 + 1);
}

#[test]
fn any_message_is_a_sign_of_life() {
    let mut scene = scene(true, |_| {});
    for round in 2..20 {
        scene.cluster.advance(secs(14));
        let (link, id) = (scene.link, scene.id.clone());
        scene.cluster.update(link, &id, "t", TaskState::TaskRunning, round);
    }
    assert!(scene.cluster.closed_links.is_empty());
    assert_eq!(scene.state(), agent_record::State::Admitted);
}

#[test]
fn its_resources_are_offered_to_nobody() {
    let mut scene = scene(true, |_| {});
    scene.cluster.advance(secs(100));
    scene.cluster.take_events(scene.stream);
    let (other, _) = scene.cluster.framework(framework_info(true));
    scene.cluster.advance(secs(60));
    assert!(scene.cluster.take_events(other).iter().all(|event| event.offers.is_none()));
    // Offers follow the registration at once; they must not be taken for statuses here.
    let tasks = vec![reported(&scene.id, &scene.agent, TaskState::TaskRunning)];
    scene.cluster.register(Some(&scene.agent), RESOURCES, LAST, tasks, "boot-1");
    scene.cluster.advance(secs(1));
    let offers: Vec<_> = [other, scene.stream]
        .into_iter()
        .flat_map(|stream| scene.cluster.take_events(stream))
        .filter_map(|event| event.offers)
        .flat_map(|offers| offers.offers)
        .collect();
    let free = mezzo_types::Resources::from_proto(&offers[0].resources).expect("valid");
    assert_eq!(free.cpus().to_f64(), 3.0, "the task's share is not offered");
}

#[test]
fn an_ending_that_happened_meanwhile_is_told_by_the_agent_alone() {
    let mut scene = scene(true, |_| {});
    scene.break_link();
    scene.cluster.advance(secs(600));
    scene.cluster.take_events(scene.stream);
    assert!(scene.come_back(TaskState::TaskFinished).is_empty());
    let (link, id) = (scene.link, scene.id.clone());
    scene.cluster.update(link, &id, "t", TaskState::TaskFinished, 2);
    let statuses = scene.cluster.take_statuses(scene.stream);
    assert_eq!(statuses[0].state(), TaskState::TaskFinished);
    let agent = scene.agent.clone();
    scene.cluster.acknowledge(scene.stream, &id, &agent, "t", 2);
    assert!(scene.cluster.registry.placements.is_empty());
    assert!(matches!(scene.cluster.take_messages(link).as_slice(), [ToAgent::Acknowledge(_)]));
}

/// The ending was reported; that its agent is lost afterwards does not change it.
#[test]
fn an_ending_that_was_told_stands() {
    let mut scene = scene(true, |_| {});
    let (link, id) = (scene.link, scene.id.clone());
    scene.cluster.update(link, &id, "t", TaskState::TaskFinished, 2);
    scene.break_link();
    scene.cluster.advance(secs(600));
    assert!(scene.cluster.take_statuses(scene.stream).is_empty());
    assert_eq!(scene.reconcile().state(), TaskState::TaskFinished);
}

#[test]
fn a_kill_meanwhile_is_answered_and_carried_out_on_return() {
    let mut scene = scene(true, |_| {});
    scene.break_link();
    scene.cluster.advance(secs(600));
    scene.cluster.take_events(scene.stream);
    let kill = call::Kill { task_id: v1::TaskId { value: "t".into() }, ..Default::default() };
    let kind = call::Type::Kill;
    scene.cluster.call(scene.stream, &scene.id, kind, |c| c.kill = Some(kill)).expect("accepted");
    let statuses = scene.cluster.take_statuses(scene.stream);
    assert_eq!(statuses[0].state(), TaskState::TaskUnreachable);
    scene.come_back(TaskState::TaskRunning);
    let messages = scene.cluster.take_messages(scene.link);
    assert!(matches!(messages.as_slice(), [ToAgent::KillTask(_)]), "{messages:?}");
}

fn slow(config: &mut Config) {
    config.agent_removal_rate_limit = Some(RateLimit { permits: 1, per: secs(600) });
}

#[test]
fn agents_are_given_up_one_by_one_under_a_rate_limit() {
    let mut cluster = Cluster::with(slow);
    let agents: Vec<_> = (0..3).map(|_| cluster.agent(RESOURCES)).collect();
    for (link, _) in &agents {
        cluster.input(Input::LinkClosed { link: *link });
    }
    cluster.advance(secs(600));
    let unreachable = |cluster: &Cluster| cluster.master.statistics().agents_unreachable;
    assert_eq!(unreachable(&cluster), 1, "the first goes at once");
    assert_eq!(cluster.master.statistics().unreachable_scheduled, 3);
    cluster.advance(secs(599));
    assert_eq!(unreachable(&cluster), 1);
    cluster.advance(secs(1));
    assert_eq!(unreachable(&cluster), 2);
    // The third is back in time.
    let (_, third) = &agents[2];
    cluster.register(Some(third), RESOURCES, LaunchPosition::default(), vec![], "boot-1");
    cluster.advance(secs(14));
    let statistics = cluster.master.statistics();
    assert_eq!(statistics.unreachable_canceled, 1);
    assert_eq!(statistics.unreachable_completed, 2);
}

#[test]
fn a_late_answer_saves_an_agent_that_waits_for_its_turn() {
    let mut scene = scene(true, slow);
    let (first, _) = scene.cluster.agent(RESOURCES);
    scene.cluster.input(Input::LinkClosed { link: first });
    // The other one, away since before, takes the first permit at 600 s; ours falls silent then.
    for _ in 0..40 {
        scene.cluster.advance(secs(15));
        scene.pong();
    }
    scene.cluster.take_events(scene.stream);
    scene.cluster.advance(secs(100));
    assert_eq!(scene.cluster.master.statistics().unreachable_scheduled, 2);
    assert!(scene.cluster.take_statuses(scene.stream).is_empty());
    assert!(scene.cluster.closed_links.is_empty(), "it is pinged on");
    let (stream, _) = scene.cluster.framework(framework_info(true));
    scene.cluster.advance(secs(10));
    let events = scene.cluster.take_events(stream);
    assert!(events.iter().all(|event| event.offers.is_none()), "but not offered");
    scene.pong();
    scene.cluster.advance(secs(1));
    let offered = [stream, scene.stream]
        .into_iter()
        .flat_map(|stream| scene.cluster.take_events(stream))
        .any(|event| event.offers.is_some());
    assert!(offered, "it is offered again");
    assert_eq!(scene.cluster.master.statistics().unreachable_canceled, 1);
    assert_eq!(scene.state(), agent_record::State::Admitted);
}

#[test]
fn after_a_fail_over_agents_have_their_time_to_come_back() {
    let scene = scene(true, |_| {});
    let (agent, id) = (scene.agent.clone(), scene.id.clone());
    let mut cluster = scene.cluster.fail_over();
    let info = v1::FrameworkInfo { id: Some(id.clone()), ..framework_info(true) };
    let (stream, _) = cluster.framework(info);
    cluster.advance(secs(599));
    assert!(cluster.take_statuses(stream).is_empty());
    cluster.advance(secs(1));
    assert_eq!(cluster.take_statuses(stream)[0].state(), TaskState::TaskUnreachable);
    assert_eq!(cluster.master.statistics().recovery_removals, 1);
    assert_eq!(cluster.halted, None);
    // Another master knows it as unreachable from the log.
    let mut cluster = cluster.fail_over();
    let info = v1::FrameworkInfo { id: Some(id.clone()), ..framework_info(true) };
    let (stream, _) = cluster.framework(info);
    let kind = call::Type::Reconcile;
    cluster
        .call(stream, &id, kind, |c| c.reconcile = Some(call::Reconcile::default()))
        .expect("accepted");
    assert_eq!(cluster.take_statuses(stream)[0].state(), TaskState::TaskUnreachable);
    let tasks = vec![reported(&id, &agent, TaskState::TaskRunning)];
    cluster.register(Some(&agent), RESOURCES, LAST, tasks, "boot-1");
    let statuses = cluster.take_statuses(stream);
    assert_eq!(statuses[0].reason(), Reason::AgentReregistered);
}

#[test]
fn a_master_that_misses_too_many_agents_halts() {
    for (limit, halts) in [(50.0, true), (75.0, false)] {
        let mut cluster = Cluster::with(|c| c.recovery_agent_removal_limit_percent = limit);
        let agents: Vec<_> = (0..4).map(|_| cluster.agent(RESOURCES).1).collect();
        let mut cluster = cluster.fail_over();
        let last = LaunchPosition::default();
        let (link, _) = cluster.register(Some(&agents[0]), RESOURCES, last, vec![], "boot-1");
        for _ in 0..40 {
            cluster.advance(secs(15));
            cluster.agent_says(link, ToMaster::Pong(Pong {}));
        }
        assert_eq!(cluster.halted.is_some(), halts);
        let marked = cluster.master.statistics().agents_unreachable;
        assert_eq!(marked, if halts { 0 } else { 3 });
        if let Some(reason) = cluster.halted {
            assert_eq!(
                reason,
                "3 of 4 agents (75%) did not come back within 600 s after this master took the lead, \
                 more than --recovery-agent-removal-limit=50% allows to mark as unreachable: see \
                 whether the network lets agents reach this master, or raise the limit, and start it \
                 again"
            );
        }
    }
}
