//! Opens the books for a cgroup, enters its children with the ports `FIRST-LAST`, and prints what happens until it is
//! ended: `hold ROOT PINS FIRST-LAST`. What it has set up stays when it is gone.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use mezzo_agent_accounting::{Accounting, Grant, Options, PortPolicy, PortRule, TaskId};

fn main() -> ExitCode {
    match hold() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hold() -> Result<(), Box<dyn Error>> {
    let arguments = Vec::from_iter(std::env::args().skip(1));
    let [root, pins, range] = arguments.as_slice() else {
        return Err("usage: hold ROOT PINS FIRST-LAST".into());
    };
    let (first, last) = range.split_once('-').ok_or("a range is FIRST-LAST")?;
    let ranges = vec![(first.parse()?, last.parse()?)];
    let ports = PortRule { policy: PortPolicy::Enforce, ephemeral: false, ranges };
    let grant = Grant { ports, ..Grant::default() };
    let mut running = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_dir() {
            running.push((TaskId::of(&path)?, grant.clone()));
        }
    }
    let accounting = Accounting::open(&Options::new(root, pins), &running)?;
    println!("{:?} {:?}", accounting.state().take_over, accounting.state().complaints());
    let mut events = accounting.events()?;
    loop {
        events.wait(Duration::from_secs(3600))?;
        while let Some(event) = events.take() {
            println!("{event:?}");
        }
    }
}
