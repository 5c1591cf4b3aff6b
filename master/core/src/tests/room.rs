//! A disk without room: nothing new is promised, and what was promised goes on. Agents of other clusters.

use std::time::Duration;

use mezzo_proto::internal::v1::agent_to_master::Message as ToMaster;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::internal::v1::{LaunchPosition, Refused, Register};
use mezzo_proto::v1;
use mezzo_proto::v1::TaskState;
use mezzo_proto::v1::scheduler::call;
use mezzo_proto::v1::task_status::Reason;

use super::agents::{RESOURCES, with_task};
use super::cluster::{Cluster, framework_info, resources, task};
use crate::{Input, LinkId, Refusal};

const SHORTAGE: &str = "the file system of /data is full";

/// Beyond the time for which a refused offer is not made again.
const FILTER: Duration = Duration::from_secs(6);

fn room(cluster: &mut Cluster, shortage: Option<&str>) {
    cluster.input(Input::Room { shortage: shortage.map(str::to_owned) });
}

/// The launches that an agent was sent.
fn launches(cluster: &mut Cluster, link: LinkId) -> usize {
    let messages = cluster.take_messages(link);
    messages.iter().filter(|message| matches!(message, ToAgent::RunTask(_))).count()
}

#[test]
fn without_room_launches_are_refused_and_what_runs_goes_on() {
    for (aware, state) in [(true, TaskState::TaskDropped), (false, TaskState::TaskLost)] {
        let (mut cluster, stream, id, link, agent) = with_task(aware);
        cluster.update(link, &id, "t", TaskState::TaskRunning, 1);
        cluster.take_events(stream);
        cluster.take_messages(link);
        cluster.advance(FILTER);
        let offer = cluster.take_offers(stream).remove(0);
        room(&mut cluster, Some(SHORTAGE));
        let written = cluster.log.len();
        cluster.launch(stream, &id, &[&offer], vec![task("u", &agent, "cpus:1")]);
        let statuses = cluster.take_statuses(stream);
        let [status] = statuses.as_slice() else { panic!("expected one status: {statuses:?}") };
        assert_eq!((status.state(), status.reason()), (state, Reason::ContainerLaunchFailed));
        assert_eq!((status.message(), &status.uuid), (SHORTAGE, &None));
        assert_eq!(cluster.log.len(), written, "nothing is written down");
        assert_eq!(launches(&mut cluster, link), 0);

        cluster.update(link, &id, "t", TaskState::TaskFinished, 2);
        assert_eq!(cluster.take_statuses(stream)[0].state(), TaskState::TaskFinished);
        cluster.acknowledge(stream, &id, &agent, "t", 2);
        assert!(cluster.registry.placements.is_empty(), "its end is written down");
        cluster.take_messages(link);

        room(&mut cluster, None);
        cluster.advance(FILTER);
        let offers = cluster.take_offers(stream);
        let offers = Vec::from_iter(offers.iter());
        cluster.launch(stream, &id, &offers, vec![task("v", &agent, "cpus:4")]);
        assert_eq!(launches(&mut cluster, link), 1, "the refused launch took nothing");
    }
}

/// Registers on a link of its own; the refusal.
fn refused(cluster: &mut Cluster, id: Option<&str>, highest_term: u64) -> Refused {
    let link = LinkId(77);
    let agent_info = v1::AgentInfo {
        hostname: "host".to_owned(),
        resources: resources(RESOURCES),
        id: id.map(|value| v1::AgentId { value: value.to_owned() }),
        ..v1::AgentInfo::default()
    };
    let register = Register { agent_info: Some(agent_info), highest_term, ..Register::default() };
    let written = cluster.log.len();
    cluster.agent_says(link, ToMaster::Register(Box::new(register)));
    let messages = cluster.take_messages(link);
    let [ToAgent::Refused(refused)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(cluster.closed_links, [link]);
    assert_eq!(cluster.log.len(), written, "nothing is written down");
    refused.clone()
}

#[test]
fn without_room_new_agents_are_refused_and_known_ones_return() {
    let mut cluster = Cluster::new();
    let (link, known) = cluster.agent(RESOURCES);
    cluster.input(Input::LinkClosed { link });
    room(&mut cluster, Some(SHORTAGE));
    let expected = Refused { message: SHORTAGE.to_owned(), shutdown: false };
    assert_eq!(refused(&mut cluster, None, 0), expected);
    let last = LaunchPosition::default();
    let (_, same) = cluster.register(Some(&known), RESOURCES, last, vec![], "boot-1");
    assert_eq!(same, known);
    room(&mut cluster, None);
    let (_, new) = cluster.agent(RESOURCES);
    assert_ne!(new, known);
}

#[test]
fn without_room_a_framework_cannot_change() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let update = |cluster: &mut Cluster| {
        let framework_info =
            v1::FrameworkInfo { id: Some(id.clone()), name: "new".into(), ..framework_info(true) };
        let update = call::UpdateFramework { framework_info, ..Default::default() };
        let kind = call::Type::UpdateFramework;
        cluster.call(stream, &id, kind, |call| call.update_framework = Some(Box::new(update)))
    };
    room(&mut cluster, Some(SHORTAGE));
    let written = cluster.log.len();
    assert_eq!(update(&mut cluster), Err(Refusal::Unavailable(SHORTAGE.to_owned())));
    assert_eq!(cluster.log.len(), written, "nothing is written down");
    room(&mut cluster, None);
    update(&mut cluster).expect("accepted");
}

/// Whatever terms it has seen, and not to be ended for it: its tasks are its own cluster's.
#[test]
fn an_agent_of_another_cluster_is_told_so() {
    for (id, of, term) in [("d-S0", "d", 0), ("d-e-S0", "d-e", 99), ("stranger", "stranger", 1)] {
        let refused = refused(&mut Cluster::new(), Some(id), term);
        let expected = format!(
            "agent '{id}' belongs to the cluster '{of}', but this master leads the cluster 'c': give the agent its \
             own master with --master, or an empty --work-dir to let it join this cluster as a new agent"
        );
        assert_eq!(refused, Refused { message: expected, shutdown: false });
    }
}
