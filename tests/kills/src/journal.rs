//! What the framework knows, on disk before it acts: one JSON object a line, appended in one write,
//! so that `kill -9` leaves whole lines only.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};
use mezzo_sdk::v1::TaskStatus;
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The subscription was answered with this id.
    Subscribed { framework: String },
    /// The next call accepts an offer with this task.
    Launching { task: String, agent: String },
    /// The master's answer to that.
    Accepted { task: String },
    /// The master refused, so the task never was.
    Refused { task: String, message: String },
    /// The next call asks for the end of the task.
    Killing { task: String },
    /// A status came. It is acknowledged, if it wants to be, after this line.
    Update(Update),
    /// Every task is settled, and the framework goes.
    Settled,
}

/// What matters of a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    pub task: String,
    /// As in `TaskState`.
    pub state: String,
    /// Hexadecimal; none when nobody waits for an acknowledgement.
    pub uuid: Option<String>,
    pub reason: Option<String>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub message: String,
}

impl Update {
    pub fn of(status: &TaskStatus) -> Self {
        let uuid = status.uuid.as_deref();
        let termination = status.termination.as_ref();
        Update {
            task: status.task_id.value.clone(),
            state: status.state().as_str_name().to_owned(),
            uuid: uuid.map(|uuid| uuid.iter().map(|byte| format!("{byte:02x}")).collect()),
            reason: status.reason.map(|_| status.reason().as_str_name().to_owned()),
            exit_code: termination.and_then(|termination| termination.exit_code),
            signal: termination.and_then(|termination| termination.signal),
            message: status.message().to_owned(),
        }
    }
}

/// The writing end.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

impl Journal {
    /// Opens it, and returns what an earlier life wrote.
    pub fn open(path: &Path) -> Result<(Self, Vec<Entry>)> {
        let mut reader = Reader::new(path);
        let entries = reader.read()?;
        let file = File::options().create(true).append(true).open(path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        Ok((Journal { file }, entries))
    }

    pub fn write(&mut self, entry: &Entry) -> Result<()> {
        let line = serde_json::to_string(entry).context("cannot encode")? + "\n";
        self.file.write_all(line.as_bytes()).context("cannot write the journal")
    }
}

/// The reading end: what was added since the last look.
#[derive(Debug)]
pub struct Reader {
    path: std::path::PathBuf,
    offset: u64,
}

impl Reader {
    pub fn new(path: &Path) -> Self {
        Reader { path: path.to_owned(), offset: 0 }
    }

    pub fn read(&mut self) -> Result<Vec<Entry>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context("cannot open the journal"),
        };
        file.seek(SeekFrom::Start(self.offset)).context("cannot seek in the journal")?;
        let mut text = String::new();
        file.read_to_string(&mut text).context("cannot read the journal")?;
        // A line that is being written is read the next time.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.offset += whole as u64;
        let lines = text.get(..whole).unwrap_or_default().lines();
        lines
            .map(|line| serde_json::from_str(line).with_context(|| format!("no entry: {line}")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_come() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut reader = Reader::new(&path);
        assert_eq!(reader.read().unwrap(), []);
        let (mut journal, before) = Journal::open(&path).unwrap();
        assert_eq!(before, []);
        let first = Entry::Launching { task: "t".into(), agent: "a".into() };
        journal.write(&first).unwrap();
        assert_eq!(reader.read().unwrap(), std::slice::from_ref(&first));
        journal.file.write_all(b"{\"accept").unwrap();
        assert_eq!(reader.read().unwrap(), []);
        journal.file.write_all(b"ed\":{\"task\":\"t\"}}\n").unwrap();
        let second = Entry::Accepted { task: "t".into() };
        assert_eq!(reader.read().unwrap(), std::slice::from_ref(&second));
        assert_eq!(Journal::open(&path).unwrap().1, [first, second]);
    }
}
