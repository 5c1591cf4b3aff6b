//! `cargo xtask dist`: the Debian package.
//!
//! The binaries are optimised (`docs/decisions/0002-two-profiles.md`) and stripped; what is in the package beside
//! them lies in `packaging/` and `docs/`. The same inputs make the same bytes.

mod tree;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use self::tree::Tree;
use crate::{cargo, host};

/// Shells, and where Debian keeps what completes a command in them.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/mezzo"),
    ("fish", "usr/share/fish/vendor_completions.d/mezzo.fish"),
    ("zsh", "usr/share/zsh/vendor-completions/_mezzo"),
];

/// Files of the repository, and where they are installed.
const FILES: &[(&str, &str)] = &[
    ("packaging/mezzo-agent.service", "usr/lib/systemd/system/mezzo-agent.service"),
    ("packaging/mezzo-master.service", "usr/lib/systemd/system/mezzo-master.service"),
    ("packaging/mezzo.sysusers", "usr/lib/sysusers.d/mezzo.conf"),
    ("packaging/mezzo-agent.default", "etc/default/mezzo-agent"),
    ("packaging/mezzo-master.default", "etc/default/mezzo-master"),
    ("packaging/debian/copyright", "usr/share/doc/mezzo/copyright"),
    ("docs/install.md", "usr/share/doc/mezzo/install.md"),
];

/// What dpkg runs and reads.
const CONTROL: &[(&str, bool)] =
    &[("conffiles", false), ("postinst", true), ("prerm", true), ("postrm", true)];

/// What to package.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Profile of the binaries; `dev` takes what the tests have built
    #[arg(long, default_value = "release")]
    profile: String,

    /// Debian's revision of the version
    #[arg(long, default_value_t = 1)]
    revision: u32,

    /// Directory of the package [default: target/dist]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Builds the binaries and the package, and prints the package's path.
///
/// # Errors
/// When a step fails.
pub fn run(options: &Options) -> Result<()> {
    host::prepare_to_package()?;
    // What `cargo build` gives a user: no feature that only tests ask for is in it.
    let mut build = cargo::command(["build", "--locked", "--profile"]);
    build.arg(&options.profile);
    cargo::run(build)?;

    let project = Project::read(&options.profile)?;
    let output = match &options.output {
        Some(directory) => directory.clone(),
        None => project.target.join("dist"),
    };
    std::fs::create_dir_all(&output).with_context(|| format!("cannot make {output:?}"))?;
    let package = package(&project, options.revision, &output)?;
    println!("{}", package.display());
    Ok(())
}

/// What cargo and git know.
struct Project {
    version: String,
    target: PathBuf,
    binaries: PathBuf,
    /// Seconds since 1970 that files in the package are not younger than.
    epoch: String,
}

impl Project {
    fn read(profile: &str) -> Result<Self> {
        let metadata =
            cargo::read(cargo::command(["metadata", "--no-deps", "--format-version=1"]))?;
        let metadata: Value = serde_json::from_str(&metadata).context("cargo wrote no JSON")?;
        let target = metadata["target_directory"].as_str().context("cargo names no target")?;
        let packages = metadata["packages"].as_array().context("cargo names no packages")?;
        let mezzo = packages.iter().find(|package| package["name"] == "mezzo");
        let version = mezzo.and_then(|package| package["version"].as_str());
        let version = version.context("cargo names no version of mezzo")?.to_owned();
        let target = PathBuf::from(target);
        let binaries = target.join(if profile == "dev" { "debug" } else { profile });
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => {
                let mut log = Command::new("git");
                log.args(["log", "-1", "--format=%ct"]).current_dir(cargo::root());
                cargo::read(log).context("set SOURCE_DATE_EPOCH where there is no git")?
            }
        };
        Ok(Self { version, target, binaries, epoch: epoch.trim().to_owned() })
    }
}

fn package(project: &Project, revision: u32, output: &Path) -> Result<PathBuf> {
    let version = format!("{}-{revision}", project.version);
    let staging = tempfile::tempdir().context("cannot make a temporary directory")?;
    let tree = Tree::new(staging.path().join("package"))?;

    for name in ["mezzo", "mezzo-launcher"] {
        let built = project.binaries.join(name);
        let mut strip = Command::new("strip");
        let place = tree.place(&format!("usr/bin/{name}"), true, b"")?;
        strip.args(["--strip-unneeded", "--remove-section=.comment", "-o"]).arg(&place).arg(&built);
        cargo::run(strip)?;
    }
    for (source, place) in FILES {
        let path = cargo::root().join(source);
        let content = std::fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
        tree.place(place, false, &content)?;
    }
    let mezzo = tree.path("usr/bin/mezzo");
    for (shell, place) in COMPLETIONS {
        let mut completion = Command::new(&mezzo);
        completion.args(["completion", shell]);
        tree.place(place, false, cargo::read(completion)?.as_bytes())?;
    }
    tree.compress("usr/share/doc/mezzo/changelog.Debian", &changelog(&version, &project.epoch)?)?;

    let depends = shared_libraries(staging.path(), &tree)?;
    for (name, executable) in CONTROL {
        let path = cargo::root().join("packaging/debian").join(name);
        let content = std::fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
        tree.place(&format!("DEBIAN/{name}"), *executable, &content)?;
    }
    tree.place("DEBIAN/md5sums", false, tree.sums()?.as_bytes())?;
    let architecture = cargo::read(command("dpkg", &["--print-architecture"]))?;
    let architecture = architecture.trim();
    let control = control(&version, architecture, &depends, tree.kilobytes()?);
    tree.place("DEBIAN/control", false, control.as_bytes())?;

    let package = output.join(format!("mezzo_{version}_{architecture}.deb"));
    let mut build = command("dpkg-deb", &["--root-owner-group", "-Zxz", "-z3", "--build"]);
    // It clamps the times of files to this.
    build.env("SOURCE_DATE_EPOCH", &project.epoch).arg(tree.root()).arg(&package);
    cargo::run(build)?;
    Ok(package)
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// The packages of the libraries that the binaries are linked with.
fn shared_libraries(staging: &Path, tree: &Tree) -> Result<String> {
    // The tool wants the control file of a source package beside it, and reads nothing in it.
    let debian = staging.join("debian");
    let write = || {
        std::fs::create_dir(&debian)?;
        std::fs::write(
            debian.join("control"),
            "Source: mezzo\n\nPackage: mezzo\nArchitecture: any\n",
        )
    };
    write().with_context(|| format!("cannot write to {debian:?}"))?;
    let mut ask = command("dpkg-shlibdeps", &["-O"]);
    for name in ["mezzo", "mezzo-launcher"] {
        ask.arg(tree.path(&format!("usr/bin/{name}")));
    }
    let said = cargo::read({
        ask.current_dir(staging);
        ask
    })?;
    let depends = said.trim().strip_prefix("shlibs:Depends=").map(str::to_owned);
    let depends = depends.context("dpkg-shlibdeps did not say what the binaries depend on")?;
    ensure!(!depends.is_empty(), "the binaries should depend on the C library at least");
    Ok(depends)
}

fn control(version: &str, architecture: &str, depends: &str, kilobytes: u64) -> String {
    format!(
        "Package: mezzo\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: The Mezzo authors <mezzo@localhost>\n\
         Installed-Size: {kilobytes}\n\
         Depends: {depends}, systemd\n\
         Section: admin\n\
         Priority: optional\n\
         Description: datacenter kernel with two-level scheduling\n \
         A master offers the resources of many machines to frameworks, frameworks decide\n \
         what runs where, and an agent on each machine isolates and runs it. Clients of\n \
         Apache Mesos' v1 HTTP API work unchanged.\n \
         .\n \
         The package holds the master, the agent and the command line. Neither daemon is\n \
         enabled by the installation: see /usr/share/doc/mezzo/install.md.\n"
    )
}

fn changelog(version: &str, epoch: &str) -> Result<Vec<u8>> {
    let mut date = command("date", &["--utc", "--rfc-email"]);
    date.env("LC_ALL", "C").arg(format!("--date=@{epoch}"));
    let date = cargo::read(date)?;
    let text = format!(
        "mezzo ({version}) stable; urgency=medium\n\n  * Built from the sources of this version.\n\n \
         -- The Mezzo authors <mezzo@localhost>  {}\n",
        date.trim()
    );
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_file_has_its_fields_and_a_folded_description() {
        let text = control("0.1.0-2", "amd64", "libc6 (>= 2.34)", 12_345);
        assert!(text.contains("\nVersion: 0.1.0-2\n"));
        assert!(text.contains("\nDepends: libc6 (>= 2.34), systemd\n"));
        let (_, description) = text.split_once("\nDescription: ").expect("a description");
        assert!(description.lines().skip(1).all(|line| line.starts_with(' ')), "{description}");
    }

    #[test]
    fn all_sources_of_the_package_are_there() {
        let control = CONTROL.iter().map(|(name, _)| format!("packaging/debian/{name}"));
        for source in FILES.iter().map(|(source, _)| (*source).to_owned()).chain(control) {
            assert!(cargo::root().join(&source).is_file(), "{source}");
        }
    }
}
