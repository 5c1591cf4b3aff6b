//! Traffic, to the byte and the packet.

use std::process::{Child, Command, Stdio};

use crate::rig::{Rig, Task, eventually, python, succeeded};

pub const DATAGRAMS: u64 = 500;
const PAYLOAD: u64 = 100;
const IPV4_UDP: u64 = 20 + 8;
const IPV6_UDP: u64 = 40 + 8;

/// Sends datagrams to a port of the loopback interface, from a child cgroup two levels deep.
pub fn send(task: &Task, address: &str, port: &str) {
    let program = format!(
        "import socket\n\
         a = ('{address}', {port})\n\
         s = socket.socket(socket.AF_INET6 if ':' in a[0] else socket.AF_INET, socket.SOCK_DGRAM)\n\
         for _ in range({DATAGRAMS}): s.sendto(b'x' * {PAYLOAD}, a)\n"
    );
    let mut command = task.command("inner/innermost", &[python(), "-c", &program]);
    succeeded(command.output().expect("runs"));
}

pub const RECEIVER: &str = "import socket, time\n\
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n\
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)\n\
    s.bind(('::', 0))\n\
    print(s.getsockname()[1])\n\
    while True: s.recv(65536)\n";

#[test]
fn datagrams_on_loopback_are_counted_to_the_byte_for_both_sides() {
    let rig = Rig::new("loopback");
    let accounting = rig.open();
    let (sender, receiver) =
        (rig.counted(&accounting, "sender"), rig.counted(&accounting, "receiver"));
    let other = rig.counted(&accounting, "other");
    let server = receiver.serve(RECEIVER);
    send(&sender, "127.0.0.1", &server.first);
    send(&sender, "::1", &server.first);

    let (sent, received) = (sender.usage(&accounting), receiver.usage(&accounting));
    let (sent, received) = (sent.counters, received.counters);
    let of = |bytes, packets| mezzo_agent_accounting::Flow { bytes, packets };
    let ipv4 = of(DATAGRAMS * (PAYLOAD + IPV4_UDP), DATAGRAMS);
    let ipv6 = of(DATAGRAMS * (PAYLOAD + IPV6_UDP), DATAGRAMS);
    assert_eq!((sent.ipv4.udp_out, sent.ipv6.udp_out), (ipv4, ipv6));
    assert_eq!((received.ipv4.udp_in, received.ipv6.udp_in), (ipv4, ipv6));
    assert_eq!((sent.ipv4.udp_in, received.ipv4.udp_out), (of(0, 0), of(0, 0)));
    assert_eq!(other.usage(&accounting).counters, Default::default());
    let all = accounting.snapshot().expect("reads");
    assert_eq!(all.len(), 3);
    let own = all.iter().find(|(task, _)| *task == sender.id).expect("the sender");
    assert_eq!(own.1.ipv4, sent.ipv4);
}

/// A network namespace, kept by a process that does nothing.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo made; exec sleep 600"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let mut output = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        std::io::BufRead::read_line(&mut output, &mut String::new()).expect("reads");
        Namespace(child)
    }

    fn target(&self) -> String {
        format!("--target={}", self.0.id())
    }

    fn ip(&self, arguments: &str) {
        self.run(["ip"].into_iter().chain(arguments.split(' ')));
    }

    fn run<'a>(&self, line: impl IntoIterator<Item = &'a str>) {
        let mut command = Command::new("nsenter");
        command.arg(self.target()).arg("--net").args(line);
        succeeded(command.output().expect("runs"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stream_over_a_veth_pair_is_counted_to_the_byte() {
    const BYTES: u64 = 4 << 20;
    let rig = Rig::new("veth");
    let accounting = rig.open();
    let (client, server) = (rig.counted(&accounting, "client"), rig.counted(&accounting, "server"));
    let (here, there) = (Namespace::new(), Namespace::new());
    here.ip(&format!("link add v0 type veth peer name v1 netns {}", there.0.id()));
    here.ip("addr add 10.99.0.1/24 dev v0");
    here.ip("link set v0 up");
    there.ip("addr add 10.99.0.2/24 dev v1");
    there.ip("link set v1 up");
    // Acknowledgements of what came out of order would be longer than the others.
    for side in [&here, &there] {
        side.run(["sh", "-c", "echo 0 > /proc/sys/net/ipv4/tcp_sack"]);
    }

    let serve = "import socket\n\
        s = socket.socket(); s.bind(('10.99.0.2', 7000)); s.listen()\n\
        print('listening', flush=True)\n\
        c, _ = s.accept(); n = 0\n\
        while d := c.recv(1 << 20): n += len(d)\n\
        print(n)\n";
    let target = there.target();
    let mut serving = server
        .command("", &["nsenter", &target, "--net", python(), "-c", serve])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut output = std::io::BufReader::new(serving.stdout.take().expect("a pipe"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).expect("reads");
    let connect = format!(
        "import socket\ns = socket.create_connection(('10.99.0.2', 7000))\n\
         s.sendall(b'x' * {BYTES}); s.shutdown(1); s.recv(1)\n"
    );
    client.run(&["nsenter", &here.target(), "--net", python(), "-c", &connect]);
    assert!(serving.wait().expect("waits").success());
    line.clear();
    std::io::BufRead::read_line(&mut output, &mut line).expect("reads");
    assert_eq!(line.trim(), BYTES.to_string());

    // Each packet has 20 bytes of IP and 32 of TCP with its time stamps; the first one of each side has 8 more.
    let (sent, received) = (client.usage(&accounting), server.usage(&accounting));
    let (out, into) = (sent.counters.ipv4.tcp_out, received.counters.ipv4.tcp_in);
    let payload = |flow: mezzo_agent_accounting::Flow| flow.bytes - 52 * flow.packets - 8;
    if sent.counters.tcp_retransmits == 0 {
        assert_eq!((payload(out), payload(into)), (BYTES, BYTES));
    } else {
        assert!(payload(out) > BYTES, "{sent:?}");
    }
    let replies = received.counters.ipv4.tcp_out;
    assert_eq!(payload(replies), 0, "the server sends no payload");
    assert!(sent.tcp_rtt_us().is_some(), "{sent:?}");
    assert_eq!(sent.counters.ipv4.udp_out.packets + sent.counters.ipv6.tcp_out.packets, 0);
}

#[test]
fn a_lossy_link_shows_in_retransmits() {
    let rig = Rig::new("lossy");
    let accounting = rig.open();
    let client = rig.counted(&accounting, "client");
    let alone = Namespace::new();
    // An address that nobody answers for: what is sent to it is sent again.
    alone.ip("link add v0 type veth peer name v1");
    alone.ip("addr add 10.98.0.1/24 dev v0");
    alone.ip("link set v1 up");
    alone.ip("link set v0 arp off up");
    let connect = "import socket\ns = socket.socket(); s.setblocking(False)\n\
        s.connect_ex(('10.98.0.2', 7000)); print('trying', flush=True)\nimport time; time.sleep(600)\n";
    let mut trying = client
        .command("", &["nsenter", &alone.target(), "--net", python(), "-c", connect])
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    eventually("a retransmit", || {
        (client.usage(&accounting).counters.tcp_retransmits > 0).then_some(())
    });
    trying.kill().expect("kills");
    trying.wait().expect("waits");
}
