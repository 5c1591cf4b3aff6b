//! The rival: `crun run`, with the namespaces and limits that a task of ours gets.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use super::PROGRAM;

/// Runs the bundle `$1` as many times as each line says, and answers with the number that worked.
/// crun refuses machines that have cgroup v1 and v2 mounted, so v2 is hidden from it, in a mount
/// namespace of its own.
const SCRIPT: &str = r#"
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
while read count; do
    worked=0
    for n in $(seq "$count"); do
        crun run --bundle "$1" "mezzo-bench-$$-$n" && worked=$((worked + 1))
    done
    echo "$worked"
done
"#;

/// A shell that runs containers whenever it is asked to.
pub struct Crun {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _bundle: TempDir,
}

impl Crun {
    /// # Errors
    /// When the bundle cannot be written or the shell cannot be started.
    pub fn start() -> Result<Crun> {
        let bundle = tempfile::Builder::new().prefix("mezzo-crun-").tempdir();
        let bundle = bundle.context("cannot make a directory for crun")?;
        let root = bundle.path().join("rootfs");
        for directory in ["usr", "proc", "dev", "tmp"] {
            fs::create_dir_all(root.join(directory)).context("cannot make crun's root")?;
        }
        for name in ["bin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), root.join(name)).context("cannot make crun's root")?;
        }
        fs::write(bundle.path().join("config.json"), config().to_string())
            .context("cannot write crun's configuration")?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", SCRIPT, "sh"]).arg(bundle.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a shell for crun")?;
        let answers = child.stdout.take().context("the shell has no output")?;
        let orders = child.stdin.take();
        Ok(Crun { child, orders, answers: BufReader::new(answers), _bundle: bundle })
    }

    /// So many containers, one after the other: the time for all of them.
    ///
    /// # Errors
    /// When any of them did not work.
    pub fn run(&mut self, count: usize) -> Result<Duration> {
        let orders = self.orders.as_mut().context("crun's shell has ended")?;
        let begin = Instant::now();
        writeln!(orders, "{count}").context("crun's shell does not listen")?;
        let mut line = String::new();
        self.answers.read_line(&mut line).context("cannot read what crun's shell says")?;
        let time = begin.elapsed();
        ensure!(line.trim() == count.to_string(), "{line:?} of {count} runs of crun worked");
        Ok(time)
    }
}

impl Drop for Crun {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.child.wait();
    }
}

fn config() -> serde_json::Value {
    let namespaces = ["pid", "mount", "uts", "ipc", "cgroup"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": [PROGRAM],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
        },
        "root": { "path": "rootfs" },
        "hostname": "floor",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/usr", "type": "bind", "source": "/usr", "options": ["bind", "ro"] },
        ],
        "linux": {
            "resources": {
                "memory": { "limit": 67_108_864 },
                "cpu": { "shares": 512 },
                "pids": { "limit": 64 },
            },
            "namespaces": namespaces,
        },
    })
}
