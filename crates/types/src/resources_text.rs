//! Resources as an operator writes them: `cpus:4;mem(web):2048;ports:[31000-32000]`, or JSON.
//!
//! ```text
//! resources = [ resource ] { ";" [ resource ] }
//! resource  = name [ "(" role ")" ] ":" value
//! value     = number | "[" [ range { "," range } ] "]" | "{" [ item { "," item } ] "}"
//! range     = whole "-" whole
//! ```
//!
//! White space around any part means nothing. A role makes a static reservation. What the text
//! cannot say (disks, volumes) JSON can: an array of `Resource` messages.

use mezzo_proto::json::{self, JsonError};
use mezzo_proto::v1;

use crate::message::ResourceError;
use crate::resource::{Reservations, Resource, ResourceName};
use crate::resources::Resources;
use crate::role::validate_role;
use crate::syntax::{Literal, Span, SyntaxError, literal};
use crate::value::Value;

/// What to show a person whose resources could not be read.
pub const RESOURCES_SYNTAX_HINT: &str = "write e.g. `cpus:4;mem:2048;ports:[31000-32000]`, with `name(role):value` for a static \
     reservation, or a JSON array of Resource messages";

/// Why a text is not a list of resources.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParseResourcesError {
    #[error("{0}")]
    Syntax(SyntaxError),
    /// `reason` ends with the line and the column.
    #[error("not JSON: {reason}")]
    NotJson { reason: String },
    #[error("expected a JSON array of Resource messages, found {found}")]
    NotAnArray { found: &'static str },
    #[error("resource {} is not a Resource message: {error}", .index + 1)]
    Message { index: usize, error: JsonError },
    #[error("{0}")]
    Resource(ResourceError),
}

impl Resources {
    /// Reads the text syntax or, if the text begins like JSON, a JSON array. Resources without a
    /// role get `default_role`: `*`, or the role of a static reservation.
    ///
    /// # Errors
    /// The first thing that is wrong, where it is and what would be right; see
    /// [`RESOURCES_SYNTAX_HINT`] for a line of help to print with it.
    pub fn parse(text: &str, default_role: &str) -> Result<Resources, ParseResourcesError> {
        if text.trim_start().starts_with(['[', '{']) {
            return Resources::parse_json(text, default_role);
        }
        parse_text(text, default_role).map_err(ParseResourcesError::Syntax)
    }

    /// Reads a JSON array of `Resource` messages.
    pub fn parse_json(text: &str, default_role: &str) -> Result<Resources, ParseResourcesError> {
        let mut messages: Vec<v1::Resource> = read_json_array(text)?;
        for message in &mut messages {
            give_role(message, default_role);
        }
        Resources::from_proto(&messages).map_err(ParseResourcesError::Resource)
    }
}

impl std::str::FromStr for Resources {
    type Err = ParseResourcesError;

    fn from_str(text: &str) -> Result<Self, ParseResourcesError> {
        Resources::parse(text, crate::role::UNRESERVED_ROLE)
    }
}

#[expect(deprecated, reason = "the older format is read for as long as operators write it")]
fn give_role(message: &mut v1::Resource, default_role: &str) {
    if message.reservations.is_empty() && message.role.is_none() {
        message.role = Some(default_role.to_owned());
    }
}

fn read_json_array<M: json::JsonMessage>(text: &str) -> Result<Vec<M>, ParseResourcesError> {
    let tree: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| ParseResourcesError::NotJson { reason: error.to_string() })?;
    let elements = match tree {
        serde_json::Value::Array(elements) => elements,
        serde_json::Value::Object(_) => {
            return Err(ParseResourcesError::NotAnArray { found: "an object; put it in [ ]" });
        }
        _ => return Err(ParseResourcesError::NotAnArray { found: "a single value" }),
    };
    let read = |(index, element): (usize, &serde_json::Value)| {
        json::from_slice(element.to_string().as_bytes())
            .map_err(|error| ParseResourcesError::Message { index, error })
    };
    elements.iter().enumerate().map(read).collect()
}

fn parse_text(text: &str, default_role: &str) -> Result<Resources, SyntaxError> {
    let mut all = Resources::new();
    for entry in Span::new(text).split(|character| character == ';') {
        let entry = entry.trim();
        if !entry.is_empty() {
            all.insert(parse_entry(entry, default_role)?);
        }
    }
    Ok(all)
}

fn parse_entry(entry: Span<'_>, default_role: &str) -> Result<Resource, SyntaxError> {
    let (left, right) = entry.split_once(':').ok_or_else(|| {
        entry.after().expected(format!("`:` and a value after `{}`", entry.text()))
    })?;
    let left = left.trim();
    let (name, role) = match left.split_once('(') {
        Some((name, rest)) => (name.trim(), Some(parse_role(rest)?)),
        None => (left, None),
    };
    if name.is_empty() {
        return Err(entry.expected("a name before the `:`"));
    }
    if name.text().contains(|character: char| character.is_whitespace()) {
        return Err(name.expected("a name without white space"));
    }
    if name.text().contains(['(', ')', '[', ']', '{', '}']) {
        return Err(name.expected("a name without brackets"));
    }
    let value = parse_value(name.text(), right.trim())?;
    let mut resource = Resource::new(ResourceName::from(name.text()), value);
    resource.reservations = Reservations::fixed(role.unwrap_or(default_role));
    Ok(resource)
}

/// What follows the opening parenthesis.
fn parse_role(rest: Span<'_>) -> Result<&str, SyntaxError> {
    let (role, after) =
        rest.split_once(')').ok_or_else(|| rest.after().expected("`)` after the role"))?;
    let (role, after) = (role.trim(), after.trim());
    if !after.is_empty() {
        return Err(after.expected("`:` after the role"));
    }
    validate_role(role.text()).map_err(|error| role.expected(format!("a valid role ({error})")))?;
    Ok(role.text())
}

fn parse_value(name: &str, span: Span<'_>) -> Result<Value, SyntaxError> {
    let value = match literal(span)? {
        Literal::Scalar(scalar) => Value::Scalar(scalar),
        Literal::Ranges(ranges) => Value::Ranges(ranges),
        Literal::Set(set) => Value::Set(set),
        Literal::Text(text) => {
            let forgotten = match text.text().contains(':') {
                true => " (are two resources missing a `;` between them?)",
                false => "",
            };
            return Err(text.expected(format!(
                "a number, ranges such as [31000-32000] or a set such as {{a,b}} as the value of `{name}`{forgotten}"
            )));
        }
    };
    match (&value, name) {
        (Value::Scalar(scalar), "gpus") if scalar.thousandths() % 1000 != 0 => {
            Err(span.expected("a whole number of `gpus`"))
        }
        (Value::Scalar(_), _) => Ok(value),
        (_, "cpus" | "mem" | "disk" | "gpus") => {
            Err(span.expected(format!("a number as the value of `{name}`")))
        }
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        Resources::parse(text, "*")
            .map(|resources| resources.to_string())
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refuse(text: &str) -> String {
        match Resources::parse(text, "*") {
            Ok(resources) => panic!("{text} was read as {resources}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn reads_what_operators_write() {
        assert_eq!(
            read("cpus:4;mem:2048;disk:10;ports:[31000-32000]"),
            "cpus:4; disk:10; mem:2048; ports:[31000-32000]"
        );
        assert_eq!(read(" cpus : 0.5 ; ; mem:1e2; "), "cpus:0.5; mem:100");
        assert_eq!(read("cpus:1;cpus:2"), "cpus:3");
        assert_eq!(read("cpus(eng/web):8; cpus:1; cpus(*):1"), "cpus:2; cpus(eng/web):8");
        assert_eq!(read("ports:[ 5-6 , 1 - 2,3-4, 3-9 ];x:[]"), "ports:[1-9]");
        assert_eq!(read("bugs:{ b , a };y:{}"), "bugs:{a,b}");
        assert_eq!(read("cpus:0"), "{}");
        assert_eq!(read(""), "{}");
        assert_eq!(
            Resources::parse("cpus:1;mem(b):2", "a").unwrap().to_string(),
            "cpus(a):1; mem(b):2"
        );
    }

    /// Each sentence says where, what was expected and what was found.
    #[test]
    fn says_what_is_wrong_and_where() {
        let value = "a number, ranges such as [31000-32000] or a set such as {a,b} as the value of";
        let cases = [
            ("cpus:x", format!("column 6: expected {value} `cpus`, found `x`")),
            ("mem:1; cpus: é", format!("column 14: expected {value} `cpus`, found `é`")),
            ("cpus:", format!("column 6: expected {value} `cpus`, found nothing")),
            ("cpus", "column 5: expected `:` and a value after `cpus`, found nothing".into()),
            ("cpus:1 mem:2", format!("column 6: expected {value} `cpus` (are two resources missing a `;` between them?), found `1 mem:2`")),
            (":1", "column 1: expected a name before the `:`, found `:1`".into()),
            ("my cpus:1", "column 1: expected a name without white space, found `my cpus`".into()),
            ("cpus)web):1", "column 1: expected a name without brackets, found `cpus)web)`".into()),
            ("cpus:-1", "column 6: expected an amount that is not negative, found `-1`".into()),
            ("cpus:0.0001", "column 6: expected 0 or at least 0.001 (amounts have three decimals), found `0.0001`".into()),
            ("mem:1e13", "column 5: expected an amount of at most 10^12, found `1e13`".into()),
            ("cpus:inf", format!("column 6: expected {value} `cpus`, found `inf`")),
            ("cpus:nan", format!("column 6: expected {value} `cpus`, found `nan`")),
            ("gpus:0.5", "column 6: expected a whole number of `gpus`, found `0.5`".into()),
            ("cpus:[1-2]", "column 6: expected a number as the value of `cpus`, found `[1-2]`".into()),
            ("cpus(a b):1", "column 6: expected a valid role (role `a b` has the character ' ' at position 2; white space and control characters are not allowed), found `a b`".into()),
            ("cpus(a:1", "column 7: expected `)` after the role, found nothing".into()),
            ("cpus(a)x:1", "column 8: expected `:` after the role, found `x`".into()),
            ("ports:[1-2", "column 11: expected `]` at the end of the ranges, found nothing".into()),
            ("ports:[1-2]3", "column 12: expected nothing after the `]`, found `3`".into()),
            ("ports:[1-2,5]", "column 12: expected a range `BEGIN-END` of whole numbers, found `5`".into()),
            ("ports:[1-2,]", "column 12: expected a range `BEGIN-END` of whole numbers, found nothing".into()),
            ("ports:[2-1]", "column 8: expected a range that does not end before it begins, found `2-1`".into()),
            ("ports:[a-2]", "column 8: expected a whole number, found `a`".into()),
            ("ports:[1-99999999999999999999]", "column 10: expected a whole number of at most 18446744073709551615, found `99999999999999999999`".into()),
            ("s:{a,,b}", "column 6: expected an item between the commas, found nothing".into()),
            ("s:{a,b,a}", "column 8: expected each item of a set once, found `a`".into()),
            ("s:{a", "column 5: expected `}` at the end of the set, found nothing".into()),
        ];
        for (text, sentence) in cases {
            assert_eq!(refuse(text), sentence, "for {text}");
        }
    }

    #[test]
    fn reads_json_with_either_reservation_format() {
        let text = r#"[
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 2}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}, "role": "web"},
            {"name": "disk", "type": "SCALAR", "scalar": {"value": 512},
             "reservations": [{"type": "STATIC", "role": "db"}],
             "disk": {"source": {"type": "MOUNT", "mount": {"root": "/mnt/d1"}}}}
        ]"#;
        assert_eq!(read(text), "cpus:2; disk(db)[mount:/mnt/d1]:512; mem(web):64");
        assert_eq!(
            Resources::parse(text, "x").unwrap().to_string(),
            "cpus(x):2; disk(db)[mount:/mnt/d1]:512; mem(web):64"
        );
        assert_eq!(read("[]"), "{}");
    }

    #[test]
    fn says_what_is_wrong_with_json() {
        assert_eq!(refuse("[}"), "not JSON: expected value at line 1 column 2");
        assert_eq!(
            refuse("{}"),
            "expected a JSON array of Resource messages, found an object; put it in [ ]"
        );
        assert_eq!(
            refuse(
                r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":1}},{"name":"x","type":"SCALAR","scalar":{"value":"y"}}]"#
            ),
            "resource 2 is not a Resource message: field 'scalar.value': expected a number, got the string \"y\""
        );
        assert_eq!(
            refuse(r#"[{"name":"cpus","type":"SCALAR","scalar":{"value":-1}}]"#),
            "resource 1 (`cpus`): its amount is -1; amounts must not be negative"
        );
        assert!(refuse(r#"[{"type":"SCALAR"}]"#).contains("Missing required fields: name"));
    }
}
