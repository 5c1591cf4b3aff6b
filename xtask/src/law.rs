//! The dependency law: which crate may know which.
//!
//! 1. *Pure*: the cores, the allocator, types and status updates do no I/O, so nothing that could
//!    is among their dependencies, however deep.
//! 2. *Wall*: master and agent meet only in shared crates, the command line tool, tests and
//!    benches.
//! 3. *One importer*: RocksDB is opened by the store, raft run by the replicated log, and so on.
//!    Simulated agents have none: they are a program beside the product.
//! 4. *Thin xtask*: it depends on no product crate.
//! 5. *Lints*: every crate takes the workspace's, or is listed here with the reason.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo;

const PURE: &[&str] = &[
    "mezzo-types",
    "mezzo-status-updates",
    "mezzo-master-allocator",
    "mezzo-master-core",
    "mezzo-agent-core",
];

/// I/O, clocks, randomness, threads. A name stands for every crate whose name it is, or begins
/// with it and a dash (`tokio` also bans `tokio-util`).
const IMPURE: &[&str] = &[
    "tokio",
    "async-io",
    "smol",
    "tonic",
    "hyper",
    "axum",
    "tower",
    "rocksdb",
    "librocksdb-sys",
    "raft",
    "nix",
    "libc",
    "rustix",
    "mio",
    "socket2",
    "rand",
    "getrandom",
    "fastrand",
    "uuid",
    "chrono",
    "time",
    "cgroups-rs",
    "ureq",
    "tempfile",
    "signal-hook",
    "tracing-subscriber",
];

/// Crate, and who alone may depend on it.
const ONE_IMPORTER: &[(&str, &str)] = &[
    ("rocksdb", "mezzo-store"),
    ("raft", "mezzo-replicated-log"),
    ("cgroups-rs", "mezzo-agent"),
    ("nvml-wrapper", "mezzo-agent"),
    ("aya", "mezzo-agent-accounting"),
    ("tracing-subscriber", "mezzo-telemetry"),
];

/// Programs beside the product: no crate is built on them.
const APART: &[&str] = &["mezzo-agent-simulated"];

/// Where both sides of the wall may be used.
const MEETING_PLACES: &[&str] = &["mezzo", "mezzo-tests", "mezzo-tests-sim", "mezzo-benches"];

/// Crates with lint tables of their own.
const OWN_LINTS: &[(&str, &str)] = &[
    ("mezzo-agent-sys", "the one library with unsafe code: it wraps system calls"),
    ("mezzo-agent-launcher", "its child runs between fork and exec, and its init has no libc"),
];

/// `cargo xtask law`.
///
/// # Errors
/// When the law is broken, with every breach; when cargo cannot say what depends on what.
pub fn run() -> Result<()> {
    let workspace = Workspace::read()?;
    let breaches = workspace.breaches();
    if !breaches.is_empty() {
        bail!("the dependency law is broken:\n  {}", breaches.join("\n  "));
    }
    let pure = workspace.deep.len();
    println!("the dependency law holds: {} crates, {pure} of them pure", workspace.members.len());
    Ok(())
}

/// What the law looks at.
#[derive(Default)]
struct Workspace {
    members: BTreeMap<String, Member>,
    /// All that a pure crate depends on, however deep.
    deep: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Default)]
struct Member {
    /// Direct dependencies of the crate itself, not of its tests or its build script.
    dependencies: BTreeSet<String>,
    takes_workspace_lints: bool,
}

impl Workspace {
    fn read() -> Result<Self> {
        let arguments = ["metadata", "--no-deps", "--format-version", "1"];
        let metadata = cargo::read(cargo::command(arguments))?;
        let metadata: Value = serde_json::from_str(&metadata).context("cargo wrote no JSON")?;
        let packages = metadata["packages"].as_array().context("cargo names no packages")?;
        let mut workspace = Workspace::default();
        for package in packages {
            let name = package["name"].as_str().context("a package has no name")?;
            let manifest =
                package["manifest_path"].as_str().context("a package has no manifest")?;
            let manifest = std::fs::read_to_string(manifest)
                .with_context(|| format!("cannot read {manifest}"))?;
            let dependencies = package["dependencies"].as_array().into_iter().flatten();
            let member = Member {
                dependencies: dependencies
                    .filter(|dependency| dependency["kind"].is_null())
                    .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
                    .collect(),
                takes_workspace_lints: takes_workspace_lints(&manifest),
            };
            workspace.members.insert(name.to_owned(), member);
        }
        for name in PURE {
            // Not from `metadata`, which unites the features that all members ask for.
            let arguments = ["tree", "--package", name, "--edges", "normal", "--prefix", "none"];
            let tree = cargo::read(cargo::command(arguments))?;
            let all = tree.lines().filter_map(|line| line.split_whitespace().next());
            let deep = all.filter(|crate_name| crate_name != name).map(str::to_owned).collect();
            workspace.deep.insert(name.to_string(), deep);
        }
        Ok(workspace)
    }

    fn breaches(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        for (name, deep) in &self.deep {
            for impure in deep.iter().filter(|dependency| is_impure(dependency)) {
                breaches.push(format!("{name} is pure, but depends on {impure}"));
            }
        }
        for (name, member) in &self.members {
            for dependency in &member.dependencies {
                breaches.extend(self.breach(name, dependency));
            }
            let may = OWN_LINTS.iter().any(|(own, _)| own == name);
            if !member.takes_workspace_lints && !may {
                breaches.push(format!("{name} lacks `[lints] workspace = true`"));
            }
        }
        breaches
    }

    fn breach(&self, name: &str, dependency: &str) -> Option<String> {
        let meets = MEETING_PLACES.contains(&name);
        let sides = (side(name), side(dependency));
        if let (own, Some(other)) = sides
            && own != Some(other)
            && !meets
        {
            return Some(format!(
                "{name} is not of the {other}'s side, but depends on {dependency}"
            ));
        }
        if name == "xtask" && self.members.contains_key(dependency) {
            return Some(format!("xtask links no product crate, but depends on {dependency}"));
        }
        if APART.contains(&dependency) {
            return Some(format!("{dependency} is no part of anything, but {name} depends on it"));
        }
        let owner = ONE_IMPORTER.iter().find(|(only, _)| *only == dependency)?.1;
        (name != owner)
            .then(|| format!("{dependency} is for {owner} only, but {name} depends on it"))
    }
}

/// The side of the wall that a crate is on.
fn side(name: &str) -> Option<&'static str> {
    ["master", "agent"].into_iter().find(|side| {
        let of_side = name.strip_prefix("mezzo-").and_then(|rest| rest.strip_prefix(side));
        of_side.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

fn is_impure(name: &str) -> bool {
    IMPURE.iter().any(|impure| {
        name.strip_prefix(impure).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

fn takes_workspace_lints(manifest: &str) -> bool {
    let lines = Vec::from_iter(manifest.lines().map(str::trim));
    lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(dependencies: &[&str]) -> Member {
        let dependencies = dependencies.iter().map(|name| name.to_string()).collect();
        Member { dependencies, takes_workspace_lints: true }
    }

    fn workspace(members: &[(&str, &[&str])]) -> Workspace {
        let members = members.iter().map(|(name, of)| (name.to_string(), member(of)));
        Workspace { members: members.collect(), deep: BTreeMap::new() }
    }

    #[test]
    fn what_is_as_designed_passes() {
        let mut lawful = workspace(&[
            ("mezzo", &["mezzo-master", "mezzo-agent", "tokio"]),
            ("mezzo-master", &["mezzo-master-core", "mezzo-types", "tokio"]),
            ("mezzo-agent", &["mezzo-agent-core", "mezzo-types", "cgroups-rs"]),
            ("mezzo-agent-simulated", &["mezzo-agent-core", "mezzo-types", "tokio"]),
            ("mezzo-store", &["rocksdb"]),
            ("xtask", &["anyhow"]),
        ]);
        let pure = BTreeSet::from(["prost".to_owned(), "thiserror".to_owned()]);
        lawful.deep.insert("mezzo-types".to_owned(), pure);
        assert_eq!(lawful.breaches(), Vec::<String>::new());
    }

    #[test]
    fn each_breach_is_named() {
        let cases: &[(&str, &str, &str)] = &[
            ("mezzo-master", "mezzo-agent-core", "agent's side"),
            ("mezzo-agent", "mezzo-master", "master's side"),
            ("mezzo-types", "mezzo-master-core", "master's side"),
            ("mezzo-master", "rocksdb", "for mezzo-store only"),
            ("mezzo-agent", "raft", "for mezzo-replicated-log only"),
            ("xtask", "mezzo-types", "links no product crate"),
            ("mezzo", "mezzo-agent-simulated", "no part of anything"),
        ];
        for (name, dependency, expected) in cases {
            let broken = workspace(&[(name, &[dependency]), ("mezzo-types", &[])]);
            let broken = match *name {
                "mezzo-types" => workspace(&[(name, &[dependency])]),
                _ => broken,
            };
            let breaches = broken.breaches();
            assert_eq!(breaches.len(), 1, "{name} -> {dependency}: {breaches:?}");
            assert!(breaches[0].contains(expected), "{breaches:?} does not say `{expected}`");
        }
    }

    #[test]
    fn impurity_is_found_however_deep() {
        let mut broken = workspace(&[("mezzo-master-core", &["mezzo-types"])]);
        let deep = ["mezzo-types", "tokio-util", "raft-proto"].map(str::to_owned);
        broken.deep.insert("mezzo-master-core".to_owned(), deep.into());
        let breaches = broken.breaches();
        assert_eq!(breaches.len(), 2, "{breaches:?}");
        assert!(breaches.iter().any(|breach| breach.ends_with("depends on tokio-util")));
        assert!(!is_impure("randomness") && !is_impure("timeless") && is_impure("time"));
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        let mut broken = workspace(&[("mezzo-types", &[]), ("mezzo-agent-sys", &[])]);
        for member in broken.members.values_mut() {
            member.takes_workspace_lints = false;
        }
        assert_eq!(broken.breaches(), ["mezzo-types lacks `[lints] workspace = true`"]);
        assert!(takes_workspace_lints("[package]\n\n[lints]\nworkspace = true\n"));
        assert!(!takes_workspace_lints("[lints.rust]\nunsafe_code = \"allow\"\n"));
    }
}
