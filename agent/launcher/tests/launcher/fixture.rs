//! A launcher of its own for each test, and containers described in one line.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mezzo_agent_launcher::{
    ClientError, ContainerState, Event, Launch, Launcher, LauncherClient, Namespaces,
    create_exit_file,
};
use mezzo_agent_sys::PidFd;

/// After this a test fails instead of waiting on. Generous: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Fixture {
    pub directory: tempfile::TempDir,
    pub launcher: Launcher,
    pub client: Option<LauncherClient>,
    pub events: Receiver<Event>,
}

impl Fixture {
    pub fn new() -> Fixture {
        Fixture::with_program(PathBuf::from(env!("CARGO_BIN_EXE_mezzo-launcher")), None)
    }

    /// A launcher that may have so many files open.
    pub fn with_open_files(files: u64) -> Fixture {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_mezzo-launcher"));
        Fixture::with_program(program, Some((files, files)))
    }

    /// A launcher that kills itself when it first comes by a fault point.
    pub fn dying_at(point: &str, scripts: &Path) -> Fixture {
        let program = scripts.join("launcher");
        let launcher = env!("CARGO_BIN_EXE_mezzo-launcher");
        let script = format!("#!/bin/sh\nMEZZO_FAULT_POINTS={point}=kill exec {launcher} \"$@\"\n");
        fs::write(&program, script).expect("script");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).expect("mode");
        Fixture::with_program(program, None)
    }

    fn with_program(program: PathBuf, open_files: Option<(u64, u64)>) -> Fixture {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test starts containers in namespaces and cgroups: run it as root"
        );
        let directory = tempfile::tempdir().expect("directory");
        let launcher = Launcher {
            program,
            socket: directory.path().join("run/launcher.sock"),
            log: Some(directory.path().join("launcher.log")),
            cgroup_procs: Vec::new(),
            open_files,
        };
        let (client, events, spawned) = connect(&launcher);
        assert!(spawned, "nobody listened before");
        Fixture { directory, launcher, client: Some(client), events }
    }

    pub fn client(&self) -> &LauncherClient {
        self.client.as_ref().expect("connected")
    }

    /// Connects anew, starting a launcher where none is left; whether it did.
    pub fn reconnect(&mut self) -> bool {
        self.client = None;
        let (client, events, spawned) = connect(&self.launcher);
        self.client = Some(client);
        self.events = events;
        spawned
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The launcher that wrote to the log last.
    pub fn launcher_pid(&self) -> i32 {
        // It listens before it writes, but answers after.
        self.client().list().expect("list");
        let log = fs::read_to_string(self.path("launcher.log")).expect("log");
        let lines = log.lines().rev();
        let pids = lines.filter_map(|line| line.split_once('[')?.1.split_once(']'));
        pids.map(|(pid, _)| pid.parse().expect("pid")).next().expect("a line of the launcher")
    }

    pub fn container<'a>(&'a self, id: &str, argv: &[&str]) -> Setup<'a> {
        Setup::new(self, id, argv)
    }

    pub fn shell<'a>(&'a self, id: &str, script: &str) -> Setup<'a> {
        self.container(id, &["sh", "-c", script])
    }

    pub fn next_event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event in time")
    }

    #[track_caller]
    pub fn expect_started(&self, id: &str) -> i32 {
        match self.next_event() {
            Event::Started { container, pid, start_time_ticks } if container == id => {
                // It may have ended meanwhile.
                let actual = mezzo_agent_sys::start_time(pid).ok();
                assert!(actual.is_none_or(|actual| actual == start_time_ticks), "{actual:?}");
                pid
            }
            other => panic!("container {id} should have started: {other:?}"),
        }
    }

    /// The raw status, which must be the command's own.
    #[track_caller]
    pub fn expect_exited(&self, id: &str) -> i32 {
        match self.next_event() {
            Event::Exited { container, status, recorded: true } if container == id => status,
            other => panic!("container {id} should have ended by itself: {other:?}"),
        }
    }

    /// The state that the list gives for a container.
    pub fn state(&self, id: &str) -> Option<ContainerState> {
        let list = self.client().list().expect("list");
        list.into_iter().find(|c| c.id == id).map(|c| c.state)
    }
}

fn connect(launcher: &Launcher) -> (LauncherClient, Receiver<Event>, bool) {
    let (sender, events) = channel();
    let on_event = move |event| {
        // A test that has ended does not listen any more.
        let _ = sender.send(event);
    };
    let (client, spawned) = launcher.connect_or_spawn(on_event).expect("launcher");
    (client, events, spawned)
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Also after a failure: nothing may be left on the machine.
        let Some(client) = &self.client else { return };
        for container in client.list().unwrap_or_default() {
            if !container.state.is_ended() {
                let _ = client.kill(&container.id);
            }
        }
        let deadline = Instant::now() + PATIENCE;
        while client.shutdown().is_err() && Instant::now() < deadline {
            // Each ending is an event; without one there is nothing new to try.
            if self.events.recv_timeout(PATIENCE).is_err() {
                break;
            }
        }
    }
}

/// A launch under construction; all namespaces and root unless told otherwise.
pub struct Setup<'a> {
    fixture: &'a Fixture,
    pub id: String,
    pub argv: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub ids: (u32, u32, Vec<u32>),
    pub namespaces: Namespaces,
    pub hostname: Option<String>,
    pub cgroup_procs: Vec<OwnedFd>,
    pub directory: PathBuf,
}

impl<'a> Setup<'a> {
    fn new(fixture: &'a Fixture, id: &str, argv: &[&str]) -> Setup<'a> {
        let path = "/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
        Setup {
            fixture,
            id: id.to_owned(),
            argv: argv.iter().map(|argument| argument.to_string()).collect(),
            environment: vec![("PATH".to_owned(), path)],
            ids: (0, 0, Vec::new()),
            namespaces: Namespaces::ALL,
            hostname: None,
            cgroup_procs: Vec::new(),
            directory: fixture.directory.path().to_owned(),
        }
    }

    pub fn exit_path(fixture: &Fixture, id: &str) -> PathBuf {
        fixture.path(&format!("exit-{id}"))
    }

    /// Launches and returns the pid and the read end of the command's output.
    pub fn launch(self) -> (i32, BufReader<File>) {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
        let pid = self.launch_to(writer.as_fd());
        (pid, BufReader::new(File::from(reader)))
    }

    pub fn launch_to(self, output: BorrowedFd<'_>) -> i32 {
        self.try_launch_to(output).expect("launch")
    }

    pub fn try_launch_to(self, output: BorrowedFd<'_>) -> Result<i32, ClientError> {
        let exit_file = create_exit_file(&Setup::exit_path(self.fixture, &self.id)).expect("file");
        let null = File::open("/dev/null").expect("/dev/null");
        let directory = File::open(&self.directory).expect("directory");
        let launch = Launch {
            container: self.id.clone(),
            program: self.argv[0].clone().into(),
            arguments: self.argv.iter().map(Into::into).collect(),
            environment: self.environment.iter().map(|(n, v)| (n.into(), v.into())).collect(),
            uid: self.ids.0,
            gid: self.ids.1,
            groups: self.ids.2.clone(),
            namespaces: self.namespaces,
            hostname: self.hostname.clone(),
            directory: directory.as_fd(),
            stdin: null.as_fd(),
            stdout: output,
            stderr: output,
            exit_file: exit_file.as_fd(),
            cgroup_procs: self.cgroup_procs.iter().map(AsFd::as_fd).collect(),
        };
        self.fixture.client().launch(&launch)
    }
}

pub fn line(output: &mut BufReader<File>) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("output");
    line.trim_end().to_owned()
}

/// Waits until a process, no child of ours, is gone.
pub fn wait_gone(pid: i32) {
    match PidFd::open(pid) {
        Ok(pidfd) => assert!(pidfd.wait(Some(PATIENCE)).expect("poll"), "process {pid} stays"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(nix::libc::ESRCH), "{error}"),
    }
}

/// Numbers of the descriptors that a process has open.
pub fn descriptors(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("process");
    let names = entries.map(|entry| entry.expect("entry").file_name());
    let mut numbers: Vec<i32> =
        names.map(|name| name.to_string_lossy().parse().expect("number")).collect();
    numbers.sort_unstable();
    numbers
}

/// Pids whose parent is this process, zombies included.
pub fn children(parent: i32) -> Vec<i32> {
    let of_process = |entry: fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let ppid: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        (ppid == parent).then_some(pid)
    };
    fs::read_dir("/proc").expect("/proc").filter_map(|e| of_process(e.expect("entry"))).collect()
}

/// A number of kilobytes from a file of `Name: n kB` lines.
pub fn kilobytes(path: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(path).expect("process");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()).expect("a field");
    number.parse().expect("a number")
}
