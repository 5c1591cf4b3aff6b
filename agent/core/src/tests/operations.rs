//! Operations on the agent's resources: carried out once, written down before they count, told until
//! somebody has heard.

use mezzo_proto::internal::v1::{AcknowledgeOperation, ApplyOperation};
use mezzo_proto::v1::offer::Operation;
use mezzo_proto::v1::offer::operation::{self, Type};
use mezzo_proto::v1::{OperationState, TaskState};

use super::*;

const WITH_DISK: &str = "cpus:4;disk:1000";

fn with_disk() -> Config {
    let mut config = config();
    config.info.resources = Resources::parse(WITH_DISK, "*").unwrap().to_proto();
    config
}

fn world() -> World {
    let now = Now { mono_ns: 1_000_000_000, unix_ns: 1_700_000_000_000_000_000 };
    let core =
        Core::recover(now, with_disk(), Checkpoint::default(), &BTreeMap::new(), [1, 2]).unwrap();
    let mut world = World {
        core,
        now,
        records: Records::default(),
        sequence: 0,
        starts: 1,
        effects: Vec::new(),
    };
    world.register(LINK, TERM);
    world.effects.clear();
    world
}

fn reserved(text: &str) -> Vec<v1::Resource> {
    let mut resources = Resources::parse(text, "*").unwrap().to_proto();
    for resource in &mut resources {
        resource.reservations.push(v1::resource::ReservationInfo {
            r#type: Some(v1::resource::reservation_info::Type::Dynamic as i32),
            role: Some("web".into()),
            ..Default::default()
        });
    }
    resources
}

fn volume(id: &str) -> v1::Resource {
    let mut volume = reserved("disk:100").remove(0);
    volume.disk = Some(Box::new(v1::resource::DiskInfo {
        persistence: Some(v1::resource::disk_info::Persistence { id: id.into(), principal: None }),
        volume: Some(v1::Volume {
            mode: v1::volume::Mode::Rw as i32,
            container_path: "data".into(),
            ..Default::default()
        }),
        source: None,
    }));
    volume
}

fn of(kind: Type) -> Operation {
    Operation { r#type: Some(kind as i32), ..Operation::default() }
}

fn reserve(text: &str) -> Operation {
    let body = operation::Reserve { source: Vec::new(), resources: reserved(text) };
    Operation { reserve: Some(body), ..of(Type::Reserve) }
}

fn create(id: &str) -> Operation {
    let body = operation::Create { volumes: vec![volume(id)] };
    Operation { create: Some(body), ..of(Type::Create) }
}

fn destroy(id: &str) -> Operation {
    let body = operation::Destroy { volumes: vec![volume(id)] };
    Operation { destroy: Some(body), ..of(Type::Destroy) }
}

fn uuid(number: u8) -> Uuid16 {
    Uuid16([number; 16])
}

impl World {
    fn apply(&mut self, number: u8, info: Operation) {
        self.sequence += 1;
        self.apply_at(self.sequence, number, info);
    }

    fn apply_at(&mut self, sequence: u64, number: u8, info: Operation) {
        self.master(master_to_agent::Message::ApplyOperation(Box::new(ApplyOperation {
            position: Some(LaunchPosition { term: TERM, sequence }),
            operation_uuid: uuid(number).as_bytes().to_vec().into(),
            framework_id: "f".into(),
            info: Some(info),
        })));
    }

    fn made(&mut self, number: u8, outcome: Result<(), &str>) {
        let outcome = outcome.map_err(str::to_owned);
        self.handle(Input::VolumesMade { operation: uuid(number), outcome });
    }

    fn total(&self) -> String {
        self.core.total().to_string()
    }

    fn state(&self, number: u8) -> Option<OperationState> {
        let record = self.records.operations.get(&uuid(number))?;
        Some(record.latest.clone().unwrap_or_default().state())
    }

    fn acknowledge_operation(&mut self, number: u8) {
        let record = self.records.operations[&uuid(number)].clone();
        let status = record.updates[0].uuid.clone().expect("an agent's update has one");
        self.master(master_to_agent::Message::AcknowledgeOperation(AcknowledgeOperation {
            framework_id: "f".into(),
            operation_uuid: uuid(number).as_bytes().to_vec().into(),
            status_uuid: status.value,
        }));
    }

    /// A volume `v` that is there.
    fn with_volume(&mut self) {
        self.apply(1, reserve("disk:300"));
        self.apply(2, create("v"));
        self.made(2, Ok(()));
        self.acknowledge_operation(1);
        self.acknowledge_operation(2);
        self.effects.clear();
    }
}

#[test]
fn a_reservation_is_on_the_disk_before_it_is_told() {
    let mut world = world();
    world.apply(1, reserve("cpus:1"));
    assert_eq!(
        world.transcript(),
        "persist synced total cpus:3; cpus(dynamic web):1; disk:1000, last launch 7.1, \
         operation [OPERATION_FINISHED]\nsend OPERATION_FINISHED after 2"
    );
    assert_eq!(world.total(), "cpus:3; cpus(dynamic web):1; disk:1000");
    world.acknowledge_operation(1);
    assert_eq!(world.transcript(), "persist no operation");
    // The order comes again: it was seen.
    world.apply_at(1, 1, reserve("cpus:1"));
    assert_eq!(world.transcript(), "");
    assert_eq!(world.core.statistics().operations_repeated, 1);
}

#[test]
fn orders_wait_while_a_volume_is_made() {
    let mut world = world();
    world.apply(1, reserve("disk:300"));
    world.effects.clear();
    world.apply(2, create("v"));
    let mut info = task("t");
    info.resources = vec![volume("v")];
    world.run(&info, framework(&[]));
    world.kill("t", None);
    assert_eq!(world.transcript(), "make volumes disk(dynamic web)[volume v]:100 after 2");
    world.made(2, Ok(()));
    let lines = world.transcript();
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].starts_with("persist synced total"), "{lines:?}");
    let position = |what: &str| lines.iter().position(|line| line.starts_with(what));
    assert!(
        position("launch t") < position("destroy"),
        "the kill came after the launch: {lines:?}"
    );
    assert_eq!(world.latest("t").state(), TaskState::TaskStarting);
    assert_eq!(
        world.total(),
        "cpus:4; disk:700; disk(dynamic web):200; disk(dynamic web)[volume v]:100"
    );
}

#[test]
fn a_volume_that_cannot_be_made_fails_and_changes_nothing() {
    let mut world = world();
    world.apply(1, reserve("disk:300"));
    let before = world.total();
    world.apply(2, create("v"));
    world.made(2, Err("the disk is on fire"));
    assert_eq!(world.state(2), Some(OperationState::OperationFailed));
    assert_eq!(world.total(), before);
    let mut info = task("t");
    info.resources = vec![volume("v")];
    world.run(&info, framework(&[]));
    let lost = world.latest("t");
    assert_eq!(lost.reason(), v1::task_status::Reason::ResourcesUnknown);
    assert!(lost.message().contains("which the agent does not have"), "{lost:?}");
}

#[test]
fn what_rests_on_something_that_is_not_there_is_dropped() {
    let mut world = world();
    world.apply(1, create("v"));
    assert_eq!(world.state(1), Some(OperationState::OperationDropped));
    world.apply(2, of(Type::Reserve));
    assert_eq!(world.state(2), Some(OperationState::OperationError));
    assert_eq!(world.total(), "cpus:4; disk:1000");
}

#[test]
fn data_goes_when_the_destruction_is_on_the_disk_and_before_it_is_told() {
    let mut world = world();
    world.with_volume();
    world.apply(3, destroy("v"));
    let lines = world.transcript();
    let kinds: Vec<&str> = lines.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(kinds, ["persist", "remove", "send"], "{lines}");
    assert!(lines.contains("remove volumes disk(dynamic web)[volume v]:100 after 6"), "{lines}");
}

#[test]
fn a_volume_in_use_is_not_destroyed() {
    let mut world = world();
    world.with_volume();
    let mut info = task("t");
    info.resources = vec![volume("v")];
    world.run(&info, framework(&[]));
    let container = world.container_of("t");
    world.started(&container);
    world.apply(3, destroy("v"));
    assert_eq!(world.state(3), Some(OperationState::OperationFailed));
    world.exited(&container, 0);
    world.apply(4, destroy("v"));
    assert_eq!(world.state(4), Some(OperationState::OperationFinished));
}

#[test]
fn a_start_finds_what_was_made_and_tells_what_was_not_heard() {
    let mut world = world();
    world.with_volume();
    world.apply(3, reserve("cpus:1"));
    let total = world.total();
    world.restart(with_disk(), &[]);
    assert_eq!(world.total(), total);
    world.register(LinkId(2), TERM);
    let register = world.effects.iter().find_map(|effect| match effect {
        Effect::Send { message, .. } => match &message.message {
            Some(agent_to_master::Message::Register(register)) => Some(register.clone()),
            _ => None,
        },
        _ => None,
    });
    let register = register.expect("it registers");
    assert_eq!(Resources::from_proto(&register.total_resources).unwrap().to_string(), total);
    assert_eq!(register.operations.len(), 1);
    assert_eq!(register.operations[0].operation_uuid, uuid(3).as_bytes().to_vec());
    assert!(world.transcript().contains("send OPERATION_FINISHED"));
    // Another boot changes nothing of it.
    let mut rebooted = with_disk();
    rebooted.boot_id = "boot-2".into();
    world.restart(rebooted, &[]);
    assert_eq!(world.total(), total);
    assert_eq!(world.state(3), Some(OperationState::OperationFinished));
}

#[test]
fn a_destruction_that_stopped_half_way_is_finished_by_the_next_start() {
    let mut world = world();
    world.with_volume();
    world.apply(3, destroy("v"));
    world.restart(with_disk(), &[]);
    assert!(world.transcript().contains("remove volumes"), "nobody has acknowledged it");
    // Only once the record is on the disk for certain: the earlier run may have died before.
    world.restart(with_disk(), &[]);
    let lines = world.transcript();
    assert!(lines.starts_with("persist synced total"), "{lines}");
    assert!(lines.contains("remove volumes disk(dynamic web)[volume v]:100 after 1"), "{lines}");
    // A later volume of the same name is not its business.
    world.register(LINK, TERM);
    world.apply(4, create("v"));
    world.made(4, Ok(()));
    world.restart(with_disk(), &[]);
    assert!(!world.transcript().contains("remove volumes"));
}

#[test]
fn an_agent_that_is_making_a_volume_registers_afterwards() {
    let mut world = world();
    world.apply(1, reserve("disk:300"));
    world.apply(2, create("v"));
    world.effects.clear();
    world.handle(Input::LinkDown { link: LINK });
    world.handle(Input::LinkUp { link: LinkId(2) });
    assert_eq!(world.transcript(), "", "what it would tell may not be true in a moment");
    world.made(2, Ok(()));
    assert!(world.transcript().contains("send register of term 7"));
}

#[test]
fn other_resources_must_hold_what_operations_made() {
    let mut world = world();
    world.with_volume();
    let mut larger = with_disk();
    larger.info.resources = Resources::parse("cpus:8;disk:2000", "*").unwrap().to_proto();
    larger.reconfiguration_policy = crate::ReconfigurationPolicy::Additive;
    world.restart(larger, &[]);
    assert_eq!(
        world.total(),
        "cpus:8; disk:1700; disk(dynamic web):200; disk(dynamic web)[volume v]:100"
    );
    assert!(world.transcript().contains("persist synced total cpus:8"));
    let mut smaller = with_disk();
    smaller.info.resources = Resources::parse("cpus:4;disk:250", "*").unwrap().to_proto();
    let checkpoint = world.records.checkpoint();
    let refused = Core::recover(world.now, smaller, checkpoint, &BTreeMap::new(), [9, 9]);
    let refused = refused.expect_err("250 MB do not hold 300").to_string();
    assert!(
        refused.contains("which is not in the resources that it is configured with"),
        "{refused}"
    );
}

#[test]
fn volumes_outlive_the_agents_membership() {
    let mut world = world();
    world.with_volume();
    world.apply(3, reserve("cpus:1"));
    let total = world.total();
    world.handle(Input::Leave);
    world.records.identity = None;
    world.restart(with_disk(), &[]);
    assert_eq!(world.total(), total);
    assert!(world.records.operations.is_empty(), "nobody waits for its operations any more");
}

#[test]
fn an_operation_of_another_term_closes_the_link() {
    let mut world = world();
    world.master(master_to_agent::Message::ApplyOperation(Box::new(ApplyOperation {
        position: Some(LaunchPosition { term: TERM - 1, sequence: 9 }),
        operation_uuid: vec![1; 16].into(),
        info: Some(reserve("cpus:1")),
        ..ApplyOperation::default()
    })));
    assert!(world.transcript().starts_with("close link 1: an operation of term 6"));
    assert_eq!(world.total(), "cpus:4; disk:1000");
}
