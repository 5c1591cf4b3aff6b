//! Messages of Mezzo: Mesos' v1 API, the internal links and the stored records.

/// Mesos' v1 API: common types and, per module, the calls and events of each endpoint.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/", "mezzo.v1", ".rs"));
    pub mod agent { include!(concat!(env!("OUT_DIR"), "/", "mezzo.v1.agent", ".rs")); }
    pub mod allocator { include!(concat!(env!("OUT_DIR"), "/", "mezzo.v1.allocator", ".rs")); }
    pub mod executor { include!(concat!(env!("OUT_DIR"), "/", "mezzo.v1.executor", ".rs")); }
    pub mod maintenance { include!(concat!(env!("OUT_DIR"), "/", "mezzo.v1.maintenance", ".rs")); }
    pub mod master { include!(concat!(env!("OUT_DIR"), "/", "mezzo.v1.master", ".rs")); }
    pub mod quota { include!(concat!(env!("OUT_DIR"), "/", "mezzo.v1.quota", ".rs")); }
    pub mod resource_provider { include!(concat!(env!("OUT_DIR"), "/", "mezzo.v1.resource_provider", ".rs")); }
    pub mod scheduler { include!(concat!(env!("OUT_DIR"), "/", "mezzo.v1.scheduler", ".rs")); }
}
/// Protocols between Mezzo's own processes.
pub mod internal { pub mod v1 { include!(concat!(env!("OUT_DIR"), "/", "mezzo.internal.v1", ".rs")); } }
/// Records in the replicated log and in the stores.
pub mod storage { pub mod v1 { include!(concat!(env!("OUT_DIR"), "/", "mezzo.storage.v1", ".rs")); } }
