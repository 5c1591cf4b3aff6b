//! How far a task may go beyond what it asks for, by Mesos' rules (`validateTaskResources` and what follows it in
//! `src/master/validation.cpp`).

use mezzo_proto::v1;
use mezzo_types::{Resources, Scalar};

/// `TaskInfo.limits`: `cpus` and `mem`, each a number not below the request, or infinity. The error names the field.
pub(super) fn of_task(task: &v1::TaskInfo, requested: &Resources) -> Result<(), String> {
    for (name, limit) in &task.limits {
        let request = match name.as_str() {
            "cpus" => requested.cpus(),
            "mem" => requested.mem_mb(),
            _ => {
                return Err(format!("limits of '{name}', but only 'cpus' and 'mem' can have one"));
            }
        };
        if request <= Scalar::ZERO {
            return Err(format!(
                "limits of '{name}' but asks for no '{name}': ask for some in 'resources'"
            ));
        }
        if limit.value == f64::INFINITY {
            continue;
        }
        let value = Scalar::from_f64(limit.value).map_err(|_| {
            format!("limits of '{name}' {}: it must be a number or Infinity", limit.value)
        })?;
        if value < request {
            return Err(format!(
                "limits of '{name}' {value}, less than the {request} that it asks for"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limits: &[(&str, f64)], said: Result<(), &str>) {
        let scalar =
            |(name, value): &(&str, f64)| ((*name).to_owned(), v1::value::Scalar { value: *value });
        let task =
            v1::TaskInfo { limits: limits.iter().map(scalar).collect(), ..v1::TaskInfo::default() };
        let requested = "cpus:0.5;disk:10".parse::<Resources>().expect("valid");
        assert_eq!(of_task(&task, &requested), said.map_err(str::to_owned), "{limits:?}");
    }

    #[test]
    fn limits_are_at_least_the_request() {
        check(&[], Ok(()));
        check(&[("cpus", 0.5)], Ok(()));
        check(&[("cpus", f64::INFINITY)], Ok(()));
        check(&[("cpus", 0.4)], Err("limits of 'cpus' 0.4, less than the 0.5 that it asks for"));
        check(
            &[("mem", 64.0)],
            Err("limits of 'mem' but asks for no 'mem': ask for some in 'resources'"),
        );
        check(&[("disk", 64.0)], Err("limits of 'disk', but only 'cpus' and 'mem' can have one"));
        check(
            &[("cpus", -f64::INFINITY)],
            Err("limits of 'cpus' -inf: it must be a number or Infinity"),
        );
        check(&[("cpus", f64::NAN)], Err("limits of 'cpus' NaN: it must be a number or Infinity"));
    }
}
