//! Names of things, one type each, cheap to clone.

use std::fmt;
use std::sync::Arc;

use mezzo_proto::v1;

macro_rules! string_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn new(value: impl Into<Arc<str>>) -> Self {
                $name(value.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(value: &str) -> Self {
                $name(value.into())
            }
        }

        impl From<String> for $name {
            fn from(value: String) -> Self {
                $name(value.into())
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }
    };
}

macro_rules! flat_id_message {
    ($name:ident) => {
        impl $name {
            pub fn to_proto(&self) -> v1::$name {
                v1::$name { value: self.0.as_ref().to_owned() }
            }
        }

        impl From<&v1::$name> for $name {
            fn from(id: &v1::$name) -> Self {
                $name(id.value.as_str().into())
            }
        }

        impl From<v1::$name> for $name {
            fn from(id: v1::$name) -> Self {
                $name(id.value.into())
            }
        }

        impl From<&$name> for v1::$name {
            fn from(id: &$name) -> Self {
                id.to_proto()
            }
        }

        impl From<$name> for v1::$name {
            fn from(id: $name) -> Self {
                id.to_proto()
            }
        }
    };
}

string_id! {
    /// A framework, for its whole life: it survives fail-overs of its scheduler.
    FrameworkId
}
flat_id_message!(FrameworkId);

string_id! {
    /// An agent's incarnation: kept across restarts, lost with the agent's data directory.
    AgentId
}
flat_id_message!(AgentId);

string_id! {
    /// One offer; never reused.
    OfferId
}
flat_id_message!(OfferId);

string_id! {
    /// A task, unique within its framework while it is known.
    TaskId
}
flat_id_message!(TaskId);

string_id! {
    /// An executor, unique within its framework and agent.
    ExecutorId
}
flat_id_message!(ExecutorId);

string_id! {
    /// One run of a container. A nested container is written after its parent, with a dot:
    /// `outer.inner`; no part contains a dot.
    ContainerId
}

impl ContainerId {
    pub fn to_proto(&self) -> v1::ContainerId {
        let mut parts = self.0.split('.');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(v1::ContainerId { value: first, parent: None }, |parent, part| v1::ContainerId {
            value: part.to_owned(),
            parent: Some(Box::new(parent)),
        })
    }

    /// The container this one is nested in.
    pub fn parent(&self) -> Option<ContainerId> {
        self.0.rsplit_once('.').map(|(parent, _)| parent.into())
    }
}

impl From<&v1::ContainerId> for ContainerId {
    fn from(id: &v1::ContainerId) -> Self {
        let mut parts = vec![id.value.as_str()];
        let mut at = id;
        while let Some(parent) = &at.parent {
            parts.push(&parent.value);
            at = parent;
        }
        parts.reverse();
        ContainerId(parts.join(".").into())
    }
}

impl From<v1::ContainerId> for ContainerId {
    fn from(id: v1::ContainerId) -> Self {
        ContainerId::from(&id)
    }
}

impl From<&ContainerId> for v1::ContainerId {
    fn from(id: &ContainerId) -> Self {
        id.to_proto()
    }
}

impl From<ContainerId> for v1::ContainerId {
    fn from(id: ContainerId) -> Self {
        id.to_proto()
    }
}

/// Why a text cannot be the id of a task, an executor or a framework. Ids become file names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("must not be empty")]
    Empty,
    #[error("is {length} bytes long; at most {ID_MAX_BYTES} are allowed")]
    TooLong { length: usize },
    #[error("`{0}` names a directory; choose another id")]
    Directory(String),
    #[error(
        "`{id}` has the character {character:?} at position {position}; slashes, backslashes and control characters are not allowed"
    )]
    Character { id: String, character: char, position: usize },
}

/// Longest id accepted: the longest file name Linux allows.
pub const ID_MAX_BYTES: usize = 255;

/// Checks an id that a user chose. The error completes a sentence that begins with the field.
pub fn validate_id(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    if id.len() > ID_MAX_BYTES {
        return Err(IdError::TooLong { length: id.len() });
    }
    if id == "." || id == ".." {
        return Err(IdError::Directory(id.to_owned()));
    }
    let bad = |character: char| matches!(character, '/' | '\\') || character.is_control();
    match id.chars().enumerate().find(|&(_, character)| bad(character)) {
        Some((at, character)) => {
            Err(IdError::Character { id: id.to_owned(), character, position: at + 1 })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_pass_through_their_messages() {
        let id = TaskId::from("t-1");
        assert_eq!(TaskId::from(id.to_proto()), id);
        assert_eq!(id, "t-1");
        assert_eq!(format!("{id:>5}|{id:?}"), "  t-1|\"t-1\"");
    }

    #[test]
    fn nested_container_ids_keep_their_chain() {
        let id = ContainerId::from("a.b.c");
        let message = id.to_proto();
        assert_eq!(message.value, "c");
        assert_eq!(message.parent.as_ref().unwrap().value, "b");
        assert_eq!(ContainerId::from(message), id);
        assert_eq!(id.parent(), Some("a.b".into()));
        assert_eq!(ContainerId::from("a").parent(), None);
    }

    #[test]
    fn ids_that_cannot_be_file_names_are_refused() {
        assert_eq!(validate_id("job.1_x-é"), Ok(()));
        let say = |id: &str| validate_id(id).unwrap_err().to_string();
        assert_eq!(say(""), "must not be empty");
        assert_eq!(say(".."), "`..` names a directory; choose another id");
        assert_eq!(
            say("a/b"),
            "`a/b` has the character '/' at position 2; slashes, backslashes and control characters are not allowed"
        );
        assert!(say("x\n").contains(r"'\n' at position 2"));
        assert_eq!(say(&"y".repeat(256)), "is 256 bytes long; at most 255 are allowed");
    }
}
