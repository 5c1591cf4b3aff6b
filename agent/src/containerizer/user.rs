//! Users by name, looked up by the agent: the launcher knows numbers only.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getgrouplist};

/// Whom a task runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// All of the user's groups, `gid` among them.
    pub groups: Vec<u32>,
    /// "/" when the user has none.
    pub home: String,
}

#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("the task has no user; set user in its CommandInfo, or in the FrameworkInfo")]
    Empty,
    #[error(
        "user '{name}' does not exist on this agent; create it there, or name another one in CommandInfo.user or FrameworkInfo.user"
    )]
    Unknown { name: String },
    #[error("user '{name}' could not be looked up")]
    Lookup {
        name: String,
        #[source]
        source: Errno,
    },
}

impl User {
    /// Asks the name service; may block.
    pub fn find(name: &str) -> Result<Self, UserError> {
        if name.is_empty() {
            return Err(UserError::Empty);
        }
        let unknown = || UserError::Unknown { name: name.to_owned() };
        let failed = |source| UserError::Lookup { name: name.to_owned(), source };
        let c_name = CString::new(name).map_err(|_| unknown())?;
        let found = nix::unistd::User::from_name(name).map_err(failed)?.ok_or_else(unknown)?;
        let groups = getgrouplist(&c_name, found.gid).map_err(failed)?;
        let home = found.dir.to_str().filter(|home| !home.is_empty()).unwrap_or("/");
        Ok(User {
            name: name.to_owned(),
            uid: Uid::as_raw(found.uid),
            gid: Gid::as_raw(found.gid),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            home: home.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_with_their_groups() {
        let root = User::find("root").expect("root exists");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        let nobody = User::find("nobody").expect("nobody exists");
        assert!(nobody.uid > 0 && nobody.groups.contains(&nobody.gid));
        let unknown = User::find("no-such-user-here").expect_err("unknown").to_string();
        assert!(unknown.starts_with("user 'no-such-user-here' does not exist on this agent"));
        assert!(matches!(User::find(""), Err(UserError::Empty)));
        assert!(matches!(User::find("a\0b"), Err(UserError::Unknown { .. })));
    }
}
