//! The text syntax of values, shared by `--resources` and `--attributes`, and its errors.

use std::fmt;

use crate::{ItemSet, Ranges, Scalar};

/// Where a text departs from the syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// In characters, from 1.
    pub column: usize,
    /// The text at that place; empty at the end.
    pub found: String,
    /// What would have been right there.
    pub expected: String,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: expected {}, found ", self.column, self.expected)?;
        match self.found.as_str() {
            "" => f.write_str("nothing"),
            found => write!(f, "`{found}`"),
        }
    }
}

impl std::error::Error for SyntaxError {}

/// A part of a text that knows where in it it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    whole: &'a str,
    start: usize,
    end: usize,
}

impl<'a> Span<'a> {
    pub(crate) fn new(whole: &'a str) -> Span<'a> {
        Span { whole, start: 0, end: whole.len() }
    }

    pub(crate) fn text(self) -> &'a str {
        &self.whole[self.start..self.end]
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start == self.end
    }

    fn cut(self, from: usize, to: usize) -> Span<'a> {
        Span { whole: self.whole, start: self.start + from, end: self.start + to }
    }

    /// Without white space at either end. What is all white space becomes its own end.
    pub(crate) fn trim(self) -> Span<'a> {
        let text = self.text();
        let from = text.len() - text.trim_start().len();
        let length = text.trim().len();
        self.cut(from, from + length)
    }

    /// The parts between separators.
    pub(crate) fn split(self, separator: impl Fn(char) -> bool) -> Vec<Span<'a>> {
        let mut parts = Vec::new();
        let mut from = 0;
        for (at, character) in
            self.text().char_indices().filter(|&(_, character)| separator(character))
        {
            parts.push(self.cut(from, at));
            from = at + character.len_utf8();
        }
        parts.push(self.cut(from, self.text().len()));
        parts
    }

    /// What lies before and after the first such (ASCII) character.
    pub(crate) fn split_once(self, separator: char) -> Option<(Span<'a>, Span<'a>)> {
        let at = self.text().find(separator)?;
        Some((self.cut(0, at), self.cut(at + separator.len_utf8(), self.text().len())))
    }

    /// What lies inside a pair of delimiters that the text begins with.
    fn inside(self, open: char, close: char, what: &str) -> Result<Span<'a>, SyntaxError> {
        let text = self.text();
        if let Some(at) = text.find(close)
            && at + 1 < text.len()
        {
            return Err(self
                .cut(at + 1, text.len())
                .trim()
                .expected(format!("nothing after the `{close}`")));
        }
        match text.strip_suffix(close) {
            Some(_) => Ok(self.cut(open.len_utf8(), text.len() - close.len_utf8())),
            None => Err(self.after().expected(format!("`{close}` at the end of {what}"))),
        }
    }

    /// The empty place behind it.
    pub(crate) fn after(self) -> Span<'a> {
        Span { start: self.end, ..self }
    }

    /// This is not what should be here.
    pub(crate) fn expected(self, expected: impl Into<String>) -> SyntaxError {
        SyntaxError {
            column: self.whole[..self.start].chars().count() + 1,
            found: self.text().to_owned(),
            expected: expected.into(),
        }
    }
}

/// A value that a text may hold.
pub(crate) enum Literal<'a> {
    Scalar(Scalar),
    Ranges(Ranges),
    Set(ItemSet),
    /// Anything else.
    Text(Span<'a>),
}

/// Reads a value: `[` begins ranges, `{` a set, what reads as a number is one.
pub(crate) fn literal(span: Span<'_>) -> Result<Literal<'_>, SyntaxError> {
    let span = span.trim();
    match span.text().as_bytes().first() {
        Some(b'[') => ranges(span).map(Literal::Ranges),
        Some(b'{') => set(span).map(Literal::Set),
        _ => Ok(scalar(span)?.map_or(Literal::Text(span), Literal::Scalar)),
    }
}

/// A number as people write it; infinities and the like are not numbers.
fn scalar(span: Span<'_>) -> Result<Option<Scalar>, SyntaxError> {
    let text = span.text();
    let looks_numeric =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'+' | b'-' | b'e' | b'E');
    if !text.bytes().all(looks_numeric) || !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let Ok(value) = text.parse::<f64>() else {
        return Ok(None);
    };
    let scalar =
        Scalar::from_f64(value).map_err(|_| span.expected("an amount of at most 10^12"))?;
    if value < 0.0 {
        return Err(span.expected("an amount that is not negative"));
    }
    if value != 0.0 && scalar.is_zero() {
        return Err(span.expected("0 or at least 0.001 (amounts have three decimals)"));
    }
    Ok(Some(scalar))
}

const RANGE: &str = "a range `BEGIN-END` of whole numbers";

fn ranges(span: Span<'_>) -> Result<Ranges, SyntaxError> {
    let inside = span.inside('[', ']', "the ranges")?;
    if inside.trim().is_empty() {
        return Ok(Ranges::new());
    }
    let mut pairs = Vec::new();
    for part in inside.split(|character| character == ',') {
        let part = part.trim();
        let (begin, end) = part.split_once('-').ok_or_else(|| part.expected(RANGE))?;
        let (begin, end) = (number(begin)?, number(end)?);
        if begin > end {
            return Err(part.expected("a range that does not end before it begins"));
        }
        pairs.push((begin, end));
    }
    Ranges::from_pairs(pairs).map_err(|error| span.expected(error.to_string()))
}

fn number(span: Span<'_>) -> Result<u64, SyntaxError> {
    let span = span.trim();
    let digits = span.text();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits
            .parse()
            .map_err(|_| span.expected(format!("a whole number of at most {}", u64::MAX)));
    }
    Err(span.expected("a whole number"))
}

fn set(span: Span<'_>) -> Result<ItemSet, SyntaxError> {
    let inside = span.inside('{', '}', "the set")?;
    if inside.trim().is_empty() {
        return Ok(ItemSet::new());
    }
    let mut seen = ItemSet::new();
    for part in inside.split(|character| character == ',') {
        let part = part.trim();
        if part.is_empty() {
            return Err(part.expected("an item between the commas"));
        }
        if seen.contains_item(part.text()) {
            return Err(part.expected("each item of a set once"));
        }
        seen.add(&ItemSet::single(part.text()));
    }
    Ok(seen)
}
