//! What tasks use, by every way in which it can be asked.

use mezzo_sdk::v1::TaskState;
use mezzo_tests::{Cluster, Options};
use serde_json::Value;

use crate::framework::{Probe, task};

/// Sends itself 1000 datagrams of 500 bytes and a megabyte by TCP, one piece after the other, binds a port that it does not have, and
/// stays.
const TRAFFIC: &str = r#"exec perl -MSocket -e '
    socket(my $datagrams, PF_INET, SOCK_DGRAM, 0) or die $!;
    bind($datagrams, sockaddr_in(0, INADDR_LOOPBACK)) or die $!;
    for (1..1000) {
        send($datagrams, "x" x 500, 0, getsockname($datagrams)) == 500 or die $!;
        recv($datagrams, my $got, 1000, 0);
    }
    socket(my $listener, PF_INET, SOCK_STREAM, 0) or die $!;
    bind($listener, sockaddr_in(0, INADDR_LOOPBACK)) or die $!;
    listen($listener, 1) or die $!;
    socket(my $client, PF_INET, SOCK_STREAM, 0) or die $!;
    connect($client, getsockname($listener)) or die $!;
    accept(my $server, $listener) or die $!;
    for (1..64) {
        syswrite($client, "x" x 16384) == 16384 or die $!;
        for (my $left = 16384; $left > 0;) { $left -= sysread($server, my $got, $left) || die $!; }
    }
    socket(my $other, PF_INET, SOCK_STREAM, 0) or die $!;
    bind($other, sockaddr_in(30999, INADDR_LOOPBACK)) and die "bound";
    sleep 1000;
'"#;

/// The members of the only object of a list.
fn only(json: &[u8]) -> serde_json::Value {
    let list: Vec<serde_json::Value> = serde_json::from_slice(json).expect("a list");
    let [only] = list.try_into().expect("of one");
    only
}

#[tokio::test]
async fn what_a_task_uses_is_told_alike_everywhere() {
    let cluster = Cluster::start(Options::default()).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    // Holds 20 MB, and burns what it may.
    let script = "head -c 20000000 /dev/zero | tail -c 20000000 | (sleep 1000; cat) & \
                  while :; do :; done";
    probe.launch(task("hungry").cpus(0.3).mem(128.0).shell(script));
    probe.until_running("hungry").await;

    let stats = ["--output", "json", "stats", "--interval", "500ms", "hungry"];
    let mut held = 0;
    for _ in 0..60 {
        let output = cluster.mezzo(&stats).expect("runs");
        let figures = only(&output.stdout);
        held = figures["mem_anon_bytes"].as_u64().expect("a number");
        let cpus = figures["cpus"].as_f64().expect("a rate");
        assert!(cpus <= 0.5, "{figures}");
        assert_eq!(figures["cpus_limit"], 0.3);
        assert_eq!(figures["mem_limit_bytes"], 128 << 20);
        if held >= 20_000_000 && cpus > 0.0 && figures["throttled"].as_f64() > Some(0.0) {
            break;
        }
        held = 0;
    }
    assert!(held >= 20_000_000, "it holds what it asked for, and is throttled");
    let table = cluster.mezzo(&["stats", "hungry"]).expect("runs");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains(" of 128 MiB"), "{table}");

    let top = cluster.mezzo(&["--output", "json", "top", "-n", "1", "-i", "200ms"]).expect("runs");
    assert_eq!(only(&top.stdout)["task_id"], "hungry");
    let top = cluster.mezzo(&["top", "-n", "1", "-i", "200ms"]).expect("runs");
    let top = String::from_utf8_lossy(&top.stdout).into_owned();
    assert!(top.starts_with("1 task on 1 agent, "), "{top}");

    let agent = cluster.agent_address().to_owned();
    for path in ["/monitor/statistics", "/slave(1)/monitor/statistics.json", "/containers"] {
        let entry = only(cluster.get(&agent, path).expect("is there").as_bytes());
        assert_eq!(entry["executor_id"], "hungry", "{entry}");
        assert_eq!(entry["statistics"]["mem_limit_bytes"], 128 << 20, "{entry}");
        assert!(entry["statistics"]["cpus_user_time_secs"].as_f64() > Some(0.0), "{entry}");
        assert_eq!(entry.get("container_id").is_some(), path == "/containers", "{entry}");
    }
    let metrics = cluster.get(&agent, "/metrics").expect("is there");
    let labels = r#"executor="hungry",task="hungry",role="*"}"#;
    for name in ["mezzo_task_cpu_seconds_total", "mezzo_task_memory_anon_bytes"] {
        let line = metrics.lines().find(|line| line.starts_with(name) && line.contains(labels));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        assert!(value > Some(0.0), "{name}: {line:?}");
    }
    let over = cluster.mezzo(&["stats", "nobody"]).expect("runs");
    let message = String::from_utf8_lossy(&over.stderr).into_owned();
    assert!(message.contains("the master knows no task \"nobody\""), "{message}");
}

/// The value of a line of `/metrics` that begins so.
fn metric(metrics: &str, begin: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.starts_with(begin))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn what_the_kernel_counts_is_told_to_the_byte() {
    // Which port is free is the kernel's to say: other tests run beside this one.
    let flags = ["--ports-policy=enforce", "--ports-allow-ephemeral"].map(str::to_owned);
    let options = Options { agent_flags: flags.to_vec(), ..Options::default() };
    let mut cluster = Cluster::start(options).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("talker").shell(TRAFFIC));
    probe.until_running("talker").await;

    let stats = ["--output", "json", "stats", "--interval", "100ms", "talker"];
    let figures = cluster
        .wait("the task to be refused a port", |cluster| {
            let output = cluster.mezzo(&stats).ok()?;
            let failure = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{failure}");
            let figures = only(&output.stdout);
            (figures["port_denials"] != 0).then_some(figures)
        })
        .expect("it is");
    // 20 bytes of IPv4 and 8 of UDP each.
    for direction in ["in", "out"] {
        assert_eq!(figures[format!("net_ipv4_udp_{direction}_packets")], 1000, "{figures}");
        assert_eq!(figures[format!("net_ipv4_udp_{direction}_bytes")], 528_000, "{figures}");
        let tcp = figures[format!("net_ipv4_tcp_{direction}_bytes")].as_u64();
        // Both ends are the task's: data one way, and headers both ways.
        assert!(tcp > Some(1 << 20) && tcp < Some(2 << 20), "{figures}");
    }
    let off = figures["features_off"].to_string();
    assert!(!["network", "ports", "scheduler"].iter().any(|name| off.contains(name)), "{figures}");
    assert!(figures["run_queue_delay_p99_ns"].as_u64() >= Some(1024), "{figures}");
    assert!(figures["execs"].as_u64() > Some(0) && figures["denials"] == 1, "{figures}");
    let denial = &figures["recent_denials"][0];
    let expected = ["bind", "tcp", "ipv4", "perl"].map(Value::from);
    let told = ["call", "protocol", "family", "command"].map(|name| denial[name].clone());
    assert_eq!(told, expected, "{figures}");
    assert_eq!((&denial["port"], &denial["enforced"]), (&Value::from(30_999), &Value::from(true)));

    let table = cluster.mezzo(&["stats", "--interval", "100ms", "talker"]).expect("runs");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("ago: bind tcp/ipv4 port 30999 by perl (pid "), "{table}");
    let top = ["--output", "json", "top", "-n", "1", "-i", "100ms", "--sort", "net"];
    let top = only(&cluster.mezzo(&top).expect("runs").stdout);
    assert_eq!((&top["denials"], &top["net_ipv4_udp_in_bytes"]), (&1.into(), &528_000.into()));

    let agent = cluster.agent_address().to_owned();
    let entry = only(cluster.get(&agent, "/monitor/statistics").expect("is there").as_bytes());
    let statistics = &entry["statistics"];
    let sum = |direction: &str| {
        let of = |protocol: &str| figures[format!("net_{protocol}_{direction}_bytes")].as_u64();
        let all = ["ipv4_tcp", "ipv4_udp", "ipv4_other", "ipv6_tcp", "ipv6_udp", "ipv6_other"];
        all.into_iter().filter_map(of).sum::<u64>()
    };
    for (direction, told) in [("in", "net_rx_bytes"), ("out", "net_tx_bytes")] {
        let (told, before) = (statistics[told].as_u64().unwrap_or_default(), sum(direction));
        // The last acknowledgement of TCP may have come between.
        assert!((before..before + 1000).contains(&told), "{direction}: {before}, {entry}");
    }

    let udp = r#"family="ipv4",protocol="udp",direction="in"}"#;
    let of_all = format!("mezzo_tasks_network_bytes_total{{{udp}");
    let metrics = cluster.get(&agent, "/metrics").expect("is there");
    let framework = figures["framework_id"].as_str().expect("an id");
    let labels = format!(r#"framework="{framework}",executor="talker",task="talker",role="*""#);
    let line = format!("mezzo_task_network_bytes_total{{{labels},{udp}");
    assert_eq!(metric(&metrics, &line), Some(528_000.0), "{metrics}");
    let line = format!(r#"mezzo_task_run_queue_delay_seconds_bucket{{le="+Inf",{labels}"#);
    assert!(metric(&metrics, &line) > Some(0.0), "{metrics}");
    let line = format!(r#"mezzo_task_denials_total{{{labels},kind="port"}}"#);
    assert_eq!(metric(&metrics, &line), Some(1.0), "{metrics}");
    assert_eq!(metric(&metrics, &of_all), Some(528_000.0), "{metrics}");
    assert_eq!(metric(&metrics, r#"mezzo_ebpf_feature{feature="network"}"#), Some(1.0));
    assert_eq!(metric(&metrics, "mezzo_ebpf_entries "), Some(1.0));

    // What it used stays in the sums when it is gone.
    let kill = cluster.mezzo(&["kill", "talker"]).expect("runs");
    assert!(kill.status.success(), "{}", String::from_utf8_lossy(&kill.stderr));
    probe.until_state("talker", TaskState::TaskKilled).await;
    let metrics = cluster
        .wait("the task to leave the accounts", |cluster| {
            let metrics = cluster.get(&agent, "/metrics").ok()?;
            let departed = metric(&metrics, "mezzo_ebpf_departures_total") == Some(1.0);
            (departed && !metrics.contains("talker")).then_some(metrics)
        })
        .expect("it does");
    assert_eq!(metric(&metrics, &of_all), Some(528_000.0), "{metrics}");
}

#[tokio::test]
async fn what_is_not_counted_is_absent_and_said_to_be() {
    let flags = ["--ebpf=off", "--isolation=pids,namespaces"].map(str::to_owned);
    let options = Options { agent_flags: flags.to_vec(), ..Options::default() };
    let cluster = Cluster::start(options).expect("a cluster");
    let mut probe = Probe::connect(&cluster).await;
    probe.launch(task("quiet").shell("sleep 1000"));
    probe.until_running("quiet").await;
    let stats = ["--output", "json", "stats", "--interval", "100ms", "quiet"];
    let figures = only(&cluster.mezzo(&stats).expect("runs").stdout);
    let kernel = ["net_in_bytes", "block_read_bytes", "denials", "run_queue_delay_seconds"];
    for name in kernel.into_iter().chain(["cpus", "cpu_user_seconds", "mem_bytes"]) {
        assert_eq!(figures[name], Value::Null, "{name}: {figures}");
    }
    assert!(figures["threads"].as_u64() > Some(0), "{figures}");
    assert_eq!(figures["features_off"].as_array().map(Vec::len), Some(8), "{figures}");
    let table = cluster.mezzo(&["stats", "--interval", "100ms", "quiet"]).expect("runs");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("network: traffic is not counted, for it is switched off"), "{table}");
    let top = cluster.mezzo(&["top", "-n", "1", "-i", "100ms"]).expect("runs");
    let top = String::from_utf8_lossy(&top.stdout).into_owned();
    assert!(top.contains("; 1 agent cannot count all of it"), "{top}");
    let metrics = cluster.get(cluster.agent_address(), "/metrics").expect("is there");
    assert_eq!(metric(&metrics, r#"mezzo_ebpf_feature{feature="network"}"#), Some(0.0));
    assert!(metrics.contains("mezzo_task_threads{"), "{metrics}");
    for absent in ["network_bytes", "mezzo_task_memory", "mezzo_task_cpu_seconds"] {
        assert!(!metrics.contains(absent), "{absent}: {metrics}");
    }
}
