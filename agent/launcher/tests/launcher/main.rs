//! The real launcher with real containers: needs root and a Linux with namespaces and cgroups.
//!
//! - `endings`: exits, signals, failed launches, orphans;
//! - `isolation`: namespaces, ids, descriptors, cgroups, limits;
//! - `beside`: commands that join a container;
//! - `survival`: agent and launcher die;
//! - `garbage`: clients that send nonsense, too much, or nothing, and take nothing;
//! - `upgrade`: other builds take over in place;
//! - `economy`: many launches, leaks, memory.

mod beside;
mod economy;
mod endings;
mod fixture;
mod garbage;
mod isolation;
mod survival;
mod upgrade;
