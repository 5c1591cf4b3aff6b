//! A transcript of what a client and a daemon said, the same in every run: what is different each time (ids, times,
//! ports) is replaced by a name for it.
//!
//! A transcript is compared with the one in `transcripts/`; `MEZZO_RECORD=1` writes it there instead, to be read and
//! committed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use crate::wiretap::Said;

/// Compares what was said with what is in the file.
pub fn check(name: &str, said: &[Said]) {
    let path: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "conformance", "transcripts", &format!("{name}.txt")]
            .iter()
            .collect();
    let found = transcript(said);
    if std::env::var_os("MEZZO_RECORD").is_some() {
        std::fs::write(&path, &found).expect("the transcript can be written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if found != expected {
        let at = found.lines().zip(expected.lines()).position(|(a, b)| a != b);
        let at = at.unwrap_or_else(|| found.lines().count().min(expected.lines().count()));
        panic!(
            "{} differs from line {} on\nexpected: {}\n     got: {}\nall of it:\n{found}",
            path.display(),
            at + 1,
            expected.lines().nth(at).unwrap_or("the end"),
            found.lines().nth(at).unwrap_or("the end"),
        );
    }
}

fn transcript(said: &[Said]) -> String {
    let mut names = Names::default();
    let mut out = String::new();
    for one in said {
        match one {
            Said::Call { what, body, code, answer } => {
                let body = body.clone().map(|body| names.of("", body));
                let body = body.map_or(String::new(), |body| format!(" {body}"));
                let code = code.map_or("no answer".to_owned(), |code| code.to_string());
                // What is refused is said in a sentence; other answers are of another test.
                let refused = code.starts_with(['4', '5']);
                let answer =
                    if refused { format!(": {}", names.in_text(answer)) } else { String::new() };
                let _ = writeln!(out, "> {what}{body}\n  = {code}{answer}");
            }
            Said::Event(event) if event["type"] == "HEARTBEAT" => {}
            Said::Event(event) => {
                let _ = writeln!(out, "< {}", names.of("", event.clone()));
            }
        }
    }
    out
}

/// Names for what is different in every run, by what it was called where it first stood.
#[derive(Default)]
struct Names {
    of_text: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Names {
    fn of(&mut self, field: &str, value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let inside =
                    |key: &str| if key == "value" { field.to_owned() } else { key.to_owned() };
                let named = fields.into_iter().map(|(key, value)| {
                    let value = self.of(&inside(&key), value);
                    (key, value)
                });
                Value::Object(named.collect())
            }
            Value::Array(values) => {
                let singular = field.trim_end_matches('s').to_owned();
                Value::Array(values.into_iter().map(|value| self.of(&singular, value)).collect())
            }
            Value::Number(_) if is_moment(field) => Value::from("…"),
            Value::String(text) => Value::String(self.text(field, text)),
            other => other,
        }
    }

    fn text(&mut self, field: &str, text: String) -> String {
        if let Some(name) = self.of_text.get(&text) {
            return name.clone();
        }
        let kind = match field {
            "framework_id" => "framework",
            "agent_id" => "agent",
            "offer_id" => "offer",
            "id" if text.contains("-O") => "offer",
            "id" if text.contains("-S") => "agent",
            "uuid" => "uuid",
            "container_id" => "container",
            "id" if text.len() == 36 => "cluster",
            "hostname" | "ip" | "pid" | "sandbox_path" | "version" | "ip_address" => {
                return "…".to_owned();
            }
            "command" => return portable(&text),
            _ => return self.in_text(&text),
        };
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let name = format!("{kind} {count}");
        self.of_text.insert(text, name.clone());
        name
    }

    /// Known ids within a sentence.
    fn in_text(&self, text: &str) -> String {
        // Longer ones first: an id may begin like another.
        let mut known: Vec<(&String, &String)> = self.of_text.iter().collect();
        known.sort_by_key(|(id, _)| std::cmp::Reverse(id.len()));
        known.iter().fold(text.to_owned(), |text, (id, name)| match id.len() {
            0..8 => text,
            _ => text.replace(id.as_str(), name),
        })
    }
}

/// A command without its paths and addresses, which are those of one machine and run.
fn portable(command: &str) -> String {
    let of_here = |word: &str| word.contains('/') || word.parse::<SocketAddr>().is_ok();
    let words = command.split(' ').map(|word| if of_here(word) { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Numbers that no two runs share.
fn is_moment(field: &str) -> bool {
    matches!(
        field,
        "timestamp"
            | "port"
            | "ip"
            | "executor_pid"
            | "nanoseconds"
            | "start_time"
            | "elected_time"
    )
}
