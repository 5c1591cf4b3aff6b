//! Files as Mesos' tools ask for them: `/files/browse`, `/files/read`, `/files/download`, `/files/debug`, and the operator
//! calls LIST_FILES and READ_FILE. Names, codes, sentences and JSON are those of Mesos' agent.

use std::collections::BTreeMap;
use std::io;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode, header};
use mezzo_http_server::query_value;
use mezzo_proto::v1::{FileInfo, TimeInfo};
use nix::sys::stat::SFlag;
use nix::unistd::{Gid, Group, Uid, User};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::encoding::Refusal;
use super::files::{CHUNK_BYTES, CHUNKS_AHEAD, Files, open_run};
use super::mime;
use super::source::Source;
use super::virtual_path::Place;
use crate::sandbox::beneath::{Entry, Refused, list_beneath};

/// Largest piece of a file in one answer: 16 pages (Mesos, `src/files/files.cpp`).
const PIECE_BYTES: u64 = 16 * 4096;

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let code = match refused {
            Refused::Missing => StatusCode::NOT_FOUND,
            Refused::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Refusal { code, message: format!("{}.\n", mezzo_telemetry::chain(&refused)) }
    }
}

impl Files {
    /// What is in a directory, by name; paths as they were asked for.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<FileInfo>, Refusal> {
        let path = path.to_owned();
        self.blocking(&path.clone(), move |place, _| {
            let entries = list_beneath(open_run(&place.sandbox)?, &place.path)?;
            let (mut users, mut groups) = (BTreeMap::new(), BTreeMap::new());
            let info = |entry| file_info(&path, entry, &mut users, &mut groups);
            Ok(entries.into_iter().map(info).collect())
        })
        .await
    }

    /// The size of a file, and up to `length` of its bytes from `offset` on.
    pub(super) async fn piece(
        &self,
        path: &str,
        offset: u64,
        length: Option<u64>,
    ) -> Result<(u64, Bytes), Refusal> {
        let max = length.unwrap_or(u64::MAX).min(PIECE_BYTES);
        self.blocking(path, move |place, files| {
            let source = files.open(&place)?;
            let span = source.span()?;
            let size = span.end - span.held;
            let max = usize::try_from(max.min(size.saturating_sub(offset))).unwrap_or(0);
            if max == 0 {
                return Ok((size, Bytes::new()));
            }
            let (_, data) = source.read(span.held + offset, max)?;
            Ok((size, data))
        })
        .await
    }

    fn open(&self, place: &Place) -> Result<Source, Refused> {
        Source::open(open_run(&place.sandbox)?, &place.path, self.locks.clone())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        path: &str,
        work: impl FnOnce(Place, Files) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (files, path) = (self.clone(), path.to_owned());
        let done = tokio::task::spawn_blocking(move || {
            let place = files.place(&path).ok_or(Refused::Missing)?;
            work(place, files)
        });
        let done = done.await.unwrap_or_else(|error| Err(io::Error::other(error).into()));
        done.map_err(Refusal::from)
    }
}

/// Answers `/files/…`.
pub(super) async fn handle(
    files: &Files,
    path: &str,
    method: &Method,
    query: Option<String>,
) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let message = format!("Expecting one of {{ 'GET' }}, but received '{method}'");
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")], message).into_response();
    }
    // Old tools ask with the suffix of 0.x.
    let path = path.strip_suffix(".json").unwrap_or(path);
    let query = query.as_deref();
    let answered = match path {
        "/files/browse" => browse(files, query).await,
        "/files/read" => read(files, query).await,
        "/files/download" => download(files, query).await,
        "/files/debug" => debug(files, query).await,
        other => Err(Refusal {
            code: StatusCode::NOT_FOUND,
            message: format!("no endpoint at '{other}'\n"),
        }),
    };
    answered.unwrap_or_else(IntoResponse::into_response)
}

fn asked_path(query: Option<&str>) -> Result<String, Refusal> {
    query_value(query, "path")
        .filter(|path| !path.is_empty())
        .ok_or_else(|| Refusal::bad("Expecting 'path=value' in query.\n".to_owned()))
}

async fn browse(files: &Files, query: Option<&str>) -> Result<Response, Refusal> {
    let infos = files.list(&asked_path(query)?).await?;
    let entry = |info: FileInfo| {
        json!({
            "gid": info.gid,
            "mode": mode_text(info.mode.unwrap_or_default()),
            "mtime": info.mtime.map_or(0, |time| time.nanoseconds / 1_000_000_000),
            "nlink": info.nlink,
            "path": info.path,
            "size": info.size,
            "uid": info.uid,
        })
    };
    answer(query, &infos.into_iter().map(entry).collect())
}

async fn read(files: &Files, query: Option<&str>) -> Result<Response, Refusal> {
    let path = asked_path(query)?;
    let offset = number(query, "offset")?;
    let length = number(query, "length")?;
    // Without an offset, or with -1, only the size is asked for.
    let (size, data) = match offset {
        None => files.piece(&path, 0, Some(0)).await?,
        Some(offset) => files.piece(&path, offset, length).await?,
    };
    // What was asked for, also if the file ends before it.
    let offset = offset.unwrap_or(size);
    answer(query, &json!({ "offset": offset, "data": String::from_utf8_lossy(&data) }))
}

/// A number of the query; -1 is as good as none.
fn number(query: Option<&str>, name: &str) -> Result<Option<u64>, Refusal> {
    let Some(text) = query_value(query, name) else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(value) => u64::try_from(value)
            .map(Some)
            .map_err(|_| Refusal::bad(format!("Negative {name} provided: {value}.\n"))),
        Err(_) => Err(Refusal::bad(format!("Failed to parse {name}: '{text}' is no number.\n"))),
    }
}

/// The whole file as it is now, raw. Output that is rotated meanwhile arrives whole.
async fn download(files: &Files, query: Option<&str>) -> Result<Response, Refusal> {
    let path = asked_path(query)?;
    let opened = files.blocking(&path, |place, files| {
        let source = files.open(&place)?;
        let span = source.span()?;
        Ok((source, span))
    });
    let (source, span) = opened.await?;
    let (sender, chunks) = mpsc::channel::<io::Result<Bytes>>(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut position = span.held;
        while position < span.end {
            let left = usize::try_from(span.end - position).unwrap_or(usize::MAX);
            let read = source.read(position, left.min(CHUNK_BYTES)).and_then(|(at, data)| {
                // The promised length cannot be kept: the connection is broken, so that the caller knows.
                if at != position || data.is_empty() {
                    return Err(io::Error::other("the file was cut short while it was read"));
                }
                Ok(data)
            });
            position += read.as_ref().map_or(0, |data| data.len() as u64);
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("file");
    let kind = mime::of(name);
    let name: String =
        name.chars().filter(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | ';')).collect();
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_LENGTH, (span.end - span.held).to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename={name}")),
    ];
    Ok((headers, Body::from_stream(ReceiverStream::new(chunks))).into_response())
}

/// Virtual paths of the tasks that the agent knows, and where they lead.
async fn debug(files: &Files, query: Option<&str>) -> Result<Response, Refusal> {
    let files = files.clone();
    let paths = tokio::task::spawn_blocking(move || {
        let path = |virtual_path: String| {
            let real = files.place(&virtual_path)?.sandbox;
            Some((virtual_path, Value::String(real.display().to_string())))
        };
        files.virtual_paths().into_iter().filter_map(path).collect::<serde_json::Map<_, _>>()
    });
    let paths = paths.await.map_err(|error| Refused::from(io::Error::other(error)))?;
    answer(query, &Value::Object(paths))
}

/// JSON, or with `jsonp=name` a call of that function.
fn answer(query: Option<&str>, value: &Value) -> Result<Response, Refusal> {
    answer_text(query, &value.to_string())
}

/// The same for JSON that is text already.
pub(super) fn answer_text(query: Option<&str>, json: &str) -> Result<Response, Refusal> {
    let Some(function) = query_value(query, "jsonp") else {
        return Ok(([(header::CONTENT_TYPE, "application/json")], json.to_owned()).into_response());
    };
    // It becomes part of a script.
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
    if function.is_empty() || !function.chars().all(allowed) {
        return Err(Refusal::bad(format!("'{function}' cannot be the name of a function.\n")));
    }
    let kind = [(header::CONTENT_TYPE, "text/javascript")];
    Ok((kind, format!("{function}({json});")).into_response())
}

fn file_info(
    directory: &str,
    entry: Entry,
    users: &mut BTreeMap<u32, String>,
    groups: &mut BTreeMap<u32, String>,
) -> FileInfo {
    let Entry { name, facts } = entry;
    let user = |id| User::from_uid(Uid::from_raw(id)).ok().flatten().map(|user| user.name);
    let group = |id| Group::from_gid(Gid::from_raw(id)).ok().flatten().map(|group| group.name);
    let owner = users.entry(facts.st_uid);
    let owner = owner.or_insert_with_key(|id| user(*id).unwrap_or_else(|| id.to_string()));
    let group_name = groups.entry(facts.st_gid);
    let group_name =
        group_name.or_insert_with_key(|id| group(*id).unwrap_or_else(|| id.to_string()));
    let nanoseconds = facts.st_mtime.saturating_mul(1_000_000_000);
    FileInfo {
        path: format!("{}/{name}", directory.trim_end_matches('/')),
        nlink: Some(i32::try_from(facts.st_nlink).unwrap_or(i32::MAX)),
        size: Some(u64::try_from(facts.st_size).unwrap_or(0)),
        mtime: Some(TimeInfo { nanoseconds: nanoseconds.saturating_add(facts.st_mtime_nsec) }),
        mode: Some(facts.st_mode),
        uid: Some(owner.clone()),
        gid: Some(group_name.clone()),
    }
}

/// A file's mode as `ls -l` shows it: `-rw-r--r--`.
pub fn mode_text(mode: u32) -> String {
    let kind = match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => 'd',
        SFlag::S_IFLNK => 'l',
        SFlag::S_IFIFO => 'p',
        SFlag::S_IFSOCK => 's',
        SFlag::S_IFBLK => 'b',
        SFlag::S_IFCHR => 'c',
        _ => '-',
    };
    let flag = |bit: u32, letter: char| if mode & bit != 0 { letter } else { '-' };
    let execute =
        |bit: u32, special: u32, letter: char| match (mode & bit != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        };
    [
        kind,
        flag(0o400, 'r'),
        flag(0o200, 'w'),
        execute(0o100, 0o4000, 's'),
        flag(0o040, 'r'),
        flag(0o020, 'w'),
        execute(0o010, 0o2000, 's'),
        flag(0o004, 'r'),
        flag(0o002, 'w'),
        execute(0o001, 0o1000, 't'),
    ]
    .into_iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use mezzo_agent_core::ViewChange;
    use mezzo_proto::v1::{AgentId, AgentInfo};

    use super::*;
    use crate::sandbox::log::LogLocks;
    use crate::view::View;

    /// The code, the kind of content and the answer to `GET /files/…` about a file of six bytes.
    async fn get(name: &str, path: &str, query: &str) -> (u16, String, String) {
        let work = tempfile::tempdir().unwrap();
        let view = View::default();
        let id = Some(AgentId { value: "S0".into() });
        let info = AgentInfo { id, ..AgentInfo::default() };
        view.apply(ViewChange::Agent(Box::new(info)));
        let files = Files::new(view, work.path(), LogLocks::default()).unwrap();
        let run = "frameworks/f/executors/t/runs/c";
        let sandbox = work.path().join("slaves/S0").join(run);
        std::fs::create_dir_all(&sandbox).unwrap();
        std::fs::write(sandbox.join(name), b"sixbyt").unwrap();
        let query = format!("path=/{run}/{name}{query}");
        let response = handle(&files, path, &Method::GET, Some(query)).await;
        let code = response.status().as_u16();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (code, kind, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn a_piece_begins_where_it_was_asked_for() {
        for (query, data, offset) in [
            ("&offset=1&length=2", "ix", 1),
            ("&offset=100&length=5", "", 100),
            ("&offset=6", "", 6),
            ("&offset=-1", "", 6),
            ("", "", 6),
        ] {
            let (code, _, body) = get("notes", "/files/read", query).await;
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((code, body), (200, json!({ "offset": offset, "data": data })), "{query}");
        }
    }

    #[tokio::test]
    async fn a_download_says_what_it_is() {
        for (name, kind) in [("a.txt", "text/plain"), ("core", "application/octet-stream")] {
            let answer = get(name, "/files/download", "").await;
            assert_eq!(answer, (200, kind.to_owned(), "sixbyt".to_owned()));
        }
    }

    #[test]
    fn modes_are_shown_as_ls_does() {
        for (mode, text) in [
            (0o100_644, "-rw-r--r--"),
            (0o040_750, "drwxr-x---"),
            (0o120_777, "lrwxrwxrwx"),
            (0o041_777, "drwxrwxrwt"),
            (0o104_711, "-rws--x--x"),
            (0o102_644, "-rw-r-Sr--"),
        ] {
            assert_eq!(mode_text(mode), text);
        }
    }

    #[test]
    fn a_script_gets_no_more_than_a_call() {
        answer(Some("jsonp=jQuery1_2.cb"), &json!({})).expect("a name");
        for bad in ["jsonp=alert(1)//", "jsonp=", "jsonp=a%3Cb"] {
            answer(Some(bad), &json!({})).expect_err(bad);
        }
    }
}
