//! QEMU, the daemon that serves it files, and their end.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempDir;

use super::kernel::Kernel;
use super::{archive, quoted};
use crate::cargo;

/// Enough for the suite and what it writes; the host's files are cached in it too.
const MEMORY: &str = "3072M";
const PROCESSORS: &str = "2";
/// Of the disk, a sparse file.
const DISK_BYTES: u64 = 8 << 30;
/// Where QEMU's package has the daemon, and where the package of that name has it.
const FILE_SERVERS: [&str; 2] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"];
/// The daemon's socket is there at once, or not at all.
const SERVER_START: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);
/// Variables of the caller that a command finds.
const KEPT: [&str; 7] =
    ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUST_LOG", "RUST_BACKTRACE", "LANG"];

/// A machine that was not started yet.
pub struct Machine {
    kernel: Kernel,
}

impl Machine {
    pub fn new(kernel: Kernel) -> Self {
        Machine { kernel }
    }

    /// Boots, runs a line for the shell in the caller's directory, and turns off. What it writes goes to standard output
    /// as it comes; the result is its code.
    ///
    /// # Errors
    /// When the machine does not start, ends without a code (the error has the end of its console), or takes longer
    /// than `limit`.
    pub fn run(&self, line: &str, limit: Duration) -> Result<u8> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .context("cannot watch for signals")?;
        }
        let work = cargo::root().join("target/vm");
        std::fs::create_dir_all(&work).with_context(|| format!("cannot make {work:?}"))?;
        let work = tempfile::Builder::new().prefix("run-").tempdir_in(&work);
        let work = work.context("cannot make a directory below target/vm")?;
        let path = work.path();
        let boot = path.join("boot.cpio");
        std::fs::write(&boot, archive::build(&self.kernel, &script(line)?)?)
            .with_context(|| format!("cannot write {boot:?}"))?;
        disk(&path.join("disk"))?;
        let _server = serve_files(path)?;
        let accelerator = Accelerator::probe();
        eprintln!(
            "$ qemu-system-x86_64 (Linux {}, {})",
            self.kernel.release,
            accelerator.description()
        );
        let mut qemu =
            Running(self.qemu(&work, &accelerator).spawn().context("cannot start QEMU")?);
        let written = qemu.0.stdout.take().context("QEMU has no output")?;
        let copier = std::thread::spawn(move || copy(written));
        let ended = until_ended(&mut qemu.0, limit, &interrupted);
        drop(qemu);
        // Ends with the pipe, which QEMU had.
        let _ = copier.join();
        let status = ended.with_context(|| format!("the machine was ended{}", console(path)))?;
        let code = std::fs::read_to_string(path.join("code")).unwrap_or_default();
        match code.trim().parse() {
            Ok(code) => Ok(code),
            Err(_) => {
                let how = match status.signal() {
                    Some(signal) => format!("QEMU was ended by signal {signal}"),
                    None => "the machine ended".to_owned(),
                };
                bail!("{how} before the command did{}", console(path))
            }
        }
    }

    fn qemu(&self, work: &TempDir, accelerator: &Accelerator) -> Command {
        let path = |name: &str| work.path().join(name).display().to_string();
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-machine", "q35", "-m", MEMORY, "-smp", PROCESSORS]);
        qemu.args(accelerator.arguments());
        qemu.args(["-display", "none", "-vga", "none", "-net", "none", "-no-reboot"]);
        qemu.args(["-monitor", "none"]);
        // The daemon reads and writes the machine's memory.
        qemu.args([
            "-object",
            &format!("memory-backend-memfd,id=memory,size={MEMORY},share=on"),
            "-numa",
            "node,memdev=memory",
            "-chardev",
            &format!("socket,id=files,path={}", path("files.socket")),
            "-device",
            "vhost-user-fs-pci,chardev=files,tag=host",
        ]);
        qemu.args([
            "-drive",
            &format!("file={},if=none,id=disk,format=raw,cache=unsafe", path("disk")),
            "-device",
            "virtio-blk-pci,drive=disk",
        ]);
        qemu.args(["-serial", &format!("file:{}", path("console"))]);
        // What the command writes goes to a pipe, its code to a file.
        qemu.args([
            "-device",
            "virtio-serial-pci",
            "-chardev",
            "file,id=output,path=/dev/stdout",
            "-device",
            "virtserialport,chardev=output,name=output",
            "-chardev",
            &format!("file,id=code,path={}", path("code")),
            "-device",
            "virtserialport,chardev=code,name=code",
        ]);
        qemu.arg("-kernel").arg(&self.kernel.image).args(["-initrd", &path("boot.cpio")]);
        qemu.args(["-append", "console=ttyS0 panic=-1 quiet mitigations=off cgroup_no_v1=all"]);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        qemu
    }
}

/// How the processor is had.
enum Accelerator {
    /// By the real one.
    Kvm,
    /// By translation, some ten to fifty times slower.
    Translation,
}

impl Accelerator {
    /// KVM where the processor's own extension drives it. On a machine that is itself a guest `/dev/kvm` may open and
    /// a stock kernel hang all the same.
    fn probe() -> Self {
        let driver = ["kvm_intel", "kvm_amd"]
            .iter()
            .any(|name| Path::new("/sys/module").join(name).exists());
        let opens = || File::options().read(true).write(true).open("/dev/kvm").is_ok();
        if driver && opens() { Accelerator::Kvm } else { Accelerator::Translation }
    }

    fn description(&self) -> &'static str {
        match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Translation => "translated, as there is no KVM that boots it",
        }
    }

    fn arguments(&self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accelerator::Translation => {
                ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off"]
            }
        }
    }
}

/// Waits for QEMU to end by itself.
fn until_ended(qemu: &mut Child, limit: Duration, interrupted: &AtomicBool) -> Result<ExitStatus> {
    let begin = Instant::now();
    loop {
        if let Some(status) = qemu.try_wait().context("cannot wait for QEMU")? {
            return Ok(status);
        }
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if begin.elapsed() > limit {
            bail!("it took longer than {} s", limit.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}

/// Passes on what comes, as it comes.
fn copy(mut from: ChildStdout) -> std::io::Result<()> {
    let mut buffer = [0; 8192];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut to = std::io::stdout().lock();
        to.write_all(&buffer[..length])?;
        to.flush()?;
    }
}

/// A child that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The script that runs in the machine.
fn script(line: &str) -> Result<String> {
    let mut script = String::new();
    let own = std::env::vars().filter(|(name, _)| name.starts_with("MEZZO_"));
    let kept =
        KEPT.iter().filter_map(|name| Some((String::from(*name), std::env::var(name).ok()?)));
    for (name, value) in kept.chain(own) {
        writeln!(script, "export {name}={}", quoted(&value))?;
    }
    writeln!(script, "export TMPDIR=/run/disk")?;
    let directory = std::env::current_dir().context("the current directory is gone")?;
    writeln!(script, "cd {} || exit 1", quoted(&directory.display().to_string()))?;
    writeln!(script, "{line}")?;
    Ok(script)
}

fn disk(path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot make {path:?}"))?;
    file.set_len(DISK_BYTES).with_context(|| format!("cannot make {path:?}"))?;
    let mut format = Command::new("/sbin/mkfs.ext4");
    format.args(["-q", "-E", "lazy_itable_init=1,lazy_journal_init=1"]).arg(path);
    cargo::read(format).map(drop)
}

/// The program that serves files, if this machine has it.
pub fn file_server() -> Option<&'static str> {
    FILE_SERVERS.into_iter().find(|path| Path::new(path).exists())
}

/// Serves `/` on a socket.
fn serve_files(work: &Path) -> Result<Running> {
    let program =
        file_server().context("there is no virtiofsd; install Debian's qemu-system-common")?;
    let (socket, log) = (work.join("files.socket"), work.join("files.log"));
    let output = File::create(&log).with_context(|| format!("cannot make {log:?}"))?;
    let mut server = Command::new(program);
    server.arg(format!("--socket-path={}", socket.display()));
    for option in ["source=/", "sandbox=chroot", "cache=always", "no_posix_lock"] {
        server.args(["-o", option]);
    }
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    let mut server = Running(server.spawn().with_context(|| format!("cannot start {program}"))?);
    let begin = Instant::now();
    while !socket.exists() {
        let ended = server.0.try_wait().context("cannot wait for virtiofsd")?;
        if ended.is_some() || begin.elapsed() > SERVER_START {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("virtiofsd does not serve: {}", said.trim());
        }
        std::thread::sleep(LOOK);
    }
    Ok(server)
}

/// The end of what the kernel wrote.
fn console(work: &Path) -> String {
    let bytes = std::fs::read(work.join("console")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines = Vec::from_iter(text.lines());
    let mut shown = String::from("; its console ends with:");
    for line in &lines[lines.len().saturating_sub(30)..] {
        shown.push_str("\n  ");
        shown.push_str(line.trim_end());
    }
    shown
}
