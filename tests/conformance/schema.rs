//! No field of Mesos is missing, none means something else, and what is added is out of Mesos' way.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

const FIELDS: &str = include_str!("schema/fields.tsv");
const VALUES: &str = include_str!("schema/values.tsv");
const ADDITIONS: &str = include_str!("schema/additions.tsv");

/// Mesos' numbers stay below; ours begin here.
const FIRST_OWN_NUMBER: i32 = 10_001;

/// Lines of the two tables, in the order of declaration.
#[derive(Default)]
struct Tables {
    fields: Vec<String>,
    values: Vec<String>,
}

impl Tables {
    fn of_mezzo() -> Self {
        let set = FileDescriptorSet::decode(mezzo_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
        let mut tables = Self::default();
        for file in set.file.iter().filter(|file| file.package().starts_with("mezzo.v1")) {
            let scope = theirs(file.package());
            file.message_type.iter().for_each(|message| tables.message(message, &scope));
            file.enum_type.iter().for_each(|value| tables.enumeration(value, &scope));
        }
        tables
    }

    fn of_mesos() -> Self {
        let lines = |table: &str| table.lines().skip(1).map(str::to_owned).collect();
        Self { fields: lines(FIELDS), values: lines(VALUES) }
    }

    fn message(&mut self, message: &DescriptorProto, scope: &str) {
        let name = format!("{scope}.{}", message.name());
        if message.field.is_empty() {
            self.fields.push(format!("{name}\t\t\t\t\t\t\t"));
        }
        self.fields.extend(message.field.iter().map(|field| line(field, message, &name)));
        message.enum_type.iter().for_each(|value| self.enumeration(value, &name));
        message.nested_type.iter().for_each(|nested| self.message(nested, &name));
    }

    fn enumeration(&mut self, of: &EnumDescriptorProto, scope: &str) {
        for value in &of.value {
            self.values.push(format!(
                "{scope}.{}\t{}\t{}",
                of.name(),
                value.number(),
                value.name()
            ));
        }
    }
}

/// Mesos' name for something of ours.
fn theirs(name: &str) -> String {
    let name = name.trim_start_matches('.');
    name.strip_prefix("mezzo.v1").map_or(name.to_owned(), |rest| format!("mesos.v1{rest}"))
}

fn line(field: &FieldDescriptorProto, of: &DescriptorProto, name: &str) -> String {
    let label = match field.label() {
        Label::Optional => "optional",
        Label::Required => "required",
        Label::Repeated => "repeated",
    };
    let kind = match field.r#type() {
        Type::Message => format!("message {}", theirs(field.type_name())),
        Type::Enum => format!("enum {}", theirs(field.type_name())),
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    let oneof = field.oneof_index.and_then(|index| of.oneof_decl.get(index as usize));
    let options = field.options.as_ref();
    let options: Vec<&str> = [
        options.is_some_and(|o| o.deprecated()).then_some("deprecated"),
        options.is_some_and(|o| o.packed()).then_some("packed"),
    ]
    .into_iter()
    .flatten()
    .collect();
    [
        name,
        &field.number().to_string(),
        field.name(),
        label,
        &kind,
        field.default_value(),
        oneof.map_or("", |oneof| oneof.name()),
        &options.join(","),
    ]
    .join("\t")
}

/// What is in `these` and not in `those`.
fn without<'a>(these: &'a [String], those: &[String]) -> Vec<&'a str> {
    let those: BTreeSet<&String> = those.iter().collect();
    these.iter().filter(|line| !those.contains(line)).map(String::as_str).collect()
}

#[test]
fn nothing_of_mesos_is_missing_or_means_something_else() {
    let (mesos, mezzo) = (Tables::of_mesos(), Tables::of_mezzo());
    assert!(mesos.fields.len() > 1200 && mesos.values.len() > 400, "the tables are not whole");
    let missing: Vec<&str> = without(&mesos.fields, &mezzo.fields)
        .into_iter()
        .chain(without(&mesos.values, &mezzo.values))
        .collect();
    assert!(missing.is_empty(), "missing or different:\n{}", missing.join("\n"));
}

#[test]
fn what_is_added_is_listed_and_out_of_the_way() {
    let (mesos, mezzo) = (Tables::of_mesos(), Tables::of_mezzo());
    let mut added = without(&mezzo.fields, &mesos.fields);
    added.extend(without(&mezzo.values, &mesos.values));
    let names = |lines: &[String]| -> BTreeSet<String> {
        lines.iter().filter_map(|line| line.split('\t').next()).map(str::to_owned).collect()
    };
    let known = &names(&mesos.fields) | &names(&mesos.values);
    // Messages of our own, for what Mesos has no call for, are in nobody's way.
    added.retain(|line| line.split('\t').next().is_some_and(|owner| known.contains(owner)));
    for line in &added {
        let number = line.split('\t').nth(1).and_then(|number| number.parse::<i32>().ok());
        assert!(number.is_some_and(|n| n >= FIRST_OWN_NUMBER), "it is Mesos' number: {line}");
    }
    let listed: BTreeSet<&str> = ADDITIONS.lines().skip(1).collect();
    let found: BTreeSet<&str> = added.into_iter().collect();
    let unlisted: Vec<&&str> = found.difference(&listed).collect();
    let gone: Vec<&&str> = listed.difference(&found).collect();
    assert!(unlisted.is_empty() && gone.is_empty(), "not listed: {unlisted:#?}, gone: {gone:#?}");
}

/// JSON is written in the order of declaration: the same as that of Mesos.
#[test]
fn fields_are_declared_in_the_order_of_mesos() {
    let by_message = |lines: &[String]| {
        let mut orders: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in lines {
            let mut columns = line.split('\t');
            let (message, number) = (columns.next().unwrap_or(""), columns.next().unwrap_or(""));
            if number.parse::<i32>().is_ok_and(|number| number < FIRST_OWN_NUMBER) {
                orders.entry(message.to_owned()).or_default().push(number.to_owned());
            }
        }
        orders
    };
    let (mesos, mezzo) = (Tables::of_mesos(), Tables::of_mezzo());
    let ours = by_message(&mezzo.fields);
    let different: Vec<_> = by_message(&mesos.fields)
        .into_iter()
        .filter(|(message, order)| ours.get(message) != Some(order))
        .map(|(message, order)| format!("{message}: {order:?}, ours: {:?}", ours.get(&message)))
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}
