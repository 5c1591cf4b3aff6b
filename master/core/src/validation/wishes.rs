//! What a framework wants of its offers: filters and constraints (`src/common/validation.cpp` and
//! `src/master/allocator/mesos/offer_constraints_filter.cpp` of Mesos).

use std::collections::BTreeSet;

use mezzo_proto::v1;
use mezzo_proto::v1::scheduler::OfferConstraints;
use mezzo_proto::v1::scheduler::attribute_constraint::selector::{PseudoattributeType, Selector};

/// Checks `framework_info.offer_filters`.
pub(crate) fn offer_filters(info: &v1::FrameworkInfo) -> Result<(), String> {
    for (role, filters) in &info.offer_filters {
        let field = format!("framework_info.offer_filters['{role}'].min_allocatable_resources");
        let alternatives = filters.min_allocatable_resources.iter().flat_map(|min| &min.quantities);
        for (at, alternative) in alternatives.enumerate() {
            let field = format!("{field}.quantities[{at}]");
            if alternative.quantities.is_empty() {
                return Err(format!("{field} is empty: it must name at least one resource"));
            }
            for (name, quantity) in &alternative.quantities {
                let value = quantity.value;
                if !(value == 0.0 || value.is_normal() && value > 0.0) {
                    return Err(format!(
                        "{field} has {value} of '{name}': it must be zero or a positive number"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Checks `offer_constraints`; `call` is the field of the call that has them.
pub(crate) fn offer_constraints(
    call: &str,
    constraints: Option<&OfferConstraints>,
    roles: &BTreeSet<String>,
) -> Result<(), String> {
    let Some(constraints) = constraints else { return Ok(()) };
    for (role, of_role) in &constraints.role_constraints {
        let field = format!("{call}.offer_constraints.role_constraints['{role}']");
        if !roles.contains(role) {
            return Err(format!(
                "{field} is for a role in which the framework is not subscribed: its roles are [{}]",
                roles.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            ));
        }
        if of_role.groups.is_empty() {
            return Err(format!("{field}.groups is empty: it must have at least one group"));
        }
        for (at, group) in of_role.groups.iter().enumerate() {
            if group.attribute_constraints.is_empty() {
                return Err(format!(
                    "{field}.groups[{at}].attribute_constraints is empty: a group must have at least \
                     one constraint"
                ));
            }
            for (nth, constraint) in group.attribute_constraints.iter().enumerate() {
                let field = format!("{field}.groups[{at}].attribute_constraints[{nth}]");
                check_constraint(&field, constraint)?;
            }
        }
    }
    Ok(())
}

fn check_constraint(
    field: &str,
    constraint: &v1::scheduler::AttributeConstraint,
) -> Result<(), String> {
    match &constraint.selector.selector {
        Some(Selector::AttributeName(_)) => {}
        Some(Selector::PseudoattributeType(kind)) => {
            if matches!(
                PseudoattributeType::try_from(*kind),
                Err(_) | Ok(PseudoattributeType::Unknown)
            ) {
                return Err(format!(
                    "{field}.selector.pseudoattribute_type is unknown: it must be HOSTNAME, REGION or ZONE"
                ));
            }
        }
        None => {
            return Err(format!(
                "{field}.selector names nothing: exactly one of 'attribute_name' and \
                 'pseudoattribute_type' must be set"
            ));
        }
    }
    if constraint.predicate.predicate.is_none() {
        return Err(format!("{field}.predicate is unset or unknown: one must be set"));
    }
    Ok(())
}
