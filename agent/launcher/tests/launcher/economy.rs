//! What containers cost, and that nothing is left of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use mezzo_agent_launcher::Event;
use nix::libc::SIGTERM;

use crate::fixture::{Fixture, children, descriptors, kilobytes};

const MANY: usize = 200;

#[test]
fn many_launches_leave_nothing_behind() {
    let fixture = Fixture::new();
    let launcher = fixture.launcher_pid();
    // One before, so that what is set up once is not counted.
    fixture.shell("first", "exit 0").launch();
    fixture.expect_started("first");
    fixture.expect_exited("first");
    let before = descriptors(launcher);
    let null = fs::File::options().write(true).open("/dev/null").expect("/dev/null");
    let start = Instant::now();
    for number in 0..MANY {
        let script = format!("exit {}", number % 100);
        fixture.shell(&format!("c{number}"), &script).launch_to(std::os::fd::AsFd::as_fd(&null));
    }
    let (mut started, mut exited) = (BTreeSet::new(), BTreeSet::new());
    while exited.len() < MANY {
        match fixture.next_event() {
            Event::Started { container, .. } => assert!(started.insert(container), "once each"),
            Event::Exited { container, status, recorded: true } => {
                let number: i32 = container[1..].parse().expect("number");
                assert_eq!(status, (number % 100) << 8);
                assert!(started.contains(&container), "started comes first");
                assert!(exited.insert(container), "once each");
            }
            other => panic!("unexpected: {other:?}"),
        }
    }
    println!("{MANY} containers in {:?}", start.elapsed());
    assert_eq!(descriptors(launcher), before, "no descriptor is left");
    assert_eq!(children(launcher), [], "no zombie is left");
    assert_eq!(fixture.client().list().expect("list").len(), MANY + 1);
    for id in &exited {
        fixture.client().forget(id).expect("forget");
    }
    assert_eq!(fixture.client().list().expect("list").len(), 1);
    let memory = kilobytes(&PathBuf::from(format!("/proc/{launcher}/status")), "VmRSS");
    println!("launcher: {memory} kB resident");
    assert!(memory < 8 * 1024, "the launcher is small: {memory} kB");
}

#[test]
fn init_is_tiny() {
    let fixture = Fixture::new();
    let count = 50;
    let mut pids = Vec::new();
    for number in 0..count {
        let id = format!("c{number}");
        pids.push(fixture.container(&id, &["sleep", "1000"]).launch().0);
        fixture.expect_started(&id);
    }
    let (mut resident, mut private, mut proportional) = (0, 0, 0);
    for pid in &pids {
        let rollup = PathBuf::from(format!("/proc/{pid}/smaps_rollup"));
        resident = resident.max(kilobytes(&rollup, "Rss"));
        let dirty = kilobytes(&rollup, "Private_Dirty");
        private = private.max(dirty + kilobytes(&rollup, "Private_Clean"));
        proportional = proportional.max(kilobytes(&rollup, "Pss"));
    }
    println!("mezzo-init: {resident} kB resident, {private} kB private, {proportional} kB PSS");
    assert!(resident <= 64, "{resident} kB resident");
    for number in 0..count {
        fixture.client().signal(&format!("c{number}"), SIGTERM).expect("signal");
    }
    for _ in 0..count {
        match fixture.next_event() {
            Event::Exited { status: SIGTERM, recorded: true, .. } => {}
            other => panic!("should have ended by SIGTERM: {other:?}"),
        }
    }
}
