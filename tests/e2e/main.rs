//! Mezzo from outside: real processes, a real kernel, real clients. Run as root.

mod cli;
mod dev;
mod disks;
mod executors;
mod framework;
mod garbage;
mod gpus;
mod guards;
mod health;
mod http;
mod ill_disks;
mod operators;
mod partition;
mod python_sdk;
mod reads;
mod sandbox;
mod sdk_examples;
mod slow_disks;
mod survival;
mod tasks;
mod upgrade;
mod usage;
mod volumes;
