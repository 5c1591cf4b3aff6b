//! Work that is nothing but one kind of event, or like that of a server, in a process of its own, which is in the task's cgroup.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
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
    /// `name` is `datagrams`, `switches` or `requests`.
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
        "requests" => requests()?,
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

/// Bytes of a request and of its answer.
const REQUEST: usize = 512;
const ANSWER: usize = 4096;
/// Numbers that are sorted for each request: some 100 us.
const NUMBERS: usize = 4096;
/// One request in so many is written down; in so many, is handed to a process.
const WRITE_EACH: u32 = 8;
const SPAWN_EACH: u32 = 64;

/// A request over TCP between two threads: it is computed, some are written to a file, few start a process.
fn requests() -> Result<Box<dyn FnMut() -> Result<()>>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    std::thread::spawn(move || answer(server));
    let mut answer = [0; ANSWER];
    Ok(Box::new(move || {
        client.write_all(&[0; REQUEST])?;
        client.read_exact(&mut answer)?;
        Ok(())
    }))
}

/// Until the other end has gone.
fn answer(mut server: TcpStream) -> Result<()> {
    let mut file = tempfile::tempfile().context("no file to write to")?;
    let mut request = [0; REQUEST];
    let mut state = 1u64;
    for number in 1.. {
        server.read_exact(&mut request)?;
        let mut numbers = Vec::from_iter((0..NUMBERS).map(|_| {
            // Knuth's generator; what matters is that the order is none.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        }));
        numbers.sort_unstable();
        let mut reply = [0; ANSWER];
        for (byte, number) in reply.iter_mut().zip(&numbers) {
            *byte = number.to_le_bytes()[0];
        }
        if number % WRITE_EACH == 0 {
            file.write_all(&reply)?;
        }
        if number % SPAWN_EACH == 0 {
            Command::new("true").status().context("cannot start `true`")?;
        }
        server.write_all(&reply)?;
    }
    Ok(())
}
