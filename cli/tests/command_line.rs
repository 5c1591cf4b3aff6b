//! The binary as a user meets it before there is any cluster.

use std::net::TcpListener;
use std::process::{Command, Output};

fn mezzo(arguments: &[&str], master: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mezzo"));
    command.args(arguments).env_remove("MEZZO_MASTER").env_remove("NO_COLOR");
    if let Some(master) = master {
        command.env("MEZZO_MASTER", master);
    }
    command.output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// An address where nothing listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address").to_string()
}

#[test]
fn without_a_master_every_command_names_the_address_and_the_way_out() {
    let address = nowhere();
    for arguments in [
        &["ps"][..],
        &["agents", "--output", "json"],
        &["frameworks"],
        &["logs", "t"],
        &["kill", "t"],
        &["run", "--user", "nobody", "--", "true"],
    ] {
        let output = mezzo(arguments, Some(&address));
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        let stderr = text(&output.stderr);
        let first = format!("error: no master answers at {address}; `mezzo dev` starts one\n");
        assert!(stderr.starts_with(&first), "{arguments:?}: {stderr}");
        assert!(stderr.contains("Connection refused"), "{arguments:?}: {stderr}");
        assert!(stderr.contains("hint: --master HOST:PORT or MEZZO_MASTER"), "{stderr}");
    }
}

#[test]
fn the_option_comes_before_the_environment() {
    let (wanted, other) = (nowhere(), nowhere());
    for arguments in [&["--master", &wanted, "ps"], &["ps", "--master", &wanted]] {
        let output = mezzo(arguments, Some(&other));
        let stderr = text(&output.stderr);
        assert!(stderr.contains(&wanted) && !stderr.contains(&other), "{stderr}");
    }
}

#[test]
fn a_malformed_address_is_quoted_with_the_rule() {
    let output = mezzo(&["ps", "--master", "host:99999"], None);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    let expect = "error: address \"host:99999\" of the master is not of the form host:port: \
                  the port is not a number from 1 to 65535\n";
    assert!(stderr.starts_with(expect), "{stderr}");
}

#[test]
fn wrong_usage_ends_with_two() {
    for arguments in [
        &[][..],
        &["run"],
        &["run", "true"],
        &["run", "--cpus", "-1", "--", "true"],
        &["nonsense"],
        &["ps", "--output", "xml"],
    ] {
        let output = mezzo(arguments, None);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        assert!(text(&output.stderr).contains("--help"), "{arguments:?}");
    }
}

#[test]
fn help_and_completion_go_to_stdout() {
    let help = mezzo(&["run", "--help"], None);
    assert!(help.status.success());
    assert!(text(&help.stdout).contains("--instances <N>"));
    let script = mezzo(&["completion", "bash"], None);
    assert!(script.status.success());
    assert!(text(&script.stdout).contains("mezzo"));
}
