//! What the kernel runs for the agent.
//!
//! - `maps`: all maps, pinned by name;
//! - `scope`: which task something belongs to;
//! - `scheduler`, `network`, `block`, `processes`, `memory`: accounting;
//! - `ports`, `devices`: control;
//! - `report`: events.
//!
//! Every program is attached once, at the agent's cgroup or at a tracepoint of the kernel, and finds the task by the
//! id of the ancestor cgroup at the tasks' level. What is not under that cgroup, or not in the maps, is nobody's:
//! it is neither counted nor restrained.
//!
//! Where fields of the kernel's own structures lie is told by the loader, which reads it in the kernel's type
//! information: rustc cannot emit such relocations.
#![no_std]
#![no_main]
// The target has no atomic addition in its library, only in its instruction set.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod block;
mod devices;
mod kernel;
mod maps;
mod memory;
mod network;
mod ports;
mod processes;
mod report;
mod scheduler;
mod scope;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // The verifier lets no program in that could come here.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
