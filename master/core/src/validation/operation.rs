//! An operation on resources that somebody wants carried out on an agent: the rules that depend on who
//! asks and on what the agent has. (What the operation alone decides: `mezzo_types::ResourceOperation`.)

use std::collections::BTreeSet;

use mezzo_proto::v1::framework_info::capability::Type as Capability;
use mezzo_types::{Resource, ResourceOperation, Resources};

use crate::framework::Framework;

/// What an operation is checked against.
pub(crate) struct Context<'a> {
    pub(crate) caller: Caller<'a>,
    /// In whose name, if that is known.
    pub(crate) principal: Option<&'a str>,
    /// What the agent has, with every operation in flight.
    pub(crate) total: &'a Resources,
    /// The volumes that tasks on the agent use now, allocated to nobody.
    pub(crate) used: &'a Resources,
}

pub(crate) enum Caller<'a> {
    /// By offers that are allocated to this role.
    Framework(&'a Framework, &'a str),
    Operator,
}

/// Checks an operation; the sentence completes "… operation: ".
pub(crate) fn check(operation: &ResourceOperation, context: &Context<'_>) -> Result<(), String> {
    allocation(operation, context)?;
    match operation {
        ResourceOperation::Reserve { resources, .. } => {
            resources.iter().try_for_each(|resource| reserve(resource, context))
        }
        ResourceOperation::Create { volumes } => create(volumes, context),
        ResourceOperation::Destroy { volumes } => destroy(volumes, context),
        ResourceOperation::Unreserve { .. }
        | ResourceOperation::Grow { .. }
        | ResourceOperation::Shrink { .. } => Ok(()),
    }
}

/// A framework converts what it was offered, an operator what nobody was.
fn allocation(operation: &ResourceOperation, context: &Context<'_>) -> Result<(), String> {
    let consumed = operation.consumed();
    let all = consumed.iter();
    for resource in all {
        match (&context.caller, resource.allocation_role.as_deref()) {
            (Caller::Framework(_, role), Some(named)) if named == *role => {}
            (Caller::Framework(_, role), named) => {
                return Err(format!(
                    "{resource} has allocation_info.role '{}' but the offers are allocated to role \
                     '{role}'",
                    named.unwrap_or_default()
                ));
            }
            (Caller::Operator, None) => {}
            (Caller::Operator, Some(named)) => {
                return Err(format!(
                    "{resource} has allocation_info.role '{named}': an operator converts resources \
                     that are allocated to nobody, leave allocation_info out"
                ));
            }
        }
    }
    Ok(())
}

fn reserve(resource: &Resource, context: &Context<'_>) -> Result<(), String> {
    let role = resource.reservation_role().unwrap_or_default();
    if let Caller::Framework(framework, offered) = &context.caller {
        if role != *offered {
            return Err(format!(
                "{resource} is to be reserved for role '{role}' but was offered to role '{offered}': \
                 a framework reserves for the role that it was offered the resource in"
            ));
        }
        if !framework.roles.contains(role) {
            let roles = framework.roles.iter().map(|role| format!("'{role}'"));
            return Err(format!(
                "{resource} is to be reserved for role '{role}' but the framework has the roles {}",
                roles.collect::<Vec<_>>().join(", ")
            ));
        }
    }
    let named = resource.reservations.last().and_then(|top| top.principal.as_deref());
    principal(resource, "reservations[].principal", named, context)
}

/// Who is known by name reserves and creates in that name.
fn principal(
    resource: &Resource,
    field: &str,
    named: Option<&str>,
    context: &Context<'_>,
) -> Result<(), String> {
    match (context.principal, named) {
        (Some(principal), None) => Err(format!(
            "{resource} has no {field}: the caller's principal is '{principal}', set it"
        )),
        (Some(principal), Some(named)) if principal != named => Err(format!(
            "{resource} has {field} '{named}' but the caller's principal is '{principal}'"
        )),
        _ => Ok(()),
    }
}

fn create(volumes: &Resources, context: &Context<'_>) -> Result<(), String> {
    let key = |volume: &Resource| {
        let role = volume.reservation_role().unwrap_or_default().to_owned();
        Some((role, volume.persistence_id()?.to_owned()))
    };
    let taken: BTreeSet<_> = context.total.iter().filter_map(key).collect();
    for volume in volumes.iter() {
        let id = volume.persistence_id().unwrap_or_default();
        if key(volume).is_some_and(|key| taken.contains(&key)) {
            return Err(format!(
                "the persistence id '{id}' is in use on the agent by another volume of role '{}'",
                volume.reservation_role().unwrap_or_default()
            ));
        }
        if let Caller::Framework(framework, _) = &context.caller
            && volume.shared
            && !framework.has(Capability::SharedResources)
        {
            return Err(format!(
                "{volume} is shared, but the framework has no SHARED_RESOURCES capability"
            ));
        }
        let persistence = volume.disk.as_deref().and_then(|disk| disk.persistence.as_ref());
        let named = persistence.and_then(|persistence| persistence.principal.as_deref());
        principal(volume, "disk.persistence.principal", named, context)?;
    }
    Ok(())
}

fn destroy(volumes: &Resources, context: &Context<'_>) -> Result<(), String> {
    for volume in volumes.unallocated().iter() {
        if !context.total.contains_resource(volume) {
            return Err(format!("the agent has no persistent volume {volume}"));
        }
        if context.used.contains_resource(volume) {
            return Err(format!("a task uses the persistent volume {volume}: end the task first"));
        }
    }
    Ok(())
}
