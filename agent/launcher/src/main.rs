//! `mezzo-launcher`: see the library beside it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use mezzo_agent_launcher::{ResumeConfig, ServeError, ServerConfig, formats_line, resume, serve};

const USAGE: &str = "\
usage: mezzo-launcher --socket PATH [--log PATH] [--cgroup-procs PATH]... [--foreground]

Parent of a Mezzo agent's containers. The agent starts it; it listens at the socket, goes into the
background and outlives the agent.

  --socket PATH        where to listen; PATH.lock beside it is held while it runs
  --log PATH           file to append messages to (default: none)
  --cgroup-procs PATH  cgroup.procs of a cgroup to move to first; may be repeated
  --foreground         do not go into the background
  --formats            print what other builds' state this one takes over in place, and end

An upgrade in place has one launcher execute another in its own process, with
--resume FD (its state) and, on the way back, --refused REASON.
";

/// As sysexits.h has it: the command line is wrong.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--formats") {
        print!("{}", formats_line());
        return ExitCode::SUCCESS;
    }
    if let Err(problem) = mezzo_fault_points::arm() {
        eprintln!("mezzo-launcher: {problem}");
        return ExitCode::from(EXIT_USAGE);
    }
    let order = match parse(arguments) {
        Ok(order) => order,
        Err(message) => {
            eprintln!("mezzo-launcher: {message}\n\n{USAGE}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match order.carry_out() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut line = format!("mezzo-launcher: cannot {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                line.push_str(&format!(": {error}"));
                cause = error.source();
            }
            eprintln!("{line}");
            ExitCode::FAILURE
        }
    }
}

enum Order {
    Serve(ServerConfig),
    Resume(ResumeConfig),
}

impl Order {
    fn carry_out(self) -> Result<(), ServeError> {
        match self {
            Order::Serve(config) => serve(config),
            Order::Resume(config) => resume(config),
        }
    }
}

fn parse(arguments: Vec<OsString>) -> Result<Order, String> {
    let (mut socket, mut log, mut cgroup_procs, mut foreground) = (None, None, Vec::new(), false);
    let (mut state, mut refused) = (None, None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let name = argument.to_string_lossy().into_owned();
        let mut value = |what: &str| {
            let value = arguments.next().filter(|value| !value.is_empty());
            value.ok_or_else(|| format!("{name} needs {what} after it"))
        };
        match name.as_str() {
            "--socket" => socket = Some(PathBuf::from(value("a path")?)),
            "--log" => log = Some(value("a path")?.into()),
            "--cgroup-procs" => cgroup_procs.push(value("a path")?.into()),
            "--foreground" => foreground = true,
            "--resume" => {
                let number = value("a descriptor's number")?;
                let number = number.to_str().and_then(|number| number.parse().ok());
                state = Some(number.ok_or("--resume needs the number of a descriptor")?);
            }
            "--refused" => refused = Some(value("a reason")?.to_string_lossy().into_owned()),
            _ => return Err(format!("{name} is no option of this program")),
        }
    }
    let socket = socket.ok_or("--socket is missing: it says where to listen")?;
    if !socket.is_absolute() {
        return Err(format!("--socket {socket:?} must be an absolute path"));
    }
    Ok(match state {
        Some(state) => Order::Resume(ResumeConfig { socket, state, refused }),
        None => Order::Serve(ServerConfig { socket, log, cgroup_procs, foreground }),
    })
}
