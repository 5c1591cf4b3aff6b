//! Where an agent can be reached.

use crate::v1::master::response::get_agents;

const DEFAULT_PORT: i32 = 5051;

/// Addresses at which the agent may answer, `host:port`, the likeliest first: the one it is bound
/// to (from `pid`, `name@ip:port`), then its host name, which this machine may know or not.
pub fn agent_addresses(agent: &get_agents::Agent) -> Vec<String> {
    let bound = agent
        .pid
        .as_deref()
        .and_then(|pid| pid.rsplit_once('@'))
        .map(|(_, address)| address)
        .filter(|address| !address.starts_with("0.0.0.0:") && !address.starts_with("[::]:"));
    let info = &agent.agent_info;
    let named = format!("{}:{}", info.hostname, info.port.unwrap_or(DEFAULT_PORT));
    let mut addresses: Vec<String> = bound.map(str::to_owned).into_iter().collect();
    if !info.hostname.is_empty() && !addresses.contains(&named) {
        addresses.push(named);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    fn check(pid: Option<&str>, hostname: &str, port: Option<i32>, expect: &[&str]) {
        let agent = get_agents::Agent {
            pid: pid.map(str::to_owned),
            agent_info: v1::AgentInfo { hostname: hostname.to_owned(), port, ..Default::default() },
            ..Default::default()
        };
        assert_eq!(agent_addresses(&agent), expect);
    }

    #[test]
    fn bound_address_first_then_host_name() {
        check(
            Some("slave(1)@10.0.0.7:5052"),
            "node7",
            Some(5052),
            &["10.0.0.7:5052", "node7:5052"],
        );
        check(Some("agent@127.0.0.1:5051"), "127.0.0.1", None, &["127.0.0.1:5051"]);
        check(None, "node7", None, &["node7:5051"]);
        check(Some("agent@0.0.0.0:5051"), "node7", None, &["node7:5051"]);
    }
}
