//! Reading an answer to its last byte, as cheaply as a client can.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Bytes taken from the kernel at a time.
const PIECE: usize = 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy)]
pub enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    pub fn mime(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }
}

/// How long an answer took.
pub struct Took {
    pub first_byte: Duration,
    pub whole: Duration,
    /// Of the body, with its framing.
    pub bytes: usize,
}

/// The head of a POST of a JSON call to `/api/v1`, and its body.
pub fn request(address: &str, call: &str, accept: Encoding, close: bool) -> String {
    let connection = if close { "close" } else { "keep-alive" };
    format!(
        "POST /api/v1 HTTP/1.1\r\nHost: {address}\r\nConnection: {connection}\r\n\
         Content-Type: application/json\r\nAccept: {}\r\nContent-Length: {}\r\n\r\n{call}",
        accept.mime(),
        call.len(),
    )
}

/// Reads the answer to a call to its end; `keep` gets the body's bytes, with its framing.
pub fn read(address: &str, call: &str, accept: Encoding, keep: impl FnMut(&[u8])) -> Result<Took> {
    exchange(address, &request(address, call, accept, true), keep)
}

/// Reads the answer to a GET of a path to its end.
pub fn get(address: &str, path: &str) -> Result<Took> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    exchange(address, &request, |_| {})
}

fn exchange(address: &str, request: &str, mut keep: impl FnMut(&[u8])) -> Result<Took> {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE)).context("cannot set a timeout")?;
    stream.write_all(request.as_bytes()).context("cannot send the call")?;
    let mut piece = vec![0; PIECE];
    let (mut head, mut first_byte) = (Vec::new(), Duration::ZERO);
    let mut bytes = 0;
    loop {
        let read = stream.read(&mut piece).context("the answer broke off")?;
        if read == 0 {
            break;
        }
        if first_byte.is_zero() {
            first_byte = begin.elapsed();
        }
        if bytes > 0 || head.ends_with(b"\r\n\r\n") {
            bytes += read;
            keep(&piece[..read]);
            continue;
        }
        head.extend_from_slice(&piece[..read]);
        let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let body = head.split_off(end + 4);
        ensure!(head.starts_with(b"HTTP/1.1 200"), "refused: {}", String::from_utf8_lossy(&head));
        bytes += body.len();
        keep(&body);
    }
    ensure!(bytes > 0, "an answer without a body: {}", String::from_utf8_lossy(&head));
    Ok(Took { first_byte, whole: begin.elapsed(), bytes })
}

/// The floor: as many bytes from one thread to another over loopback, asked for by one byte.
pub fn floor(bytes: usize) -> Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    let address = listener.local_addr().context("no address")?;
    let sent = vec![7u8; bytes];
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.read_exact(&mut [0])?;
        stream.write_all(&sent)
    });
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address).context("cannot connect")?;
    stream.write_all(&[1]).context("cannot ask")?;
    let mut piece = vec![0; PIECE];
    let mut left = bytes;
    while left > 0 {
        let read = stream.read(&mut piece).context("the floor broke off")?;
        ensure!(read > 0, "the floor ended early");
        left = left.saturating_sub(read);
    }
    let took = begin.elapsed();
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?.context("cannot send")?;
    Ok(took)
}

/// Takes the framing of `Transfer-Encoding: chunked` off, piece by piece.
#[derive(Debug, Default)]
pub struct Chunks {
    /// Of the chunk that has begun.
    left: usize,
    /// What is there of a line that says how long the next one is.
    line: Vec<u8>,
}

impl Chunks {
    /// Adds the content in `piece` to `content`.
    pub fn take(&mut self, mut piece: &[u8], content: &mut Vec<u8>) -> Result<()> {
        while !piece.is_empty() {
            if self.left > 0 {
                let (now, later) = piece.split_at(self.left.min(piece.len()));
                content.extend_from_slice(now);
                self.left -= now.len();
                piece = later;
                continue;
            }
            let (byte, later) = piece.split_at(1);
            piece = later;
            self.line.extend_from_slice(byte);
            if !self.line.ends_with(b"\n") {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let text = std::str::from_utf8(&line).context("a chunk's length is no text")?.trim();
            // The line that ends the chunk before is empty.
            if !text.is_empty() {
                self.left = usize::from_str_radix(text, 16)
                    .with_context(|| format!("a chunk's length is `{text}`"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together_however_they_are_cut() {
        let wire = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        for cut in 1..wire.len() {
            let (mut chunks, mut content) = (Chunks::default(), Vec::new());
            for piece in wire.chunks(cut) {
                chunks.take(piece, &mut content).unwrap();
            }
            assert_eq!(content, b"abc0123456789", "cut every {cut} bytes");
        }
        Chunks::default().take(b"x\r\n", &mut Vec::new()).unwrap_err();
    }

    #[test]
    fn the_floor_carries_all_bytes() {
        floor(3 * PIECE + 1).unwrap();
    }
}
