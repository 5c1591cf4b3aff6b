//! Processes, their ends, and what the kernel kills for lack of memory.

use std::fs;
use std::path::{Path, PathBuf};

use mezzo_agent_accounting::{Event, Events, Happening};

use crate::rig::{Rig, Task, eventually, python};

/// The interpreter's name, as the kernel keeps it.
fn command() -> String {
    let name = Path::new(python()).file_name().expect("a name").to_string_lossy().into_owned();
    name.chars().take(15).collect()
}

fn next(events: &mut Events) -> Event {
    eventually("an event", || events.take())
}

#[test]
fn forks_execs_and_exits_are_counted_and_the_first_end_is_told() {
    let rig = Rig::new("processes");
    let accounting = rig.open();
    let mut events = accounting.events().expect("a stream");
    let task = rig.counted(&accounting, "task");
    // Two processes with programs of their own, one without, and a thread, which is none.
    let program = "import os, subprocess, threading\n\
        subprocess.run(['true']); subprocess.run(['true'])\n\
        pid = os.fork()\n\
        if pid == 0: os._exit(3)\n\
        os.wait()\n\
        t = threading.Thread(target=lambda: None); t.start(); t.join()\n\
        os._exit(7)\n";
    let child = task.command("", &[python(), "-c", program]).spawn().expect("starts");
    let process = child.id();
    let status = { child }.wait().expect("waits");
    assert_eq!(status.code(), Some(7));
    let counters = task.usage(&accounting).counters;
    assert_eq!((counters.forks, counters.execs, counters.exits), (3, 3, 4));

    let event = next(&mut events);
    assert_eq!((event.task, event.process, &event.command), (task.id, process, &command()));
    assert_eq!(event.what, Happening::FirstExit { status: 7 << 8 });
    assert_eq!(events.take(), None, "the others were not the first");

    let task = rig.counted(&accounting, "killed");
    let mut sleeping = task.serve("import time; print('up'); time.sleep(600)");
    sleeping.child.kill().expect("kills");
    let event = next(&mut events);
    assert_eq!((event.task, event.what), (task.id, Happening::FirstExit { status: 9 }));
    assert_eq!(accounting.lost().expect("reads"), Default::default());
}

/// Limits a task's memory, on whichever version has the controller.
struct Limited {
    v1: Option<PathBuf>,
}

impl Limited {
    fn new(rig: &Rig, task: &Task, bytes: u64) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        if v1.join("memory.limit_in_bytes").exists() {
            let name = format!("mezzo-kernel-oom-{}", std::process::id());
            let path = v1.join(name);
            fs::create_dir(&path).expect("a memory cgroup");
            fs::write(path.join("memory.limit_in_bytes"), bytes.to_string()).expect("a limit");
            return Limited { v1: Some(path) };
        }
        // Down from the top of the tree, wherever the tests' cgroup is in it.
        let above = rig.root.ancestors().take_while(|path| path.join("cgroup.procs").exists());
        let mut above = Vec::from_iter(above);
        above.reverse();
        for directory in above {
            fs::write(directory.join("cgroup.subtree_control"), "+memory").expect("a controller");
        }
        fs::write(task.cgroup.join("memory.max"), bytes.to_string()).expect("a limit");
        Limited { v1: None }
    }

    /// Kills for lack of memory, as the controller counts them.
    fn kills(&self, task: &Task) -> u64 {
        let file = match &self.v1 {
            Some(path) => path.join("memory.oom_control"),
            None => task.cgroup.join("memory.events"),
        };
        let text = fs::read_to_string(file).expect("reads");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.expect("a count").parse().expect("a number")
    }

    fn entry(&self) -> String {
        self.v1
            .as_deref()
            .map_or("/dev/null".into(), |path| path.join("cgroup.procs").display().to_string())
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        if let Some(path) = &self.v1 {
            eventually("an empty cgroup", || fs::remove_dir(path).ok());
        }
    }
}

#[test]
fn an_out_of_memory_kill_names_its_victim_and_its_size() {
    const LIMIT: u64 = 48 << 20;
    let rig = Rig::new("oom");
    let accounting = rig.open();
    let mut events = accounting.events().expect("a stream");
    let task = rig.counted(&accounting, "task");
    let limited = Limited::new(&rig, &task, LIMIT);
    let script =
        format!("echo $$ > {}; exec {} -c 'x = b\"x\" * (256 << 20)'", limited.entry(), python());
    let child = task.command("", &["sh", "-c", &script]).spawn().expect("starts");
    let victim = child.id();
    { child }.wait().expect("waits");
    let event = next(&mut events);
    assert_eq!((event.task, event.process, &event.command), (task.id, victim, &command()));
    let Happening::OomKill { anonymous, total, .. } = event.what else { panic!("{event:?}") };
    assert!((LIMIT / 2..=LIMIT).contains(&(anonymous * 4096)), "{anonymous} pages");
    assert!(total * 4096 > 256 << 20, "{total} pages");
    assert_eq!((task.usage(&accounting).counters.oom_kills, limited.kills(&task)), (1, 1));
    assert_eq!(next(&mut events).what, Happening::FirstExit { status: 9 });
}
