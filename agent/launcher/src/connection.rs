//! One connection of the launcher: what waits to be sent, with a limit.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mezzo_agent_sys::send_packet;

/// Bytes that may wait for a client that does not read. One who is further behind is disconnected: it
/// connects again and asks for the list, so nothing is lost.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// The client is too far behind, or gone.
#[derive(Debug)]
pub(crate) struct Lost(pub String);

#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    has_asked: bool,
}

impl Connection {
    pub fn new(socket: OwnedFd) -> Connection {
        Connection { socket, waiting: VecDeque::new(), waiting_bytes: 0, has_asked: false }
    }

    /// A connection of another image of the launcher, with what waited there.
    pub fn restore(socket: OwnedFd, waiting: Vec<Vec<u8>>) -> Connection {
        let waiting_bytes = waiting.iter().map(Vec::len).sum();
        // It is not known what it asked there; an agent did.
        Connection { socket, waiting: waiting.into(), waiting_bytes, has_asked: true }
    }

    /// A request has come.
    pub fn asked(&mut self) {
        self.has_asked = true;
    }

    /// Whether any request has come.
    pub fn has_asked(&self) -> bool {
        self.has_asked
    }

    /// The packets that wait, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.waiting.iter()
    }

    /// Whether the socket's readiness for writing matters.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends at once, or queues behind what waits already.
    pub fn send(&mut self, packet: Vec<u8>) -> Result<(), Lost> {
        if self.waiting.is_empty() {
            match send_packet(self.socket.as_fd(), &packet, &[], false) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Lost(error.to_string())),
            }
        }
        self.waiting_bytes += packet.len();
        if self.waiting_bytes > MAX_WAITING {
            return Err(Lost(format!("more than {MAX_WAITING} bytes wait to be read")));
        }
        self.waiting.push_back(packet);
        Ok(())
    }

    /// Sends what waits, as far as the socket takes it.
    pub fn flush(&mut self) -> Result<(), Lost> {
        while let Some(packet) = self.waiting.front() {
            match send_packet(self.socket.as_fd(), packet, &[], false) {
                Ok(()) => {
                    self.waiting_bytes -= packet.len();
                    self.waiting.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(Lost(error.to_string())),
            }
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use mezzo_agent_sys::receive_packet;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    #[test]
    fn a_slow_reader_gets_all_in_order_until_it_is_too_slow() {
        let (left, right) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .expect("socketpair");
        let mut connection = Connection::new(left);
        let packet = |number: u32| [number.to_le_bytes().to_vec(), vec![0; 10_000]].concat();
        let mut sent = 0;
        while connection.waiting.len() < 20 {
            connection.send(packet(sent)).expect("queued");
            sent += 1;
        }
        assert!(connection.is_waiting());
        let mut buffer = vec![0; 20_000];
        for number in 0..sent {
            let received = receive_packet(right.as_fd(), &mut buffer, false).expect("receive");
            assert_eq!(received.length, 10_004);
            assert_eq!(buffer[..4], number.to_le_bytes());
            connection.flush().expect("flush");
        }
        assert!(!connection.is_waiting());
        assert_eq!(connection.waiting_bytes, 0);
        let Lost(reason) = (0..).find_map(|n| connection.send(packet(n)).err()).expect("lost");
        assert!(reason.contains("wait to be read"), "{reason}");
    }
}
