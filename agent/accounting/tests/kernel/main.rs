//! Against the real kernel, as root: what is counted and what is refused, on cgroups, network namespaces and a bpffs of
//! the tests' own.

mod counting;
mod devices;
mod hosts;
mod network;
mod ports;
mod processes;
mod rig;
mod survival;
mod witness;
