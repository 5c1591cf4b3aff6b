//! The health check of `mezzo run`.

use std::time::Duration;

use mezzo_sdk::{CheckPort, HealthCheck};

use crate::quantity::parse_duration;

/// At most one of the four ways to look; the rest says when and how often.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Health check")]
pub(crate) struct HealthArguments {
    /// Have the agent run this line of shell beside the command; 0 is healthy.
    #[arg(long, value_name = "LINE", group = "health")]
    pub(crate) health_cmd: Option<String>,

    /// Have the agent GET this path; 200 to 399 is healthy. Without a port it is the first of --ports.
    #[arg(long, value_name = "[PORT]/PATH", group = "health", value_parser = parse_place)]
    pub(crate) health_http: Option<(CheckPort, String)>,

    /// As --health-http, with TLS; the certificate is not verified.
    #[arg(long, value_name = "[PORT]/PATH", group = "health", value_parser = parse_place)]
    pub(crate) health_https: Option<(CheckPort, String)>,

    /// Have the agent connect to this port; `PORT0`, `PORT1`, … are those of --ports.
    #[arg(long, value_name = "PORT", group = "health", value_parser = parse_port)]
    pub(crate) health_tcp: Option<CheckPort>,

    /// Time from the start to the first look [default: 15s]
    #[arg(long, value_name = "TIME", requires = "health", value_parser = parse_span)]
    pub(crate) health_delay: Option<Duration>,

    /// Time from a result to the next look [default: 10s]
    #[arg(long, value_name = "TIME", requires = "health", value_parser = parse_duration)]
    pub(crate) health_interval: Option<Duration>,

    /// Time for one look [default: 20s]
    #[arg(long, value_name = "TIME", requires = "health", value_parser = parse_duration)]
    pub(crate) health_timeout: Option<Duration>,

    /// Failures in this time after the start do not count, until the first success [default: 10s]
    #[arg(long, value_name = "TIME", requires = "health", value_parser = parse_span)]
    pub(crate) health_start_period: Option<Duration>,

    /// Failures in a row after which the task is ended [default: 3]
    #[arg(long, value_name = "N", requires = "health", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) health_retries: Option<u32>,
}

impl HealthArguments {
    /// `None` if nothing is to be looked at.
    pub(crate) fn check(&self) -> Option<HealthCheck> {
        let mut check = if let Some(line) = &self.health_cmd {
            HealthCheck::shell(line)
        } else if let Some((port, path)) = &self.health_http {
            HealthCheck::http(*port, path)
        } else if let Some((port, path)) = &self.health_https {
            HealthCheck::https(*port, path)
        } else {
            HealthCheck::tcp(self.health_tcp?)
        };
        if let Some(delay) = self.health_delay {
            check = check.delay(delay);
        }
        if let Some(interval) = self.health_interval {
            check = check.interval(interval);
        }
        if let Some(timeout) = self.health_timeout {
            check = check.timeout(timeout);
        }
        if let Some(grace) = self.health_start_period {
            check = check.grace(grace);
        }
        if let Some(retries) = self.health_retries {
            check = check.consecutive_failures(retries);
        }
        Some(check)
    }

    /// How many ports the task must have for its check.
    pub(crate) fn ports_needed(&self) -> usize {
        let places = [&self.health_http, &self.health_https].into_iter().flatten();
        let ports = places.map(|(port, _)| *port).chain(self.health_tcp);
        let needed = ports.map(|port| match port {
            CheckPort::Own(place) => place + 1,
            CheckPort::Number(_) => 0,
        });
        needed.max().unwrap_or(0)
    }
}

/// As any time, and 0 for none.
fn parse_span(text: &str) -> Result<Duration, String> {
    if text.trim_end_matches("ms").trim_end_matches('s') == "0" {
        return Ok(Duration::ZERO);
    }
    parse_duration(text)
}

/// `8080/health`, `PORT1/health`, or `/health`.
fn parse_place(text: &str) -> Result<(CheckPort, String), String> {
    let text = text.strip_prefix(':').unwrap_or(text);
    let Some(at) = text.find('/') else {
        return Err("the path is missing, which begins with a slash".to_owned());
    };
    let (port, path) = text.split_at(at);
    let port = if port.is_empty() { CheckPort::Own(0) } else { parse_port(port)? };
    Ok((port, path.to_owned()))
}

/// A number, or the name of a variable that has it.
fn parse_port(text: &str) -> Result<CheckPort, String> {
    if let Some(place) = text.strip_prefix("PORT").and_then(|place| place.parse().ok()) {
        return Ok(CheckPort::Own(place));
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("'{text}' is no port: 1 to 65535, or PORT0, PORT1, …")),
        Ok(port) => Ok(CheckPort::Number(port)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        health: HealthArguments,
    }

    fn parse(line: &[&str]) -> Result<HealthArguments, String> {
        Line::try_parse_from(std::iter::once("run").chain(line.iter().copied()))
            .map(|line| line.health)
            .map_err(|error| error.to_string())
    }

    fn check(line: &[&str], expected: Option<HealthCheck>, ports: usize) {
        let arguments = parse(line).expect("valid");
        assert_eq!(arguments.check(), expected);
        assert_eq!(arguments.ports_needed(), ports);
    }

    #[test]
    fn one_way_to_look_with_its_times() {
        check(&[], None, 0);
        check(&["--health-cmd", "test -e up"], Some(HealthCheck::shell("test -e up")), 0);
        check(&["--health-http", "/h"], Some(HealthCheck::http(CheckPort::Own(0), "/h")), 1);
        check(&["--health-http", "8080/h"], Some(HealthCheck::http(8080, "/h")), 0);
        check(&["--health-https", "PORT1/"], Some(HealthCheck::https(CheckPort::Own(1), "/")), 2);
        let second = Duration::from_secs(1);
        let expected = HealthCheck::tcp(80)
            .delay(Duration::ZERO)
            .interval(second)
            .timeout(second)
            .grace(Duration::ZERO)
            .consecutive_failures(2);
        check(
            &[
                "--health-tcp",
                "80",
                "--health-delay",
                "0",
                "--health-interval",
                "1s",
                "--health-timeout",
                "1s",
                "--health-start-period",
                "0s",
                "--health-retries",
                "2",
            ],
            Some(expected),
            0,
        );
    }

    #[test]
    fn wrong_usage_is_explained() {
        for (line, part) in [
            (&["--health-tcp", "80", "--health-cmd", "x"][..], "cannot be used with"),
            (&["--health-retries", "2"], "required"),
            (&["--health-tcp", "0"], "'0' is no port"),
            (&["--health-tcp", "PORTX"], "'PORTX' is no port"),
            (&["--health-http", "health"], "the path is missing"),
        ] {
            let error = parse(line).expect_err("refused");
            assert!(error.contains(part), "{error}");
        }
    }
}
