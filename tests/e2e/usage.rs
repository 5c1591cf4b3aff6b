//! What tasks use, by every way in which it can be asked.

use mezzo_tests::{Cluster, Options};

use crate::framework::{Probe, task};

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
