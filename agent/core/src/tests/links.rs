//! Registration, fencing and silence.

use mezzo_proto::internal::v1::{
    LaunchPosition, Ping, Refused, Registered, RunTask, agent_to_master, master_to_agent,
};
use prost::Message;

use super::{LINK, TERM, World, framework, task};
use crate::{Effect, Input, LinkId};

const SECOND: LinkId = LinkId(2);

#[test]
fn an_agent_is_admitted_and_remembers_it() {
    let mut world = World::new();
    world.handle(Input::LinkUp { link: LINK });
    let Some(Effect::Send { message, .. }) = world.effects.first() else {
        panic!("the agent must register first")
    };
    let Some(agent_to_master::Message::Register(register)) = &message.message else {
        panic!("the agent must register first")
    };
    assert_eq!(register.agent_info.as_ref().unwrap().id, None);
    assert_eq!((register.boot_id.as_str(), register.highest_term), ("boot-1", 0));
    world.transcript();
    let registered = Registered { agent_id: "S0".into(), term: TERM, ping_timeout_ms: 0 };
    world.master(master_to_agent::Message::Registered(registered));
    assert_eq!(world.transcript(), "persist synced identity of term 7");
    assert_eq!(world.core.poll_timeout(), None);
    let identity = world.records.identity.clone().unwrap();
    assert_eq!(identity.info.unwrap().id.unwrap().value, "S0");
}

#[test]
fn a_return_tells_everything_and_repeats_what_waits() {
    let mut world = World::registered();
    world.running("t");
    world.handle(Input::LinkDown { link: LINK });
    world.transcript();
    world.register(SECOND, TERM);
    assert_eq!(
        world.transcript(),
        "send register of term 7 [RUNNING] after 3\nsend t STARTING (RUNNING) after 2"
    );
}

#[test]
fn older_terms_are_refused() {
    let mut world = World::registered();
    world.register(SECOND, TERM - 1);
    assert_eq!(
        world.transcript(),
        "close link 1: a newer link to the master is in use\n\
         send register of term 7 [] after 1\n\
         close link 2: the master leads in term 6 but term 7 was seen: it is not the leader any more"
    );
    world.register(LinkId(3), TERM + 1);
    assert_eq!(
        world.transcript(),
        "send register of term 7 [] after 1\npersist synced identity of term 8"
    );
    // A launch of the old master on the new master's link.
    world.master_on(
        LinkId(3),
        master_to_agent::Message::RunTask(Box::new(RunTask {
            position: Some(LaunchPosition { term: TERM, sequence: 1 }),
            framework_info: Some(framework(&[])),
            task_info: task("t").encode_to_vec().into(),
            launch_executor: false,
        })),
    );
    assert_eq!(
        world.transcript(),
        "close link 3: a launch of term 7 arrived from the master of term 8"
    );
    assert!(world.records.tasks.is_empty());
}

#[test]
fn orders_before_the_registration_and_from_old_links_are_not_taken() {
    let mut world = World::registered();
    world.handle(Input::LinkUp { link: SECOND });
    world.transcript();
    world.kill("t", None);
    assert_eq!(world.transcript(), "");
    world.master_on(SECOND, master_to_agent::Message::Ping(Ping {}));
    assert_eq!(
        world.transcript(),
        "close link 2: the master sent orders before it confirmed the registration"
    );
}

#[test]
fn an_agent_is_who_it_is() {
    let mut world = World::registered();
    world.handle(Input::LinkUp { link: SECOND });
    world.transcript();
    let registered = Registered { agent_id: "S9".into(), term: TERM, ping_timeout_ms: 0 };
    world.master_on(SECOND, master_to_agent::Message::Registered(registered));
    assert_eq!(
        world.transcript(),
        "close link 2: the master takes this agent for 'S9' but it is 'S0'"
    );
}

#[test]
fn a_silent_master_is_given_up() {
    let mut world = World::registered();
    world.pass(60.0);
    world.master(master_to_agent::Message::Ping(Ping {}));
    assert_eq!(world.transcript(), "send pong after 0");
    world.pass(89.0);
    assert_eq!(world.transcript(), "");
    world.pass(1.0);
    assert_eq!(world.transcript(), "close link 1: the master was silent for 90 s");
    assert_eq!(world.core.poll_timeout(), None);
}

/// A master that was stopped, or is cut off, may have opened the stream and say nothing.
#[test]
fn a_master_that_does_not_confirm_is_given_up() {
    let mut world = World::new();
    world.handle(Input::LinkUp { link: LINK });
    world.transcript();
    world.pass(59.0);
    assert_eq!(world.transcript(), "");
    world.pass(1.0);
    assert_eq!(world.transcript(), "close link 1: the master was silent for 60 s");
    world.handle(Input::LinkDown { link: LINK });
    world.register(SECOND, TERM);
    assert!(world.core.statistics().registrations == 1);
}

#[test]
fn a_barred_agent_ends_its_tasks_and_goes() {
    let mut world = World::registered();
    let container = world.running("t");
    world.transcript();
    let refused = Refused { message: "marked gone".into(), shutdown: true };
    world.master(master_to_agent::Message::Refused(refused));
    assert_eq!(
        world.transcript(),
        "close link 1: the master refused: marked gone\n\
         persist synced no identity, last launch 0.0\n\
         persist t KILLING [STARTING RUNNING]\nsignal 15 after 5"
    );
    world.exited(&container, 15);
    world.destroyed(&container);
    assert!(world.transcript().ends_with("left Some(\"marked gone\") after 8"));
}

#[test]
fn an_agent_that_left_registers_no_more() {
    let mut world = World::registered();
    world.handle(Input::Leave);
    world.handle(Input::LinkDown { link: LINK });
    world.transcript();
    world.handle(Input::LinkUp { link: SECOND });
    assert_eq!(world.transcript(), "close link 2: the agent left the cluster");
}
