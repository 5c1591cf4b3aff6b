//! Which ports a task may bind.

use mezzo_agent_accounting::{Denial, Happening, PortPolicy, Transport};

use crate::rig::{Rig, eventually, ports, python};

/// Prints what `bind` says for each (family, type, port).
const BIND: &str = "import errno, socket, sys\n\
    def attempt(family, kind, port):\n\
    \x20   s = socket.socket(family, kind)\n\
    \x20   try: s.bind(('', port)); return 'ok'\n\
    \x20   except OSError as e: return errno.errorcode[e.errno]\n\
    4; F = (socket.AF_INET, socket.AF_INET6); K = (socket.SOCK_STREAM, socket.SOCK_DGRAM)\n\
    for port in map(int, sys.argv[1:]): print(*[attempt(f, k, port) for f in F for k in K])\n";

fn bind(task: &crate::rig::Task, wanted: &[&str]) -> Vec<String> {
    let arguments = [&[python(), "-c", BIND], wanted].concat();
    let mut command = task.command("deep/deeper", &arguments);
    let said = crate::rig::succeeded(command.output().expect("runs"));
    said.lines().map(str::to_owned).collect()
}

const ALL_FINE: &str = "ok ok ok ok";
const ALL_REFUSED: &str = "EPERM EPERM EPERM EPERM";

#[test]
fn of_two_tasks_only_the_owner_binds_a_port() {
    let rig = Rig::new("owner");
    let accounting = rig.open();
    let mut events = accounting.events().expect("a stream");
    let one =
        rig.granted(&accounting, "one", &ports(PortPolicy::Enforce, false, &[(31800, 31809)]));
    let two =
        rig.granted(&accounting, "two", &ports(PortPolicy::Enforce, false, &[(31810, 31819)]));
    assert_eq!(bind(&one, &["31800", "31809", "31810"]), [ALL_FINE, ALL_FINE, ALL_REFUSED]);
    assert_eq!(bind(&two, &["31800", "31809", "31810"]), [ALL_REFUSED, ALL_REFUSED, ALL_FINE]);
    assert_eq!(one.usage(&accounting).counters.port_denials, 4);
    assert_eq!(two.usage(&accounting).counters.port_denials, 8);

    let denied = std::iter::from_fn(|| events.take())
        .filter(|event| matches!(event.what, Happening::PortDenied { .. }));
    let denied = Vec::from_iter(denied);
    assert_eq!(denied.len(), 12);
    assert!(denied.iter().all(|event| event.process != 0 && python().ends_with(&event.command)));
    let first = Happening::PortDenied {
        how: Denial::Bind,
        transport: Transport::Tcp,
        ipv6: false,
        port: 31810,
        enforced: true,
    };
    assert_eq!((denied[0].task, denied[0].what), (one.id, first));
    let udp6 = denied.iter().filter(|event| {
        matches!(event.what, Happening::PortDenied { transport: Transport::Udp, ipv6: true, .. })
    });
    assert_eq!(udp6.count(), 3);
}

#[test]
fn ports_that_the_kernel_chooses_are_guarded_unless_granted() {
    let rig = Rig::new("ephemeral");
    let accounting = rig.open();
    let mut events = accounting.events().expect("a stream");
    let strict =
        rig.granted(&accounting, "strict", &ports(PortPolicy::Enforce, false, &[(31820, 31829)]));
    let lenient =
        rig.granted(&accounting, "lenient", &ports(PortPolicy::Enforce, true, &[(31820, 31829)]));
    let seen = rig.granted(&accounting, "seen", &ports(PortPolicy::Observe, false, &[]));
    let off = rig.granted(&accounting, "off", &ports(PortPolicy::Off, false, &[]));
    assert_eq!(bind(&strict, &["0", "31820"]), [ALL_REFUSED, ALL_FINE]);
    assert_eq!(bind(&lenient, &["0", "31830"]), [ALL_FINE, ALL_REFUSED]);
    assert_eq!(bind(&seen, &["0", "31831"]), [ALL_FINE, ALL_FINE]);
    assert_eq!(bind(&off, &["0", "31832"]), [ALL_FINE, ALL_FINE]);
    let denials = |task: &crate::rig::Task| task.usage(&accounting).counters.port_denials;
    assert_eq!([&strict, &lenient, &seen, &off].map(denials), [4, 4, 8, 0]);
    let told = std::iter::from_fn(|| events.take())
        .filter(|event| matches!(event.what, Happening::PortDenied { .. }));
    let told = Vec::from_iter(told);
    let of = |how, task| {
        let is = |event: &&mezzo_agent_accounting::Event| matches!(event.what, Happening::PortDenied { how: found, .. } if found == how);
        told.iter().filter(|event| event.task == task).filter(is).count()
    };
    assert_eq!(of(Denial::BindEphemeral, strict.id), 4);
    assert_eq!(of(Denial::Bind, lenient.id), 4);
    assert!(
        told.iter()
            .filter(|event| event.task == seen.id)
            .all(|event| { matches!(event.what, Happening::PortDenied { enforced: false, .. }) })
    );
}

#[test]
fn nothing_arrives_at_a_listener_that_never_called_bind() {
    let rig = Rig::new("listen");
    let accounting = rig.open();
    let mut events = accounting.events().expect("a stream");
    let strict =
        rig.granted(&accounting, "strict", &ports(PortPolicy::Enforce, false, &[(31840, 31840)]));
    let lenient = rig.granted(&accounting, "lenient", &ports(PortPolicy::Enforce, true, &[]));
    let client = rig.counted(&accounting, "client");
    const LISTEN: &str = "import socket\ns = socket.socket(); s.listen(); print(s.getsockname()[1])\n\
        while True: s.accept()\n";
    let (guarded, open) = (strict.serve(LISTEN), lenient.serve(LISTEN));
    let connect = |port: &str| {
        format!(
            "import socket\ns = socket.socket(); s.settimeout(60)\n\
             s.connect(('127.0.0.1', {port})); print('connected')\n"
        )
    };
    assert_eq!(client.python(&connect(&open.first)), "connected");
    let mut trying =
        client.command("", &[python(), "-c", &connect(&guarded.first)]).spawn().expect("starts");
    eventually("a dropped packet", || {
        (strict.usage(&accounting).counters.listen_drops > 1).then_some(())
    });
    assert!(trying.try_wait().expect("looks").is_none(), "it must not have connected");
    trying.kill().expect("kills");
    trying.wait().expect("waits");
    assert_eq!(lenient.usage(&accounting).counters.listen_drops, 0);
    let event = eventually("an event", || {
        events.take().filter(|event| matches!(event.what, Happening::PortDenied { .. }))
    });
    let Happening::PortDenied { how, port, .. } = event.what else { panic!("{event:?}") };
    assert_eq!((event.task, how, port), (strict.id, Denial::Listen, 0));
    // Nor does it help to bind with the option that leaves the choice to `connect` or `listen`.
    let late = "import socket\ns = socket.socket()\n\
        s.setsockopt(socket.IPPROTO_IP, 24, 1); s.bind(('127.0.0.1', 0)); s.listen(); print('listens')\n";
    assert_eq!(strict.python(late), "listens");
    assert_eq!(strict.usage(&accounting).counters.port_denials, 2);
}

#[test]
fn datagrams_to_sockets_that_the_kernel_bound_are_counted() {
    let rig = Rig::new("autobind");
    let accounting = rig.open();
    let client = rig.granted(&accounting, "client", &ports(PortPolicy::Enforce, false, &[]));
    let server =
        rig.granted(&accounting, "server", &ports(PortPolicy::Enforce, false, &[(31850, 31850)]));
    let echo = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        s.bind(('127.0.0.1', 31850)); print('up')\n\
        while True: d, a = s.recvfrom(100); s.sendto(d, a)\n";
    let _server = server.serve(echo);
    let ask = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        s.settimeout(60)\nfor _ in range(5): s.sendto(b'x', ('127.0.0.1', 31850)); s.recv(10)\n";
    client.python(ask);
    assert_eq!(client.usage(&accounting).counters.udp_unassigned, 5);
    assert_eq!(server.usage(&accounting).counters.udp_unassigned, 0);
}

#[test]
fn a_listener_that_was_handed_over_stays_its_makers() {
    let rig = Rig::new("handed");
    let accounting = rig.open();
    let maker =
        rig.granted(&accounting, "maker", &ports(PortPolicy::Enforce, false, &[(31860, 31860)]));
    let taker = rig.granted(&accounting, "taker", &ports(PortPolicy::Enforce, false, &[]));
    let path = rig.directory.path().join("socket");
    let give = format!(
        "import socket\nl = socket.socket(); l.bind(('127.0.0.1', 31860)); l.listen()\n\
         u = socket.socket(socket.AF_UNIX); u.bind('{path}'); u.listen(); print('up')\n\
         c, _ = u.accept(); socket.send_fds(c, [b'x'], [l.fileno()]); c.recv(1)\n",
        path = path.display()
    );
    let take = format!(
        "import socket\nu = socket.socket(socket.AF_UNIX); u.connect('{path}')\n\
         _, fds, _, _ = socket.recv_fds(u, 1, 1)\n\
         l = socket.socket(fileno=fds[0]); print('up')\n\
         c, _ = l.accept(); c.sendall(b'y' * 1000); c.recv(1)\n",
        path = path.display()
    );
    let _giving = maker.serve(&give);
    let _taking = taker.serve(&take);
    let client = rig.counted(&accounting, "client");
    let read = "import socket\ns = socket.create_connection(('127.0.0.1', 31860)); s.settimeout(60)\n\
        n = 0\nwhile n < 1000: n += len(s.recv(4096))\nprint(n)\n";
    assert_eq!(client.python(read), "1000");
    // It is the maker's port, and the maker's traffic.
    assert!(maker.usage(&accounting).counters.ipv4.tcp_out.bytes > 1000);
    assert_eq!(taker.usage(&accounting).counters.ipv4.tcp_out.bytes, 0);
    assert_eq!(taker.usage(&accounting).counters.port_denials, 0);
}
