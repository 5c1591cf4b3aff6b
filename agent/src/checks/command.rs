//! A command beside a task's own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use mezzo_agent_core::{CheckOutcome, signal_name};
use mezzo_agent_launcher::{CheckReport, ClientError, Enter, LauncherClient, check_socket};
use mezzo_proto::v1;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::Interest;
use tokio::sync::oneshot;
use tokio::task;

use super::{Checks, Target, process, too_late};
use crate::cgroups::watch_descriptor;
use crate::containerizer::{CommandLine, chain, value_of};

/// What is heard of a command that was asked for.
struct Asked {
    /// Closing it ends the command, with all that descends from it.
    socket: OwnedFd,
    /// The launcher's answer; always comes.
    answer: oneshot::Receiver<Result<(), ClientError>>,
}

/// Why there is nothing to be heard.
enum Trouble {
    /// The check cannot be run, here or anywhere.
    Check(String),
    /// This time it could not.
    Agent(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Agent(error.to_string())
    }
}

pub(super) async fn look(
    checks: Arc<Checks>,
    target: Target,
    command: v1::CommandInfo,
    timeout: Option<Duration>,
    launcher: impl FnOnce() -> Option<Arc<LauncherClient>> + Send + 'static,
) -> CheckOutcome {
    let asked = {
        let shared = Arc::clone(&checks);
        let Ok(_turn) = shared.starts.acquire().await else {
            return CheckOutcome::Unavailable("the agent is ending".to_owned());
        };
        task::spawn_blocking(move || ask(&checks, &target, &command, launcher)).await
    };
    let asked = match asked {
        Ok(Ok(asked)) => asked,
        Ok(Err(Trouble::Check(why))) => return CheckOutcome::Failed(why),
        Ok(Err(Trouble::Agent(why))) => return CheckOutcome::Unavailable(why),
        Err(error) => return CheckOutcome::Unavailable(error.to_string()),
    };
    // Dropping what is asked is what ends the command.
    let outcome = match timeout {
        None => outcome(asked).await,
        Some(timeout) => match tokio::time::timeout(timeout, outcome(asked)).await {
            Ok(outcome) => outcome,
            Err(_) => return too_late(timeout),
        },
    };
    outcome.unwrap_or_else(|error| CheckOutcome::Unavailable(error.to_string()))
}

/// Sends the request to the launcher. Blocks for a moment.
fn ask(
    checks: &Checks,
    target: &Target,
    command: &v1::CommandInfo,
    launcher: impl FnOnce() -> Option<Arc<LauncherClient>>,
) -> Result<Asked, Trouble> {
    let line = CommandLine::of(Some(command)).map_err(|error| Trouble::Check(chain(&error)))?;
    let pidfd = process::open(target.process)?;
    let facts = process::facts(target.process.0, &pidfd)?;
    let own = command.environment.as_ref().map(|own| own.variables.as_slice());
    let environment = environment(&facts.environment, own.unwrap_or_default())?;
    let procs = match &target.cgroup {
        Some(cgroup) => cgroup.procs_files().map_err(|error| Trouble::Agent(chain(&error)))?,
        None => return Err(Trouble::Agent("the task's control groups are not known".to_owned())),
    };
    let client = launcher().ok_or_else(|| Trouble::Agent("there is no launcher".to_owned()))?;
    let (socket, report) = check_socket()?;
    let (answered, answer) = oneshot::channel();
    let enter = Enter {
        program: line.program,
        arguments: line.arguments,
        environment,
        uid: facts.uid,
        gid: facts.gid,
        groups: facts.groups,
        directory: target.sandbox.clone(),
        output: Some("stderr".into()),
        pidfd: pidfd.as_fd(),
        stdin: checks.null.as_fd(),
        report: report.as_fd(),
        cgroup_procs: procs.iter().map(AsFd::as_fd).collect(),
    };
    client.enter_then(&enter, move |outcome| {
        // Nobody may wait for it any more.
        let _ = answered.send(outcome);
    });
    Ok(Asked { socket, answer })
}

/// The task's variables, with the check's own over them.
fn environment(
    task: &[OsString],
    own: &[v1::environment::Variable],
) -> Result<Vec<OsString>, Trouble> {
    let mut variables: BTreeMap<&[u8], &OsString> = BTreeMap::new();
    let own = own
        .iter()
        .map(|variable| {
            let value = value_of(variable).map_err(|error| Trouble::Check(chain(&error)))?;
            Ok(OsString::from(format!("{}={value}", variable.name)))
        })
        .collect::<Result<Vec<_>, Trouble>>()?;
    for entry in task.iter().chain(&own) {
        let name = entry.as_bytes().split(|&byte| byte == b'=').next().unwrap_or_default();
        variables.insert(name, entry);
    }
    Ok(variables.into_values().cloned().collect())
}

/// Waits for what becomes of the command.
async fn outcome(asked: Asked) -> io::Result<CheckOutcome> {
    let socket = watch_descriptor(asked.socket, Interest::READABLE)?;
    loop {
        let mut packet = [0; CheckReport::SIZE];
        let mut ready = socket.readable().await?;
        let received = ready.try_io(|socket| {
            recv(socket.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT).map_err(io::Error::from)
        });
        let length = match received {
            // Not ready after all.
            Err(_) => continue,
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::EINTR as i32) => continue,
            // As an end.
            Ok(Err(_)) => 0,
            Ok(Ok(length)) => length,
        };
        if length == 0 {
            break;
        }
        match packet.get(..length).and_then(CheckReport::parse) {
            Some(CheckReport::Started) | None => {}
            Some(CheckReport::Failed(failure)) => {
                return Ok(CheckOutcome::Failed(failure.to_string()));
            }
            Some(CheckReport::Ended(status)) => return Ok(ended(status)),
        }
    }
    Ok(match asked.answer.await {
        Ok(Ok(())) => CheckOutcome::Failed("the command was killed".to_owned()),
        Ok(Err(error)) => CheckOutcome::Unavailable(chain(&error)),
        Err(_) => CheckOutcome::Unavailable("the launcher is gone".to_owned()),
    })
}

fn ended(status: i32) -> CheckOutcome {
    match status & 0x7f {
        0 => CheckOutcome::Exited((status >> 8) & 0xff),
        signal => CheckOutcome::Failed(format!(
            "the command was terminated by signal {}",
            signal_name(signal)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checks_variables_win() {
        let task: Vec<OsString> = vec!["A=1".into(), "B=x=y".into()];
        let variable = |name: &str, value: &str| v1::environment::Variable {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Default::default()
        };
        let own = [variable("A", "2"), variable("C", "")];
        let Ok(got) = environment(&task, &own) else { panic!("valid") };
        assert_eq!(got, ["A=2", "B=x=y", "C="]);
    }

    #[test]
    fn endings() {
        assert_eq!(ended(0), CheckOutcome::Exited(0));
        assert_eq!(ended(3 << 8), CheckOutcome::Exited(3));
        assert!(matches!(ended(9), CheckOutcome::Failed(why) if why.ends_with("signal Killed")));
    }
}
