//! Addresses as people type them.

use crate::error::{ConnectError, ServerKind};

/// Brings `text` to the form `host:port`. An `http://` in front and a `/` behind are tolerated, a
/// missing port is the default of the kind of server (5050 master, 5051 agent).
pub(crate) fn parse(server: ServerKind, text: &str) -> Result<String, ConnectError> {
    let refuse = |problem| Err(ConnectError::Address { server, address: text.to_owned(), problem });
    let bare = text.trim();
    if bare.starts_with("zk://") {
        return refuse("ZooKeeper addresses are not understood here; name the master itself");
    }
    let bare = bare.strip_prefix("http://").unwrap_or(bare);
    if bare.contains("://") {
        return refuse("only http:// is spoken");
    }
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    if bare.is_empty() {
        return refuse("it is empty");
    }
    if bare.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@' | '?' | '#')) {
        return refuse("there is more in it than a host and a port");
    }
    let (host, port) = match split(bare) {
        Some(parts) => parts,
        None => return refuse("an IPv6 address goes in brackets, as in [::1]:5050"),
    };
    if host.is_empty() || host == "[]" {
        return refuse("the host is missing");
    }
    match port {
        None => Ok(format!("{host}:{}", default_port(server))),
        Some(port) => match port.parse::<u16>() {
            Ok(number) if number > 0 => Ok(format!("{host}:{number}")),
            _ => refuse("the port is not a number from 1 to 65535"),
        },
    }
}

/// Host and port in a `Location`: `//host:port/…` as Mesos masters write it, or a whole address.
pub(crate) fn of_location(location: &str) -> Option<String> {
    let rest = location.strip_prefix("http:").unwrap_or(location);
    let authority = rest.strip_prefix("//").unwrap_or(rest).split('/').next()?;
    parse(ServerKind::Master, authority).ok()
}

fn default_port(server: ServerKind) -> u16 {
    match server {
        ServerKind::Master => 5050,
        ServerKind::Agent => 5051,
    }
}

/// Host (with its brackets) and port. None for an IPv6 address without brackets.
fn split(bare: &str) -> Option<(&str, Option<&str>)> {
    if bare.starts_with('[') {
        let end = bare.find(']')?;
        let (host, rest) = bare.split_at(end + 1);
        return match rest {
            "" => Some((host, None)),
            _ => rest.strip_prefix(':').map(|port| (host, Some(port))),
        };
    }
    match bare.split_once(':') {
        None => Some((bare, None)),
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<&str, &str>) {
        let got = parse(ServerKind::Master, text);
        match expect {
            Ok(address) => assert_eq!(got.expect(text), address),
            Err(part) => {
                let message = got.expect_err(text).to_string();
                assert!(message.contains(part), "{text}: {message}");
                assert!(message.contains(&format!("{text:?}")), "{text}: {message}");
            }
        }
    }

    #[test]
    fn good_addresses() {
        check("127.0.0.1:5050", Ok("127.0.0.1:5050"));
        check("master.example", Ok("master.example:5050"));
        check("http://m:80/", Ok("m:80"));
        check("[::1]:6000", Ok("[::1]:6000"));
        check("[::1]", Ok("[::1]:5050"));
    }

    #[test]
    fn bad_addresses_say_why() {
        check("", Err("it is empty"));
        check(":5050", Err("the host is missing"));
        check("host:99999", Err("not a number from 1 to 65535"));
        check("host:x", Err("not a number from 1 to 65535"));
        check("::1", Err("goes in brackets"));
        check("zk://a/mesos", Err("ZooKeeper"));
        check("https://a", Err("only http://"));
        check("a/b:1", Err("more in it"));
    }
}
