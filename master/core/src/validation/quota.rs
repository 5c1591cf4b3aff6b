//! Quotas, as operators set them.

use mezzo_proto::v1;
use mezzo_proto::v1::quota::{QuotaConfig, QuotaRequest};
use mezzo_types::Scalar;

/// Checks one quota of UPDATE_QUOTA by itself.
pub(crate) fn quota_config(quota: &QuotaConfig) -> Result<(), String> {
    let role = &quota.role;
    check_role("quota_configs", role)?;
    for (part, amounts) in [("guarantees", &quota.guarantees), ("limits", &quota.limits)] {
        for (name, scalar) in amounts {
            amount(&format!("quota_configs: {part} of role '{role}'"), name, scalar.value)?;
        }
    }
    for (name, guarantee) in &quota.guarantees {
        let limit = quota.limits.get(name);
        if let Some(limit) = limit.filter(|limit| guarantee.value > limit.value) {
            return Err(format!(
                "quota_configs: role '{role}' is guaranteed {name}:{}, more than its limit {name}:{}: \
                 a guarantee may not exceed its limit",
                guarantee.value, limit.value
            ));
        }
    }
    Ok(())
}

/// Checks a quota of SET_QUOTA, and turns it into the new form: what it guarantees is the limit, too.
pub(crate) fn quota_request(request: &QuotaRequest) -> Result<QuotaConfig, String> {
    let role = request.role.clone().unwrap_or_default();
    check_role("quota_request.role", &role)?;
    if request.guarantee.is_empty() {
        return Err(format!(
            "quota_request.guarantee of role '{role}' is empty: name at least one resource"
        ));
    }
    let mut quota = QuotaConfig { role: role.clone(), ..QuotaConfig::default() };
    for resource in &request.guarantee {
        let name = &resource.name;
        let field = format!("quota_request.guarantee: {name} of role '{role}'");
        let plain = resource.reservations.is_empty()
            && resource.disk.is_none()
            && resource.revocable.is_none();
        if !plain {
            return Err(format!(
                "{field} is reserved, revocable or a disk: a quota is on plain amounts"
            ));
        }
        let Some(scalar) = resource.scalar else {
            return Err(format!("{field} is no scalar: a quota is on plain amounts"));
        };
        amount("quota_request.guarantee", name, scalar.value)?;
        if quota.guarantees.insert(name.clone(), scalar).is_some() {
            return Err(format!("{field} is named twice: each resource may appear once"));
        }
        quota.limits.insert(name.clone(), v1::value::Scalar { value: scalar.value });
    }
    Ok(quota)
}

fn check_role(field: &str, role: &str) -> Result<(), String> {
    mezzo_types::validate_role(role)
        .map_err(|error| format!("{field}: role '{role}' is invalid: {error}"))?;
    if role.contains('/') {
        return Err(format!(
            "{field}: role '{role}' is nested: quotas are set on top-level roles, and cover all roles \
             below them"
        ));
    }
    Ok(())
}

fn amount(field: &str, name: &str, value: f64) -> Result<(), String> {
    if value.is_nan() || value < 0.0 {
        return Err(format!("{field}: {name} is {value}: amounts are not negative"));
    }
    Scalar::from_f64(value)
        .map_err(|error| format!("{field}: {name} is {value}, which {error}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(of: &[(&str, f64)]) -> std::collections::BTreeMap<String, v1::value::Scalar> {
        of.iter().map(|(n, value)| ((*n).to_owned(), v1::value::Scalar { value: *value })).collect()
    }

    fn check(role: &str, guarantees: &[(&str, f64)], limits: &[(&str, f64)], expected: &str) {
        let quota = QuotaConfig {
            role: role.to_owned(),
            guarantees: amounts(guarantees).into_iter().collect(),
            limits: amounts(limits).into_iter().collect(),
        };
        match quota_config(&quota) {
            Ok(()) => assert_eq!(expected, ""),
            Err(error) => {
                assert!(!expected.is_empty() && error.contains(expected), "{error}: {expected}");
            }
        }
    }

    #[test]
    fn quotas_are_amounts_of_top_level_roles() {
        check("eng", &[("cpus", 1.0)], &[("cpus", 1.0), ("mem", 0.0)], "");
        check("eng", &[("cpus", 1.0)], &[], "");
        check("*", &[], &[("cpus", 1.0)], "");
        check("eng/web", &[], &[], "is nested");
        check("..", &[], &[], "is invalid");
        check("eng", &[], &[("cpus", -1.0)], "not negative");
        check("eng", &[("cpus", f64::NAN)], &[], "not negative");
        check("eng", &[], &[("mem", 1e13)], "largest amount");
        check("eng", &[("cpus", 2.0)], &[("cpus", 1.0)], "may not exceed its limit");
    }

    #[test]
    fn the_old_form_guarantees_and_limits_the_same() {
        let cpus = |value| v1::Resource {
            name: "cpus".into(),
            r#type: v1::value::Type::Scalar as i32,
            scalar: Some(v1::value::Scalar { value }),
            ..v1::Resource::default()
        };
        let request = |guarantee| QuotaRequest {
            role: Some("eng".into()),
            guarantee,
            ..QuotaRequest::default()
        };
        let quota = quota_request(&request(vec![cpus(2.0)])).expect("valid");
        assert_eq!(quota.guarantees, quota.limits);
        assert!(quota_request(&request(vec![])).is_err_and(|e| e.contains("is empty")));
        let twice = request(vec![cpus(2.0), cpus(1.0)]);
        assert!(quota_request(&twice).is_err_and(|e| e.contains("named twice")));
        let no_scalar = v1::Resource { scalar: None, ..cpus(1.0) };
        assert!(quota_request(&request(vec![no_scalar])).is_err_and(|e| e.contains("no scalar")));
    }
}
