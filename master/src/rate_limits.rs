//! `--rate-limits`: how fast frameworks may call, as Mesos' flag of this name has it
//! (`include/mesos/mesos.proto`, `RateLimits`).

use mezzo_master_core::{CallRate, CallRates};
use serde::Deserialize;

/// The JSON of the flag. Mesos ignores what it does not know; here a slip of the pen must not lift a limit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimits {
    #[serde(default)]
    limits: Vec<RateLimit>,
    aggregate_default_qps: Option<f64>,
    aggregate_default_capacity: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimit {
    principal: String,
    qps: Option<f64>,
    capacity: Option<u64>,
}

/// Reads the flag: JSON, or the file that holds it, as `file:///path` or `/path`.
///
/// # Errors
/// One sentence that names the field, its value and the rule.
pub(crate) fn rate_limits(text: &str) -> Result<CallRates, String> {
    let path = text.strip_prefix("file://").or_else(|| text.starts_with('/').then_some(text));
    match path {
        None => parse(text),
        Some(path) => {
            let read = std::fs::read_to_string(path);
            let text = read.map_err(|error| format!("cannot read the file '{path}': {error}"))?;
            parse(&text).map_err(|error| format!("in the file '{path}': {error}"))
        }
    }
}

fn parse(text: &str) -> Result<CallRates, String> {
    let read: RateLimits = serde_json::from_str(text).map_err(|error| {
        format!(
            "it is not the JSON of rate limits: {error}; expected is {{\"limits\":[{{\"principal\":\
             \"NAME\",\"qps\":10,\"capacity\":1000}}],\"aggregate_default_qps\":100}}"
        )
    })?;
    let mut rates = CallRates::default();
    for (at, limit) in read.limits.into_iter().enumerate() {
        let rate = rate(&format!("limits[{at}].qps"), limit.qps, limit.capacity)?;
        let principal = limit.principal;
        if rates.by_principal.insert(principal.clone(), rate).is_some() {
            return Err(format!(
                "limits[{at}].principal is '{principal}', which has a limit already: each principal may appear once"
            ));
        }
    }
    let (qps, capacity) = (read.aggregate_default_qps, read.aggregate_default_capacity);
    rates.others = rate("aggregate_default_qps", qps, capacity)?;
    Ok(rates)
}

/// Without a rate there is no limit, and the capacity means nothing.
fn rate(field: &str, qps: Option<f64>, capacity: Option<u64>) -> Result<Option<CallRate>, String> {
    let Some(per_second) = qps else { return Ok(None) };
    if per_second.is_finite() && per_second > 0.0 {
        return Ok(Some(CallRate { per_second, capacity }));
    }
    Err(format!("{field} is {per_second}: it must be a positive number of calls per second"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_mesos_manual_is_read() {
        let rates = parse(
            r#"{"limits":[{"principal":"foo","qps":55.5,"capacity":100000},
                          {"principal":"bar","qps":300},{"principal":"baz"}],
                "aggregate_default_qps":333,"aggregate_default_capacity":1000000}"#,
        );
        let rates = rates.expect("valid");
        let rate = |per_second, capacity| Some(CallRate { per_second, capacity });
        assert_eq!(rates.by_principal["foo"], rate(55.5, Some(100_000)));
        assert_eq!(rates.by_principal["bar"], rate(300.0, None));
        assert_eq!(rates.by_principal["baz"], None);
        assert_eq!(rates.others, rate(333.0, Some(1_000_000)));
        assert_eq!(parse("{}"), Ok(CallRates::default()));
        assert_eq!(parse(r#"{"aggregate_default_capacity":1}"#), Ok(CallRates::default()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "it is not the JSON of rate limits: EOF"),
            (r#"{"limits":[{"qps":1}]}"#, "missing field `principal`"),
            (r#"{"limits":[{"principal":"p","qsp":1}]}"#, "unknown field `qsp`"),
            (r#"{"limits":[{"principal":"p","qps":0}]}"#, "limits[0].qps is 0: it must be"),
            (r#"{"limits":[{"principal":"p","qps":-1.5}]}"#, "limits[0].qps is -1.5: it must be"),
            (r#"{"limits":[{"principal":"p","capacity":-1}]}"#, "invalid value"),
            (r#"{"limits":[{"principal":"p"},{"principal":"p"}]}"#, "limits[1].principal is 'p'"),
            (r#"{"aggregate_default_qps":0}"#, "aggregate_default_qps is 0: it must be"),
            ("file:///nowhere", "cannot read the file '/nowhere'"),
        ] {
            let error = rate_limits(text).expect_err(text);
            assert!(error.contains(part), "{error} lacks {part}");
        }
    }

    #[test]
    fn a_file_may_hold_it() {
        let path = std::env::temp_dir().join(format!("mezzo-rates-{}", std::process::id()));
        std::fs::write(&path, r#"{"aggregate_default_qps":2}"#).expect("a file");
        let path_text = path.display().to_string();
        let of_both = [rate_limits(&path_text), rate_limits(&format!("file://{path_text}"))];
        std::fs::remove_file(&path).expect("was there");
        for rates in of_both {
            let others = rates.expect("valid").others;
            assert_eq!(others, Some(CallRate { per_second: 2.0, capacity: None }));
        }
    }
}
