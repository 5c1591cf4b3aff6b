//! How long a command runs and how it ends, read from the command.

use std::time::Duration;

use mezzo_proto::v1::CommandInfo;

/// What becomes of a command that nobody kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `None`: it runs until it is killed.
    pub runs: Option<Duration>,
    /// As it exits; 0 is success.
    pub exit_code: u8,
}

impl Plan {
    /// Reads `sleep SECONDS`, `true`, `false` and `exit CODE`, several of them with `;` or `&&` between.
    /// Whatever else a command may be, it runs until it is killed, and so does `sleep infinity`.
    ///
    /// ```
    /// # use mezzo_agent_simulated::Plan;
    /// # use mezzo_proto::v1::CommandInfo;
    /// let command = CommandInfo { value: Some("sleep 1.5; exit 3".into()), ..Default::default() };
    /// let plan = Plan::of(&command);
    /// assert_eq!((plan.runs.unwrap().as_millis(), plan.exit_code), (1500, 3));
    /// ```
    pub fn of(command: &CommandInfo) -> Plan {
        let value = command.value();
        if !command.shell() {
            // Without a shell the first argument is the program's name.
            let program = command.arguments.first().map_or(value, String::as_str);
            let argument = command.arguments.get(1).map(String::as_str);
            let mut plan = Plan { runs: Some(Duration::ZERO), exit_code: 0 };
            plan.step(program.rsplit('/').next().unwrap_or(program), argument);
            return plan;
        }
        let mut plan = Plan { runs: Some(Duration::ZERO), exit_code: 0 };
        for part in value.split(';').flat_map(|part| part.split("&&")) {
            let mut words = part.split_whitespace();
            let Some(program) = words.next() else { continue };
            let goes_on = plan.step(program, words.next());
            if !goes_on {
                break;
            }
        }
        plan
    }

    /// Whether the next one is reached.
    fn step(&mut self, program: &str, argument: Option<&str>) -> bool {
        match (program, argument) {
            ("sleep", Some(seconds)) => {
                let slept = seconds.parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
                self.runs = self.runs.zip(slept).and_then(|(runs, slept)| runs.checked_add(slept));
                self.runs.is_some()
            }
            ("true" | ":", _) => {
                self.exit_code = 0;
                true
            }
            ("false", _) => {
                self.exit_code = 1;
                true
            }
            ("exit", code) => {
                if let Some(code) = code.and_then(|code| code.parse().ok()) {
                    self.exit_code = code;
                }
                false
            }
            _ => {
                self.runs = None;
                false
            }
        }
    }

    /// As `wait(2)` gives it.
    pub(crate) fn wait_status(self) -> i32 {
        i32::from(self.exit_code) << 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(value: &str) -> (Option<u64>, u8) {
        let plan = Plan::of(&CommandInfo { value: Some(value.to_owned()), ..Default::default() });
        (plan.runs.map(|runs| u64::try_from(runs.as_millis()).unwrap()), plan.exit_code)
    }

    #[test]
    fn commands_say_how_long_they_run() {
        assert_eq!(shell("sleep 30"), (Some(30_000), 0));
        assert_eq!(shell("sleep 0.25 && sleep 0.25; false"), (Some(500), 1));
        assert_eq!(shell("exit 7; sleep 9"), (Some(0), 7));
        assert_eq!(shell(""), (Some(0), 0));
        for endless in
            ["sleep infinity", "sleep inf", "sleep -1", "sleep x", "sleep", "cat", "sleep 1; cat"]
        {
            assert_eq!(shell(endless).0, None, "{endless}");
        }
    }

    #[test]
    fn a_command_without_a_shell_is_its_arguments() {
        let plan = |value: &str, arguments: &[&str]| {
            Plan::of(&CommandInfo {
                shell: Some(false),
                value: Some(value.to_owned()),
                arguments: arguments.iter().map(|word| word.to_string()).collect(),
                ..Default::default()
            })
        };
        let runs = Some(Duration::from_secs(2));
        assert_eq!(plan("/bin/sleep", &["/bin/sleep", "2"]), Plan { runs, exit_code: 0 });
        assert_eq!(plan("/bin/false", &[]), Plan { runs: Some(Duration::ZERO), exit_code: 1 });
        assert_eq!(plan("sh", &["sh", "-c"]).runs, None);
        assert_eq!(Plan { runs, exit_code: 3 }.wait_status(), 0x300);
    }
}
