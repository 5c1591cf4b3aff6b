//! Sandboxes: output rotated under running tasks, files read by tools and people, old directories gone.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mezzo_sdk::v1::TaskState;
use mezzo_tests::{Cluster, Options};
use nix::sys::signal::Signal;

use crate::framework::{Probe, task};

fn options(agent_flags: &[&str]) -> Options {
    let agent_flags = agent_flags.iter().map(|flag| (*flag).to_owned()).collect();
    Options { agent_flags, ..Options::default() }
}

/// Whatever is old enough goes at once.
const GREEDY: [&str; 4] = ["--gc-delay", "1ms", "--disk-watch-interval", "100ms"];

/// Sandboxes of a task, of all agent ids.
pub(crate) fn sandboxes(cluster: &Cluster, task: &str) -> Vec<PathBuf> {
    let below = |path: PathBuf| {
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path())
    };
    below(cluster.agent_work_dir().join("slaves"))
        .flat_map(|agent| below(agent.join("frameworks")))
        .flat_map(|framework| below(framework.join("executors").join(task).join("runs")))
        .filter(|path| !path.ends_with("latest"))
        .collect()
}

fn request(cluster: &Cluster, method: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
    let address = cluster.agent_address();
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("sends");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..split]).into_owned();
    let code = head.split(' ').nth(1).expect("a code").parse().expect("a number");
    (code, answer[split + 4..].to_vec())
}

fn get(cluster: &Cluster, path: &str) -> (u16, String) {
    let (code, body) = request(cluster, "GET", path, "");
    (code, String::from_utf8_lossy(&body).into_owned())
}

fn metric(cluster: &Cluster, name: &str) -> f64 {
    let (_, body) = get(cluster, "/metrics/snapshot");
    let metrics: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    metrics[name].as_f64().unwrap_or_else(|| panic!("no {name}"))
}

/// Real tasks write numbered lines while their output is rotated; those who look at the files, those who follow and those who read
/// later see every line once, in order.
#[tokio::test]
async fn no_line_is_lost_or_doubled_by_rotation() {
    let flags = ["--task-log-max-size", "256KB", "--task-log-files", "100"];
    let cluster = Cluster::start(options(&flags)).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let go = cluster.directory().join("go");
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; i=0; while [ $i -lt 60 ]; do \
         seq -f 'line %.0f' $((i*20000+1)) $(((i+1)*20000)); i=$((i+1)); sleep 0.1; done",
        go.display()
    );
    probe.launch(task("writer").shell(&script));
    probe.until_running("writer").await;
    let follower = cluster.mezzo_in_background(&["logs", "-f", "writer"]).expect("runs");
    let follower = tokio::task::spawn_blocking(move || follower.wait_with_output());
    std::fs::write(&go, "").expect("writes");
    let status = probe.ending("writer").await;
    assert_eq!(status.state(), TaskState::TaskFinished, "{status:?}");

    let expected: Vec<u8> =
        (1..=1_200_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
    let sandbox = sandboxes(&cluster, "writer").pop().expect("a sandbox");
    let pieces = (1..).take_while(|n| sandbox.join(format!("stdout.{n}")).exists()).count();
    assert!(pieces >= 10, "only {pieces} pieces");
    let mut kept = Vec::new();
    for number in (1..=pieces).rev() {
        kept.extend(std::fs::read(sandbox.join(format!("stdout.{number}"))).expect("reads"));
    }
    kept.extend(std::fs::read(sandbox.join("stdout")).expect("reads"));
    assert!(kept == expected, "the files have {} of {} bytes", kept.len(), expected.len());
    let followed = follower.await.expect("joins").expect("ends");
    let told = String::from_utf8_lossy(&followed.stderr).into_owned();
    assert!(followed.stdout == expected, "followed {} bytes: {told}", followed.stdout.len());
    let later = cluster.mezzo(&["logs", "writer"]).expect("runs");
    assert!(later.stdout == expected, "{}", String::from_utf8_lossy(&later.stderr));
    let tail = cluster.mezzo(&["logs", "--tail", "5", "writer"]).expect("runs");
    assert_eq!(tail.stdout, b"0000\n");
}

#[tokio::test]
async fn output_is_bounded_and_a_follower_survives_the_agent() {
    let flags = ["--task-log-max-size", "64KB", "--task-log-files", "2"];
    let mut cluster = Cluster::start(options(&flags)).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let go = cluster.directory().join("go");
    // No more is written than the follower has read: what is cut off was seen by then.
    let script = format!(
        "for i in 1 2 3 4 5; do while [ ! -e {go}.$i ]; do sleep 0.02; done; \
         head -c 60000 /dev/zero | tr '\\0' a; done; \
         while [ ! -e {go} ]; do sleep 0.02; done; echo end",
        go = go.display()
    );
    probe.launch(task("chatty").shell(&script));
    probe.until_running("chatty").await;
    let mut follower = cluster.mezzo_in_background(&["logs", "-f", "chatty"]).expect("runs");
    let mut output = follower.stdout.take().expect("piped");
    let mut followed = vec![0; 300_000];
    for (i, piece) in followed.chunks_mut(60_000).enumerate() {
        std::fs::write(format!("{}.{}", go.display(), i + 1), "").expect("writes");
        output.read_exact(piece).expect("reads what was written");
    }
    let sandbox = sandboxes(&cluster, "chatty").pop().expect("a sandbox");
    let rotated = |_: &Cluster| sandbox.join("stdout.2").exists().then_some(());
    cluster.wait("two rotations", rotated).expect("rotated");
    cluster.kill_agent().expect("killed");
    cluster.start_agent().expect("starts again");
    std::fs::write(&go, "").expect("writes");
    probe.ending("chatty").await;
    output.read_to_end(&mut followed).expect("reads to the end");
    let ended = follower.wait_with_output().expect("ends");
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    let mut expected = vec![b'a'; 300_000];
    expected.extend(b"end\n");
    assert!(followed == expected, "{} bytes: {told}", followed.len());
    assert!(!sandbox.join("stdout.3").exists(), "no more than was asked for");
    let size = |name: &str| std::fs::metadata(sandbox.join(name)).map_or(0, |facts| facts.len());
    assert!(size("stdout.1") <= 64 << 10 && size("stdout.2") <= 64 << 10);
}

#[tokio::test]
async fn sandboxes_of_ended_tasks_go_and_those_of_running_ones_stay() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("stays").shell("echo here; sleep 1000"));
    probe.until_running("stays").await;
    for name in ["one", "two"] {
        probe.run(task(name).shell("mkdir -p deep/er; ln -s / root; echo out")).await;
        assert_eq!(sandboxes(&cluster, name).len(), 1, "a week is not over");
    }
    // The container is destroyed, and the sandbox filed, after its ending was told.
    let filed =
        |cluster: &Cluster| (metric(cluster, "gc/path_removals_pending") >= 2.0).then_some(());
    cluster.wait("both sandboxes to be filed for removal", filed).expect("filed");
    let allowed = metric(&cluster, "slave/executor_directory_max_allowed_age_secs");
    assert!(allowed > 0.0 && allowed < 0.9 * 604_800.0 + 1.0, "{allowed}");
    // A later agent finds them by itself, and knows what still runs.
    cluster.kill_agent().expect("killed");
    cluster.set_agent_flags(&GREEDY);
    cluster.start_agent().expect("starts again");
    for name in ["one", "two"] {
        cluster
            .wait("the sandbox to go", |cluster| sandboxes(cluster, name).is_empty().then_some(()))
            .expect("removed");
    }
    // An offer of before the restart may be the first that is used: then there is no run.
    let mut state = TaskState::TaskLost;
    for attempt in 0..10 {
        let name = format!("three-{attempt}");
        state = probe.run(task(&name).shell("echo out")).await.state();
        let gone = |cluster: &Cluster| sandboxes(cluster, &name).is_empty().then_some(());
        cluster.wait("the sandbox to go", gone).expect("removed");
        if state == TaskState::TaskFinished {
            break;
        }
    }
    assert_eq!(state, TaskState::TaskFinished);
    cluster
        .wait("the count", |cluster| {
            (metric(cluster, "gc/path_removals_succeeded") >= 3.0).then_some(())
        })
        .expect("counted");
    assert_eq!(metric(&cluster, "gc/path_removals_failed"), 0.0);
    assert_eq!(sandboxes(&cluster, "stays").len(), 1);
    let logs = cluster.mezzo(&["logs", "stays"]).expect("runs");
    assert_eq!(logs.stdout, b"here\n", "{}", String::from_utf8_lossy(&logs.stderr));
    assert!(Path::new("/etc").exists(), "links are not followed");
}

#[tokio::test]
async fn files_of_an_earlier_agent_id_are_read_until_they_go() {
    let mut cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.run(task("old").shell("echo from before")).await;
    let sandbox = sandboxes(&cluster, "old").pop().expect("a sandbox");
    cluster.end_agent(Signal::SIGUSR1).expect("leaves");
    cluster.start_agent().expect("starts anew");
    let framework = sandbox.ancestors().nth(4).and_then(Path::file_name).expect("a framework");
    for path in [
        format!("{}/stdout", sandbox.display()),
        format!("/frameworks/{}/executors/old/runs/latest/stdout", framework.to_string_lossy()),
    ] {
        let (code, body) = get(&cluster, &format!("/files/download?path={path}"));
        assert_eq!((code, body.as_str()), (200, "from before\n"), "{path}");
    }
    cluster.kill_agent().expect("killed");
    cluster.set_agent_flags(&GREEDY);
    cluster.start_agent().expect("starts again");
    let gone = |_: &Cluster| (!sandbox.ancestors().nth(6).is_some_and(Path::exists)).then_some(());
    cluster.wait("all of the earlier agent to go", gone).expect("removed");
}

#[tokio::test]
async fn files_are_browsed_read_and_downloaded_as_mesos_tools_do() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    let script = "seq 1 30000; mkdir sub; echo inner > 'sub/a b'; mkfifo pipe; ln -s /etc/passwd passwd; \
                  ln -s stdout same; mknod null c 1 3 || true";
    let status = probe.run(task("t").shell(script)).await;
    assert_eq!(status.state(), TaskState::TaskFinished, "{status:?}");
    let text: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
    let real = sandboxes(&cluster, "t").pop().expect("a sandbox");
    let framework = probe_framework(&real);
    let container = real.file_name().expect("a name").to_string_lossy().into_owned();
    let runs = format!("/frameworks/{framework}/executors/t/runs");
    let json = |path: &str| -> serde_json::Value {
        let (code, body) = get(&cluster, path);
        assert_eq!(code, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    };
    for prefix in ["", "/slave(1)"] {
        for place in
            [format!("{runs}/latest"), format!("{runs}/{container}"), real.display().to_string()]
        {
            for suffix in ["", ".json"] {
                let listing = json(&format!("{prefix}/files/browse{suffix}?path={place}"));
                let entries = listing.as_array().expect("an array");
                let named = |name: &str| {
                    let path = format!("{place}/{name}");
                    let found = entries.iter().find(|entry| entry["path"] == path.as_str());
                    found.unwrap_or_else(|| panic!("no {path} in {listing}")).clone()
                };
                let stdout = named("stdout");
                assert_eq!(stdout["size"], text.len());
                assert_eq!(stdout["mode"], "-rw-r--r--");
                assert_eq!(
                    (stdout["uid"].as_str(), stdout["nlink"].as_u64()),
                    (Some("root"), Some(1))
                );
                assert!(stdout["mtime"].as_u64().is_some_and(|seconds| seconds > 1_600_000_000));
                assert!(named("sub")["mode"].as_str().is_some_and(|mode| mode.starts_with('d')));
            }
        }
    }
    let stdout = format!("{runs}/latest/stdout");
    let read = |rest: &str| json(&format!("/files/read?path={stdout}{rest}"));
    assert_eq!(read("&offset=-1"), serde_json::json!({"offset": text.len(), "data": ""}));
    assert_eq!(read(""), serde_json::json!({"offset": text.len(), "data": ""}));
    assert_eq!(read("&offset=2&length=4"), serde_json::json!({"offset": 2, "data": "2\n3\n"}));
    assert_eq!(read("&offset=999999999"), serde_json::json!({"offset": 999999999, "data": ""}));
    assert_eq!(read("&offset=0")["data"].as_str().map(str::len), Some(65536), "16 pages at most");
    let (_, called) =
        get(&cluster, &format!("/files/read?path={stdout}&offset=0&length=2&jsonp=show"));
    assert!(called.starts_with("show({") && called.ends_with("});"), "{called}");
    assert_eq!(get(&cluster, &format!("/files/download?path={stdout}")), (200, text.clone()));
    let inner = format!("/files/download?path={runs}/latest/sub/a%20b");
    assert_eq!(get(&cluster, &inner), (200, "inner\n".to_owned()));
    let debug = json("/files/debug");
    assert_eq!(debug[format!("{runs}/latest")], real.display().to_string().as_str(), "{debug}");

    for (path, code, sentence) in [
        ("/files/browse".to_owned(), 400, "Expecting 'path=value' in query"),
        (format!("/files/read?path={stdout}&offset=-2"), 400, "Negative offset"),
        (format!("/files/read?path={stdout}&offset=x"), 400, "Failed to parse offset"),
        (format!("/files/read?path={runs}/latest"), 400, "a directory"),
        (format!("/files/download?path={runs}/latest/pipe"), 400, "a pipe"),
        (format!("/files/read?path={runs}/latest/passwd&offset=0"), 400, "out of the sandbox"),
        (
            format!("/files/read?path={runs}/latest/../../../../../../../../etc/passwd&offset=0"),
            400,
            "out of the sandbox",
        ),
        (format!("/files/read?path={runs}/latest/none&offset=0"), 404, "nothing of that name"),
        ("/files/browse?path=/etc".to_owned(), 404, "nothing of that name"),
        (format!("/files/browse?path={}", cluster.agent_work_dir().display()), 404, "nothing"),
        ("/files/nonsense?path=/".to_owned(), 404, "no endpoint"),
    ] {
        let (got, body) = get(&cluster, &path);
        assert!(got == code && body.contains(sentence), "{path}: {got} {body}");
    }
    assert_eq!(request(&cluster, "POST", "/files/browse", "").0, 405);

    let call = |body: String| -> (u16, serde_json::Value) {
        let (code, body) = request(&cluster, "POST", "/api/v1", &body);
        (code, serde_json::from_slice(&body).unwrap_or_default())
    };
    let (code, listed) =
        call(format!(r#"{{"type":"LIST_FILES","list_files":{{"path":"{runs}/latest/sub"}}}}"#));
    assert_eq!(code, 200);
    let infos = &listed["list_files"]["file_infos"];
    assert_eq!(infos[0]["path"], format!("{runs}/latest/sub/a b").as_str(), "{listed}");
    let (code, piece) = call(format!(
        r#"{{"type":"READ_FILE","read_file":{{"path":"{stdout}","offset":2,"length":4}}}}"#
    ));
    assert_eq!((code, &piece["read_file"]["data"]), (200, &"MgozCg==".into()), "{piece}");
    assert_eq!(piece["read_file"]["size"].as_u64(), Some(text.len() as u64), "{piece}");
    let (code, _) =
        call(r#"{"type":"READ_FILE","read_file":{"path":"/none","offset":0}}"#.to_owned());
    assert_eq!(code, 404);
}

fn probe_framework(sandbox: &Path) -> String {
    let name = sandbox.ancestors().nth(4).and_then(Path::file_name).expect("a framework");
    name.to_string_lossy().into_owned()
}

#[tokio::test]
async fn people_list_print_and_copy_files() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.run(task("t").shell("echo out; mkdir sub; echo inner > sub/file; mkfifo pipe")).await;
    let mezzo = |arguments: &[&str]| {
        let output = cluster.mezzo(arguments).expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, listing, error) = mezzo(&["fs", "t"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(listing.contains("-rw-r--r--") && listing.contains("sub"), "{listing}");
    let (_, rows, _) = mezzo(&["fs", "t", "sub", "--output", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&rows).expect("JSON");
    assert_eq!((&rows[0]["name"], &rows[0]["size_bytes"]), (&"file".into(), &6.into()));
    assert_eq!(mezzo(&["fs", "t", "sub/file"]).1, "inner\n");
    let directory = cluster.directory().display().to_string();
    let (code, _, told) = mezzo(&["cp", "t:sub/file", &directory]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("6 bytes"), "{told}");
    let copied = std::fs::read(cluster.directory().join("file")).expect("copied");
    assert_eq!(copied, b"inner\n");
    assert_eq!(mezzo(&["cp", "t:stdout", "-"]).1, "out\n");
    for (arguments, sentence) in [
        (["fs", "t", "none"], "nothing of that name"),
        (["fs", "t", "pipe"], "a pipe"),
        (["fs", "t", "../../latest"], "out of the sandbox"),
        (["cp", "t:none", &directory], "no file 'none'"),
        (["cp", "t", &directory], "TASK:PATH"),
        (["fs", "nobody", "x"], "nobody"),
    ] {
        let (code, _, error) = mezzo(&arguments);
        assert!(code == Some(1) && error.contains(sentence), "{arguments:?}: {error}");
    }
}
