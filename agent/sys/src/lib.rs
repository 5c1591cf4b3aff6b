//! System calls that nix does not offer safely, each behind a safe function.
//!
//! - [`fork`], [`Namespaces`], [`Keep`]: fork of a single-threaded process into new namespaces;
//! - [`fork_beside`], [`tcp_socket_beside`]: a process, a socket in the namespaces of another process;
//! - [`execute`]: exec of an open file with an exact set of descriptors, all others closed;
//! - [`inherited_descriptors`]: what the program before the exec left open;
//! - [`default_signals`], [`ignore_signal`]: signal dispositions;
//! - [`reap`]: ended children with their raw wait status;
//! - [`PidFd`], [`start_time`], [`boot_id`]: naming a process so that a reused pid is not mistaken for it;
//! - [`monotonic`]: the clock that the kernel's events are timed by;
//! - [`executable_memfd`], [`sealed_memfd`]: programs and messages in memory;
//! - [`limit_open_files`]: a limit for a program that is about to be started;
//! - [`send_packet`], [`receive_packet`]: packets with descriptors over a unix socket;
//! - [`BpfMap`], [`bpf_link_cgroup`], [`bpf_pin`]: maps, links and pins of eBPF programs;
//! - [`get_xattr`], [`set_xattr`], [`clear_protection`]: attributes of files.
//!
//! Everything returns `std::io::Error` with the errno of the call; callers know the step they were at.
//! Linux 5.11 or later (close_range with close-on-exec) is required.

mod beside;
mod bpf;
mod exec;
mod fork;
mod inherited;
mod memfd;
mod net;
mod open_files;
mod packet;
mod pidfd;
mod process;
mod protection;
mod signals;
mod xattr;

pub use beside::fork_beside;
pub use bpf::{
    BpfLink, BpfMap, bpf_link_cgroup, bpf_link_info, bpf_link_tracepoint, bpf_link_update,
    bpf_open, bpf_pin, bpf_run_time_statistics,
};
pub use exec::execute;
pub use fork::{Keep, Namespaces, fork};
pub use inherited::inherited_descriptors;
pub use memfd::{executable_memfd, sealed_memfd};
pub use net::tcp_socket_beside;
pub use open_files::limit_open_files;
pub use packet::{MAX_DESCRIPTORS, Packet, receive_packet, send_packet};
pub use pidfd::PidFd;
pub use process::{boot_id, exit_at_once, monotonic, reap, start_time, threads};
pub use protection::clear_protection;
pub use signals::{default_signals, ignore_signal};
pub use xattr::{get_xattr, set_xattr};
