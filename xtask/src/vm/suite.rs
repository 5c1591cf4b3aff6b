//! The tests that run in the machine: with the programs that were built here.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use super::machine::Machine;
use super::quoted;
use crate::{cargo, host};

/// Most that the whole suite may take, boot included.
const LIMIT: Duration = Duration::from_secs(1500);
/// Most that one test program may take in it.
const PROGRAM_LIMIT_S: u32 = 900;
/// By how much the patience of the tests is stretched where the processor is translated.
const TIME_SCALE: &str = "5";

/// Tests of one program.
struct Part {
    package: &'static str,
    /// Of the target: a test, or the library.
    target: &'static str,
    /// Which of its tests; all without one.
    names: &'static [&'static str],
}

const PARTS: &[Part] = &[
    // All that the accounting does with the kernel.
    Part { package: "mezzo-agent-accounting", target: "kernel", names: &[] },
    // Limits, kills and usage where all controllers are in the v2 tree.
    Part {
        package: "mezzo-agent",
        target: "mezzo_agent",
        names: &["accounts::", "cgroups::", "containerizer::", "isolators::"],
    },
    // The whole, as processes; not the crowds, which take minutes where the processor is translated.
    Part {
        package: "mezzo-tests",
        target: "e2e",
        names: &[
            "gpus::",
            "guards::",
            "survival::",
            "tasks::a_",
            "tasks::exit_codes",
            "tasks::the_environment",
            "usage::",
        ],
    },
];

/// Builds what is missing, boots once, runs it all.
///
/// # Errors
/// When building or the machine fails, or a test does.
pub fn run() -> Result<()> {
    host::prepare_to_test()?;
    host::prepare_machine()?;
    let programs = programs()?;
    let mut script = String::from("failed=0\n");
    for part in PARTS {
        let key = (part.package.to_owned(), part.target.to_owned());
        let (path, directory) = programs.get(&key).with_context(|| {
            format!("cargo builds no test program {} of {}", part.target, part.package)
        })?;
        check_names(path, part.names)?;
        writeln!(script, "cd {}", quoted(&directory.display().to_string()))?;
        writeln!(script, "echo; echo '== {}, {}'", part.package, part.target)?;
        write!(script, "timeout --kill-after=10 {PROGRAM_LIMIT_S} ")?;
        write!(script, "{}", quoted(&path.display().to_string()))?;
        for name in part.names {
            write!(script, " {}", quoted(name))?;
        }
        writeln!(script, " || {{ echo \"ended with $?\"; failed=1; }}")?;
    }
    writeln!(script, "exit $failed")?;
    let line = format!("export MEZZO_TEST_TIME_SCALE={TIME_SCALE}\n{script}");
    match Machine::new(Kernel::prepare()?).run(&line, LIMIT)? {
        0 => Ok(()),
        code => bail!("tests failed in the virtual machine (code {code}); see above"),
    }
}

/// Whether each name stands for some test: one that was renamed must not be left out in silence.
fn check_names(program: &Path, names: &[&str]) -> Result<()> {
    let mut list = Command::new(program);
    list.arg("--list");
    let tests = cargo::read(list)?;
    for name in names {
        if !tests.lines().any(|line| line.ends_with(": test") && line.contains(name)) {
            bail!("{program:?} has no test '{name}'; mend the list in xtask/src/vm/suite.rs");
        }
    }
    Ok(())
}

/// Each test program by package and target: where it is, and the package's directory, which `cargo test` runs it in.
fn programs() -> Result<BTreeMap<(String, String), (PathBuf, PathBuf)>> {
    // The whole workspace, examples and binaries too: as `cargo xtask test` builds it, which leaves nothing to do here.
    cargo::run(cargo::command(["build", "--workspace", "--all-targets", "--locked"]))?;
    let arguments =
        ["test", "--workspace", "--locked", "--no-run", "--quiet", "--message-format=json"];
    let mut programs = BTreeMap::new();
    for line in cargo::read(cargo::command(arguments))?.lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).context("cargo wrote something that is no JSON")?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let Some(executable) = text(&message["executable"]) else { continue };
        if message["profile"]["test"] != true {
            continue;
        }
        let manifest = text(&message["manifest_path"]).map(PathBuf::from);
        let directory = manifest.and_then(|path| Some(path.parent()?.to_owned()));
        let package = text(&message["package_id"]).as_deref().and_then(package_name);
        let target = text(&message["target"]["name"]);
        if let (Some(directory), Some(package), Some(target)) = (directory, package, target) {
            programs.insert((package, target), (executable.into(), directory));
        }
    }
    Ok(programs)
}

/// Of an id such as `path+file:///m/agent#mezzo-agent@0.1.0`, or `path+file:///m/mezzo-agent#0.1.0`, where the
/// directory has the package's name.
fn package_name(id: &str) -> Option<String> {
    let (path, version) = id.rsplit_once('#')?;
    let name = match version.split_once('@') {
        Some((name, _)) => name,
        None => path.rsplit('/').next()?,
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::package_name;

    #[test]
    fn both_kinds_of_ids_have_the_name() {
        let name = |id| package_name(id).expect("a name");
        assert_eq!(name("path+file:///m/agent#mezzo-agent@0.1.0"), "mezzo-agent");
        assert_eq!(name("path+file:///m/xtask#0.1.0"), "xtask");
    }
}
