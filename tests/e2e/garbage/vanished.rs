//! Peers whose packets vanish: a wire is cut, and nobody says goodbye.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use mezzo_sdk::v1::TaskState;
use mezzo_sdk::v1::task_status::Reason;
use mezzo_tests::{Cluster, Daemon, FAR, Host, NEAR, Options, Wire};

use super::{Baseline, PATIENCE, check_service, connect};
use crate::framework::{Probe, task};

/// Both daemons give peers up after two seconds.
fn options(agent: &str) -> Options {
    let flags =
        |ip: &str| vec![format!("--ip={ip}"), "--insecure".into(), "--peer-timeout=2secs".into()];
    Options { master_flags: flags(NEAR), agent_flags: flags(agent), ..Options::default() }
}

/// Runs a test on a host, with a runtime that belongs there. Its connections go on while the test waits for
/// the other host.
fn on(host: &Host, test: impl AsyncFnOnce() + Send) {
    host.run(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(test());
    });
}

/// Reads until the text is there; everything that came.
fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut said = String::new();
    let mut buffer = [0; 4096];
    // Heartbeats alone do not count.
    let end = Instant::now() + PATIENCE;
    while !said.contains(text) {
        assert!(Instant::now() < end, "no {text} in {said}");
        let length = stream.read(&mut buffer).expect("goes on");
        assert!(length > 0, "closed after {said}");
        said.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    said
}

/// A framework by hand that holds what it is offered; its stream and its id.
fn subscribe(address: &str, id: Option<&str>) -> (TcpStream, String) {
    let known = id.map_or(String::new(), |id| format!(r#","id":{{"value":"{id}"}}"#));
    let envelope = id.map_or(String::new(), |id| format!(r#","framework_id":{{"value":"{id}"}}"#));
    let body = format!(
        r#"{{"type":"SUBSCRIBE"{envelope},"subscribe":{{"framework_info":{{"user":"root","name":"far","failover_timeout":600{known}}}}}}}"#
    );
    let mut stream = connect(address);
    write!(
        stream,
        "POST /api/v1/scheduler HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sends");
    let said = read_until(&mut stream, "\"OFFERS\"");
    let mark = "\"framework_id\":{\"value\":\"";
    let at = said.find(mark).expect("SUBSCRIBED") + mark.len();
    (stream, said[at..].split('"').next().expect("a value").to_owned())
}

#[test]
fn clients_that_vanish_are_given_up_and_may_come_back() {
    let wire = Wire::new().expect("two hosts");
    on(&wire.near, async || {
        let cluster = Cluster::start(options(NEAR)).expect("a cluster");
        let mut probe = Probe::connect(&cluster).await;
        probe.run(task("large").shell("truncate -s 1G large")).await;
        let baseline = Baseline::of(&cluster);
        drop(probe);

        let (master, agent) = (cluster.address(), cluster.agent_address());
        let (stream, id) = wire.far.run(|| subscribe(master, None));
        // One in the middle of an answer, one between two requests.
        let sandbox = cluster.sandboxes().into_iter().find(|run| run.join("large").exists());
        let path = sandbox.expect("the task's sandbox").join("large");
        let download =
            format!("GET /files/download?path={} HTTP/1.1\r\nHost: x\r\n\r\n", path.display());
        let readers = wire.far.run(|| {
            let mut reader = connect(agent);
            reader.write_all(download.as_bytes()).expect("sends");
            read_until(&mut reader, "200 OK");
            let mut idler = connect(agent);
            idler.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").expect("sends");
            read_until(&mut idler, "200 OK");
            [reader, idler]
        });
        wire.cut().expect("cut");
        // The offers of the one who vanished are what this task waits for.
        let mut probe = Probe::connect(&cluster).await;
        check_service(&mut probe, "cut", 2).await;
        baseline.await_files(0);
        baseline.check_memory(64 << 20);
        drop(probe);

        wire.mend().expect("mended");
        let (_again, same) = wire.far.run(|| subscribe(master, Some(&id)));
        assert_eq!(same, id);
        drop((stream, readers));
    });
}

fn read_pid(cluster: &mut Cluster, file: &Path) -> String {
    let read = |_: &Cluster| std::fs::read_to_string(file).ok().filter(|pid| pid.ends_with('\n'));
    cluster.wait("the task to write its process id", read).expect("written")
}

#[test]
fn master_and_agent_notice_that_the_other_has_vanished() {
    let wire = Wire::new().expect("two hosts");
    on(&wire.near, async || {
        let mut options = options(FAR);
        options.master_flags.push("--agent-reregister-timeout=2secs".to_owned());
        let mut cluster = Cluster::prepare(options).expect("a directory");
        cluster.start_master().expect("a master");
        wire.far.run(|| cluster.start_agent()).expect("an agent");
        let mut probe = Probe::connect(&cluster).await;
        let file = cluster.directory().join("waits");
        let (pid, go) = (file.with_extension("pid"), file.with_extension("go"));
        let script = format!(
            "echo $$ > {}; while [ ! -e {} ]; do sleep 0.05; done; exit 5",
            pid.display(),
            go.display()
        );
        probe.launch(task("waits").shell(script));
        probe.until_running("waits").await;
        let before = read_pid(&mut cluster, &pid);
        let baseline = Baseline::of(&cluster);

        wire.cut().expect("cut");
        let status = probe.until_state("waits", TaskState::TaskUnreachable).await;
        assert_eq!(status.reason(), Reason::AgentRemoved);
        // The agent has noticed by itself: its link is gone, and a new one cannot be made.
        let noticed = |cluster: &Cluster| {
            (cluster.logged(Daemon::Agent, "the master cannot be reached") > 0).then_some(())
        };
        cluster.wait("the agent to notice", noticed).expect("it does");

        wire.mend().expect("mended");
        let status = probe.until_state("waits", TaskState::TaskRunning).await;
        assert_eq!(status.reason(), Reason::AgentReregistered);
        assert_eq!(read_pid(&mut cluster, &pid), before, "the same process");
        std::fs::write(go, "").expect("writes");
        let status = probe.until_state("waits", TaskState::TaskFailed).await;
        assert_eq!(status.termination.and_then(|t| t.exit_code), Some(5));
        check_service(&mut probe, "mended", 1).await;
        baseline.await_files(0);
    });
}
