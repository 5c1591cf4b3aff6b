//! `mezzo fs TASK [PATH]` and `mezzo cp TASK:PATH [LOCAL]`.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use mezzo_sdk::v1::{FileInfo, Task};
use mezzo_sdk::{Agent, FileRequest, Master};
use serde::Serialize;
use tokio::fs::File;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::arguments::Global;
use crate::failure::{Failure, note};
use crate::output::{self, Row};
use crate::{find, follow, quantity};

#[derive(Debug, clap::Args)]
pub(crate) struct FsArguments {
    /// Id of the task.
    task: String,

    /// Directory or file in the task's sandbox.
    #[arg(default_value = "")]
    path: String,

    /// Id of the task's framework, needed where two frameworks have a task of that id.
    #[arg(long, value_name = "ID")]
    framework: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CpArguments {
    /// Id of the task and the file in its sandbox.
    #[arg(value_name = "TASK:PATH")]
    from: String,

    /// File or directory to copy to, or - for stdout.
    #[arg(value_name = "LOCAL", default_value = ".")]
    to: PathBuf,

    /// Id of the task's framework, needed where two frameworks have a task of that id.
    #[arg(long, value_name = "ID")]
    framework: Option<String>,
}

/// Lists a directory, or prints a file.
pub(crate) async fn fs(global: &Global, arguments: &FsArguments) -> Result<(), Failure> {
    let (agent, task) = open(global, &arguments.task, arguments.framework.as_deref()).await?;
    let listed = agent.list_files(virtual_path(&task, &arguments.path)).await;
    let problem = match listed {
        Ok(infos) => {
            let rows: Vec<FileRow> = infos.iter().map(FileRow::new).collect();
            return output::print(global.output, &rows);
        }
        Err(error) if error.is_not_found() => {
            return Err(Failure::of(&error).hint(
                "`mezzo fs TASK` lists the sandbox; it is removed some time after the task has ended",
            ));
        }
        Err(error) => error,
    };
    let message = problem.to_string();
    if !message.contains("no directory") {
        return Err(Failure::of(&problem));
    }
    copy(&agent, request(&task, &arguments.path), follow::stdout()?).await.map(drop)
}

/// Copies a file of a sandbox to this machine.
pub(crate) async fn cp(global: &Global, arguments: &CpArguments) -> Result<(), Failure> {
    let (id, path) = parts(&arguments.from)?;
    let (agent, task) = open(global, id, arguments.framework.as_deref()).await?;
    if arguments.to == Path::new("-") {
        return copy(&agent, request(&task, path), follow::stdout()?).await.map(drop);
    }
    let to = destination(&arguments.to, path);
    let failed = |error: std::io::Error| {
        Failure::from_error(format!("could not write {}", to.display()), &error)
    };
    // Under another name until it is whole.
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let draft = to.with_file_name(format!(".{name}.part"));
    let copied = match File::create(&draft).await {
        Ok(file) => copy(&agent, request(&task, path), file).await,
        Err(error) => return Err(failed(error)),
    };
    let bytes = match copied {
        Ok(bytes) => bytes,
        Err(failure) => {
            // What is left of it is of no use to anybody.
            let _ = tokio::fs::remove_file(&draft).await;
            return Err(failure);
        }
    };
    tokio::fs::rename(&draft, &to).await.map_err(failed)?;
    note(&format!("{bytes} bytes copied to {}", to.display()));
    Ok(())
}

async fn open(
    global: &Global,
    id: &str,
    framework: Option<&str>,
) -> Result<(Agent, Task), Failure> {
    let master = Master::connect(&global.master).await?;
    let tasks = master.tasks().await?;
    let task = find::task(&tasks, id, framework)?.clone();
    let agent = find::agent(&master, &task.agent_id).await?;
    Ok((agent, task))
}

/// `TASK:PATH`; a task's id may have colons, a path after the last one has none.
fn parts(from: &str) -> Result<(&str, &str), Failure> {
    from.rsplit_once(':').filter(|(task, path)| !task.is_empty() && !path.is_empty()).ok_or_else(
        || {
            Failure::new(format!("{from:?} does not name a task and a file"))
                .hint("write TASK:PATH, as in web:stdout")
        },
    )
}

fn destination(to: &Path, path: &str) -> PathBuf {
    match Path::new(path).file_name() {
        Some(name) if to.is_dir() => to.join(name),
        _ => to.to_owned(),
    }
}

/// As Mesos names places in sandboxes; a command task is its own executor.
fn virtual_path(task: &Task, path: &str) -> String {
    let (framework, id) = (&task.framework_id.value, &task.task_id.value);
    format!("/frameworks/{framework}/executors/{id}/runs/latest/{}", path.trim_start_matches("./"))
}

fn request(task: &Task, path: &str) -> FileRequest {
    FileRequest {
        framework_id: task.framework_id.clone(),
        task_id: task.task_id.clone(),
        path: path.to_owned(),
        offset: 0,
        follow: false,
        with_rotated: false,
    }
}

/// The number of bytes copied.
async fn copy(
    agent: &Agent,
    request: FileRequest,
    mut sink: impl AsyncWrite + Unpin,
) -> Result<u64, Failure> {
    let mut reader = agent.read_file(request).await?;
    let mut bytes = 0;
    while let Some(chunk) = reader.next().await? {
        if chunk.offset != bytes {
            return Err(Failure::new("the file was cut short while it was copied; try again"));
        }
        sink.write_all(&chunk.data).await?;
        bytes += chunk.data.len() as u64;
    }
    sink.flush().await?;
    Ok(bytes)
}

#[derive(Debug, Serialize)]
struct FileRow {
    name: String,
    size_bytes: u64,
    /// As `ls -l` shows it.
    mode: String,
    user: String,
    group: String,
    modified_unix_seconds: i64,
}

impl FileRow {
    fn new(info: &FileInfo) -> FileRow {
        FileRow {
            name: info.path.rsplit('/').next().unwrap_or_default().to_owned(),
            size_bytes: info.size.unwrap_or_default(),
            mode: mezzo_agent::mode_text(info.mode.unwrap_or_default()),
            user: info.uid.clone().unwrap_or_default(),
            group: info.gid.clone().unwrap_or_default(),
            modified_unix_seconds: info.mtime.map_or(0, |time| time.nanoseconds / 1_000_000_000),
        }
    }
}

impl Row for FileRow {
    const HEADINGS: &'static [&'static str] = &["MODE", "USER", "GROUP", "SIZE", "AGE", "NAME"];

    fn cells(&self) -> Vec<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        vec![
            self.mode.clone(),
            self.user.clone(),
            self.group.clone(),
            self.size_bytes.to_string(),
            quantity::age(now - self.modified_unix_seconds as f64),
            self.name.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_and_a_file_are_told_apart() {
        assert_eq!(parts("web:stdout").expect("parts"), ("web", "stdout"));
        assert_eq!(parts("a:b:c/d").expect("parts"), ("a:b", "c/d"));
        for bad in ["web", ":stdout", "web:", ""] {
            parts(bad).expect_err(bad);
        }
    }

    #[test]
    fn a_copy_keeps_its_name_unless_it_gets_another() {
        let directory = std::env::temp_dir();
        assert_eq!(destination(&directory, "logs/a.log"), directory.join("a.log"));
        assert_eq!(destination(Path::new("new.log"), "logs/a.log"), Path::new("new.log"));
    }
}
