//! The harness, let loose for a few minutes: a schedule that is always the same, and one that never
//! was before. Needs root and the binaries of the whole workspace, as `cargo xtask test` builds them.

use std::process::Command;

fn kill(arguments: &[&str]) {
    let status = Command::new(env!("CARGO_BIN_EXE_mezzo-kills")).args(arguments).status();
    assert!(status.expect("starts").success(), "see above");
}

#[test]
fn nothing_is_lost_whoever_is_killed() {
    kill(&["--kills", "60", "--seed", "1"]);
    kill(&["--kills", "40"]);
}
