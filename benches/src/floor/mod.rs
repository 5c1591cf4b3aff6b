//! What the figures are compared with: the least that the kernel can be asked to do, and a rival.
//!
//! The two floors run in a process of their own with one thread, which does one round whenever it is
//! asked to, so that floor and subject alternate within one run.
//!
//! - `spawn`: a child made by vfork and exec, isolated from nothing.
//! - `container`: control groups, limits, namespaces, a root of its own, exec, wait and removal,
//!   written by hand.
//! - [`Crun`]: `crun run`, a container runtime in C.

mod container;
mod crun;
mod spawn;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use crun::Crun;

/// The program that floors, rival and tasks run.
const PROGRAM: &str = "/usr/bin/true";

/// What one round took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// From the begin until the program was executed.
    pub exec: Duration,
    /// From the begin until nothing was left.
    pub life: Duration,
}

/// A floor in a process of its own.
pub struct Floor {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Floor {
    /// `name` is `spawn` or `container`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(name: &str) -> Result<Floor> {
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let mut command = Command::new(own);
        command.args(["floor", name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start floor `{name}`"))?;
        let answers = child.stdout.take().context("the floor has no output")?;
        let orders = child.stdin.take();
        Ok(Floor { child, orders, answers: BufReader::new(answers) })
    }

    /// So many rounds, one after the other.
    ///
    /// # Errors
    /// When a round failed; the floor has said why on stderr.
    pub fn rounds(&mut self, count: usize) -> Result<Vec<Round>> {
        let orders = self.orders.as_mut().context("the floor has ended")?;
        writeln!(orders, "{count}").context("the floor does not listen")?;
        (0..count).map(|_| self.answer()).collect()
    }

    fn answer(&mut self) -> Result<Round> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("cannot read what the floor says")?;
        let mut numbers = line.split_whitespace().map(str::parse);
        let (Some(Ok(exec)), Some(Ok(life))) = (numbers.next(), numbers.next()) else {
            bail!("the floor failed; it said {line:?}");
        };
        Ok(Round { exec: Duration::from_nanos(exec), life: Duration::from_nanos(life) })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // The end of its orders is its end.
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// The floor's own process: rounds as they are ordered on stdin, one line for each on stdout.
///
/// # Errors
/// When there is no such floor, or a round fails.
pub fn serve(name: &str) -> Result<()> {
    let round: &mut dyn FnMut() -> Result<Round> = match name {
        "spawn" => &mut spawn::round,
        "container" => {
            let mut floor = container::Floor::new()?;
            return serve_rounds(&mut || floor.round());
        }
        _ => bail!("there is no floor `{name}`"),
    };
    serve_rounds(round)
}

fn serve_rounds(round: &mut dyn FnMut() -> Result<Round>) -> Result<()> {
    let mut output = std::io::stdout().lock();
    for order in std::io::stdin().lock().lines() {
        let count: usize = order.context("cannot read an order")?.trim().parse()?;
        for _ in 0..count {
            let Round { exec, life } = round()?;
            writeln!(output, "{} {}", exec.as_nanos(), life.as_nanos())?;
            output.flush()?;
        }
    }
    Ok(())
}
