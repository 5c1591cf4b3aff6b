//! What `mezzo run` is asked for.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use mezzo_sdk::Task;

use crate::failure::Failure;
use crate::quantity::{parse_amount, parse_duration};
use crate::run::health::HealthArguments;

/// Longest part of a task's id taken from the command; ids end at 255 bytes.
const NAME_LENGTH: usize = 64;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The exit code is that of the command, or 128 + N if signal N ended it; 124 after --timeout, 130 \
after Ctrl-C; 1 if it could not be run. With several instances it is that of the first that failed.

Ctrl-C ends the task with SIGTERM, and with SIGKILL after its grace period, and waits for that. \
A second Ctrl-C no longer waits.

With --detach the task's id is printed as soon as it runs; `mezzo logs` shows its output, \
`mezzo kill` ends it. Its framework stays registered, without a scheduler, for up to a year; \
nobody acknowledges what a health check finds then, so that `mezzo ps` shows its first result \
only. A task that fails it is ended nevertheless.")]
pub(crate) struct RunArguments {
    /// CPUs for each instance.
    #[arg(long, value_name = "N", default_value = "0.1", value_parser = parse_amount)]
    pub(crate) cpus: f64,

    /// Megabytes of memory for each instance; it is ended if it uses more.
    #[arg(long, value_name = "MB", default_value = "32", value_parser = parse_amount)]
    pub(crate) mem: f64,

    /// Megabytes of disk for each instance.
    #[arg(long, value_name = "MB", value_parser = parse_amount)]
    pub(crate) disk: Option<f64>,

    /// Ports for each instance, in the variables PORT0, PORT1, ….
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) ports: u16,

    /// GPUs for each instance, which it has for itself.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) gpus: u32,

    /// Name of the task, and its id; without it, one is made from the command.
    #[arg(long, value_parser = parse_name)]
    pub(crate) name: Option<String>,

    /// User to run as [default: the one who runs `mezzo run`]
    #[arg(long)]
    pub(crate) user: Option<String>,

    /// Role whose resources are used.
    #[arg(long, default_value = "*")]
    pub(crate) role: String,

    /// Variable for the command's environment; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub(crate) env: Vec<(String, String)>,

    /// File to fetch into the sandbox, by path on the agent or HTTP(S) address; archives are
    /// unpacked; may be repeated.
    #[arg(long, value_name = "URI")]
    pub(crate) uri: Vec<String>,

    /// Run so many copies. Their ids end in .0, .1, …, their output is left to `mezzo logs`, and
    /// a summary is printed.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) instances: u32,

    /// End the tasks after this time, such as 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,

    /// Time between SIGTERM and SIGKILL when a task is ended; the agent's default is 3s.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) grace: Option<Duration>,

    /// Say what is missing when nothing has been launched after this time.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(crate) patience: Duration,

    #[command(flatten)]
    pub(crate) health: HealthArguments,

    /// Print the tasks' ids when they run, and leave them running.
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// The command and its arguments. No shell is involved: `-- sh -c '…'` starts one.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

impl RunArguments {
    pub(crate) fn user(&self) -> Result<String, Failure> {
        if let Some(user) = &self.user {
            return Ok(user.clone());
        }
        let uid = nix::unistd::geteuid();
        match nix::unistd::User::from_uid(uid) {
            Ok(Some(user)) => Ok(user.name),
            Ok(None) | Err(_) => {
                Err(Failure::new(format!("the user with the number {uid} has no name here"))
                    .hint("--user NAME says as whom to run"))
            }
        }
    }

    /// The name given, or the command's file name.
    pub(crate) fn name(&self) -> String {
        match &self.name {
            Some(name) => name.clone(),
            None => name_of_command(self.command.first().map_or("", String::as_str)),
        }
    }

    /// The tasks, in the order of their numbers. A name that was given is the id as it stands; one
    /// made from the command gets a random ending, so that it can be told from other runs.
    pub(crate) fn tasks(&self) -> Vec<Task> {
        let name = self.name();
        let stem = match &self.name {
            Some(name) => name.clone(),
            None => format!("{name}-{}", random_ending()),
        };
        (0..self.instances)
            .map(|number| {
                let id =
                    if self.instances == 1 { stem.clone() } else { format!("{stem}.{number}") };
                self.task(id, &name)
            })
            .collect()
    }

    fn task(&self, id: String, name: &str) -> Task {
        let mut task = Task::command(id, name)
            .cpus(self.cpus)
            .mem(self.mem)
            .ports(usize::from(self.ports).max(self.health.ports_needed()))
            .gpus(self.gpus)
            .argv(self.command.iter().map(String::as_str));
        if let Some(disk) = self.disk {
            task = task.disk(disk);
        }
        if let Some(grace) = self.grace {
            task = task.kill_grace(grace);
        }
        if let Some(check) = self.health.check() {
            task = task.health_check(check);
        }
        for (name, value) in &self.env {
            task = task.env(name, value);
        }
        for uri in &self.uri {
            task = task.uri(uri);
        }
        task
    }
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name before the = is missing".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err("not of the form NAME=VALUE".to_owned()),
    }
}

/// As a task's id has to be, with some room for a number behind it.
fn parse_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text == "." || text == ".." {
        return Err("a task's id is not empty, . or ..".to_owned());
    }
    if text.len() > 240 {
        return Err("a task's id has at most 240 bytes here".to_owned());
    }
    if text.contains(|c: char| c.is_control() || c == '/' || c == '\\') {
        return Err("a task's id has no /, \\ or control characters".to_owned());
    }
    Ok(text.to_owned())
}

fn name_of_command(program: &str) -> String {
    let file = program.rsplit('/').find(|part| !part.is_empty()).unwrap_or("");
    let name: String =
        file.chars().filter(|c| !c.is_control() && *c != '\\').take(NAME_LENGTH).collect();
    if name.is_empty() || name == "." || name == ".." { "task".to_owned() } else { name }
}

/// Five letters and digits that cannot be mistaken for each other. The standard library seeds
/// every `RandomState` differently.
fn random_ending() -> String {
    const LETTERS: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";
    let bits = RandomState::new().build_hasher().finish();
    (0..5).map(|n| char::from(LETTERS[(bits >> (5 * n)) as usize & 31])).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use mezzo_sdk::{CheckPort, Demand, HealthCheck};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArguments,
    }

    fn parse(line: &[&str]) -> Result<RunArguments, String> {
        Line::try_parse_from(std::iter::once("run").chain(line.iter().copied()))
            .map(|line| line.run)
            .map_err(|error| error.to_string())
    }

    fn refused(line: &[&str], part: &str) {
        let error = parse(line).expect_err("refused");
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn defaults() {
        let arguments = parse(&["--", "/bin/sleep", "1"]).expect("valid");
        let tasks = arguments.tasks();
        assert_eq!(tasks.len(), 1);
        assert_eq!(tasks[0].name(), "sleep");
        assert!(tasks[0].id().starts_with("sleep-") && tasks[0].id().len() == 11);
        let demand = Demand { cpus: 0.1, mem_mb: 32.0, disk_mb: 0.0, ports: 0, gpus: 0 };
        assert_eq!(tasks[0].demand(), demand);
        assert!(!arguments.detach);
    }

    #[test]
    fn a_given_name_is_the_id_and_copies_are_numbered() {
        let arguments = parse(&["--name", "web", "--", "true"]).expect("valid");
        assert_eq!(arguments.tasks()[0].id(), "web");
        let arguments = parse(&["--name", "web", "--instances", "3", "--", "true"]).expect("valid");
        let tasks = arguments.tasks();
        let ids: Vec<&str> = tasks.iter().map(Task::id).collect();
        assert_eq!(ids, ["web.0", "web.1", "web.2"]);
    }

    #[test]
    fn everything_that_can_be_asked_for_is_in_the_task() {
        let arguments = parse(&[
            "--cpus",
            "0.5",
            "--mem",
            "64",
            "--disk",
            "10",
            "--ports",
            "2",
            "--gpus",
            "1",
            "--health-http",
            "/up",
            "--name",
            "t",
            "--env",
            "A=b=c",
            "--env",
            "E=",
            "--uri",
            "/x.tar",
            "--grace",
            "2s",
            "--",
            "sh",
            "-c",
            "--",
            "x",
        ])
        .expect("valid");
        let task = &arguments.tasks()[0];
        let demand = Demand { cpus: 0.5, mem_mb: 64.0, disk_mb: 10.0, ports: 2, gpus: 1 };
        assert_eq!(task.demand(), demand);
        let expect = Task::command("t", "t")
            .cpus(0.5)
            .mem(64.0)
            .disk(10.0)
            .ports(2)
            .gpus(1)
            .argv(["sh", "-c", "--", "x"])
            .kill_grace(Duration::from_secs(2))
            .env("A", "b=c")
            .env("E", "")
            .uri("/x.tar")
            .health_check(HealthCheck::http(CheckPort::Own(0), "/up"));
        assert_eq!(*task, expect);
    }

    #[test]
    fn wrong_usage_names_the_option_and_the_rule() {
        refused(&["true"], "unexpected argument");
        refused(&["--"], "required");
        refused(&["--cpus", "0", "--", "true"], "--cpus <N>': the amount must be greater");
        refused(&["--env", "A", "--", "true"], "not of the form NAME=VALUE");
        refused(&["--env", "=A", "--", "true"], "the name before the = is missing");
        refused(&["--name", "a/b", "--", "true"], "has no /");
        refused(&["--instances", "0", "--", "true"], "0 is not in 1..");
        refused(&["--timeout", "5x", "--", "true"], "unknown unit");
    }

    #[test]
    fn names_of_odd_commands() {
        for (program, name) in
            [("/usr/bin/env", "env"), ("a\\b\n", "ab"), ("/", "task"), ("..", "task")]
        {
            assert_eq!(name_of_command(program), name);
        }
    }

    #[test]
    fn endings_differ() {
        let endings: std::collections::HashSet<String> = (0..20).map(|_| random_ending()).collect();
        assert!(endings.len() > 15);
    }
}
