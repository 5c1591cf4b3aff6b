//! Ids that frameworks choose.

/// Longest id, in bytes: ids become directory names.
const MAX_ID_BYTES: usize = 255;

/// Checks an id that becomes part of a path. `field` names it in the sentence.
pub(crate) fn check(field: &str, value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err(format!("{field} is empty: an id must have at least one character"));
    }
    if value.len() > MAX_ID_BYTES {
        return Err(format!(
            "{field} has {} bytes: an id may have at most {MAX_ID_BYTES}",
            value.len()
        ));
    }
    if value == "." || value == ".." {
        return Err(format!("{field} is '{value}': '.' and '..' are not allowed as an id"));
    }
    if let Some(bad) = value.chars().find(|c| c.is_control() || *c == '/' || *c == '\\') {
        return Err(format!(
            "{field} '{}' contains {bad:?}: an id may not contain '/', '\\' or control characters",
            value.escape_debug()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn each_rule_has_its_sentence() {
        assert_eq!(check("task_id", "web.1"), Ok(()));
        assert_eq!(check("task_id", &"x".repeat(255)), Ok(()));
        let cases = [
            ("", "task_id is empty: an id must have at least one character"),
            ("..", "task_id is '..': '.' and '..' are not allowed as an id"),
            (
                "a/b",
                "task_id 'a/b' contains '/': an id may not contain '/', '\\' or control characters",
            ),
            (
                "a\nb",
                "task_id 'a\\nb' contains '\\n': an id may not contain '/', '\\' or control characters",
            ),
        ];
        for (value, sentence) in cases {
            assert_eq!(check("task_id", value), Err(sentence.to_owned()));
        }
        let long = "x".repeat(256);
        assert_eq!(
            check("task_id", &long),
            Err("task_id has 256 bytes: an id may have at most 255".to_owned())
        );
    }
}
