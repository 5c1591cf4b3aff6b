//! Packets of a task's sockets, and the listeners that never called `bind`.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::{bpf_sk_fullsock, bpf_tcp_sock};
use aya_ebpf::macros::{cgroup_skb, raw_tracepoint};
use aya_ebpf::programs::{RawTracePointContext, SkBuffContext};
use mezzo_agent_ebpf_common::{Counters, Flow, Flows, policy};

use crate::kernel::Pointer;
use crate::maps::PORTS;
use crate::scope;

const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;
const TCP: u32 = 6;
const UDP: u32 = 17;
const LISTENING: u32 = 10;
const DROP: i32 = 0;
const PASS: i32 = 1;

#[cgroup_skb(ingress)]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    let packet = ctx.skb.skb;
    let task = scope::of_packet(packet);
    let Some(counters) = scope::counters(task) else { return PASS };
    let socket = socket_of(packet);
    let protocol = protocol_of(socket);
    // SAFETY: `counters` is a value of a map, `packet` the context, `socket` was checked by the kernel.
    unsafe {
        if let Some(socket) = socket {
            if protocol == UDP || (*socket).state == LISTENING {
                let local = (*socket).src_port;
                if !may_receive(task, counters, protocol, local as u16) {
                    return DROP;
                }
            }
            if protocol == TCP {
                sample_round_trip(packet, counters);
            }
        }
        if let Some(flows) = family_of(packet, counters) {
            let flow = match protocol {
                TCP => &raw mut (*flows).tcp_in,
                UDP => &raw mut (*flows).udp_in,
                _ => &raw mut (*flows).other_in,
            };
            count(flow, packet);
        }
    }
    PASS
}

#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    let packet = ctx.skb.skb;
    let Some(counters) = scope::counters(scope::of_packet(packet)) else { return PASS };
    let protocol = protocol_of(socket_of(packet));
    // SAFETY: as above.
    unsafe {
        if let Some(flows) = family_of(packet, counters) {
            let flow = match protocol {
                TCP => &raw mut (*flows).tcp_out,
                UDP => &raw mut (*flows).udp_out,
                _ => &raw mut (*flows).other_out,
            };
            count(flow, packet);
        }
    }
    PASS
}

/// `(const struct sock *, const struct sk_buff *, …)`
#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
pub fn tcp_retransmit(ctx: RawTracePointContext) -> i32 {
    let task = Pointer::new(ctx.arg(0)).and_then(scope::of_socket).unwrap_or(0);
    if let Some(counters) = scope::counters(task) {
        // SAFETY: a value of a map.
        unsafe { scope::add(&raw mut (*counters).tcp_retransmits, 1) };
    }
    0
}

/// Whether a packet may arrive at this local port. Sockets that were bound are in order, or `bind` would have been
/// refused; those that the kernel bound by itself are found here.
///
/// # Safety
/// `counters` is a value of a map.
#[inline(always)]
unsafe fn may_receive(task: u64, counters: *mut Counters, protocol: u32, port: u16) -> bool {
    let Some(ports) = PORTS.get_ptr(task) else { return true };
    // SAFETY: a value of a map, as is `counters`.
    unsafe {
        if (*ports).policy == policy::OFF || (*ports).ephemeral == 1 || (*ports).allows(port) {
            return true;
        }
        if protocol == UDP {
            // Clients, of name servers for instance, live by it: counted only.
            scope::add(&raw mut (*counters).udp_unassigned, 1);
            return true;
        }
        if protocol != TCP {
            return true;
        }
        scope::add(&raw mut (*counters).listen_drops, 1);
        (*ports).policy != policy::ENFORCE
    }
}

/// # Safety
/// `packet` is the context, `counters` a value of a map.
#[inline(always)]
unsafe fn sample_round_trip(packet: *mut __sk_buff, counters: *mut Counters) {
    // SAFETY: the kernel checks what it is given, and we what it returns.
    unsafe {
        let socket = (*packet).__bindgen_anon_2.sk;
        if socket.is_null() {
            return;
        }
        let connection = bpf_tcp_sock(socket);
        if connection.is_null() {
            return;
        }
        // The kernel keeps eight times the smoothed time; 0 before the first measurement.
        let eightfold_us = (*connection).srtt_us;
        if eightfold_us != 0 {
            scope::add(&raw mut (*counters).tcp_rtt_sum_us, u64::from(eightfold_us >> 3));
            scope::add(&raw mut (*counters).tcp_rtt_samples, 1);
        }
    }
}

#[inline(always)]
fn socket_of(packet: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: the packet is the program's context; the kernel checks what it is given.
    unsafe {
        let socket = (*packet).__bindgen_anon_2.sk;
        if socket.is_null() {
            return None;
        }
        let socket = bpf_sk_fullsock(socket);
        (!socket.is_null()).then_some(socket)
    }
}

#[inline(always)]
fn protocol_of(socket: Option<*mut bpf_sock>) -> u32 {
    // SAFETY: not null, as `socket_of` has checked.
    socket.map_or(0, |socket| unsafe { (*socket).protocol })
}

/// # Safety
/// `packet` is the context, `counters` a value of a map.
#[inline(always)]
unsafe fn family_of(packet: *mut __sk_buff, counters: *mut Counters) -> Option<*mut Flows> {
    // SAFETY: as the caller says.
    unsafe {
        match (*packet).protocol {
            IPV4 => Some(&raw mut (*counters).ipv4),
            IPV6 => Some(&raw mut (*counters).ipv6),
            _ => None,
        }
    }
}

/// # Safety
/// `flow` is in a value of a map, `packet` is the context.
#[inline(always)]
unsafe fn count(flow: *mut Flow, packet: *mut __sk_buff) {
    // SAFETY: as the caller says.
    unsafe {
        scope::add(&raw mut (*flow).bytes, u64::from((*packet).len));
        scope::add(&raw mut (*flow).packets, 1);
    }
}
