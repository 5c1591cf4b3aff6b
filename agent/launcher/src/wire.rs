//! The messages between agent and launcher, in protobuf's encoding: an old launcher and a new agent
//! meet at every upgrade, so fields are only ever added.
//!
//! They are declared here instead of in `proto/` so that the launcher links nothing else; nobody
//! but [`LauncherClient`](crate::LauncherClient) speaks them. Descriptors travel beside a request,
//! in this order for `Launch`: working directory, stdin, stdout, stderr, exit file, then one
//! `cgroup.procs` for each cgroup to join.

/// Descriptors of a launch in front of those of its cgroups.
pub const FIXED_DESCRIPTORS: usize = 5;

/// Descriptors of an `Enter` in front of those of its cgroups: the process to join, stdin, the report socket.
pub const ENTER_DESCRIPTORS: usize = 3;

/// Most cgroups that a container joins: v1 has a dozen controllers.
pub const MAX_CGROUPS: usize = 16;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Chosen by the client; the reply carries it.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(oneof = "Call", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub call: Option<Call>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Call {
    #[prost(message, tag = "2")]
    Launch(LaunchCall),
    #[prost(message, tag = "3")]
    List(Empty),
    #[prost(message, tag = "4")]
    Forget(ContainerCall),
    #[prost(message, tag = "5")]
    Signal(ContainerCall),
    #[prost(message, tag = "6")]
    Kill(ContainerCall),
    #[prost(message, tag = "7")]
    Shutdown(Empty),
    #[prost(message, tag = "8")]
    Hello(Empty),
    /// The new program comes as the one descriptor; it answers in the old one's place.
    #[prost(message, tag = "9")]
    Upgrade(Empty),
    /// A command beside a container's; launchers of before refuse it as nothing that they know.
    #[prost(message, tag = "10")]
    Enter(EnterCall),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LaunchCall {
    #[prost(string, tag = "1")]
    pub container: String,
    #[prost(bytes = "vec", tag = "2")]
    pub program: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub arguments: Vec<Vec<u8>>,
    /// `NAME=value`.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub environment: Vec<Vec<u8>>,
    #[prost(uint32, tag = "5")]
    pub uid: u32,
    #[prost(uint32, tag = "6")]
    pub gid: u32,
    #[prost(uint32, repeated, tag = "7")]
    pub groups: Vec<u32>,
    #[prost(bool, tag = "8")]
    pub pid_namespace: bool,
    #[prost(bool, tag = "9")]
    pub mount_namespace: bool,
    #[prost(bool, tag = "10")]
    pub ipc_namespace: bool,
    #[prost(bool, tag = "11")]
    pub uts_namespace: bool,
    #[prost(string, optional, tag = "12")]
    pub hostname: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct EnterCall {
    #[prost(bytes = "vec", tag = "1")]
    pub program: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub arguments: Vec<Vec<u8>>,
    /// `NAME=value`.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub environment: Vec<Vec<u8>>,
    #[prost(uint32, tag = "4")]
    pub uid: u32,
    #[prost(uint32, tag = "5")]
    pub gid: u32,
    #[prost(uint32, repeated, tag = "6")]
    pub groups: Vec<u32>,
    /// Absolute, inside.
    #[prost(bytes = "vec", tag = "7")]
    pub directory: Vec<u8>,
    /// A file in it; empty for none.
    #[prost(bytes = "vec", tag = "8")]
    pub output: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerCall {
    #[prost(string, tag = "1")]
    pub container: String,
    /// Of `Signal` only.
    #[prost(int32, tag = "2")]
    pub signal: i32,
}

/// What the launcher sends: replies to the one who asked, events to everybody.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Notice {
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Body {
    #[prost(message, tag = "1")]
    Done(Done),
    #[prost(message, tag = "2")]
    Refused(Refused),
    #[prost(message, tag = "3")]
    Listing(Listing),
    #[prost(message, tag = "4")]
    Started(Record),
    #[prost(message, tag = "5")]
    LaunchFailed(Record),
    #[prost(message, tag = "6")]
    Exited(Record),
    #[prost(message, tag = "7")]
    Hello(Hello),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Done {
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// Of `Launch`: the pid of the container's first process; else 0.
    #[prost(int32, tag = "2")]
    pub pid: i32,
}

/// Who answers.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Hello {
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// Of the state that it would leave for a successor.
    #[prost(uint32, tag = "3")]
    pub format: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Refused {
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(enumeration = "RefusalCode", tag = "2")]
    pub code: i32,
    /// 0 where no system call was involved.
    #[prost(int32, tag = "3")]
    pub errno: i32,
    #[prost(string, tag = "4")]
    pub message: String,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum RefusalCode {
    /// A code that this version does not know.
    Unspecified = 0,
    /// The request itself is wrong.
    Invalid = 1,
    /// A container of this id exists, live or not yet forgotten.
    Exists = 2,
    /// No container has this id.
    Unknown = 3,
    /// A limit of the launcher is reached.
    Full = 4,
    /// The container, or any, still runs.
    Running = 5,
    /// The container has ended already.
    Ended = 6,
    /// A system call failed; see the errno.
    Failed = 7,
}

/// One part of the answer to `List`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Listing {
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(message, repeated, tag = "2")]
    pub containers: Vec<Record>,
    /// No part follows.
    #[prost(bool, tag = "3")]
    pub last: bool,
}

/// A container and where it stands.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Record {
    #[prost(string, tag = "1")]
    pub container: String,
    #[prost(enumeration = "State", tag = "2")]
    pub state: i32,
    #[prost(int32, tag = "3")]
    pub pid: i32,
    #[prost(uint64, tag = "4")]
    pub start_time_ticks: u64,
    /// Of `Exited`: the raw wait status. Of `Failed` where the process died unasked: likewise.
    #[prost(int32, optional, tag = "5")]
    pub status: Option<i32>,
    /// Of `Exited`: the status is the command's own, read from the exit file.
    #[prost(bool, tag = "6")]
    pub recorded: bool,
    #[prost(uint32, tag = "7")]
    pub step: u32,
    #[prost(uint32, tag = "8")]
    pub index: u32,
    #[prost(int32, tag = "9")]
    pub errno: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum State {
    Unspecified = 0,
    Launching = 1,
    Running = 2,
    Failed = 3,
    Exited = 4,
}
