//! Which names there are, and that they show what happens.

use std::collections::BTreeMap;
use std::time::Duration;

use mezzo_master_allocator::{AllocatorConfig, DrfAllocator};
use mezzo_master_core::{
    Config, Effect, Input, LinkId, Master, Registry, RequestId, StreamId, ViewChange,
};
use mezzo_proto::internal::v1::{AgentToMaster, Register, agent_to_master};
use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::{Call, call};
use mezzo_telemetry::Metrics;
use mezzo_types::Resources;
use tokio::sync::watch;

use super::*;
use crate::handle::Handle;
use crate::view::View;

/// A master with all its metrics, and nobody around it.
struct Rig {
    metrics: Metrics,
    core: Master,
    view: View,
    statistics: watch::Sender<Statistics>,
    clock: Clock,
    meters: Meters,
    /// Metrics do not keep the queues.
    _handle: Handle,
}

impl Rig {
    fn new() -> Rig {
        let (metrics, clock, view) = (Metrics::new(), Clock::start(), View::default());
        let allocator = DrfAllocator::new(AllocatorConfig::default());
        let allocator = Box::new(TimedAllocator::new(allocator, &metrics));
        let info = v1::MasterInfo { id: "m".to_owned(), ..v1::MasterInfo::default() };
        let core =
            Master::recover(Config::new(info), 1, &Registry::default(), allocator, clock.now());
        let (statistics, seen) = watch::channel(core.statistics());
        register(&metrics, seen.clone(), clock);
        register_view(&metrics, view.clone(), seen);
        let (handle, _inbox) = Handle::new();
        register_queues(&metrics, handle.queues());
        let meters = Meters::new(&metrics);
        Rig { metrics, core, view, statistics, clock, meters, _handle: handle }
    }

    fn input(&mut self, input: Input) {
        self.core.handle(self.clock.now(), input);
        while let Some(effect) = self.core.poll_effect() {
            if let Effect::View(change) = effect {
                self.view.apply(*change);
            }
        }
        self.statistics.send_replace(self.core.statistics());
    }

    /// An agent and a framework of that name, which is offered all of it.
    fn people(&mut self, framework: &str, resources: &str) {
        let resources = Resources::parse(resources, "*").expect("resources").to_proto();
        let agent_info = Some(v1::AgentInfo { resources, ..v1::AgentInfo::default() });
        let register = Register { agent_info, ..Register::default() };
        let message = Some(agent_to_master::Message::Register(Box::new(register)));
        let message = Box::new(AgentToMaster { message });
        self.input(Input::AgentMessage { link: LinkId(1), message });
        let framework_info = v1::FrameworkInfo {
            user: "nobody".to_owned(),
            name: framework.to_owned(),
            ..v1::FrameworkInfo::default()
        };
        let subscribe = call::Subscribe { framework_info, ..call::Subscribe::default() };
        let call = Call {
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(Box::new(subscribe)),
            ..Call::default()
        };
        let call = Box::new(call);
        self.input(Input::Subscribe { stream: StreamId(2), call, principal: None });
        while let Some(due) = self.core.poll_timeout() {
            // The offer comes within milliseconds.
            if due > self.clock.now().plus(Duration::from_millis(100)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            self.core.handle_timeout(self.clock.now());
            self.input(Input::Room { shortage: None });
        }
    }

    fn snapshot(&self) -> BTreeMap<String, f64> {
        self.metrics.snapshot()
    }
}

/// What mesos_exporter reads of a master, of which each that is absent costs it a collector, and what dashboards
/// for Mesos read beside.
const WANTED: &str = "
    master/{cpus,mem,disk,gpus}_{total,used,percent}
    master/{cpus,mem,disk,gpus}_revocable_{total,used,percent}
    master/elected master/uptime_secs
    master/slave_{registrations,reregistrations,removals} master/recovery_slave_removals
    master/slave_shutdowns_{scheduled,canceled,completed}
    master/slave_unreachable_{scheduled,canceled,completed}
    master/slave_removals/reason_{registered,unhealthy,unregistered}
    master/slaves_{active,inactive,connected,disconnected,unreachable}
    master/frameworks_{active,inactive,connected,disconnected} master/outstanding_offers
    master/tasks_{error,failed,finished,killed,lost,dropped,gone,gone_by_operator}
    master/tasks_{running,staging,starting,killing,unreachable}
    master/{valid,invalid}_{framework_to_executor,executor_to_framework}_messages
    master/{valid,invalid}_{status_update,operation_status_update}_acknowledgements
    master/{valid,invalid}_{status_updates,operation_status_updates} master/dropped_messages
    master/event_queue_{dispatches,http_requests,messages}
    master/operator_event_stream_subscribers
    master/messages_{register,reregister,unregister,deactivate}_framework
    master/messages_{register,reregister,unregister,update}_slave master/messages_authenticate
    master/messages_{decline_offers,launch_tasks,kill_task,resource_request,revive_offers,suppress_offers}
    master/messages_{reconcile_tasks,reconcile_operations,status_update,operation_status_update}
    master/messages_{status_update_acknowledgement,operation_status_update_acknowledgement}
    master/messages_{exited_executor,executor_to_framework,framework_to_executor}
    master/operations/{total,pending,recovering,finished,failed,error,dropped,gone_by_operator}
    master/operations/{reserve,unreserve,create,destroy,grow_volume,shrink_volume}/{total,pending,finished}
    allocator/mesos/allocation_runs allocator/mesos/event_queue_dispatches
    allocator/mesos/allocation_run_ms allocator/mesos/allocation_run_latency_ms
    allocator/mesos/{allocation_run_ms,allocation_run_latency_ms}/{count,min,max,p50,p90,p95,p99,p999,p9999}
    allocator/mesos/resources/{cpus,mem,disk}/{total,offered_or_allocated}
    registrar/queued_operations registrar/state_store_ms
    registrar/state_store_ms/{count,min,max,p50,p90,p95,p99,p999,p9999}
    system/cpus_total system/load_{1,5,15}min system/mem_{total,free}_bytes
";

/// `a/{b,c}` is `a/b` and `a/c`.
fn expand(pattern: &str) -> Vec<String> {
    let Some((before, rest)) = pattern.split_once('{') else { return vec![pattern.to_owned()] };
    let (choices, after) = rest.split_once('}').expect("is closed");
    let each = choices.split(',').flat_map(|choice| expand(&format!("{before}{choice}{after}")));
    each.collect()
}

#[test]
fn every_name_that_others_look_for_is_there() {
    let mut rig = Rig::new();
    rig.people("any", "cpus:1;mem:64");
    rig.meters.store.observe(Duration::from_millis(2));
    let snapshot = rig.snapshot();
    let wanted: Vec<String> = WANTED.split_whitespace().flat_map(expand).collect();
    assert!(wanted.len() > 150, "{}", wanted.len());
    let absent: Vec<&String> = wanted.iter().filter(|name| !snapshot.contains_key(*name)).collect();
    assert!(absent.is_empty(), "{absent:?}");
}

#[test]
fn resources_are_shown_as_they_come_and_go() {
    let mut rig = Rig::new();
    rig.people("any", "cpus:2;mem:64");
    let snapshot = rig.snapshot();
    assert_eq!(snapshot["master/cpus_total"], 2.0);
    assert_eq!((snapshot["master/cpus_used"], snapshot["master/cpus_percent"]), (0.0, 0.0));
    assert_eq!(snapshot["allocator/mesos/resources/cpus/offered_or_allocated"], 2.0);
    assert!(snapshot["allocator/mesos/allocation_runs"] >= 1.0);
    let resources = Resources::parse("cpus:0.5", "*").expect("resources").to_proto();
    let framework = rig.view.framework_figures(1).remove(0).id;
    let mut task = v1::Task {
        framework_id: (&framework).into(),
        task_id: v1::TaskId { value: "t".to_owned() },
        agent_id: v1::AgentId { value: "-S0".to_owned() },
        state: TaskState::TaskRunning as i32,
        resources,
        ..v1::Task::default()
    };
    rig.view.apply(ViewChange::Task(task.clone()));
    let snapshot = rig.snapshot();
    assert_eq!((snapshot["master/cpus_used"], snapshot["master/cpus_percent"]), (0.5, 0.25));
    assert_eq!(snapshot["master/cpus_revocable_used"], 0.0);
    let below = format!("master/frameworks/any/{framework}/tasks/active");
    assert_eq!(snapshot[&format!("{below}/task_running")], 1.0);
    task.state = TaskState::TaskFinished as i32;
    rig.view.apply(ViewChange::Task(task));
    let snapshot = rig.snapshot();
    assert_eq!(snapshot["master/cpus_used"], 0.0);
    assert_eq!(snapshot[&format!("{below}/task_running")], 0.0);
}

#[test]
fn messages_and_frameworks_are_counted() {
    let mut rig = Rig::new();
    rig.people("my app", "cpus:1;mem:64");
    let framework = rig.view.framework_figures(1).remove(0).id;
    let call = Call {
        framework_id: Some((&framework).into()),
        r#type: Some(call::Type::Revive as i32),
        ..Call::default()
    };
    for request in 3..5 {
        rig.input(Input::Call {
            request: RequestId(request),
            stream: Some(StreamId(2)),
            call: Box::new(call.clone()),
            task_infos: Vec::new(),
        });
    }
    let snapshot = rig.snapshot();
    for (name, value) in [
        ("master/messages_register_slave", 1.0),
        ("master/messages_reregister_slave", 0.0),
        ("master/messages_register_framework", 1.0),
        ("master/messages_revive_offers", 2.0),
        ("master/messages_suppress_offers", 0.0),
    ] {
        assert_eq!(snapshot[name], value, "{name}");
    }
    let below = format!("master/frameworks/my%20app/{framework}");
    for (name, value) in [
        ("subscribed", 1.0),
        ("calls", 3.0),
        ("calls/revive", 2.0),
        ("calls/subscribe", 1.0),
        ("events/subscribed", 1.0),
        ("offers/sent", 1.0),
        ("tasks/terminal/task_finished", 0.0),
        ("operations/launch", 0.0),
    ] {
        assert_eq!(snapshot[&format!("{below}/{name}")], value, "{name}");
    }
    // Where there are more than may be shown, none is.
    assert!(rig.view.framework_figures(0).is_empty());
}

#[test]
fn endings_have_the_names_of_mesos() {
    let mut statistics = Statistics::default();
    let key = (
        TaskState::TaskLost as i32,
        v1::task_status::Source::Agent as i32,
        v1::task_status::Reason::AgentRemoved as i32,
    );
    statistics.endings = std::sync::Arc::new(BTreeMap::from([(key, std::sync::Arc::default())]));
    let metrics = Metrics::new();
    metrics.source(move |readings| messages::read(&statistics, readings));
    assert_eq!(metrics.snapshot()["master/task_lost/source_slave/reason_slave_removed"], 0.0);
}

#[tokio::test]
async fn the_size_of_the_registry_is_found() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = crate::registry_store::RegistryStore::open(dir.path()).expect("opens");
    store.apply(1, &Default::default()).expect("writes");
    let expected = store.size().expect("reads");
    assert!(expected > 8, "the applied index and its key");
    let metrics = Metrics::new();
    register_registry(&metrics, store);
    for _ in 0..5000 {
        if let Some(size) = metrics.snapshot().get("registrar/registry_size_bytes") {
            assert_eq!(*size, expected as f64);
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("nobody looked");
}

#[tokio::test]
async fn what_waits_for_the_loop_is_seen_and_not_kept() {
    let metrics = Metrics::new();
    let (handle, mut inbox) = Handle::new();
    register_queues(&metrics, handle.queues());
    let link = handle.link().await.expect("there is a loop");
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot["master/event_queue_messages"], 1.0);
    assert_eq!(snapshot["master/event_queue_http_requests"], 0.0);
    assert!(inbox.try_recv().is_some());
    assert_eq!(metrics.snapshot()["master/event_queue_messages"], 0.0);
    drop((link, handle));
    while inbox.recv().await.is_some() {}
}
