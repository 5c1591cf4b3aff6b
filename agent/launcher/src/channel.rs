//! Messages as packets of a SOCK_SEQPACKET socket.
//!
//! A packet is one byte and a body: 0 and the message itself, or 1 and nothing, with the message
//! in a memfd that comes as the first descriptor. A command with its environment may be larger
//! than a socket takes in one packet.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use mezzo_agent_sys::{receive_packet, sealed_memfd, send_packet};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use prost::Message;

/// Largest message: room for a command line and an environment far beyond what people write.
pub const MAX_MESSAGE: usize = 1024 * 1024;

/// Largest message that travels in the packet itself; well below every socket buffer.
const MAX_INLINE: usize = 32 * 1024;

/// Buffer that holds any valid packet.
pub const PACKET_BUFFER: usize = MAX_INLINE + 1;

const INLINE: u8 = 0;
const IN_MEMFD: u8 = 1;

/// Why a packet could not be understood. The connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("receive a packet")]
    Socket(#[source] io::Error),
    #[error("a packet was cut off: longer than {PACKET_BUFFER} bytes or with too many descriptors")]
    Truncated,
    #[error("a packet of unknown form {0}")]
    Form(u8),
    #[error("read a message from what is not a sealed memfd")]
    Unsealed,
    #[error("read a message from its memfd")]
    Memfd(#[source] io::Error),
    #[error("a message of {0} bytes, {MAX_MESSAGE} allowed")]
    TooLarge(u64),
    #[error("decode a message")]
    Decode(#[source] prost::DecodeError),
}

/// One packet as it goes over the socket; `None`: the peer closed.
pub type Received<M> = Option<(M, Vec<OwnedFd>)>;

/// Sends a message that may be large, and waits until the socket takes it.
pub fn send_message(
    socket: BorrowedFd<'_>,
    message: &impl Message,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let length = message.encoded_len();
    if length > MAX_MESSAGE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the message has {length} bytes, {MAX_MESSAGE} are allowed"),
        ));
    }
    if length <= MAX_INLINE {
        return send_packet(socket, &inline_packet(message), descriptors, true);
    }
    let memfd = sealed_memfd(c"mezzo-launcher-message", &message.encode_to_vec())?;
    let mut all = vec![memfd.as_fd()];
    all.extend_from_slice(descriptors);
    send_packet(socket, &[IN_MEMFD], &all, true)
}

/// The packet of a message known to be small.
pub fn inline_packet(message: &impl Message) -> Vec<u8> {
    let mut packet = Vec::with_capacity(1 + message.encoded_len());
    packet.push(INLINE);
    packet.extend(message.encode_to_vec());
    packet
}

/// Receives one message. `Socket` with `WouldBlock` where `wait` is false and there is none.
pub fn receive_message<M: Message + Default>(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    wait: bool,
) -> Result<Received<M>, ReceiveError> {
    let packet = receive_packet(socket, buffer, wait).map_err(ReceiveError::Socket)?;
    if packet.truncated {
        return Err(ReceiveError::Truncated);
    }
    parse_packet(buffer.get(..packet.length).unwrap_or_default(), packet.descriptors)
}

/// The message in a packet, and the descriptors that came with it; `None` where it is empty.
pub fn parse_packet<M: Message + Default>(
    packet: &[u8],
    mut descriptors: Vec<OwnedFd>,
) -> Result<Received<M>, ReceiveError> {
    match packet {
        [] => Ok(None),
        [INLINE, body @ ..] => {
            let message = M::decode(body).map_err(ReceiveError::Decode)?;
            Ok(Some((message, descriptors)))
        }
        [IN_MEMFD] if !descriptors.is_empty() => {
            let body = read_memfd(File::from(descriptors.remove(0)))?;
            let message = M::decode(body.as_slice()).map_err(ReceiveError::Decode)?;
            Ok(Some((message, descriptors)))
        }
        [form, ..] => Err(ReceiveError::Form(*form)),
    }
}

fn read_memfd(file: File) -> Result<Vec<u8>, ReceiveError> {
    // Anything else may change while it is read, or hang, as a file on the network does.
    let seals = fcntl(&file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    let needed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_WRITE;
    if !seals.is_ok_and(|seals| seals.contains(needed)) {
        return Err(ReceiveError::Unsealed);
    }
    let length = file.metadata().map_err(ReceiveError::Memfd)?.len();
    let size = usize::try_from(length).ok().filter(|size| *size <= MAX_MESSAGE);
    let mut body = vec![0; size.ok_or(ReceiveError::TooLarge(length))?];
    file.read_exact_at(&mut body, 0).map_err(ReceiveError::Memfd)?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;
    use crate::wire::{Call, ContainerCall, LaunchCall, Request};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .expect("socketpair")
    }

    fn receive(socket: &OwnedFd) -> Result<Received<Request>, ReceiveError> {
        receive_message(socket.as_fd(), &mut [0; PACKET_BUFFER], true)
    }

    #[test]
    fn small_and_large_messages_arrive_with_their_descriptors() {
        let (left, right) = pair();
        for size in [0, 100, MAX_INLINE, 600_000] {
            let call = LaunchCall { arguments: vec![vec![b'x'; size]], ..LaunchCall::default() };
            let request = Request { sequence: 4, call: Some(Call::Launch(call)) };
            send_message(left.as_fd(), &request, &[left.as_fd(), right.as_fd()]).expect("send");
            let (read, descriptors) = receive(&right).expect("receive").expect("a message");
            assert_eq!(read, request);
            assert_eq!(descriptors.len(), 2);
        }
        let call = LaunchCall { program: vec![0; MAX_MESSAGE], ..LaunchCall::default() };
        let request = Request { sequence: 4, call: Some(Call::Launch(call)) };
        let error = send_message(left.as_fd(), &request, &[]).expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn nonsense_is_an_error_and_an_end_is_an_end() {
        let (left, right) = pair();
        for bytes in [&[9u8, 1][..], &[IN_MEMFD], &[INLINE, 0xff, 0xff], &[7; PACKET_BUFFER + 1]] {
            send_packet(left.as_fd(), bytes, &[], true).expect("send");
            receive(&right).expect_err("nonsense");
        }
        // A body in a file that is no memfd.
        let file = tempfile::tempfile().expect("file");
        send_packet(left.as_fd(), &[IN_MEMFD], &[file.as_fd()], true).expect("send");
        let error = receive(&right).expect_err("unsealed");
        assert!(matches!(error, ReceiveError::Unsealed), "{error}");
        let call = Call::Kill(ContainerCall { container: "a".into(), signal: 0 });
        let request = Request { sequence: 1, call: Some(call) };
        send_message(left.as_fd(), &request, &[]).expect("send");
        assert_eq!(receive(&right).expect("receive").expect("message").0, request);
        drop(left);
        assert!(receive(&right).expect("receive").is_none());
    }
}
