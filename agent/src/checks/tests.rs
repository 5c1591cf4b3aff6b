//! Looks over the network, on the real kernel: as root, because a namespace of its own needs that.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mezzo_agent_core::{CheckOutcome, Probe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Checks, Target};

/// Signed by itself, for nobody in particular.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBdTCCARugAwIBAgIUZyBwCoj9l0BoNkA3neeo0v6+t0wwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGFzazAgFw0yNjExMzAxNDAyMjFaGA8yMTI2MTEwNjE0MDIy
MVowDzENMAsGA1UEAwwEdGFzazBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJlb
vYq5JV9x8YCwPGIO4/eZ0p/ZZtI6s5sgIMTeoi47zYbpFlnNURljLgK1NlTRMU62
kg6ZysM68BAfp/GMPfyjUzBRMB0GA1UdDgQWBBRaNO9Luu4vCTcMe0z80vUDka1U
VzAfBgNVHSMEGDAWgBRaNO9Luu4vCTcMe0z80vUDka1UVzAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0gAMEUCIQCDGsWQgDDVSppyOvCfmxq0406A5c2AwU0f
KT0hosFgdQIgLRFb0Xq8FFs0kHkT34zauxereZn4OF9+FUg/9LJGX44=
-----END CERTIFICATE-----
";
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbqe9okShN6tegqLI
o4/cV0uBkkBsQkQE/hkATy1/1sihRANCAASZW72KuSVfcfGAsDxiDuP3mdKf2WbS
OrObICDE3qIuO82G6RZZzVEZYy4CtTZU0TFOtpIOmcrDOvAQH6fxjD38
-----END PRIVATE KEY-----
";

/// A process that is looked at; ended with the test.
struct Task(Child);

impl Task {
    fn new(command: &mut Command) -> Task {
        Task(command.stdout(Stdio::piped()).spawn().expect("it starts"))
    }

    /// In this test's own network namespace.
    fn here() -> Task {
        Task::new(Command::new("sleep").arg("1000"))
    }

    fn target(&self) -> Target {
        let pid = i32::try_from(self.0.id()).expect("pid");
        let ticks = mezzo_agent_sys::start_time(pid).expect("start time");
        Target { process: (pid, ticks), cgroup: None, sandbox: "/".into() }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn look(task: &Task, probe: Probe) -> CheckOutcome {
    look_for(task, probe, Duration::from_secs(60)).await
}

async fn look_for(task: &Task, probe: Probe, timeout: Duration) -> CheckOutcome {
    let checks = Arc::new(Checks::new().expect("null"));
    checks.look(task.target(), probe, Some(timeout), || None).await
}

/// Answers every request by its path; returns the port.
async fn server(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let reply = answer(&path);
            let _ = stream.write_all(reply.as_bytes()).await;
        }
    });
    port
}

fn http(port: u16, path: &str) -> Probe {
    Probe::Http { https: false, ipv6: false, port, path: path.to_owned() }
}

#[tokio::test]
async fn a_port_is_there_or_not() {
    let task = Task::here();
    for (ipv6, address) in [(false, "127.0.0.1:0"), (true, "[::1]:0")] {
        let listener = TcpListener::bind(address).await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let probe = Probe::Tcp { ipv6, port };
        assert_eq!(look(&task, probe.clone()).await, CheckOutcome::Connected(true));
        drop(listener);
        assert_eq!(look(&task, probe).await, CheckOutcome::Connected(false));
    }
}

#[tokio::test]
async fn statuses_are_told_and_redirects_followed_to_the_task_only() {
    let port = server(|path| {
        let (status, location) = match path {
            "/ok" => ("200 OK", None),
            "/odd%20path?a=b" => ("204 No Content", None),
            "/bad" => ("503 Service Unavailable", None),
            "/here" => ("302 Found", Some("ok")),
            "/to-bad" => ("301 Moved", Some("/bad")),
            "/away" => ("307 Temporary Redirect", Some("http://example.com/ok")),
            "/round" => ("302 Found", Some("/round")),
            "/unmodified" => ("304 Not Modified", Some("/bad")),
            _ => ("404 Not Found", None),
        };
        let location = location.map(|to| format!("Location: {to}\r\n")).unwrap_or_default();
        format!(
            "HTTP/1.1 {status}\r\n{location}Content-Length: 1000\r\n\r\nthe rest is not waited for"
        )
    })
    .await;
    let task = Task::here();
    for (path, status) in [
        ("/ok", 200),
        ("/odd path?a=b", 204),
        ("/bad", 503),
        ("/here", 200),
        ("/to-bad", 503),
        ("/away", 307),
        ("/unmodified", 304),
        ("/", 404),
    ] {
        let outcome = look(&task, http(port, path)).await;
        assert_eq!(outcome, CheckOutcome::Answered(status), "{path}");
    }
    let outcome = look(&task, http(port, "/round")).await;
    assert_eq!(outcome, CheckOutcome::Failed("more than 10 redirects".to_owned()));
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure() {
    let task = Task::here();
    let port = server(|_| "220 smtp ready\r\n".to_owned()).await;
    let failed = |outcome| match outcome {
        CheckOutcome::Failed(why) => why,
        other => panic!("{other:?}"),
    };
    let why = failed(look(&task, http(port, "/")).await);
    assert!(why.starts_with("no answer: "), "{why}");
    let port = server(|_| "HTTP/1.1 200 OK\r\n".to_owned() + &"X: y\r\n".repeat(100_000)).await;
    let why = failed(look(&task, http(port, "/")).await);
    assert!(why.starts_with("no answer: "), "{why}");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    // The kernel takes the connection, nobody answers.
    let why = failed(look_for(&task, http(port, "/"), Duration::from_millis(200)).await);
    assert_eq!(why, "it took longer than timeout_seconds, 0.2 s");
    drop(listener);
    let why = failed(look(&task, http(port, "/")).await);
    assert!(why.starts_with(&format!("no connection to port {port}: ")), "{why}");
}

#[tokio::test]
async fn any_certificate_will_do() {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("certificate");
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("config");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accept");
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = vec![0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let task = Task::here();
    let secure = Probe::Http { https: true, ipv6: false, port, path: "/".to_owned() };
    assert_eq!(look(&task, secure).await, CheckOutcome::Answered(201));
    let plain = look(&task, http(port, "/")).await;
    assert!(matches!(plain, CheckOutcome::Failed(_)), "{plain:?}");
}

#[tokio::test]
async fn the_network_namespace_is_the_tasks() {
    const SERVER: &str = "import http.server as h, sys\n\
        s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)\n\
        print(s.server_address[1], flush=True)\n\
        s.serve_forever()";
    let mut inside = Task::new(
        Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && exec python3 -c \"$0\"", SERVER])
            .current_dir("/proc/self")
            .stderr(Stdio::null()),
    );
    let mut line = String::new();
    let output = inside.0.stdout.take().expect("piped");
    BufReader::new(output).read_line(&mut line).expect("it listens");
    let port: u16 = line.trim().parse().expect("a port");
    assert_eq!(
        look(&inside, Probe::Tcp { ipv6: false, port }).await,
        CheckOutcome::Connected(true)
    );
    assert_eq!(look(&inside, http(port, "/status")).await, CheckOutcome::Answered(200));
    assert_eq!(look(&inside, http(port, "/no-such-file")).await, CheckOutcome::Answered(404));
    let here = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = here.local_addr().expect("address").port();
    assert_eq!(
        look(&inside, Probe::Tcp { ipv6: false, port }).await,
        CheckOutcome::Connected(false),
        "what listens here is not there"
    );
    let own = std::fs::read_link("/proc/self/ns/net").expect("own namespace");
    for thread in std::fs::read_dir("/proc/self/task").expect("threads") {
        // A thread may have ended meanwhile.
        let Ok(of) = std::fs::read_link(thread.expect("thread").path().join("ns/net")) else {
            continue;
        };
        assert_eq!(of, own, "no thread stays there");
    }
}

#[tokio::test]
async fn a_task_that_has_ended_says_nothing() {
    let mut task = Task::here();
    let target = task.target();
    task.0.kill().expect("kill");
    task.0.wait().expect("reap");
    let checks = Arc::new(Checks::new().expect("null"));
    let outcome = checks.look(target, http(1, "/"), None, || None).await;
    assert_eq!(outcome, CheckOutcome::Unavailable("the task has ended".to_owned()));
}
