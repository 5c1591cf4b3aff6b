//! The command line of a command task.

use std::ffi::OsString;

use mezzo_proto::v1;

/// What to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    pub(crate) program: OsString,
    /// With `argv[0]`.
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("the task has no command; set TaskInfo.command")]
    Missing,
    #[error(
        "command.value is missing; with command.shell true it is the line for /bin/sh, with false the program to execute"
    )]
    NoValue,
    #[error("{field} holds a zero byte, which no command line can")]
    ZeroByte { field: String },
}

impl CommandLine {
    /// With `shell` (the default) `value` is a line for the shell and `arguments` are ignored, as in Mesos; without, `value` is the
    /// program (looked up in PATH if it has no slash) and `arguments` are its argv, `argv[0]` included.
    pub(crate) fn of(command: Option<&v1::CommandInfo>) -> Result<Self, CommandError> {
        let command = command.ok_or(CommandError::Missing)?;
        let value = command
            .value
            .as_deref()
            .filter(|value| !value.is_empty())
            .ok_or(CommandError::NoValue)?;
        let texts = std::iter::once(("command.value".to_owned(), value)).chain(
            (0..).zip(&command.arguments).map(|(at, argument): (usize, &String)| {
                (format!("command.arguments[{at}]"), argument.as_str())
            }),
        );
        for (field, text) in texts {
            if text.contains('\0') {
                return Err(CommandError::ZeroByte { field });
            }
        }
        if command.shell() {
            return Ok(CommandLine {
                program: "/bin/sh".into(),
                arguments: vec!["sh".into(), "-c".into(), value.into()],
            });
        }
        let mut arguments: Vec<OsString> = command.arguments.iter().map(OsString::from).collect();
        if arguments.is_empty() {
            // Programs rely on an argv[0]; the kernel would invent an empty one.
            arguments.push(value.into());
        }
        Ok(CommandLine { program: value.into(), arguments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(shell: Option<bool>, value: Option<&str>, arguments: &[&str]) -> v1::CommandInfo {
        v1::CommandInfo {
            shell,
            value: value.map(str::to_owned),
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            ..Default::default()
        }
    }

    fn line(command: &v1::CommandInfo) -> (String, Vec<String>) {
        let line = CommandLine::of(Some(command)).expect("a command line");
        let text = |text: OsString| text.into_string().expect("utf-8");
        (text(line.program), line.arguments.into_iter().map(text).collect())
    }

    #[test]
    fn shell_and_argv() {
        let sh = ("/bin/sh".to_owned(), vec!["sh".into(), "-c".into(), "echo $A".into()]);
        assert_eq!(line(&command(None, Some("echo $A"), &["ignored"])), sh);
        assert_eq!(line(&command(Some(true), Some("echo $A"), &[])), sh);
        assert_eq!(
            line(&command(Some(false), Some("/bin/echo"), &["echo", "a b"])),
            ("/bin/echo".to_owned(), vec!["echo".to_owned(), "a b".to_owned()])
        );
        assert_eq!(
            line(&command(Some(false), Some("date"), &[])),
            ("date".to_owned(), vec!["date".to_owned()])
        );
    }

    #[test]
    fn what_is_no_command_is_refused() {
        assert_eq!(CommandLine::of(None), Err(CommandError::Missing));
        assert_eq!(CommandLine::of(Some(&command(None, None, &[]))), Err(CommandError::NoValue));
        assert_eq!(
            CommandLine::of(Some(&command(None, Some(""), &[]))),
            Err(CommandError::NoValue)
        );
        let refused = CommandLine::of(Some(&command(Some(false), Some("a"), &["a", "b\0"])));
        assert_eq!(
            refused.expect_err("must be refused").to_string(),
            "command.arguments[1] holds a zero byte, which no command line can"
        );
    }
}
