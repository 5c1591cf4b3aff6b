//! The query of a request's address, `path=%2Fa&offset=5`; forms are written the same way.

/// The first value of a name, decoded; bytes that are no UTF-8 are replaced.
pub fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name).then(|| decoded(value))
    })
}

fn decoded(text: &str) -> String {
    percent_decoded(&text.replace('+', " "))
}

/// `%41` is `A`; what is not well formed stays as it is. Outside of paths `+` is a space, which is not seen to here.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_and_decoded() {
        let query = Some("path=%2Fa+b%2fc&offset=5&empty&bad=%4&worse=%zz%&path=second");
        for (name, expected) in [
            ("path", Some("/a b/c")),
            ("offset", Some("5")),
            ("empty", Some("")),
            ("bad", Some("%4")),
            ("worse", Some("%zz%")),
            ("none", None),
        ] {
            assert_eq!(query_value(query, name).as_deref(), expected, "{name}");
        }
        assert_eq!(query_value(None, "path"), None);
        assert_eq!(percent_decoded("%zz%4%41+"), "%zz%4A+");
    }
}
