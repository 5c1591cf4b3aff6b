//! `cargo xtask test`: what CI runs.

use anyhow::Result;

use crate::steps::Steps;
use crate::{cargo, ebpf, host, kills, verify, vm};

/// `full`: and the suite of the virtual machine.
///
/// # Errors
/// When a step fails.
pub fn run(full: bool) -> Result<()> {
    let mut steps = Steps::default();
    if !steps.run("host", host::prepare_to_test) {
        return steps.finish();
    }
    verify::all(&mut steps);
    // All binaries first: the end-to-end tests start `mezzo` and `mezzo-launcher` as processes.
    let built = steps.run("build", || {
        cargo::run(cargo::command(["build", "--workspace", "--all-targets", "--locked"]))
    });
    if built {
        // All test programs run even if one fails: one round says everything.
        let arguments = ["test", "--workspace", "--locked", "--no-fail-fast"];
        steps.run("tests", || cargo::run(cargo::command(arguments)));
        if full {
            steps.run("virtual machine", vm::suite);
        }
        // A schedule that is always the same, and one that never was before. Apart, as it needs the build with
        // fault points, and the test of the package has put others in its place.
        steps.run("kills", || {
            kills::run(&kills::Options { seed: Some(1), kills: 60, ..kills::Options::default() })?;
            kills::run(&kills::Options { kills: 40, ..kills::Options::default() })
        });
        // Apart, so that nothing else is ever built with the mistakes in it.
        let feature = ["--features", "mezzo-tests-sim/deliberate-bugs"];
        let arguments = ["test", "--workspace", "--locked", "--test", "deliberate_bugs"];
        steps.run("deliberate bugs", || {
            cargo::run(cargo::command(arguments.into_iter().chain(feature)))
        });
    }
    // Last, for it has a compiler of its own to find or install.
    steps.run("ebpf object", ebpf::check);
    steps.finish()
}
