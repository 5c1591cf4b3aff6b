//! `namespaces`: own process numbers, mounts, System V objects and host name.

use super::{Demand, Isolator, IsolatorError, NamespaceSet, Plan};

/// Asks the launcher for namespaces. The mount namespace comes with the pid one in any case: `/proc` has to match it.
#[derive(Debug)]
pub struct NamespacesIsolator {
    set: NamespaceSet,
}

impl NamespacesIsolator {
    pub fn new(set: NamespaceSet) -> Self {
        NamespacesIsolator { set: NamespaceSet { mount: set.mount || set.pid, ..set } }
    }

    pub fn all() -> Self {
        Self::new(NamespaceSet { pid: true, mount: true, ipc: true, uts: true })
    }
}

impl Isolator for NamespacesIsolator {
    fn name(&self) -> &'static str {
        "namespaces"
    }

    fn prepare(&self, _demand: &Demand, plan: &mut Plan) -> Result<(), IsolatorError> {
        plan.namespaces = self.set;
        Ok(())
    }
}
