//! What it costs that the kernel keeps the books.
//!
//! The load is the worst case, nothing but packets, or nothing but switches, and then something like a server, on one processor. It
//! runs without the programs and with them, in turns; processor time is compared, which does not depend on who else is busy. What the
//! kernel itself says that the programs take stands in the notes.

mod place;
mod work;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use libbpf_rs::query::{LinkInfo, ProgInfoIter};
use mezzo_agent_accounting::{Accounting, Grant, Options, TaskId};
use mezzo_agent_sys::{bpf_open, bpf_run_time_statistics};
use nix::sys::resource::{UsageWho, getrusage};

use self::place::Place;
use self::work::Work;
pub use self::work::serve;
use crate::conditions::Conditions;
use crate::launch::Sizes;
use crate::result::{Baseline, Goal, Measurement, median};

/// Datagrams, or round trips, of one measurement: some 60 ms.
const EVENTS: u32 = 20_000;

/// Requests of one measurement: some 300 ms.
const REQUESTS: u32 = 1500;

/// # Errors
/// When this is not root, or the programs do not load.
pub fn run(sizes: &Sizes, tell: &mut dyn FnMut(Measurement)) -> Result<()> {
    let place = Place::make()?;
    packets(&place, sizes, tell)?;
    switches(&place, sizes, tell)?;
    requests(&place, sizes, tell)?;
    snapshot(&place, sizes, tell)
}

fn packets(place: &Place, sizes: &Sizes, tell: &mut dyn FnMut(Measurement)) -> Result<()> {
    let conditions = Conditions::now()?;
    let mut work = Work::start("datagrams", &place.task)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..sizes.batches {
        without.push(work.nanoseconds(EVENTS)?);
        let books = open(place, false)?;
        with.push(work.nanoseconds(EVENTS)?);
        books.discard()?;
    }
    // Each datagram is sent and received.
    let costs =
        Vec::from_iter(with.iter().zip(&without).map(|(with, without)| (with - without) / 2.0));
    let said = by_kernel(place, &mut work, false, &["egress", "ingress"])?;
    let spread = spread(&costs);
    tell(Measurement {
        name: "ebpf/packet",
        value: median(&costs),
        unit: "ns",
        goal: Some(Goal::AtMost(200.0)),
        baseline: None,
        conditions,
        note: format!(
            "processor time added per packet and direction, median of {} rounds, {spread}; a datagram over loopback takes \
             {:.0} ns without and {:.0} ns with; {said}",
            costs.len(),
            median(&without),
            median(&with)
        ),
    });
    Ok(())
}

fn switches(place: &Place, sizes: &Sizes, tell: &mut dyn FnMut(Measurement)) -> Result<()> {
    for (name, delays, goal) in
        [("ebpf/switch", false, 200.0), ("ebpf/switch-with-histogram", true, 350.0)]
    {
        let conditions = Conditions::now()?;
        let mut work = Work::start("switches", &place.task)?;
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..sizes.batches {
            without.push(work.nanoseconds(EVENTS)?);
            let books = open(place, delays)?;
            with.push(work.nanoseconds(EVENTS)?);
            books.discard()?;
        }
        // There and back are two.
        let costs =
            Vec::from_iter(with.iter().zip(&without).map(|(with, without)| (with - without) / 2.0));
        let said = by_kernel(place, &mut work, delays, &["sched_switch"])?;
        let spread = spread(&costs);
        tell(Measurement {
            name,
            value: median(&costs),
            unit: "ns",
            goal: Some(Goal::AtMost(goal)),
            baseline: None,
            conditions,
            note: format!(
                "processor time added per context switch, median of {} rounds, {spread}; a round trip between two threads takes \
                 {:.0} ns without and {:.0} ns with; {said}",
                costs.len(),
                median(&without),
                median(&with)
            ),
        });
    }
    Ok(())
}

/// What a server pays that computes, talks, writes and starts processes, with everything on.
fn requests(place: &Place, sizes: &Sizes, tell: &mut dyn FnMut(Measurement)) -> Result<()> {
    let conditions = Conditions::now()?;
    let mut work = Work::start("requests", &place.task)?;
    // The first ones warm caches up.
    work.nanoseconds(REQUESTS)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..sizes.batches * 2 {
        // Which comes first makes a difference on a machine that is not quiet.
        let measure = |work: &mut Work, with: &mut Vec<f64>| -> Result<()> {
            let books = open(place, true)?;
            with.push(work.nanoseconds(REQUESTS)?);
            books.discard()?;
            Ok(())
        };
        if round % 2 == 0 {
            without.push(work.nanoseconds(REQUESTS)?);
            measure(&mut work, &mut with)?;
        } else {
            measure(&mut work, &mut with)?;
            without.push(work.nanoseconds(REQUESTS)?);
        }
    }
    let shares = Vec::from_iter(
        with.iter().zip(&without).map(|(with, without)| (with / without - 1.0) * 100.0),
    );
    let spread = spread(&shares);
    tell(Measurement {
        name: "ebpf/mixed",
        value: median(&shares),
        unit: "%",
        goal: Some(Goal::AtMost(1.0)),
        baseline: None,
        conditions,
        note: format!(
            "processor time added to a server's request, median of {} rounds, {spread}; a request over TCP that sorts {} numbers, \
             each eighth written to a file, each 64th to a process, takes {:.1} us without and {:.1} us with",
            shares.len(),
            4096,
            median(&without) / 1e3,
            median(&with) / 1e3
        ),
    });
    Ok(())
}

/// All tasks at once, beside the files of each task that come nearest.
fn snapshot(place: &Place, sizes: &Sizes, tell: &mut dyn FnMut(Measurement)) -> Result<()> {
    let conditions = Conditions::now()?;
    let groups = place.crowd(sizes.crowd)?;
    let books = open(place, false)?;
    for group in &groups {
        books.admit(TaskId::of(group)?, &Grant::default())?;
    }
    let (mut ours, mut theirs, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..sizes.batches {
        let (begin, before) = (Instant::now(), own_nanoseconds()?);
        // A single one is below the resolution of the clock.
        for _ in 0..REPEATS {
            let all = books.snapshot()?;
            anyhow::ensure!(all.len() > sizes.crowd, "the snapshot lacks tasks");
        }
        ours.push((own_nanoseconds()? - before) / REPEATS as f64 / 1e6);
        times.push(begin.elapsed().as_secs_f64() * 1e3 / REPEATS as f64);
        let before = own_nanoseconds()?;
        for group in &groups {
            read_files(group)?;
        }
        theirs.push((own_nanoseconds()? - before) / 1e6);
    }
    books.discard()?;
    let baseline = Baseline::paired(&ours, &theirs);
    tell(Measurement {
        name: "ebpf/snapshot",
        value: median(&times),
        unit: "ms",
        goal: Some(Goal::AtMost(1.0)),
        note: format!(
            "wall time for {} tasks, median of {} rounds; {:.3} ms of processor time, and the ratio is of processor time: baseline is \
             reading {} of each, which tell neither of networks nor of block devices, ports and programs",
            groups.len(),
            times.len(),
            median(&ours),
            FILES.join(", ")
        ),
        baseline: Some(baseline),
        conditions,
    });
    Ok(())
}

const REPEATS: u32 = 20;

/// Processor time, waits for processors and for devices, and child groups.
const FILES: [&str; 4] = ["cpu.stat", "cpu.pressure", "io.pressure", "cgroup.stat"];

fn read_files(group: &Path) -> Result<()> {
    for file in FILES {
        std::fs::read_to_string(group.join(file)).context("cannot read a cgroup's file")?;
    }
    Ok(())
}

fn open(place: &Place, delays: bool) -> Result<Accounting> {
    let options = Options { delays, ..Options::new(&place.root, place.pins()) };
    let books = Accounting::open(&options, &[(place.id()?, Grant::default())])?;
    let complaints = books.state().complaints();
    anyhow::ensure!(complaints.is_empty(), "{}", complaints.join("; "));
    Ok(books)
}

/// The kernel's own figures for some programs: nanoseconds per run, its clock included.
fn by_kernel(place: &Place, work: &mut Work, delays: bool, names: &[&str]) -> Result<String> {
    let books = open(place, delays)?;
    let statistics = bpf_run_time_statistics().context("no run-time statistics")?;
    work.nanoseconds(EVENTS)?;
    drop(statistics);
    let mut said = Vec::new();
    for name in names {
        let path = place.layout()?.join(format!("link_{name}"));
        let link = bpf_open(&path).with_context(|| format!("cannot open {path:?}"))?;
        let id = LinkInfo::from_fd(std::os::fd::AsFd::as_fd(&link))?.prog_id;
        let program = ProgInfoIter::default().find(|program| program.id == id);
        let program = program.with_context(|| format!("the kernel has no program {name}"))?;
        let each = program.run_time_ns as f64 / program.run_cnt.max(1) as f64;
        said.push(format!("{name} {each:.0} ns"));
    }
    books.discard()?;
    Ok(format!("the kernel's own clock says {}", said.join(", ")))
}

/// Processor time of this process.
fn own_nanoseconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).context("cannot read own processor time")?;
    let microseconds =
        |time: nix::sys::time::TimeVal| nix::sys::time::TimeValLike::num_microseconds(&time) as f64;
    Ok((microseconds(usage.user_time()) + microseconds(usage.system_time())) * 1e3)
}

fn spread(values: &[f64]) -> String {
    let (low, high) = values
        .iter()
        .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
    format!("{low:.0} to {high:.0}")
}
