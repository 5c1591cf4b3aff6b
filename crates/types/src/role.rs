//! Roles: slash-separated names; `a` is an ancestor of `a/b`.

/// The role of resources that are reserved for nobody.
pub const UNRESERVED_ROLE: &str = "*";

/// Why a text is not a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoleError {
    #[error("role must not be empty; use `*` for resources that are reserved for nobody")]
    Empty,
    #[error("role `{role}` begins with a slash")]
    LeadingSlash { role: String },
    #[error("role `{role}` ends with a slash")]
    TrailingSlash { role: String },
    #[error("role `{role}` has two slashes in a row")]
    DoubleSlash { role: String },
    #[error("role `{role}` has the component `{component}`; `.`, `..` and `*` are reserved")]
    ReservedComponent { role: String, component: String },
    #[error("role `{role}` has the component `{component}`, which begins with a dash")]
    LeadingDash { role: String, component: String },
    #[error(
        "role `{role}` has the character {character:?} at position {position}; white space and control characters are not allowed"
    )]
    Character { role: String, character: char, position: usize },
}

/// Checks the syntax of a role; `*` alone is a role.
pub fn validate_role(role: &str) -> Result<(), RoleError> {
    let owned = || role.to_owned();
    if role == UNRESERVED_ROLE {
        return Ok(());
    }
    if role.is_empty() {
        return Err(RoleError::Empty);
    }
    if role.starts_with('/') {
        return Err(RoleError::LeadingSlash { role: owned() });
    }
    if role.ends_with('/') {
        return Err(RoleError::TrailingSlash { role: owned() });
    }
    let refused = |character: char| character.is_whitespace() || character.is_control();
    if let Some((at, character)) =
        role.chars().enumerate().find(|&(_, character)| refused(character))
    {
        return Err(RoleError::Character { role: owned(), character, position: at + 1 });
    }
    for component in role.split('/') {
        if component.is_empty() {
            return Err(RoleError::DoubleSlash { role: owned() });
        }
        if matches!(component, "." | ".." | "*") {
            return Err(RoleError::ReservedComponent {
                role: owned(),
                component: component.into(),
            });
        }
        if component.starts_with('-') {
            return Err(RoleError::LeadingDash { role: owned(), component: component.into() });
        }
    }
    Ok(())
}

/// Whether `role` lies strictly below `ancestor`: `a/b` below `a`.
pub fn is_strict_subrole(role: &str, ancestor: &str) -> bool {
    role.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether `role` is `ancestor` or lies below it.
pub fn is_same_or_subrole(role: &str, ancestor: &str) -> bool {
    role == ancestor || is_strict_subrole(role, ancestor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_its_sentence() {
        for role in ["*", "web", "eng/web", "a.b", "x-", "a/b/c/d"] {
            assert_eq!(validate_role(role), Ok(()), "{role}");
        }
        let refused = [
            ("", "role must not be empty; use `*` for resources that are reserved for nobody"),
            ("/a", "role `/a` begins with a slash"),
            ("a/", "role `a/` ends with a slash"),
            ("a//b", "role `a//b` has two slashes in a row"),
            (".", "role `.` has the component `.`; `.`, `..` and `*` are reserved"),
            ("a/..", "role `a/..` has the component `..`; `.`, `..` and `*` are reserved"),
            ("a/*", "role `a/*` has the component `*`; `.`, `..` and `*` are reserved"),
            ("-a", "role `-a` has the component `-a`, which begins with a dash"),
            ("a/-b", "role `a/-b` has the component `-b`, which begins with a dash"),
            (
                "a b",
                "role `a b` has the character ' ' at position 2; white space and control characters are not allowed",
            ),
            (
                "a\u{8}",
                "role `a\u{8}` has the character '\\u{8}' at position 2; white space and control characters are not allowed",
            ),
        ];
        for (role, sentence) in refused {
            assert_eq!(validate_role(role).unwrap_err().to_string(), sentence);
        }
    }

    #[test]
    fn ancestors_are_whole_components() {
        assert!(is_strict_subrole("a/b", "a"));
        assert!(is_strict_subrole("a/b/c", "a"));
        assert!(!is_strict_subrole("ab", "a"));
        assert!(!is_strict_subrole("a", "a"));
        assert!(is_same_or_subrole("a", "a"));
        assert!(!is_same_or_subrole("a", "a/b"));
    }
}
