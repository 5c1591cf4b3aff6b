//! What a framework says of itself.

use std::collections::BTreeSet;

use mezzo_proto::v1;
use mezzo_proto::v1::framework_info::capability::Type as Capability;

use crate::framework::{has_capability, roles_of};

/// Checks a FrameworkInfo as SUBSCRIBE and UPDATE_FRAMEWORK bring it.
pub(crate) fn framework_info(
    info: &v1::FrameworkInfo,
    root_submissions: bool,
) -> Result<(), String> {
    if let Some(id) = &info.id {
        super::id::check("framework_info.id", &id.value)?;
    }
    roles(info)?;
    super::wishes::offer_filters(info)?;
    user("framework_info.user", &info.user, root_submissions)?;
    if let Some(timeout) = info.failover_timeout
        && !(timeout.is_finite() && (0.0..=MAX_FAILOVER_TIMEOUT_SECS).contains(&timeout))
    {
        return Err(format!(
            "framework_info.failover_timeout is {timeout}: it must be between 0 and \
             {MAX_FAILOVER_TIMEOUT_SECS} seconds"
        ));
    }
    Ok(())
}

/// Mesos holds durations as signed 64-bit nanoseconds; longer timeouts are a mistake.
const MAX_FAILOVER_TIMEOUT_SECS: f64 = 9_223_372_036.0;

fn roles(info: &v1::FrameworkInfo) -> Result<(), String> {
    #[expect(deprecated, reason = "Mesos clients without MULTI_ROLE use the old field")]
    let old_role = info.role.as_deref();
    if has_capability(info, Capability::MultiRole) {
        if let Some(role) = old_role {
            return Err(format!(
                "framework_info.role is '{role}' but the framework has the capability MULTI_ROLE: \
                 such a framework names its roles in 'roles' only"
            ));
        }
        let mut seen = BTreeSet::new();
        for role in &info.roles {
            if !seen.insert(role) {
                return Err(format!(
                    "framework_info.roles names '{role}' twice: each role may appear once"
                ));
            }
        }
    } else if !info.roles.is_empty() {
        return Err(format!(
            "framework_info.roles is [{}] but the framework lacks the capability MULTI_ROLE: \
             add it, or name one role in 'role'",
            info.roles.join(", ")
        ));
    }
    for role in roles_of(info) {
        mezzo_types::validate_role(&role)
            .map_err(|error| format!("framework_info role '{role}' is invalid: {error}"))?;
    }
    Ok(())
}

/// Checks a user name; whether it exists is for the agent to say.
pub(crate) fn user(field: &str, user: &str, root_submissions: bool) -> Result<(), String> {
    if user.contains(|c: char| c.is_control() || c == '/' || c == ':') {
        return Err(format!(
            "{field} is '{}': a user name may not contain '/', ':' or control characters",
            user.escape_debug()
        ));
    }
    if !root_submissions && (user == "root" || user == "0") {
        return Err(format!(
            "{field} is '{user}': this cluster runs nothing as root; name another user, or start \
             the master with --root-submissions"
        ));
    }
    Ok(())
}

/// Checks that `named` roles (of REVIVE, SUPPRESS, `suppressed_roles`) are roles of the framework.
pub(crate) fn roles_subset(
    field: &str,
    named: &[String],
    roles: &BTreeSet<String>,
) -> Result<(), String> {
    match named.iter().find(|role| !roles.contains(*role)) {
        None => Ok(()),
        Some(role) => Err(format!(
            "{field} names role '{role}' in which the framework is not subscribed: its roles are \
             [{}]",
            roles.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// Checks that a subscription or update leaves the fields alone that may not change.
pub(crate) fn framework_update(
    old: &v1::FrameworkInfo,
    new: &v1::FrameworkInfo,
) -> Result<(), String> {
    if old.user != new.user {
        return Err(format!(
            "framework_info.user changed from '{}' to '{}': the user of a framework may not change",
            old.user, new.user
        ));
    }
    if old.checkpoint.unwrap_or(false) != new.checkpoint.unwrap_or(false) {
        return Err(format!(
            "framework_info.checkpoint changed from {} to {}: it may not change",
            old.checkpoint.unwrap_or(false),
            new.checkpoint.unwrap_or(false)
        ));
    }
    if old.principal != new.principal {
        return Err(format!(
            "framework_info.principal changed from '{}' to '{}': it may not change",
            old.principal.as_deref().unwrap_or(""),
            new.principal.as_deref().unwrap_or("")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mezzo_proto::v1::FrameworkInfo;
    use mezzo_proto::v1::framework_info::Capability as Entry;

    use super::*;

    fn info() -> FrameworkInfo {
        FrameworkInfo { user: "nobody".into(), name: "n".into(), ..FrameworkInfo::default() }
    }

    fn multi(roles: &[&str]) -> FrameworkInfo {
        FrameworkInfo {
            capabilities: vec![Entry { r#type: Some(Capability::MultiRole as i32) }],
            roles: roles.iter().map(|r| (*r).to_owned()).collect(),
            ..info()
        }
    }

    fn check(info: &FrameworkInfo, expected: Result<(), &str>) {
        match (framework_info(info, false), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.contains(part), "{error} lacks {part}"),
            (got, expected) => panic!("got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn roles_follow_the_multi_role_capability() {
        check(&info(), Ok(()));
        check(&multi(&["a", "b/c"]), Ok(()));
        check(&multi(&["a", "a"]), Err("names 'a' twice"));
        check(&multi(&["/a"]), Err("role '/a' is invalid"));
        check(&FrameworkInfo { roles: vec!["a".into()], ..info() }, Err("lacks the capability"));
        #[expect(deprecated, reason = "the old field is what is tested")]
        let both = FrameworkInfo { role: Some("a".into()), ..multi(&["b"]) };
        check(&both, Err("'roles' only"));
        #[expect(deprecated, reason = "the old field is what is tested")]
        let bad = FrameworkInfo { role: Some("a//b".into()), ..info() };
        check(&bad, Err("role 'a//b' is invalid"));
    }

    #[test]
    fn root_needs_the_operators_consent() {
        let root = FrameworkInfo { user: "root".into(), ..info() };
        check(&root, Err("start the master with --root-submissions"));
        assert_eq!(framework_info(&root, true), Ok(()));
    }

    #[test]
    fn the_failover_timeout_is_a_sane_number() {
        for bad in [f64::NAN, f64::INFINITY, -1.0, 1e10] {
            check(
                &FrameworkInfo { failover_timeout: Some(bad), ..info() },
                Err("failover_timeout is"),
            );
        }
        check(&FrameworkInfo { failover_timeout: Some(604_800.0), ..info() }, Ok(()));
    }

    #[test]
    fn some_fields_may_not_change() {
        assert_eq!(framework_update(&info(), &info()), Ok(()));
        for (changed, field) in [
            (FrameworkInfo { user: "daemon".into(), ..info() }, "user"),
            (FrameworkInfo { checkpoint: Some(true), ..info() }, "checkpoint"),
            (FrameworkInfo { principal: Some("p".into()), ..info() }, "principal"),
        ] {
            let error = framework_update(&info(), &changed).expect_err("may not change");
            assert!(error.starts_with(&format!("framework_info.{field} changed")), "{error}");
        }
    }
}
