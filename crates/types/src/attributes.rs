//! Attributes: what an operator says about an agent, for frameworks to choose by.

use std::fmt;
use std::sync::Arc;

use mezzo_proto::json::{self, JsonError};
use mezzo_proto::v1;
use mezzo_proto::v1::value as wire_value;

use crate::message::{read_ranges, write_ranges};
use crate::syntax::{Literal, Span, SyntaxError, literal};
use crate::{Ranges, Scalar};

/// Attributes in the order given; a name may appear more than once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<Attribute>);

/// One name and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: Arc<str>,
    pub value: AttributeValue,
}

/// Attributes are numbers, ranges or texts; unlike resources they are not sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    Scalar(Scalar),
    Ranges(Ranges),
    Text(Arc<str>),
}

/// An attribute message that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attribute {} (`{name}`): {fault}", .index + 1)]
pub struct AttributeError {
    /// Position in the list, from 0.
    pub index: usize,
    pub name: String,
    pub fault: AttributeFault,
}

/// The rule it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeFault {
    #[error("it has no name")]
    NoName,
    #[error("its type is {0}; attributes are SCALAR, RANGES or TEXT")]
    Type(String),
    #[error("its type is {kind} but it has no `{field}`")]
    NoValue { kind: &'static str, field: &'static str },
    #[error("{0}")]
    Value(String),
}

/// Why a text is not a list of attributes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParseAttributesError {
    #[error("{0}")]
    Syntax(SyntaxError),
    /// `reason` ends with the line and the column.
    #[error("not a JSON array: {reason}")]
    NotJson { reason: String },
    #[error("attribute {} is not an Attribute message: {error}", .index + 1)]
    Message { index: usize, error: JsonError },
    #[error("{0}")]
    Attribute(AttributeError),
}

impl Attributes {
    /// Reads `rack:r1;zone:eu-1;slots:[1-4]` (new lines separate as well as `;`) or a JSON array
    /// of `Attribute` messages. Of a text value the white space around it is dropped, that within
    /// it is kept.
    pub fn parse(text: &str) -> Result<Attributes, ParseAttributesError> {
        if text.trim_start().starts_with('[') {
            return parse_json(text);
        }
        let mut all = Vec::new();
        for entry in Span::new(text).split(|character| matches!(character, ';' | '\n')) {
            let entry = entry.trim();
            if !entry.is_empty() {
                all.push(parse_entry(entry).map_err(ParseAttributesError::Syntax)?);
            }
        }
        Ok(Attributes(all))
    }

    pub fn from_proto(messages: &[v1::Attribute]) -> Result<Attributes, AttributeError> {
        let read = |(index, message): (usize, &v1::Attribute)| {
            read_message(message).map_err(|fault| AttributeError {
                index,
                name: message.name.clone(),
                fault,
            })
        };
        messages.iter().enumerate().map(read).collect::<Result<_, _>>().map(Attributes)
    }

    pub fn to_proto(&self) -> Vec<v1::Attribute> {
        self.0.iter().map(write_message).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Attribute> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first of that name.
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        self.0.iter().find(|attribute| &*attribute.name == name).map(|attribute| &attribute.value)
    }
}

impl std::str::FromStr for Attributes {
    type Err = ParseAttributesError;

    fn from_str(text: &str) -> Result<Self, ParseAttributesError> {
        Attributes::parse(text)
    }
}

fn parse_entry(entry: Span<'_>) -> Result<Attribute, SyntaxError> {
    let (name, value) = entry.split_once(':').ok_or_else(|| {
        entry.after().expected(format!("`:` and a value after `{}`", entry.text()))
    })?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() {
        return Err(entry.expected("a name before the `:`"));
    }
    if name.text().contains(['(', ')', '[', ']', '{', '}']) {
        return Err(name.expected("a name without brackets"));
    }
    let value = match literal_or_text(value)? {
        Literal::Scalar(scalar) => AttributeValue::Scalar(scalar),
        Literal::Ranges(ranges) => AttributeValue::Ranges(ranges),
        Literal::Text(text) if text.is_empty() => {
            return Err(text.expected(format!("a value of `{}` after the `:`", name.text())));
        }
        Literal::Text(text) => AttributeValue::Text(text.text().into()),
        Literal::Set(_) => {
            return Err(value.expected("a number, ranges or a text; attributes cannot be sets"));
        }
    };
    Ok(Attribute { name: name.text().into(), value })
}

/// Numbers that no amount can be (negative, too small) are texts here.
fn literal_or_text(value: Span<'_>) -> Result<Literal<'_>, SyntaxError> {
    match literal(value) {
        Err(_) if !value.text().starts_with(['[', '{']) => Ok(Literal::Text(value)),
        read => read,
    }
}

fn parse_json(text: &str) -> Result<Attributes, ParseAttributesError> {
    let elements: Vec<serde_json::Value> = serde_json::from_str(text)
        .map_err(|error| ParseAttributesError::NotJson { reason: error.to_string() })?;
    let read = |(index, element): (usize, &serde_json::Value)| {
        json::from_slice(element.to_string().as_bytes())
            .map_err(|error| ParseAttributesError::Message { index, error })
    };
    let messages: Vec<v1::Attribute> =
        elements.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    Attributes::from_proto(&messages).map_err(ParseAttributesError::Attribute)
}

fn read_message(message: &v1::Attribute) -> Result<Attribute, AttributeFault> {
    if message.name.is_empty() {
        return Err(AttributeFault::NoName);
    }
    let kind = wire_value::Type::try_from(message.r#type)
        .map_err(|unknown| AttributeFault::Type(unknown.0.to_string()))?;
    let missing = |field| AttributeFault::NoValue { kind: kind.as_str_name(), field };
    let value = match kind {
        wire_value::Type::Scalar => {
            let value = message.scalar.as_ref().ok_or(missing("scalar"))?.value;
            let scalar = Scalar::from_f64(value)
                .map_err(|error| AttributeFault::Value(format!("its number {value} {error}")))?;
            AttributeValue::Scalar(scalar)
        }
        wire_value::Type::Ranges => {
            let ranges = message.ranges.as_ref().ok_or(missing("ranges"))?;
            let ranges =
                read_ranges(ranges).map_err(|fault| AttributeFault::Value(fault.to_string()))?;
            AttributeValue::Ranges(ranges)
        }
        wire_value::Type::Text => {
            let text = message.text.as_ref().ok_or(missing("text"))?;
            AttributeValue::Text(text.value.as_str().into())
        }
        wire_value::Type::Set => return Err(AttributeFault::Type(kind.as_str_name().to_owned())),
    };
    Ok(Attribute { name: message.name.as_str().into(), value })
}

fn write_message(attribute: &Attribute) -> v1::Attribute {
    let mut message = v1::Attribute { name: attribute.name.to_string(), ..Default::default() };
    match &attribute.value {
        AttributeValue::Scalar(scalar) => {
            message.set_type(wire_value::Type::Scalar);
            message.scalar = Some(wire_value::Scalar { value: scalar.to_f64() });
        }
        AttributeValue::Ranges(ranges) => {
            message.set_type(wire_value::Type::Ranges);
            message.ranges = Some(write_ranges(ranges));
        }
        AttributeValue::Text(text) => {
            message.set_type(wire_value::Type::Text);
            message.text = Some(wire_value::Text { value: text.to_string() });
        }
    }
    message
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttributeValue::Scalar(scalar) => scalar.fmt(f),
            AttributeValue::Ranges(ranges) => ranges.fmt(f),
            AttributeValue::Text(text) => f.write_str(text),
        }
    }
}

/// `rack:r1; slots:[1-4]`.
impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, attribute) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{}:{}", attribute.name, attribute.value)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_ranges_and_texts() {
        let text = "rack: r 1 ;level:10.5\nslots:[1-2,3-4];url:http://x:80;rack:second;t:-1;i:inf;";
        let attributes = Attributes::parse(text).unwrap();
        assert_eq!(
            attributes.to_string(),
            "rack:r 1; level:10.5; slots:[1-4]; url:http://x:80; rack:second; t:-1; i:inf"
        );
        assert_eq!(attributes.get("rack"), Some(&AttributeValue::Text("r 1".into())));
        assert_eq!(
            attributes.get("level"),
            Some(&AttributeValue::Scalar(Scalar::from_thousandths(10_500)))
        );
        assert_eq!(attributes.get("t"), Some(&AttributeValue::Text("-1".into())));
        assert_eq!(attributes.get("none"), None);
        assert_eq!(Attributes::from_proto(&attributes.to_proto()), Ok(attributes));
    }

    #[test]
    fn reads_json() {
        let text = r#"[{"name":"rack","type":"TEXT","text":{"value":"r1"}},{"name":"n","type":"SCALAR","scalar":{"value":2}}]"#;
        assert_eq!(Attributes::parse(text).unwrap().to_string(), "rack:r1; n:2");
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let say = |text: &str| Attributes::parse(text).unwrap_err().to_string();
        assert_eq!(say("rack"), "column 5: expected `:` and a value after `rack`, found nothing");
        assert_eq!(
            say("a:1;rack:"),
            "column 10: expected a value of `rack` after the `:`, found nothing"
        );
        assert_eq!(say(":1"), "column 1: expected a name before the `:`, found `:1`");
        assert_eq!(
            say("a:{x}"),
            "column 3: expected a number, ranges or a text; attributes cannot be sets, found `{x}`"
        );
        assert_eq!(say("a:[1-x]"), "column 6: expected a whole number, found `x`");
        assert_eq!(
            say(r#"[{"name":"a","type":"SET","set":{"item":["x"]}}]"#),
            "attribute 1 (`a`): its type is SET; attributes are SCALAR, RANGES or TEXT"
        );
    }
}
