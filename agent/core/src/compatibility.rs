//! What an agent may change of itself and still be the agent that the cluster knows: tasks and offers
//! rest on what it said when it joined.
//!
//! The rules are Mesos' (`src/slave/compatibility.cpp`).

use mezzo_proto::storage::v1::ResourcesRecord;
use mezzo_proto::v1;
use mezzo_types::{Attribute, AttributeValue, Attributes, Resource, Resources};

use crate::config::ReconfigurationPolicy;

/// Why an agent cannot start as the one it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    #[error(
        "the agent's {field} changed from '{was}' to '{is}' since it joined the cluster; restore the old \
         value, {or}remove the work directory to join as a new agent (its tasks are lost then)"
    )]
    Incompatible {
        /// What changed: `hostname`, `port`, `domain`, `resources`, `attributes`, or one of the last two
        /// by name.
        field: String,
        was: String,
        is: String,
        /// Another way out, if there is one.
        or: &'static str,
    },
    /// What operations made of the resources cannot be made of those that are configured now.
    #[error(
        "the agent has {kept}, made by an operation of {wanted}, which is not in the resources that it is \
         configured with now (what the other operations leave of them is {left}); restore the old \
         resources, destroy and unreserve what is in the way first, or remove the work directory to join \
         as a new agent (its tasks and volumes are lost then)"
    )]
    Reservations { kept: String, wanted: String, left: String },
    /// Nothing is guessed: volumes may hold data.
    #[error("the record of the agent's resources cannot be read: {0}")]
    Record(String),
}

/// The configured resources with the reservations and volumes that operations made of earlier ones (as
/// Mesos' `applyCheckpointedResources`).
pub(crate) fn reapply(
    configured: &[v1::Resource],
    record: Option<&ResourcesRecord>,
) -> Result<Resources, RecoverError> {
    let read = |resources: &[v1::Resource]| {
        Resources::from_proto(resources).map_err(|error| RecoverError::Record(error.to_string()))
    };
    let mut total = read(configured)?;
    let Some(record) = record else { return Ok(total) };
    for kept in read(&record.total)?.filter(Resource::is_made_by_operation).iter() {
        // A configuration in JSON may name a volume, too.
        if total.contains_resource(kept) {
            continue;
        }
        let step = kept.made_of_configured();
        total =
            total.convert(std::slice::from_ref(&step)).map_err(|_| RecoverError::Reservations {
                kept: kept.to_string(),
                wanted: step.consumed.to_string(),
                left: told(&total),
            })?;
    }
    Ok(total)
}

/// Holds what the agent is against what it was.
pub(crate) fn check(
    policy: ReconfigurationPolicy,
    was: &v1::AgentInfo,
    is: &v1::AgentInfo,
) -> Result<(), RecoverError> {
    let additive = check_additive(was, is);
    match policy {
        ReconfigurationPolicy::Additive => additive,
        ReconfigurationPolicy::Equal => {
            let or = match additive {
                Ok(()) => "allow additions with --reconfiguration-policy=additive, or ",
                Err(_) => OR_ELSE,
            };
            check_equal(was, is).map_err(|error| match error {
                RecoverError::Incompatible { field, was, is, .. } => {
                    RecoverError::Incompatible { field, was, is, or }
                }
                other => other,
            })
        }
    }
}

const OR_ELSE: &str = "or ";

fn differs(field: impl Into<String>, was: String, is: String) -> RecoverError {
    RecoverError::Incompatible { field: field.into(), was, is, or: OR_ELSE }
}

/// What may change under no policy.
fn check_address(was: &v1::AgentInfo, is: &v1::AgentInfo) -> Result<(), RecoverError> {
    if was.hostname != is.hostname {
        return Err(differs("hostname", was.hostname.clone(), is.hostname.clone()));
    }
    if was.port != is.port {
        return Err(differs("port", was.port().to_string(), is.port().to_string()));
    }
    Ok(())
}

fn check_equal(was: &v1::AgentInfo, is: &v1::AgentInfo) -> Result<(), RecoverError> {
    check_address(was, is)?;
    if was.domain != is.domain {
        return Err(differs("domain", domain_text(was), domain_text(is)));
    }
    let same = |field, was: String, is: String| {
        if was == is { Ok(()) } else { Err(differs(field, was, is)) }
    };
    same("resources", resources(was).to_string(), resources(is).to_string())?;
    same("attributes", attributes(was).to_string(), attributes(is).to_string())
}

/// A domain, resources and attributes may be added; what was there may grow and keeps its type.
fn check_additive(was: &v1::AgentInfo, is: &v1::AgentInfo) -> Result<(), RecoverError> {
    check_address(was, is)?;
    if was.domain.is_some() && was.domain != is.domain {
        return Err(differs("domain", domain_text(was), domain_text(is)));
    }
    let (old, new) = (resources(was), resources(is));
    for resource in old.iter() {
        if !new.contains(&old.filter(|other| other == resource)) {
            let alike = |other: &Resource| {
                other.name == resource.name && other.reservations == resource.reservations
            };
            let field = format!("resource {}", resource.name.as_str());
            let now = new.filter(alike);
            return Err(differs(field, Resources::from(resource.clone()).to_string(), told(&now)));
        }
    }
    let (old, new) = (attributes(was), attributes(is));
    for attribute in old.iter() {
        if !new.iter().any(|other| other.name == attribute.name && grew(attribute, other)) {
            let field = format!("attribute {}", attribute.name);
            let alike = new.iter().filter(|other| other.name == attribute.name);
            let now: Vec<String> = alike.map(|other| other.value.to_string()).collect();
            return Err(differs(field, attribute.value.to_string(), or_none(now.join("; "))));
        }
    }
    Ok(())
}

fn grew(was: &Attribute, is: &Attribute) -> bool {
    match (&was.value, &is.value) {
        (AttributeValue::Scalar(was), AttributeValue::Scalar(is)) => is >= was,
        (AttributeValue::Ranges(was), AttributeValue::Ranges(is)) => is.contains(was),
        (AttributeValue::Text(was), AttributeValue::Text(is)) => is == was,
        _ => false,
    }
}

/// The records were made from valid ones.
fn resources(info: &v1::AgentInfo) -> Resources {
    Resources::from_proto(&info.resources).unwrap_or_default()
}

fn attributes(info: &v1::AgentInfo) -> Attributes {
    Attributes::from_proto(&info.attributes).unwrap_or_default()
}

fn told(resources: &Resources) -> String {
    if resources.is_empty() { or_none(String::new()) } else { resources.to_string() }
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

/// `region/zone`.
fn domain_text(info: &v1::AgentInfo) -> String {
    let fault = info.domain.as_ref().and_then(|domain| domain.fault_domain.as_ref());
    or_none(fault.map(|at| format!("{}/{}", at.region.name, at.zone.name)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(resources: &str, attributes: &str) -> v1::AgentInfo {
        v1::AgentInfo {
            hostname: "host".to_owned(),
            resources: Resources::parse(resources, "*").expect("valid").to_proto(),
            attributes: Attributes::parse(attributes).expect("valid").to_proto(),
            ..v1::AgentInfo::default()
        }
    }

    /// What each policy says of a change: the field that it does not like, if any.
    fn judged(was: &v1::AgentInfo, is: &v1::AgentInfo) -> [Option<String>; 2] {
        [ReconfigurationPolicy::Equal, ReconfigurationPolicy::Additive].map(|policy| {
            check(policy, was, is).err().map(|error| match error {
                RecoverError::Incompatible { field, .. } => field,
                other => other.to_string(),
            })
        })
    }

    #[track_caller]
    fn check_change(was: [&str; 2], is: [&str; 2], equal: Option<&str>, additive: Option<&str>) {
        let judged = judged(&info(was[0], was[1]), &info(is[0], is[1]));
        assert_eq!(judged, [equal, additive].map(|field| field.map(str::to_owned)));
    }

    #[test]
    fn resources_may_grow_under_additive() {
        let old = ["cpus:4;mem:1024;ports:[1-10];labels:{a,b}", ""];
        check_change(old, old, None, None);
        let reordered = ["mem:1024;labels:{b,a};ports:[1-5,6-10];cpus:4", ""];
        check_change(old, reordered, None, None);
        let grown = ["cpus:5;mem:1024;ports:[1-20];labels:{a,b,c};gpus:1", ""];
        check_change(old, grown, Some("resources"), None);
        for (less, name) in [
            ("cpus:3;mem:1024;ports:[1-10];labels:{a,b}", "resource cpus"),
            ("cpus:4;mem:1024;ports:[2-20];labels:{a,b}", "resource ports"),
            ("cpus:4;mem:1024;ports:[1-10];labels:{b,c}", "resource labels"),
            ("cpus:4;ports:[1-10];labels:{a,b}", "resource mem"),
            ("cpus:4;mem:1024;ports:[1-10];labels:3", "resource labels"),
            ("cpus(eng):4;mem:1024;ports:[1-10];labels:{a,b}", "resource cpus"),
        ] {
            check_change(old, [less, ""], Some("resources"), Some(name));
        }
    }

    #[test]
    fn attributes_may_grow_under_additive() {
        let old = ["cpus:1", "rack:a1;level:2;slots:[1-4]"];
        check_change(
            old,
            ["cpus:1", "rack:a1;level:3;slots:[1-8];ssd:1"],
            Some("attributes"),
            None,
        );
        for (less, name) in [
            ("rack:a2;level:2;slots:[1-4]", "attribute rack"),
            ("rack:a1;level:1;slots:[1-4]", "attribute level"),
            ("rack:a1;level:2;slots:[1-3]", "attribute slots"),
            ("rack:a1;level:high;slots:[1-4]", "attribute level"),
            ("rack:a1;slots:[1-4]", "attribute level"),
        ] {
            check_change(old, ["cpus:1", less], Some("attributes"), Some(name));
        }
    }

    #[test]
    fn the_address_stays_and_a_domain_may_come() {
        let old = info("cpus:1", "");
        let moved = v1::AgentInfo { hostname: "other".to_owned(), ..old.clone() };
        assert_eq!(
            judged(&old, &moved),
            [Some("hostname".to_owned()), Some("hostname".to_owned())]
        );
        let port = v1::AgentInfo { port: Some(6000), ..old.clone() };
        assert_eq!(judged(&old, &port), [Some("port".to_owned()), Some("port".to_owned())]);
        let domain = v1::AgentInfo { domain: Some(v1::DomainInfo::default()), ..old.clone() };
        assert_eq!(judged(&old, &domain), [Some("domain".to_owned()), None]);
        assert_eq!(judged(&domain, &old), [Some("domain".to_owned()), Some("domain".to_owned())]);
    }

    #[test]
    fn the_sentence_names_the_change_and_the_next_step() {
        let (old, more) = (info("cpus:4", ""), info("cpus:8", ""));
        let refused = check(ReconfigurationPolicy::Equal, &old, &more).expect_err("grew");
        assert_eq!(
            refused.to_string(),
            "the agent's resources changed from 'cpus:4' to 'cpus:8' since it joined the cluster; \
             restore the old value, allow additions with --reconfiguration-policy=additive, or remove \
             the work directory to join as a new agent (its tasks are lost then)"
        );
        let refused = check(ReconfigurationPolicy::Additive, &more, &old).expect_err("shrank");
        assert_eq!(
            refused.to_string(),
            "the agent's resource cpus changed from 'cpus:8' to 'cpus:4' since it joined the cluster; \
             restore the old value, or remove the work directory to join as a new agent (its tasks are \
             lost then)"
        );
        let refused = check(ReconfigurationPolicy::Additive, &more, &info("mem:1", ""));
        let refused = refused.expect_err("went").to_string();
        assert!(refused.contains("from 'cpus:8' to 'none'"), "{refused}");
    }
}
