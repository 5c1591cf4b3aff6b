//! What a task was refused.

use mezzo_sdk::v1::agent::denial::What;
use mezzo_sdk::v1::agent::port_denial::Way;
use mezzo_sdk::v1::agent::{Denial, DeviceDenial, PortDenial};
use serde::Serialize;

use crate::quantity::age;
use crate::usage::figures::Figure;

/// The JSON form of one refusal. Members that its kind does not have are null.
#[derive(Debug, Serialize)]
pub(crate) struct Refusal {
    /// In seconds since 1970.
    timestamp: f64,
    /// Which process, as the agent's host numbers it, and the name of its program.
    process: u32,
    command: String,
    /// Whether it was prevented, and not only seen.
    enforced: bool,
    /// `bind`, `bind-ephemeral`, `listen`, `open` or `mknod`.
    call: &'static str,
    protocol: Option<String>,
    family: Option<&'static str>,
    /// Null if the kernel had not chosen one yet.
    port: Option<u32>,
    /// `c` or `b` for character and block, and the device's numbers.
    device: Option<String>,
    /// Of `r`, `w` and `m`: what was asked for.
    access: Option<String>,
}

impl Refusal {
    /// `None` of a kind that this version does not know.
    pub(crate) fn new(denial: &Denial) -> Option<Self> {
        let refusal = Refusal {
            timestamp: denial.timestamp,
            process: denial.process,
            command: denial.command.clone(),
            enforced: denial.enforced,
            call: "",
            protocol: None,
            family: None,
            port: None,
            device: None,
            access: None,
        };
        Some(match denial.what.as_ref()? {
            What::Port(port) => refusal.of_port(port),
            What::Device(device) => refusal.of_device(device),
        })
    }

    fn of_port(self, denial: &PortDenial) -> Self {
        let protocol = match denial.protocol {
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            other => format!("protocol {other}"),
        };
        Refusal {
            call: match denial.way() {
                Way::Bind => "bind",
                Way::BindEphemeral => "bind-ephemeral",
                Way::Listen => "listen",
            },
            protocol: Some(protocol),
            // Where a listener was never bound, nothing says.
            family: (denial.way() != Way::Listen).then_some(if denial.ipv6 {
                "ipv6"
            } else {
                "ipv4"
            }),
            port: (denial.port != 0).then_some(denial.port),
            ..self
        }
    }

    fn of_device(self, denial: &DeviceDenial) -> Self {
        let kind = if denial.block { 'b' } else { 'c' };
        let asked = [(denial.read, 'r'), (denial.write, 'w'), (denial.mknod, 'm')];
        Refusal {
            call: if denial.mknod { "mknod" } else { "open" },
            device: Some(format!("{kind} {}:{}", denial.major, denial.minor)),
            access: Some(asked.into_iter().filter_map(|(asked, c)| asked.then_some(c)).collect()),
            ..self
        }
    }

    /// A line for people; `now` is in seconds since 1970, by the agent's clock.
    pub(crate) fn line(&self, now: f64) -> Figure {
        let what = match (&self.device, &self.protocol, self.port) {
            (Some(device), ..) => {
                let access = self.access.as_deref().unwrap_or_default();
                format!("{} device {device} ({access})", self.call)
            }
            (None, protocol, port) => {
                let port = port.map_or_else(String::new, |port| format!(" port {port}"));
                let call = match self.call {
                    "bind-ephemeral" => "bind without a port, which got",
                    "listen" => "listen without bind,",
                    call => call,
                };
                let protocol = protocol.as_deref().unwrap_or_default();
                let family = self.family.map_or_else(String::new, |family| format!("/{family}"));
                format!("{call} {protocol}{family}{port}")
            }
        };
        let outcome = match (self.enforced, self.call) {
            (true, "listen") => "nothing from outside reaches it",
            (true, _) => "refused",
            (false, _) => "allowed, and only reported",
        };
        let value = format!(
            "{} ago: {what} by {} (pid {}): {outcome}",
            age(now - self.timestamp),
            self.command,
            self.process
        );
        Figure::new("denied", value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Row;

    fn line(enforced: bool, what: What) -> String {
        let denial = Denial {
            timestamp: 100.0,
            process: 12,
            command: "nginx".to_owned(),
            enforced,
            what: Some(what),
        };
        Refusal::new(&denial).expect("a refusal").line(107.5).cells().remove(1)
    }

    fn port(way: Way, port: u32) -> What {
        What::Port(PortDenial { way: way.into(), protocol: 6, ipv6: false, port })
    }

    #[test]
    fn a_refusal_is_one_sentence() {
        for (line, expected) in [
            (
                line(true, port(Way::Bind, 8080)),
                "7s ago: bind tcp/ipv4 port 8080 by nginx (pid 12): refused",
            ),
            (
                line(false, port(Way::BindEphemeral, 40_000)),
                "7s ago: bind without a port, which got tcp/ipv4 port 40000 by nginx (pid 12): \
                 allowed, and only reported",
            ),
            (
                line(true, port(Way::Listen, 0)),
                "7s ago: listen without bind, tcp by nginx (pid 12): nothing from outside \
                 reaches it",
            ),
            (
                line(
                    true,
                    What::Device(DeviceDenial {
                        major: 10,
                        minor: 200,
                        read: true,
                        write: true,
                        ..Default::default()
                    }),
                ),
                "7s ago: open device c 10:200 (rw) by nginx (pid 12): refused",
            ),
        ] {
            assert_eq!(line, expected);
        }
    }
}
