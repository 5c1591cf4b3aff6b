//! Packets with descriptors over a unix socket (SOCK_SEQPACKET).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Most descriptors that one packet carries.
pub const MAX_DESCRIPTORS: usize = 32;

/// Room for [`MAX_DESCRIPTORS`] as control message, in words so that it is aligned as its header.
const CONTROL_WORDS: usize = 32;
const _: () = assert!(
    // SAFETY: arithmetic on a size.
    unsafe { libc::CMSG_SPACE((MAX_DESCRIPTORS * size_of::<RawFd>()) as u32) } as usize
        <= CONTROL_WORDS * size_of::<u64>()
);

/// What one receive brought.
#[derive(Debug)]
pub struct Packet {
    /// Bytes in the buffer. 0 without descriptors: the peer has closed.
    pub length: usize,
    /// The descriptors that came along, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
    /// The packet was longer than the buffer, or had too many descriptors; the rest is lost.
    pub truncated: bool,
}

/// Sends one packet. `WouldBlock` where `wait` is false and the peer is behind; a peer that is gone
/// is an error (`BrokenPipe`), never a signal.
pub fn send_packet(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    wait: bool,
) -> io::Result<()> {
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} descriptors in one packet, {MAX_DESCRIPTORS} allowed", descriptors.len()),
        ));
    }
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: a msghdr of zeros is a valid, empty one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    let payload = size_of_val(descriptors);
    if payload > 0 {
        header.msg_control = control.as_mut_ptr().cast();
        // SAFETY: arithmetic; the buffer is large enough by the assertion above, aligned, and
        // zeroed, so the first header lies within it with room for the numbers.
        unsafe {
            header.msg_controllen = libc::CMSG_SPACE(payload as u32) as _;
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            (*message).cmsg_level = libc::SOL_SOCKET;
            (*message).cmsg_type = libc::SCM_RIGHTS;
            (*message).cmsg_len = libc::CMSG_LEN(payload as u32) as _;
            let numbers = libc::CMSG_DATA(message).cast::<RawFd>();
            for (index, descriptor) in descriptors.iter().enumerate() {
                numbers.add(index).write_unaligned(descriptor.as_raw_fd());
            }
        }
    }
    let flags = libc::MSG_NOSIGNAL | if wait { 0 } else { libc::MSG_DONTWAIT };
    loop {
        // SAFETY: header, part and control outlive the call, which only reads them.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
        if sent >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Receives one packet into `buffer`. `WouldBlock` where `wait` is false and none is there.
pub fn receive_packet(socket: BorrowedFd<'_>, buffer: &mut [u8], wait: bool) -> io::Result<Packet> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a msghdr of zeros is a valid, empty one.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    let length = loop {
        // SAFETY: the kernel writes into buffer and control within the given lengths.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        if let Ok(length) = usize::try_from(received) {
            break length;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled control up to msg_controllen; the macros walk within it, also
    // where it was truncated. Each number is a descriptor made for this process just now, which
    // nobody else owns; all are taken so that none leaks.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            let (level, kind) = ((*message).cmsg_level, (*message).cmsg_type);
            if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
                let size = (*message).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let numbers = libc::CMSG_DATA(message).cast::<RawFd>();
                for index in 0..size / size_of::<RawFd>() {
                    let number = numbers.add(index).read_unaligned();
                    descriptors.push(OwnedFd::from_raw_fd(number));
                }
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    let cut = header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    // The buffer has room for some more, since it is whole words and one message.
    let truncated = cut || descriptors.len() > MAX_DESCRIPTORS;
    Ok(Packet { length, descriptors, truncated })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .expect("socketpair")
    }

    #[test]
    fn bytes_and_descriptors_arrive_together() {
        let (left, right) = pair();
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
        send_packet(left.as_fd(), b"hello", &[reader.as_fd(), writer.as_fd()], true).expect("send");
        drop((reader, writer));
        let mut buffer = [0; 64];
        let mut packet = receive_packet(right.as_fd(), &mut buffer, true).expect("receive");
        assert_eq!(&buffer[..packet.length], b"hello");
        assert!(!packet.truncated);
        assert_eq!(packet.descriptors.len(), 2);
        let writer = packet.descriptors.pop().expect("writer");
        nix::unistd::write(&writer, b"through").expect("write");
        drop(writer);
        let mut text = String::new();
        let mut reader = File::from(packet.descriptors.pop().expect("reader"));
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
    }

    #[test]
    fn a_closed_peer_reads_as_an_empty_packet_and_writes_as_an_error() {
        let (left, right) = pair();
        drop(left);
        let packet = receive_packet(right.as_fd(), &mut [0; 8], true).expect("receive");
        assert_eq!((packet.length, packet.descriptors.len()), (0, 0));
        let error = send_packet(right.as_fd(), b"x", &[], true).expect_err("nobody there");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_packet_longer_than_the_buffer_says_so() {
        let (left, right) = pair();
        send_packet(left.as_fd(), &[7; 100], &[left.as_fd()], true).expect("send");
        let packet = receive_packet(right.as_fd(), &mut [0; 10], true).expect("receive");
        assert!(packet.truncated);
        assert_eq!(packet.descriptors.len(), 1);
    }

    #[test]
    fn too_many_descriptors_are_refused_and_nothing_blocks() {
        let (left, right) = pair();
        let many = vec![left.as_fd(); MAX_DESCRIPTORS + 1];
        let error = send_packet(left.as_fd(), b"x", &many, true).expect_err("too many");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let error = receive_packet(right.as_fd(), &mut [0; 8], false).expect_err("empty");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
