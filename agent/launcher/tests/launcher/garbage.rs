//! Clients that send nonsense, too much, or nothing, and take nothing: an error or the end for them, and
//! nothing else.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use mezzo_agent_launcher::{ClientError, ContainerState, LauncherClient, RefusalCode};
use mezzo_agent_sys::{receive_packet, sealed_memfd, send_packet};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};

use crate::fixture::{Fixture, PATIENCE, descriptors, kilobytes};

/// Calls without an argument, as they are encoded: `LIST` and `HELLO`.
const LIST: [u8; 2] = [0x1a, 0];
const HELLO: [u8; 2] = [0x42, 0];

/// Memory in kB that the launcher may take at most, and keep, whatever it is sent.
const PEAK: u64 = 64 * 1024;
const KEPT: u64 = 32 * 1024;

fn raw_connection(path: &Path) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).expect("socket");
    connect(fd.as_raw_fd(), &UnixAddr::new(path).expect("address")).expect("connect");
    fd
}

/// The packet of a call in the packet itself.
fn packet(call: &[u8]) -> Vec<u8> {
    [&[0, 0x08, 7], call].concat()
}

/// A message with one field of bytes.
fn field(number: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::bytes::encode(number, &payload.to_vec(), &mut out);
    out
}

/// The bytes of an answer; `None`: the connection is over.
fn answer(peer: &OwnedFd) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 64 * 1024];
    match receive_packet(peer.as_fd(), &mut buffer, true) {
        Ok(packet) if packet.length > 0 => Some(buffer[..packet.length].to_vec()),
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("{error}"),
    }
}

/// Asks, and is answered.
fn asks(peer: &OwnedFd, call: &[u8]) -> Vec<u8> {
    send_packet(peer.as_fd(), &packet(call), &[], true).expect("sent");
    answer(peer).expect("an answer")
}

fn log_lines(fixture: &Fixture, with: &str) -> usize {
    let log = fs::read_to_string(fixture.path("launcher.log")).expect("log");
    log.lines().filter(|line| line.contains(with)).count()
}

/// Sets the soft limit of another process' open files.
fn limit_files(pid: i32, files: i32) {
    let mut command = Command::new("prlimit");
    command.arg(format!("--pid={pid}")).arg(format!("--nofile={files}:"));
    assert!(command.status().expect("prlimit runs").success());
}

/// Waits until a process waits: one that spins never does.
fn await_rest(pid: i32) {
    let end = Instant::now() + PATIENCE;
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
    };
    // Not only between two system calls.
    let mut rests = 0;
    while rests < 20 {
        assert!(Instant::now() < end, "process {pid} does not come to rest");
        rests = if state() == Some('S') { rests + 1 } else { 0 };
        std::thread::yield_now();
    }
}

/// The container runs, the client is served, and what the launcher holds is what it held before.
fn check_unharmed(fixture: &Fixture, launcher: i32, before: &[i32]) {
    assert_eq!(fixture.state("c"), Some(ContainerState::Running));
    let end = Instant::now() + PATIENCE;
    while descriptors(launcher) != before {
        let now = descriptors(launcher);
        assert!(Instant::now() < end, "descriptors are left: {now:?}, before {before:?}");
        std::thread::yield_now();
    }
    let status = PathBuf::from(format!("/proc/{launcher}/status"));
    let (now, peak) = (kilobytes(&status, "VmRSS"), kilobytes(&status, "VmHWM"));
    println!("launcher: {now} kB resident, {peak} kB at most");
    assert!(now <= KEPT && peak <= PEAK, "{now} kB resident, {peak} kB at most");
}

fn with_a_container() -> (Fixture, i32, Vec<i32>) {
    let fixture = Fixture::new();
    fixture.shell("c", "sleep 1000").launch();
    fixture.expect_started("c");
    let launcher = fixture.launcher_pid();
    let before = descriptors(launcher);
    (fixture, launcher, before)
}

#[test]
fn nonsense_costs_its_sender_the_connection_and_nobody_else_anything() {
    let (fixture, launcher, before) = with_a_container();
    let null = File::open("/dev/null").expect("/dev/null");
    // A linear congruential generator: the same bytes in every run.
    let mut state = 42_u64;
    let mut byte = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for _ in 0..200 {
        let peer = raw_connection(&fixture.launcher.socket);
        let length = 1 + usize::from(byte());
        let mut packet: Vec<u8> = (0..length).map(|_| byte()).collect();
        packet[0] = byte() % 3;
        let descriptors = vec![null.as_fd(); usize::from(byte()) % 4];
        send_packet(peer.as_fd(), &packet, &descriptors, true).expect("send");
        // An answer in words, or the end; not a hang.
        answer(&peer);
    }
    check_unharmed(&fixture, launcher, &before);
    // Two hundred times nonsense are no two hundred lines.
    assert!(log_lines(&fixture, "closed a connection") < 20);
}

#[test]
fn what_is_too_large_or_cut_off_ends_the_connection() {
    let (fixture, launcher, before) = with_a_container();
    let null = File::open("/dev/null").expect("/dev/null");
    let socket = &fixture.launcher.socket;
    let whole = packet(&field(4, &field(1, b"someone")));
    let mut rounds: Vec<(&str, Vec<u8>, Vec<OwnedFd>)> = vec![
        ("larger than a packet may be", vec![0; 40_000], vec![]),
        ("much larger", vec![0; 150_000], vec![]),
        ("cut off", whole[..whole.len() - 3].to_vec(), vec![]),
        ("an announced memfd that does not come", vec![1], vec![]),
        ("a memfd and a body", vec![1, 0], vec![sealed_memfd(c"t", b"x").expect("memfd")]),
    ];
    let file = tempfile::tempfile().expect("file");
    file.set_len(100).expect("length");
    let (reader, _writer) = std::io::pipe().expect("pipe");
    let directory = File::open("/proc/self").expect("directory");
    for other in [file.into(), reader.into(), directory.into()] {
        rounds.push(("a message in what is no sealed memfd", vec![1], vec![other]));
    }
    let large = sealed_memfd(c"large", &vec![0; 2 << 20]).expect("memfd");
    rounds.push(("a message that is too large", vec![1], vec![large]));
    for (what, bytes, files) in rounds {
        let peer = raw_connection(socket);
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        send_packet(peer.as_fd(), &bytes, &files, true).expect("sent");
        assert_eq!(answer(&peer), None, "{what}");
    }
    // More descriptors than a packet may carry, up to what the kernel lets through.
    for count in [33, 60, 253] {
        let peer = raw_connection(socket);
        let numbers = vec![null.as_raw_fd(); count];
        let bytes = packet(&LIST);
        let parts = [IoSlice::new(&bytes)];
        let control = [ControlMessage::ScmRights(&numbers)];
        let flags = MsgFlags::empty();
        sendmsg::<UnixAddr>(peer.as_raw_fd(), &parts, &control, flags, None).expect("sent");
        assert_eq!(answer(&peer), None, "{count} descriptors");
    }
    // Well formed, and half a million arguments in one message of the largest size.
    let launch = [field(1, b"crowd"), [0x1a, 0].repeat(500_000)].concat();
    let message = [vec![0x08, 7], field(2, &launch)].concat();
    for _ in 0..5 {
        let peer = raw_connection(socket);
        let memfd = sealed_memfd(c"crowd", &message).expect("memfd");
        send_packet(peer.as_fd(), &[1], &[memfd.as_fd()], true).expect("sent");
        let refused = answer(&peer).expect("an answer");
        assert!(String::from_utf8_lossy(&refused).contains("descriptors came with the launch"));
    }
    // A refusal does not repeat all of a request.
    let peer = raw_connection(socket);
    let refused = asks(&peer, &field(4, &field(1, &[b'\n'; 30_000])));
    assert!(refused.len() < 1200, "{} bytes", refused.len());
    assert!(String::from_utf8_lossy(&refused).contains("no container"));
    asks(&peer, &LIST);
    drop(peer);
    check_unharmed(&fixture, launcher, &before);
}

#[test]
fn a_client_that_reads_nothing_is_dropped() {
    let (fixture, launcher, before) = with_a_container();
    let peer = raw_connection(&fixture.launcher.socket);
    let question = packet(&field(4, &field(1, &[b'x'; 900])));
    let lost = (0..100_000).find_map(|_| send_packet(peer.as_fd(), &question, &[], true).err());
    let lost = lost.expect("it is dropped").kind();
    assert!(matches!(lost, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{lost}");
    assert_eq!(log_lines(&fixture, "bytes wait to be read"), 1);
    check_unharmed(&fixture, launcher, &before);
}

#[test]
fn connections_that_ask_nothing_make_room_for_those_that_do() {
    let (fixture, launcher, before) = with_a_container();
    let socket = &fixture.launcher.socket;
    let silent: Vec<OwnedFd> = (0..100).map(|_| raw_connection(socket)).collect();
    let other = LauncherClient::connect(socket, |_| {}).expect("connect");
    assert_eq!(other.list().expect("it is served").len(), 1);
    assert_eq!(answer(&silent[0]), None, "the oldest had to go");
    assert_eq!(fixture.state("c"), Some(ContainerState::Running), "the agent did not");
    assert!(descriptors(launcher).len() <= before.len() + 16);
    drop((silent, other));

    // Those that have asked stay, and then one more is refused.
    let busy: Vec<OwnedFd> = (0..15).map(|_| raw_connection(socket)).collect();
    for peer in &busy {
        asks(peer, &HELLO);
    }
    let more: Vec<OwnedFd> = (0..100).map(|_| raw_connection(socket)).collect();
    assert!(more.iter().all(|peer| answer(peer).is_none()));
    for peer in &busy {
        asks(peer, &LIST);
    }
    drop(busy);
    check_unharmed(&fixture, launcher, &before);
    assert!(log_lines(&fixture, "a connection") < 20);
}

#[test]
fn nobody_but_its_own_user_is_served() {
    let (fixture, launcher, before) = with_a_container();
    let socket = &fixture.launcher.socket;
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode");
    };
    let knock = || {
        let script = "import socket, sys
for _ in range(300):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        s.connect(sys.argv[1]); s.send(bytes([0, 8, 7, 0x42, 0])); said = s.recv(100)
    except PermissionError:
        sys.exit('kept out')
    except (BrokenPipeError, ConnectionResetError):
        said = b''
    if said: sys.exit('served')";
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(socket).current_dir("/");
        std::os::unix::process::CommandExt::uid(&mut command, 65_534);
        let output = command.output().expect("python3 runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).trim().to_owned())
    };
    mode(fixture.directory.path(), 0o755);
    assert_eq!(knock(), (false, "kept out".to_owned()), "the directory is the launcher's");
    mode(socket.parent().expect("directory"), 0o755);
    assert_eq!(knock(), (false, "kept out".to_owned()), "and so is the socket");
    mode(socket, 0o666);
    assert_eq!(knock(), (true, String::new()), "it is not served either way");
    assert_eq!(log_lines(&fixture, "refused a connection of user Ok(65534)"), 1);
    check_unharmed(&fixture, launcher, &before);
}

#[test]
fn without_descriptors_connections_wait_and_are_served_later() {
    let (fixture, launcher, before) = with_a_container();
    let socket = &fixture.launcher.socket;
    // The next three that are free are the last ones.
    let last = (0..).filter(|number| !before.contains(number)).nth(2).expect("some are free");
    limit_files(launcher, last + 1);
    let mut busy: Vec<OwnedFd> = (0..3).map(|_| raw_connection(socket)).collect();
    for peer in &busy {
        asks(peer, &HELLO);
    }
    let waiting = raw_connection(socket);
    send_packet(waiting.as_fd(), &packet(&HELLO), &[], true).expect("sent");
    for _ in 0..20 {
        assert_eq!(fixture.state("c"), Some(ContainerState::Running));
    }
    await_rest(launcher);
    assert_eq!(log_lines(&fixture, "cannot accept a connection for now"), 1);
    // A descriptor that does not arrive ends the connection it was to come by: there is room again.
    let unlucky = busy.pop().expect("one");
    send_packet(unlucky.as_fd(), &packet(&LIST), &[null_file().as_fd()], true).expect("sent");
    assert_eq!(answer(&unlucky), None);
    answer(&waiting).expect("it is served now");
    limit_files(launcher, last + 20);
    drop((busy, waiting));
    fixture.shell("d", "exit 3").launch();
    fixture.expect_started("d");
    assert_eq!(fixture.expect_exited("d"), 3 << 8);
    check_unharmed(&fixture, launcher, &before);
}

fn null_file() -> File {
    File::open("/dev/null").expect("/dev/null")
}

#[test]
fn a_launch_too_many_for_its_descriptors_is_refused_in_words() {
    let fixture = Fixture::with_open_files(100);
    let mut number = 0;
    let refused = loop {
        let (_reader, writer) = std::io::pipe().expect("pipe");
        let id = format!("c{number}");
        match fixture.shell(&id, "sleep 1000").try_launch_to(writer.as_fd()) {
            Ok(_) => fixture.expect_started(&id),
            Err(error) => break error,
        };
        number += 1;
        assert!(number < 100, "it has room for all");
    };
    assert!(number >= 4, "{number}");
    match refused {
        ClientError::Refused { code: RefusalCode::Full, message, .. } => {
            assert!(message.contains("no more than 100 files open"), "{message}");
        }
        other => panic!("should be refused in words: {other:?}"),
    }
    fixture.client().kill("c0").expect("kill");
    fixture.next_event();
    fixture.shell("next", "exit 0").launch();
    fixture.expect_started("next");
    assert_eq!(fixture.expect_exited("next"), 0);
}
