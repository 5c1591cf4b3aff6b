//! Which ports a task may bind.
//!
//! A `bind` with a port is judged before the kernel looks at it; one without, after the kernel has chosen. Sockets that
//! listen without ever having been bound have no hook of their own: they are reported here, and what arrives at them is
//! dropped in `network`.

use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr, raw_tracepoint};
use aya_ebpf::programs::{RawTracePointContext, SockAddrContext, SockContext};
use mezzo_agent_ebpf_common::{denial, kind, policy};

use crate::kernel::{Pointer, SOCK_NUMBER};
use crate::maps::PORTS;
use crate::{report, scope};

const REFUSE: i32 = 0;
const ALLOW: i32 = 1;
/// State of a TCP socket.
const LISTEN: u32 = 10;
const TCP: u32 = 6;

#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    bind(&ctx)
}

#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    bind(&ctx)
}

#[cgroup_sock(post_bind4)]
pub fn post_bind4(ctx: SockContext) -> i32 {
    post_bind(&ctx)
}

#[cgroup_sock(post_bind6)]
pub fn post_bind6(ctx: SockContext) -> i32 {
    post_bind(&ctx)
}

#[inline(always)]
fn bind(ctx: &SockAddrContext) -> i32 {
    // SAFETY: the context, which the verifier checks.
    let (port, protocol, family) = unsafe {
        let address = &*ctx.sock_addr;
        (address.user_port as u16, address.protocol, address.family)
    };
    let port = u16::from_be(port);
    if port == 0 {
        // Judged when the kernel has chosen one.
        return ALLOW;
    }
    let task = scope::of_current();
    let Some(ports) = PORTS.get_ptr(task) else { return ALLOW };
    // SAFETY: a value of a map.
    let (policy, ephemeral, allowed) =
        unsafe { ((*ports).policy, (*ports).ephemeral, (*ports).allows(port)) };
    if allowed || policy == policy::OFF || (policy == policy::OBSERVE && ephemeral == 0) {
        // What is only observed must be counted once: in `post_bind`, which comes next.
        return ALLOW;
    }
    deny(task, policy, [denial::BIND, u64::from(protocol), u64::from(port), u64::from(family)])
}

#[inline(always)]
fn post_bind(ctx: &SockContext) -> i32 {
    // SAFETY: the context, which the verifier checks.
    let (port, protocol, family) = unsafe {
        let socket = &*ctx.sock;
        (socket.src_port as u16, socket.protocol, socket.family)
    };
    let task = scope::of_current();
    let Some(ports) = PORTS.get_ptr(task) else { return ALLOW };
    // SAFETY: a value of a map.
    let (policy, allowed) =
        unsafe { ((*ports).policy, (*ports).ephemeral == 1 || (*ports).allows(port)) };
    if allowed || policy == policy::OFF {
        return ALLOW;
    }
    // Under `enforce`, a port that was asked for has been refused before it came here.
    let how = if policy == policy::ENFORCE { denial::BIND_EPHEMERAL } else { denial::BIND };
    deny(task, policy, [how, u64::from(protocol), u64::from(port), u64::from(family)])
}

/// `(const struct sock *, int old_state, int new_state)`
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn set_state(ctx: RawTracePointContext) -> i32 {
    if ctx.arg::<u32>(2) != LISTEN {
        return 0;
    }
    let Some(socket) = Pointer::new(ctx.arg(0)) else { return 0 };
    let Some(port) = socket.read::<u16>(SOCK_NUMBER.load()) else { return 0 };
    // As for packets: of the one who made the socket.
    let task = scope::of_socket(socket).unwrap_or(0);
    let Some(ports) = PORTS.get_ptr(task) else { return 0 };
    // SAFETY: a value of a map.
    let (policy, ephemeral) = unsafe { ((*ports).policy, (*ports).ephemeral) };
    if port == 0 && policy != policy::OFF && ephemeral == 0 {
        deny(task, policy, [denial::LISTEN, u64::from(TCP), 0, 0]);
    }
    0
}

/// Counts and reports; whether to refuse.
#[inline(always)]
fn deny(task: u64, policy: u32, values: [u64; 4]) -> i32 {
    let enforced = policy == policy::ENFORCE;
    if let Some(counters) = scope::counters(task) {
        // SAFETY: a value of a map.
        unsafe {
            scope::add(&raw mut (*counters).port_denials, 1);
            report::denial(task, counters, kind::PORT_DENIED, enforced, values);
        }
    }
    if enforced { REFUSE } else { ALLOW }
}
