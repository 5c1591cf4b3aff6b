//! Resources and attributes.

use std::collections::{BTreeMap, BTreeSet};

use mezzo_proto::{json, v1};
use mezzo_types::{Attributes, Quantities, Ranges, Resource, Resources, UNRESERVED_ROLE, Value};

use crate::object::{Object, list, object};

/// `{"disk":0.0,"mem":32.0,"gpus":0.0,"cpus":1.0,"ports":"[31000-31001]"}`.
pub fn resources(out: &mut Vec<u8>, resources: &Resources) {
    let mut scalars: BTreeMap<String, f64> = BTreeMap::new();
    let mut ranges: BTreeMap<String, Ranges> = BTreeMap::new();
    let mut sets: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in ["cpus", "disk", "gpus", "mem"] {
        scalars.insert(name.to_owned(), 0.0);
    }
    for resource in resources.iter() {
        let name = match resource.revocable {
            true => format!("{}_revocable", resource.name),
            false => resource.name.to_string(),
        };
        match &resource.value {
            Value::Scalar(scalar) => *scalars.entry(name).or_default() += scalar.to_f64(),
            Value::Ranges(more) => ranges.entry(name).or_default().add(more),
            Value::Set(set) => sets.entry(name).or_default().extend(set.iter()),
        }
    }
    object(out, |object| {
        for (name, value) in &scalars {
            // Sums of thousandths, rounded to what they are.
            object.number(name, (value * 1000.0).round() / 1000.0);
        }
        for (name, value) in &ranges {
            object.text(name, &ranges_text(value));
        }
        for (name, items) in &sets {
            object.text(name, &format!("{{{}}}", items.join(", ")));
        }
    });
}

fn ranges_text(ranges: &Ranges) -> String {
    let ranges: Vec<String> = ranges.iter().map(|(begin, end)| format!("{begin}-{end}")).collect();
    format!("[{}]", ranges.join(", "))
}

pub fn of_messages(out: &mut Vec<u8>, messages: &[v1::Resource]) {
    resources(out, &Resources::from_proto(messages).unwrap_or_default());
}

/// `{"cpus":1.0}`: only what there is.
pub fn quantities(out: &mut Vec<u8>, quantities: &Quantities) {
    object(out, |object| {
        for (name, amount) in quantities.iter() {
            object.number(name.as_str(), amount.to_f64());
        }
    });
}

pub fn scalars(out: &mut Vec<u8>, scalars: &BTreeMap<String, v1::value::Scalar>) {
    object(out, |object| {
        for (name, scalar) in scalars {
            // An unlimited amount; Mesos writes what is no JSON.
            match scalar.value.is_finite() {
                true => object.number(name, scalar.value),
                false => object.text(name, "Infinity"),
            };
        }
    });
}

pub fn attributes(out: &mut Vec<u8>, messages: &[v1::Attribute]) {
    let attributes = Attributes::from_proto(messages).unwrap_or_default();
    object(out, |object| {
        for message in attributes.to_proto() {
            let name = &message.name;
            if let Some(scalar) = &message.scalar {
                object.number(name, scalar.value);
            } else if let Some(ranges) = &message.ranges {
                let pairs = ranges.range.iter().map(|range| (range.begin, range.end));
                object.text(name, &ranges_text(&Ranges::from_pairs(pairs).unwrap_or_default()));
            } else if let Some(set) = &message.set {
                object.text(name, &format!("{{{}}}", set.item.join(", ")));
            } else if let Some(value) = &message.text {
                object.text(name, &value.value);
            }
        }
    });
}

/// With `role` and `reservation` beside `reservations` where the older format can say it: readers know either.
pub fn endpoint(resources: &Resources) -> Vec<v1::Resource> {
    resources.iter().map(endpoint_resource).collect()
}

/// As [`endpoint`], one of them.
#[expect(deprecated, reason = "the older format is what some readers understand")]
pub fn endpoint_resource(resource: &Resource) -> v1::Resource {
    let mut message = resource.to_proto();
    if resource.reservations.is_empty() {
        message.role = Some(UNRESERVED_ROLE.to_owned());
    } else if let Some(older) = resource.to_proto_unrefined() {
        message.role = older.role;
        message.reservation = older.reservation;
    }
    message
}

/// `[{"name":"cpus",…}]`: nothing left out.
pub fn full(out: &mut Vec<u8>, resources: &Resources) {
    list(out, endpoint(resources), |out, resource| out.extend(json::to_vec(&resource)));
}

/// By role: those that are reserved.
pub fn by_role(
    object: &mut Object<'_>,
    name: &str,
    total: &Resources,
    write: impl Fn(&mut Vec<u8>, &Resources),
) {
    let roles: BTreeSet<&str> = total.iter().filter_map(Resource::reservation_role).collect();
    object.object(name, |object| {
        for role in roles {
            object.field(role, |out| write(out, &total.reserved(role)));
        }
    });
}
