//! `mezzo-launcher`: see the library beside it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use mezzo_agent_launcher::{ServerConfig, serve};

const USAGE: &str = "\
usage: mezzo-launcher --socket PATH [--log PATH] [--cgroup-procs PATH]... [--foreground]

Parent of a Mezzo agent's containers. The agent starts it; it listens at the socket, goes into the
background and outlives the agent.

  --socket PATH        where to listen; PATH.lock beside it is held while it runs
  --log PATH           file to append messages to (default: none)
  --cgroup-procs PATH  cgroup.procs of a cgroup to move to first; may be repeated
  --foreground         do not go into the background
";

/// As sysexits.h has it: the command line is wrong.
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let config = match parse(arguments) {
        Ok(config) => config,
        Err(message) => {
            eprintln!("mezzo-launcher: {message}\n\n{USAGE}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match serve(config) {
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

fn parse(arguments: Vec<OsString>) -> Result<ServerConfig, String> {
    let (mut socket, mut log, mut cgroup_procs, mut foreground) = (None, None, Vec::new(), false);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let name = argument.to_string_lossy().into_owned();
        let mut path = || {
            let value = arguments.next().filter(|value| !value.is_empty()).map(PathBuf::from);
            value.ok_or_else(|| format!("{name} needs a path after it"))
        };
        match name.as_str() {
            "--socket" => socket = Some(path()?),
            "--log" => log = Some(path()?),
            "--cgroup-procs" => cgroup_procs.push(path()?),
            "--foreground" => foreground = true,
            _ => return Err(format!("{name} is no option of this program")),
        }
    }
    let socket = socket.ok_or("--socket is missing: it says where to listen")?;
    if !socket.is_absolute() {
        return Err(format!("--socket {socket:?} must be an absolute path"));
    }
    Ok(ServerConfig { socket, log, cgroup_procs, foreground })
}
