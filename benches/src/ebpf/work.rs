//! Work that is nothing but one kind of event, in a process of its own, which is in the task's cgroup.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::own_nanoseconds;

const PAYLOAD: [u8; 64] = [0; 64];

pub struct Work {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Work {
    /// `name` is `datagrams` or `switches`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(name: &str, cgroup: &Path) -> Result<Work> {
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(cgroup).arg(own);
        shell.args(["ebpf-work", name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().with_context(|| format!("cannot start `{name}`"))?;
        let answers = child.stdout.take().context("the work has no output")?;
        let orders = child.stdin.take();
        Ok(Work { child, orders, answers: BufReader::new(answers) })
    }

    /// Processor time of one of so many events.
    ///
    /// # Errors
    /// When the work failed.
    pub fn nanoseconds(&mut self, events: u32) -> Result<f64> {
        let orders = self.orders.as_mut().context("the work has ended")?;
        writeln!(orders, "{events}").context("the work does not listen")?;
        let mut line = String::new();
        self.answers.read_line(&mut line).context("cannot read what the work says")?;
        line.trim().parse().with_context(|| format!("the work failed; it said {line:?}"))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // The end of its orders is its end.
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// The process' own side: does as many events as each line of its input says, and says what one has taken.
///
/// # Errors
/// When the name is unknown, or a system call fails.
pub fn serve(name: &str) -> Result<()> {
    let mut processors = CpuSet::new();
    processors.set(0).context("no processor 0")?;
    sched_setaffinity(Pid::from_raw(0), &processors).context("cannot stay on one processor")?;
    let mut event: Box<dyn FnMut() -> Result<()>> = match name {
        "datagrams" => datagrams()?,
        "switches" => switches()?,
        _ => bail!("there is no work `{name}`"),
    };
    for line in std::io::stdin().lock().lines() {
        let count: u32 = line?.trim().parse().context("an order is a number")?;
        let before = own_nanoseconds()?;
        for _ in 0..count {
            event()?;
        }
        println!("{}", (own_nanoseconds()? - before) / f64::from(count));
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Sends and receives one.
fn datagrams() -> Result<Box<dyn FnMut() -> Result<()>>> {
    let (here, there) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    here.connect(there.local_addr()?)?;
    let mut buffer = [0; PAYLOAD.len()];
    Ok(Box::new(move || {
        here.send(&PAYLOAD)?;
        there.recv(&mut buffer)?;
        Ok(())
    }))
}

/// There and back between two threads, which have one processor together.
fn switches() -> Result<Box<dyn FnMut() -> Result<()>>> {
    let (mut here, mut there) = UnixStream::pair()?;
    std::thread::spawn(move || {
        let mut byte = [0; 1];
        while there.read_exact(&mut byte).and_then(|()| there.write_all(&byte)).is_ok() {}
    });
    let mut byte = [0; 1];
    Ok(Box::new(move || {
        here.write_all(&byte)?;
        here.read_exact(&mut byte)?;
        Ok(())
    }))
}
