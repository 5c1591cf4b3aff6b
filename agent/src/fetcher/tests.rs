use std::fs;
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use sha2::{Digest, Sha256, Sha512};
use tempfile::TempDir;

use super::*;

/// What a server does with the path that was asked for.
type Answer = dyn Fn(&str, &mut TcpStream) + Send + Sync;

/// An HTTP server on the loopback interface, one request a connection. Ends with the test.
fn serve(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer: Arc<Answer> = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let answer = answer.clone();
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let request = lines.next().unwrap().unwrap();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                answer(request.split(' ').nth(1).unwrap(), &mut stream);
            });
        }
    });
    format!("http://{address}")
}

fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    // The client may have hung up, which is its right.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

fn uri(value: &str) -> Uri {
    Uri { value: value.to_owned(), ..Default::default() }
}

struct Place {
    directory: TempDir,
    fetcher: Fetcher,
}

impl Place {
    fn new() -> Place {
        Place::with(Limits::default())
    }

    fn with(limits: Limits) -> Place {
        let place = Place { directory: TempDir::new().unwrap(), fetcher: Fetcher::new(limits) };
        fs::create_dir(place.sandbox()).unwrap();
        place
    }

    fn sandbox(&self) -> PathBuf {
        self.directory.path().join("sandbox")
    }

    /// A file outside the sandbox.
    fn source(&self, name: &str, content: &[u8]) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn fetch(&self, uri: Uri) -> Result<Vec<PathBuf>, FetchError> {
        self.fetcher.fetch(&[uri], &self.sandbox(), None, &Arc::default())
    }

    fn refuse(&self, uri: Uri) -> String {
        self.fetch(uri).unwrap_err().fault.to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.sandbox().join(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.sandbox().join(name)).unwrap().permissions().mode() & 0o7777
    }
}

#[test]
fn copies_local_files_and_marks_executables() {
    let place = Place::new();
    let tool = place.source("tool.sh", b"#!/bin/sh\n");
    assert_eq!(place.fetch(uri(&tool)).unwrap(), [PathBuf::from("tool.sh")]);
    assert_eq!((place.read("tool.sh").as_str(), place.mode("tool.sh")), ("#!/bin/sh\n", 0o644));
    let executable = Uri { executable: Some(true), ..uri(&format!("file://{tool}")) };
    place.fetch(executable).unwrap();
    assert_eq!(place.mode("tool.sh"), 0o755);
    let renamed = Uri { output_file: Some("bin/./deep/t".into()), ..uri(&tool) };
    assert_eq!(place.fetch(renamed).unwrap(), [PathBuf::from("bin/deep/t")]);
    assert_eq!(place.read("bin/deep/t"), "#!/bin/sh\n");
}

#[test]
fn counts_what_it_was_called_for() {
    let place = Place::new();
    let file = place.source("x", b"x");
    place.fetcher.fetch(&[], &place.sandbox(), None, &Arc::default()).unwrap();
    let two = [uri(&file), Uri { output_file: Some("y".into()), ..uri(&file) }];
    place.fetcher.fetch(&two, &place.sandbox(), None, &Arc::default()).unwrap();
    place.refuse(uri("/nonexistent/x"));
    let fetches = place.fetcher.fetches();
    assert_eq!((fetches.succeeded.get(), fetches.failed.get()), (1, 1));
}

#[test]
fn says_why_a_local_file_cannot_be_had() {
    let place = Place::new();
    assert_eq!(
        place.fetch(uri("/nonexistent/x")).unwrap_err().to_string(),
        "failed to fetch `/nonexistent/x`: could not open it: No such file or directory (os error 2)"
    );
    assert_eq!(place.refuse(uri("/dev/null")), "it is not a regular file");
    assert_eq!(place.refuse(uri("/etc")), "it is not a regular file");
    let small = Place::with(Limits { fetched_bytes: 4, ..Limits::default() });
    let five = small.source("five", b"12345");
    assert_eq!(small.refuse(uri(&five)), "it is larger than 4 bytes, the most that is fetched");
}

#[test]
fn output_files_stay_in_the_sandbox() {
    let place = Place::new();
    let file = place.source("x", b"x");
    let to = |name: &str| Uri { output_file: Some(name.into()), ..uri(&file) };
    for (name, rule) in [
        ("/etc/x", "is an absolute path"),
        ("a/../../x", "has `..` in it"),
        ("", "is empty"),
        (".", "names no file"),
    ] {
        let sentence = format!(
            "`output_file` is `{name}`, which {rule}; give a relative path inside the sandbox"
        );
        assert_eq!(place.refuse(to(name)), sentence);
    }
    let outside = place.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, place.sandbox().join("link")).unwrap();
    assert_eq!(
        place.refuse(to("link/x")),
        "`link` leads out of the sandbox through a symbolic link"
    );
    assert!(fs::read_dir(&outside).unwrap().next().is_none());
    // A link in the place of the file is replaced, not followed.
    let target = place.source("target", b"keep");
    symlink(&target, place.sandbox().join("y")).unwrap();
    place.fetch(to("y")).unwrap();
    assert_eq!(
        (place.read("y").as_str(), fs::read(&target).unwrap().as_slice()),
        ("x", &b"keep"[..])
    );
}

#[test]
fn checks_what_it_fetched() {
    let place = Place::new();
    let file = place.source("data", b"content");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sha256 = hex(&Sha256::digest(b"content"));
    let sha512 = hex(&Sha512::digest(b"content"));
    place.fetch(uri(&format!("{file}#sha256={}", sha256.to_uppercase()))).unwrap();
    place.fetch(uri(&format!("file://{file}#sha512={sha512}"))).unwrap();
    let wrong = "0".repeat(64);
    assert_eq!(
        place.refuse(uri(&format!("{file}#sha256={wrong}"))),
        format!("its SHA-256 is {sha256}, not {wrong}; the content has changed or is damaged")
    );
}

#[test]
fn fetches_over_http_and_follows_redirects() {
    let server = serve(|path, stream| match path {
        "/a/file?q=1" => respond(stream, "200 OK", "", b"over http"),
        "/moved" => respond(stream, "302 Found", "Location: /a/file?q=1\r\n", b""),
        "/round" => respond(stream, "302 Found", "Location: /round\r\n", b""),
        "/chunked" => {
            let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
            stream.write_all(text.as_bytes()).unwrap();
        }
        _ => respond(stream, "404 Not Found", "", b"no"),
    });
    let place = Place::new();
    assert_eq!(
        place.fetch(uri(&format!("{server}/a/file?q=1#top"))).unwrap(),
        [PathBuf::from("file")]
    );
    assert_eq!(place.read("file"), "over http");
    place.fetch(uri(&format!("{server}/moved"))).unwrap();
    assert_eq!(place.read("moved"), "over http");
    place.fetch(uri(&format!("{server}/chunked"))).unwrap();
    assert_eq!(place.read("chunked"), "hello");
    assert_eq!(
        place.refuse(uri(&format!("{server}/none"))),
        "the server answered with status 404 (Not Found)"
    );
    assert_eq!(
        place.refuse(uri(&format!("{server}/round"))),
        "the server redirected more than 10 times"
    );
    let secret = server.replace("http://", "http://user:secret@");
    let error = place.fetch(uri(&format!("{secret}/none"))).unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn says_when_a_server_is_gone_silent_or_breaks_off() {
    let limits = Limits { stall: Duration::from_millis(300), ..Limits::default() };
    let place = Place::with(limits);
    let (hold, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let server = serve(move |path, stream| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n12345";
        stream.write_all(head).unwrap();
        if path == "/silent" {
            // Until the test drops its end: the connection stays open and nothing comes.
            let _ = held.lock().unwrap().recv();
        }
    });
    assert_eq!(
        place.refuse(uri(&format!("{server}/silent"))),
        "the server sent nothing for 0 seconds"
    );
    drop(hold);
    let broken = place.refuse(uri(&format!("{server}/short")));
    assert!(broken.starts_with("the download broke off after 5 bytes: "), "{broken}");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = place.refuse(uri(&format!("http://{closed}/x")));
    assert!(
        refused.starts_with("the request failed: ") && refused.contains("refused"),
        "{refused}"
    );
}

#[test]
fn a_cancelled_fetch_ends_though_the_server_is_silent() {
    let (reached, wait_reached) = mpsc::channel::<()>();
    let (hold, held) = mpsc::channel::<()>();
    let (reached, held) = (std::sync::Mutex::new(reached), std::sync::Mutex::new(held));
    let server = serve(move |_, _| {
        reached.lock().unwrap().send(()).unwrap();
        let _ = held.lock().unwrap().recv();
    });
    let place = Place::new();
    let cancel = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let fetch = scope.spawn(|| {
            place.fetcher.fetch(&[uri(&format!("{server}/x"))], &place.sandbox(), None, &cancel)
        });
        wait_reached.recv().unwrap();
        let since = Instant::now();
        cancel.store(true, Ordering::Relaxed);
        let error = fetch.join().unwrap().unwrap_err();
        assert!(matches!(error.fault, FetchFault::Cancelled), "{error}");
        assert!(since.elapsed() < Limits::default().stall / 2);
    });
    drop(hold);
    assert!(place.fetcher.fetch(&[uri("/etc/hosts")], &place.sandbox(), None, &cancel).is_err());
}

/// A tar archive from headers and contents; the headers' sizes and checksums are filled in.
struct Pack(tar::Builder<Vec<u8>>);

impl Pack {
    fn new() -> Pack {
        Pack(tar::Builder::new(Vec::new()))
    }

    fn entry(
        mut self,
        path: &str,
        kind: tar::EntryType,
        mode: u32,
        link: &str,
        content: &[u8],
    ) -> Pack {
        let mut header = tar::Header::new_gnu();
        // Not through `set_path`, which refuses what is tested here.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, path: &str, content: &[u8]) -> Pack {
        self.entry(path, tar::EntryType::Regular, 0o644, "", content)
    }

    fn symlink(self, path: &str, target: &str) -> Pack {
        self.entry(path, tar::EntryType::Symlink, 0o777, target, b"")
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn usual() -> Vec<u8> {
    use tar::EntryType;
    Pack::new()
        .entry("./", EntryType::Directory, 0o700, "", b"")
        .entry("dir/", EntryType::Directory, 0o500, "", b"")
        .entry("dir/run", EntryType::Regular, 0o4755, "", b"run")
        .file("made/on/the/way", b"way")
        .symlink("link", "dir")
        .file("link/through", b"through a link inside")
        .symlink("away", "/etc/passwd")
        .entry("hard", EntryType::Link, 0o644, "dir/run", b"")
        .finish()
}

fn check_usual(place: &Place) {
    assert_eq!(place.read("dir/run"), "run");
    assert_eq!(place.mode("dir/run"), 0o755, "setuid is not kept");
    assert_eq!(place.mode("dir"), 0o700, "its owner can write to it");
    assert_eq!(place.read("made/on/the/way"), "way");
    assert_eq!(place.read("dir/through"), "through a link inside");
    assert_eq!(fs::read_link(place.sandbox().join("away")).unwrap(), Path::new("/etc/passwd"));
    let inode = |name: &str| fs::metadata(place.sandbox().join(name)).unwrap().ino();
    assert_eq!(inode("hard"), inode("dir/run"));
    assert_eq!(fs::metadata(place.sandbox().join("dir/run")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn unpacks_tar_archives_however_compressed() {
    let tar = usual();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let bzip2 = |bytes: &[u8]| {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let xz = |bytes: &[u8]| {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let archives = [
        ("a.tar", tar.clone()),
        ("a.tar.gz", gzip(&tar)),
        // Two members, as `cat` makes them.
        ("a.tgz", [gzip(&tar[..700]), gzip(&tar[700..])].concat()),
        ("a.tar.bz2", bzip2(&tar)),
        ("a.tbz2", bzip2(&tar)),
        ("a.tar.xz", xz(&tar)),
        ("a.txz", [xz(&tar[..512]), xz(&tar[512..])].concat()),
        ("a.tar.zst", zstd::encode_all(Cursor::new(&tar), 3).unwrap()),
    ];
    for (name, bytes) in archives {
        let place = Place::new();
        let source = place.source(name, &bytes);
        assert_eq!(place.fetch(uri(&source)).unwrap(), [PathBuf::from(name)], "{name}");
        check_usual(&place);
        assert_eq!(fs::read(place.sandbox().join(name)).unwrap(), bytes, "the archive stays");
        // A second time over what is there.
        place.fetch(uri(&source)).unwrap();
        check_usual(&place);
        let plain = Place::new();
        plain.fetch(Uri { extract: Some(false), ..uri(&source) }).unwrap();
        assert_eq!(fs::read_dir(plain.sandbox()).unwrap().count(), 1);
        let plain = Place::new();
        plain.fetch(Uri { executable: Some(true), ..uri(&source) }).unwrap();
        assert_eq!(fs::read_dir(plain.sandbox()).unwrap().count(), 1);
    }
    let place = Place::new();
    let source = place.source("log.txt.gz", &gzip(b"text"));
    place.fetch(uri(&source)).unwrap();
    assert_eq!(place.read("log.txt"), "text");
}

#[test]
fn long_names_and_extended_headers_are_understood() {
    let long = format!("{}/file", "d".repeat(150));
    let mut gnu = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o600);
    gnu.append_data(&mut header, &long, &b"ab"[..]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    gnu.append_link(&mut header, "x", &long).unwrap();

    let mut pax = tar::Builder::new(Vec::new());
    pax.append_pax_extensions([("path", long.as_bytes()), ("mtime", b"1.5")]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_path("short").unwrap();
    header.set_size(2);
    header.set_mode(0o600);
    header.set_cksum();
    pax.append(&header, &b"ab"[..]).unwrap();

    for bytes in [gnu.into_inner().unwrap(), pax.into_inner().unwrap()] {
        let place = Place::new();
        let source = place.source("a.tar", &bytes);
        place.fetch(uri(&source)).unwrap();
        assert_eq!(place.read(&long), "ab");
        assert_eq!(place.mode(&long), 0o600);
    }
}

#[test]
fn hostile_archives_are_refused_and_nothing_outside_is_touched() {
    use tar::EntryType;
    let file = |path: &str| Pack::new().file(path, b"evil").finish();
    let node = |kind| Pack::new().entry("n", kind, 0o644, "", b"").finish();
    let cases = [
        (file("../evil"), "the archive's entry `../evil` has `..` in it"),
        (file("a/../../evil"), "the archive's entry `a/../../evil` has `..` in it"),
        (file("/tmp/evil"), "the archive's entry `/tmp/evil` is an absolute path"),
        (
            Pack::new().symlink("out", "../outside").file("out/evil", b"evil").finish(),
            "`out` leads out of the sandbox through a symbolic link",
        ),
        (
            Pack::new()
                .symlink("a", "b/..")
                .symlink("b", "..")
                .file("a/outside/evil", b"evil")
                .finish(),
            "`a/outside` leads out of the sandbox through a symbolic link",
        ),
        (
            Pack::new().symlink("out", "/").file("out/tmp/evil", b"evil").finish(),
            "`out/tmp` leads out of the sandbox through a symbolic link",
        ),
        (
            Pack::new()
                .symlink("out", "../outside")
                .entry("out/d", EntryType::Directory, 0o755, "", b"")
                .finish(),
            "`out` leads out of the sandbox through a symbolic link",
        ),
        (
            Pack::new().entry("h", EntryType::Link, 0o644, "../secret", b"").finish(),
            "the archive's entry `../secret` has `..` in it",
        ),
        (
            Pack::new()
                .symlink("out", "..")
                .entry("h", EntryType::Link, 0o644, "out/secret", b"")
                .finish(),
            "`out` leads out of the sandbox through a symbolic link",
        ),
        (node(EntryType::Char), "the archive's entry `n` is a device; devices are not unpacked"),
        (node(EntryType::Block), "the archive's entry `n` is a device; devices are not unpacked"),
        (node(EntryType::Fifo), "the archive's entry `n` is a pipe; pipes are not unpacked"),
        (Pack::new().symlink("s", "").finish(), "the archive's entry `s` is a link to nothing"),
    ];
    for (bytes, sentence) in cases {
        let place = Place::new();
        let secret = place.source("secret", b"secret");
        let outside = place.directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let source = place.source("a.tar", &bytes);
        assert_eq!(place.refuse(uri(&source)), sentence);
        assert!(fs::read_dir(&outside).unwrap().next().is_none(), "{sentence}");
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
        assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1);
        assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 4);
    }
}

#[test]
fn a_link_in_the_place_of_a_file_or_directory_is_replaced() {
    let place = Place::new();
    let secret = place.source("secret", b"secret");
    fs::create_dir(place.directory.path().join("outside")).unwrap();
    let bytes = Pack::new()
        .symlink("f", "../secret")
        .file("f", b"mine")
        .symlink("d", "../secret")
        .entry("d", tar::EntryType::Directory, 0o755, "", b"")
        .finish();
    place.fetch(uri(&place.source("a.tar", &bytes))).unwrap();
    assert_eq!(
        (place.read("f").as_str(), fs::read(&secret).unwrap().as_slice()),
        ("mine", &b"secret"[..])
    );
    assert!(fs::symlink_metadata(place.sandbox().join("d")).unwrap().is_dir());
}

#[test]
fn bombs_are_stopped_at_the_limits() {
    let limits = Limits { unpacked_bytes: 1 << 20, entries: 10, ..Limits::default() };
    let too_large = "the archive unpacks to more than 1048576 bytes, the most that is unpacked";
    let zeros = vec![0; 2 << 20];
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for name in ["a", "b", "c"] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(&zeros[..500 << 10]).unwrap();
    }
    let zip = zip.finish().unwrap().into_inner();
    let many = (0..11).fold(Pack::new(), |pack, at| pack.file(&at.to_string(), b"")).finish();
    // A file name of two gigabytes, none of which is there.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(2 << 30);
    header.set_cksum();
    let cases = [
        ("a.tgz", gzip(&Pack::new().file("z", &zeros).finish()), too_large),
        ("a.gz", gzip(&zeros), too_large),
        ("a.zip", zip, too_large),
        ("b.tar", many, "the archive has more than 10 entries, the most that is unpacked"),
        (
            "c.tar",
            header.as_bytes().to_vec(),
            "the archive cannot be read: it has a name of 2147483648 bytes",
        ),
    ];
    for (name, bytes, sentence) in cases {
        let place = Place::with(limits);
        assert_eq!(place.refuse(uri(&place.source(name, &bytes))), sentence, "{name}");
    }
}

#[test]
fn damaged_archives_are_refused() {
    let tar = usual();
    let mut flipped = tar.clone();
    flipped[512 + 3] ^= 1;
    let cases = [
        (
            "a.tar",
            b"no archive at all".to_vec(),
            "the archive cannot be read: it ends in the middle of a header",
        ),
        ("b.tar", flipped, "the archive cannot be read: a header does not match its checksum"),
        (
            "c.tar",
            tar[..3 * 512 + 1].to_vec(),
            "the archive cannot be read: it ends in the middle of a file",
        ),
        ("d.tar", Vec::new(), "the archive cannot be read: it is empty, or no tar archive"),
        ("e.tgz", tar.clone(), "the archive cannot be read: invalid gzip header"),
    ];
    for (name, bytes, sentence) in cases {
        let place = Place::new();
        assert_eq!(place.refuse(uri(&place.source(name, &bytes))), sentence, "{name}");
    }
    for name in ["f.zip", "g.tar.xz", "h.tar.bz2", "i.tar.zst"] {
        let place = Place::new();
        let sentence = place.refuse(uri(&place.source(name, &tar)));
        assert!(sentence.starts_with("the archive cannot be read: "), "{name}: {sentence}");
    }
}

#[test]
fn unpacks_zip_archives_and_refuses_hostile_ones() {
    let options = zip::write::SimpleFileOptions::default;
    let pack = |entries: &[(&str, u32, &str)]| {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, mode, content) in entries {
            match mode & 0o170000 {
                0o120000 => zip.add_symlink(*name, *content, options()).unwrap(),
                _ if name.ends_with('/') => {
                    zip.add_directory(*name, options().unix_permissions(*mode)).unwrap()
                }
                _ => {
                    zip.start_file(*name, options().unix_permissions(*mode)).unwrap();
                    zip.write_all(content.as_bytes()).unwrap();
                }
            }
        }
        zip.finish().unwrap().into_inner()
    };
    let place = Place::new();
    let good = [
        ("d/", 0o755, ""),
        ("d/run", 0o4755, "run"),
        ("e/f", 0o600, "f"),
        ("l", 0o120777, "d/run"),
    ];
    place.fetch(uri(&place.source("a.zip", &pack(&good)))).unwrap();
    assert_eq!((place.read("d/run").as_str(), place.mode("d/run")), ("run", 0o755));
    assert_eq!((place.read("e/f").as_str(), place.mode("e/f")), ("f", 0o600));
    assert_eq!(place.read("l"), "run");

    type ZipEntry<'a> = (&'a str, u32, &'a str);
    let hostile: [(&[ZipEntry<'_>], &str); 3] = [
        (&[("../evil", 0o644, "x")], "the archive's entry `../evil` has `..` in it"),
        (&[("/evil", 0o644, "x")], "the archive's entry `/evil` is an absolute path"),
        (
            &[("out", 0o120777, ".."), ("out/evil", 0o644, "x")],
            "`out` leads out of the sandbox through a symbolic link",
        ),
    ];
    for (entries, sentence) in hostile {
        let place = Place::new();
        assert_eq!(place.refuse(uri(&place.source("b.zip", &pack(entries)))), sentence);
        assert!(!place.directory.path().join("evil").exists());
    }
}

/// Only root can give files away, or take on a user's permissions.
#[test]
fn files_belong_to_the_task_and_are_read_with_its_permissions() {
    let place = Place::new();
    fs::set_permissions(place.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let open = place.source("open.tar", &usual());
    let closed = place.source("closed", b"secret");
    fs::set_permissions(&open, PermissionsExt::from_mode(0o644)).unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o640)).unwrap();
    let own = Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
    let task = match own.uid {
        0 => Owner { uid: 12_345, gid: 12_346 },
        _ => own,
    };
    let fetch = |path: &str, owner| {
        place.fetcher.fetch(&[uri(path)], &place.sandbox(), Some(owner), &Arc::default())
    };
    fetch(&open, task).unwrap();
    for name in ["open.tar", "dir", "dir/run", "made", "made/on/the/way", "link", "away"] {
        let metadata = fs::symlink_metadata(place.sandbox().join(name)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (task.uid, task.gid), "{name}");
    }
    fetch(&closed, own).unwrap();
    if task != own {
        let sentence = format!("failed to fetch `{closed}`: user id 12345 may not read it");
        assert_eq!(fetch(&closed, task).unwrap_err().to_string(), sentence);
        // The thread that had the user's permissions has gone; this one still has its own.
        fs::read(&closed).unwrap();
    }
}
