//! The tree of roles, with the frameworks as its leaves.
//!
//! ```text
//! root ─┬─ role `eng` ─┬─ role `eng/web` ── own ─┬─ framework A in `eng/web`
//!       │              │                         └─ framework B in `eng/web`
//!       │              └─ own ── framework C in `eng`
//!       └─ role `ops` ── own ── framework A in `ops`
//! ```
//!
//! Frameworks of an inner role hang below its `own` node, which competes with the role's children
//! as one more of them, with weight 1. Every node counts what its subtree holds, and keeps its
//! *live* children (those with somebody below who wants offers) in the order in which they are
//! served: the smallest share first, then whoever was served less often, then the name. A change
//! re-files one node per level; only a change of the cluster's total re-files all, once, before
//! the next pass.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use mezzo_types::{FrameworkId, Quantities};

use super::check::require;
use super::share::{Share, Tally, Weight};
use crate::Violation;

/// A node, numbered in the order of creation; numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u64);

impl NodeId {
    pub(super) const FIRST: NodeId = NodeId(0);
    pub(super) const LAST: NodeId = NodeId(u64::MAX);
}

const ROOT: NodeId = NodeId::FIRST;

/// A leaf of the tree: one framework in one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) framework: FrameworkId,
    pub(super) role: String,
}

/// The place among the siblings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    share: Share,
    served: u64,
    name: String,
}

enum Kind {
    /// Also the root, whose path is empty.
    Role {
        path: String,
        own: Option<NodeId>,
    },
    Own,
    Client(Client),
}

struct Node {
    kind: Kind,
    parent: NodeId,
    /// Its name among its siblings.
    name: String,
    weight: Weight,
    /// What the subtree holds.
    held: Tally,
    /// How often `allocate` served somebody of the subtree.
    served: u64,
    /// Children of any kind, live or not.
    children: u64,
    /// The live ones, in order.
    order: BTreeSet<(Rank, NodeId)>,
    /// For a client: it wants offers.
    willing: bool,
    /// Under which rank the parent has filed this node; `None` when it is not live.
    filed: Option<Rank>,
}

impl Node {
    fn is_live(&self) -> bool {
        self.willing || !self.order.is_empty()
    }
}

/// See the module.
pub(super) struct RoleTree {
    nodes: BTreeMap<NodeId, Node>,
    next: u64,
    roles: BTreeMap<String, NodeId>,
    clients: BTreeMap<(FrameworkId, String), NodeId>,
    weights: BTreeMap<String, Weight>,
    total: Tally,
    excluded: BTreeSet<String>,
    /// The total changed since the ranks were computed.
    stale: bool,
}

impl RoleTree {
    pub(super) fn new(excluded: BTreeSet<String>) -> Self {
        let mut tree = RoleTree {
            nodes: BTreeMap::new(),
            next: 0,
            roles: BTreeMap::new(),
            clients: BTreeMap::new(),
            weights: BTreeMap::new(),
            total: Tally::default(),
            excluded,
            stale: false,
        };
        let kind = Kind::Role { path: String::new(), own: None };
        let root = tree.insert(kind, ROOT, String::new(), Weight::default());
        tree.roles.insert(String::new(), root);
        tree
    }

    /// The client's node, made if need be.
    pub(super) fn client(&mut self, framework: &FrameworkId, role: &str) -> NodeId {
        let key = (framework.clone(), role.to_owned());
        if let Some(node) = self.clients.get(&key) {
            return *node;
        }
        let parent = self.role(role);
        let own = self.own(parent);
        let client = Client { framework: framework.clone(), role: role.to_owned() };
        let name = framework.as_ref().to_owned();
        let node = self.insert(Kind::Client(client), own, name, Weight::default());
        self.clients.insert(key, node);
        node
    }

    pub(super) fn find(&self, framework: &FrameworkId, role: &str) -> Option<NodeId> {
        self.clients.get(&(framework.clone(), role.to_owned())).copied()
    }

    /// Who the node stands for.
    pub(super) fn who(&self, node: NodeId) -> Option<&Client> {
        match &self.nodes.get(&node)?.kind {
            Kind::Client(client) => Some(client),
            Kind::Role { .. } | Kind::Own => None,
        }
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.clients.values().copied()
    }

    /// Forgets a client that wants nothing and holds nothing, and roles that are empty then.
    pub(super) fn prune(&mut self, client: NodeId) {
        let mut node = client;
        while node != ROOT {
            let Some(here) = self.nodes.get(&node) else { return };
            if here.children > 0 || here.willing || !here.held.is_zero() {
                return;
            }
            let parent = here.parent;
            self.unfile(node);
            let Some(gone) = self.nodes.remove(&node) else { return };
            match gone.kind {
                Kind::Role { path, .. } => {
                    self.roles.remove(&path);
                }
                Kind::Client(client) => {
                    self.clients.remove(&(client.framework, client.role));
                }
                Kind::Own => self.set_own(parent, None),
            }
            if let Some(above) = self.nodes.get_mut(&parent) {
                above.children -= 1;
            }
            node = parent;
        }
    }

    /// Whether the client takes part in the next passes.
    pub(super) fn set_willing(&mut self, client: NodeId, willing: bool) {
        if let Some(node) = self.nodes.get_mut(&client) {
            node.willing = willing;
        }
        self.file_up(client);
    }

    pub(super) fn set_weight(&mut self, role: &str, weight: Weight) {
        self.weights.insert(role.to_owned(), weight);
        if let Some(id) = self.roles.get(role).copied() {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.weight = weight;
            }
            self.file_up(id);
        }
    }

    /// Counts what the client got, or was found to have.
    pub(super) fn charge(&mut self, client: NodeId, held: &Quantities) {
        self.walk_up(client, |node| node.held.add(held));
    }

    /// Counts that `allocate` served the client.
    pub(super) fn serve(&mut self, client: NodeId, held: &Quantities) {
        self.walk_up(client, |node| {
            node.held.add(held);
            node.served += 1;
        });
    }

    /// Counts what the client gave back.
    pub(super) fn discharge(&mut self, client: NodeId, held: &Quantities) {
        self.walk_up(client, |node| node.held.subtract(held));
    }

    pub(super) fn grow(&mut self, quantities: &Quantities) {
        self.total.add(quantities);
        self.stale = true;
    }

    pub(super) fn shrink(&mut self, quantities: &Quantities) {
        self.total.subtract(quantities);
        self.stale = true;
    }

    /// Brings all ranks up to date with the cluster's total.
    pub(super) fn refresh(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.file(id);
        }
    }

    /// Visits the willing clients in the order in which they are served.
    pub(super) fn visit<B>(
        &self,
        mut with: impl FnMut(NodeId, &Client) -> ControlFlow<B>,
    ) -> Option<B> {
        // One iterator per level, as many as a role's path has components.
        let mut levels = Vec::from_iter(self.nodes.get(&ROOT).map(|root| root.order.iter()));
        while let Some(level) = levels.last_mut() {
            let Some((_, id)) = level.next() else {
                levels.pop();
                continue;
            };
            let Some(node) = self.nodes.get(id) else { continue };
            match &node.kind {
                Kind::Client(client) => {
                    if let ControlFlow::Break(found) = with(*id, client) {
                        return Some(found);
                    }
                }
                Kind::Role { .. } | Kind::Own => levels.push(node.order.iter()),
            }
        }
        None
    }

    pub(super) fn held(&self, node: NodeId) -> Option<&Tally> {
        self.nodes.get(&node).map(|node| &node.held)
    }

    pub(super) fn total(&self) -> &Tally {
        &self.total
    }

    /// Every node counts what its children do, and is filed where it belongs.
    pub(super) fn check(&self) -> Result<(), Violation> {
        for (id, node) in &self.nodes {
            let below = self.nodes.iter().filter(|(below, n)| n.parent == *id && **below != *id);
            let (mut children, mut held, mut order) = (0, Tally::default(), BTreeSet::new());
            for (below, child) in below {
                children += 1;
                held.merge(&child.held);
                order.extend(child.filed.clone().map(|rank| (rank, *below)));
            }
            let name = &node.name;
            require(node.children == children, "children-are-counted", || {
                format!("`{name}` has {children}, counts {}", node.children)
            })?;
            require(node.order == order, "live-children-are-filed", || {
                format!("`{name}` should list {order:?}, lists {:?}", node.order)
            })?;
            let is_client = matches!(node.kind, Kind::Client(_));
            require(is_client || node.held == held, "held-adds-up", || {
                format!("below `{name}` {held:?} is held, it counts {:?}", node.held)
            })?;
            let rank = (node.is_live() && *id != ROOT).then(|| self.rank(node));
            // Between a change of the total and the next pass the shares are those of before.
            let live = rank.is_some() == node.filed.is_some();
            require(live && (self.stale || rank == node.filed), "filed-by-rank", || {
                format!("`{name}` should be {rank:?}, is {:?}", node.filed)
            })?;
        }
        Ok(())
    }

    /// The node of a role, made if need be with those above it.
    fn role(&mut self, path: &str) -> NodeId {
        if let Some(node) = self.roles.get(path) {
            return *node;
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.role(above);
        let weight = self.weights.get(path).copied().unwrap_or_default();
        let kind = Kind::Role { path: path.to_owned(), own: None };
        let node = self.insert(kind, parent, name.to_owned(), weight);
        self.roles.insert(path.to_owned(), node);
        node
    }

    /// The node of the role's own frameworks, made if need be.
    fn own(&mut self, role: NodeId) -> NodeId {
        if let Some(Node { kind: Kind::Role { own: Some(own), .. }, .. }) = self.nodes.get(&role) {
            return *own;
        }
        // `.` is no role's name, so that it clashes with no child.
        let made = self.insert(Kind::Own, role, ".".to_owned(), Weight::default());
        self.set_own(role, Some(made));
        made
    }

    fn set_own(&mut self, role: NodeId, to: Option<NodeId>) {
        if let Some(Node { kind: Kind::Role { own, .. }, .. }) = self.nodes.get_mut(&role) {
            *own = to;
        }
    }

    fn insert(&mut self, kind: Kind, parent: NodeId, name: String, weight: Weight) -> NodeId {
        let id = NodeId(self.next);
        self.next += 1;
        if let Some(above) = self.nodes.get_mut(&parent) {
            above.children += 1;
        }
        let node = Node {
            kind,
            parent,
            name,
            weight,
            held: Tally::default(),
            served: 0,
            children: 0,
            order: BTreeSet::new(),
            willing: false,
            filed: None,
        };
        self.nodes.insert(id, node);
        id
    }

    fn walk_up(&mut self, from: NodeId, mut change: impl FnMut(&mut Node)) {
        let mut id = from;
        while let Some(node) = self.nodes.get_mut(&id) {
            change(node);
            let parent = node.parent;
            self.file(id);
            if id == ROOT {
                break;
            }
            id = parent;
        }
    }

    fn file_up(&mut self, from: NodeId) {
        self.walk_up(from, |_| {});
    }

    /// Puts the node where it belongs among its siblings, or takes it out when it is not live.
    fn file(&mut self, id: NodeId) {
        if id == ROOT {
            return;
        }
        self.unfile(id);
        let Some(node) = self.nodes.get(&id) else { return };
        if !node.is_live() {
            return;
        }
        let rank = self.rank(node);
        let parent = node.parent;
        if let Some(node) = self.nodes.get_mut(&id) {
            node.filed = Some(rank.clone());
        }
        if let Some(above) = self.nodes.get_mut(&parent) {
            above.order.insert((rank, id));
        }
    }

    fn rank(&self, node: &Node) -> Rank {
        let share = node.held.share(&self.total, node.weight, &self.excluded);
        Rank { share, served: node.served, name: node.name.clone() }
    }

    fn unfile(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(rank) = node.filed.take() else { return };
        let parent = node.parent;
        if let Some(above) = self.nodes.get_mut(&parent) {
            above.order.remove(&(rank, id));
        }
    }
}
