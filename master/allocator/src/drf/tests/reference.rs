//! Progressive filling, written as plainly as it can be said: no tree, no order kept, exact
//! fractions, everything looked at each time.

use std::cmp::Ordering;

use super::*;

/// Dominant share over weight, as a fraction.
type Fraction = (u128, u128);

#[derive(Default)]
pub(super) struct Reference {
    pub(super) weights: BTreeMap<String, u32>,
    /// Whose turn it may be: (role, framework).
    pub(super) clients: BTreeSet<(String, String)>,
    /// In the order of arrival: id, total, left.
    agents: Vec<(String, Resources, Resources)>,
    held: BTreeMap<(String, String), Resources>,
    served: BTreeMap<(String, String), u64>,
}

impl Reference {
    pub(super) fn add_agent(&mut self, id: &str, total: Resources) {
        self.agents.push((id.to_owned(), total.clone(), total));
    }

    pub(super) fn recover(&mut self, role: &str, framework: &str, agent: &str, what: &Resources) {
        let client = (role.to_owned(), framework.to_owned());
        let held = self.held.get_mut(&client).unwrap();
        *held = held.checked_sub(what).unwrap();
        let found = self.agents.iter_mut().find(|(id, _, _)| id == agent).unwrap();
        found.2 += what;
    }

    /// One line per allocation, as [`line`] has them.
    pub(super) fn allocate(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for at in 0..self.agents.len() {
            let (agent, _, left) = self.agents[at].clone();
            let minimum = AllocatorConfig::default().min_allocatable;
            if !minimum.iter().any(|least| left.quantities().contains(least)) {
                continue;
            }
            let Some((role, framework)) = self.next("") else { continue };
            lines.push(format!("{framework} {role} {agent} {left}"));
            self.agents[at].2 = Resources::new();
            *self.held.entry((role.clone(), framework.clone())).or_default() += left;
            *self.served.entry((role, framework)).or_default() += 1;
        }
        lines
    }

    /// Who below this role (`` for all of them) is to be served next.
    fn next(&self, above: &str) -> Option<(String, String)> {
        let below = |role: &str| match above {
            "" => Some(role.to_owned()),
            _ => Some(role.strip_prefix(above)?.strip_prefix('/')?.to_owned()),
        };
        let mut children = BTreeSet::new();
        for (role, _) in &self.clients {
            if let Some(rest) = below(role) {
                children.insert(rest.split('/').next().unwrap().to_owned());
            }
        }
        let own = Vec::from_iter(self.clients.iter().filter(|(role, _)| role == above));
        if !own.is_empty() {
            children.insert(".".to_owned());
        }
        let path = |child: &String| match above {
            "" => child.clone(),
            _ => format!("{above}/{child}"),
        };
        let within = |child: &String, role: &str| match child.as_str() {
            "." => role == above,
            _ => role == path(child) || role.starts_with(&format!("{}/", path(child))),
        };
        let rank = |child: &String| {
            let weight = self.weights.get(&path(child)).copied().unwrap_or(1);
            let share = self.share(weight, |(role, _)| within(child, role));
            (share, self.served(|(role, _)| within(child, role)))
        };
        let first = children.into_iter().map(|child| (rank(&child), child)).min_by(compare)?;
        if first.1 != "." {
            return self.next(&path(&first.1));
        }
        let rank = |framework: &String| {
            let is = |client: &(String, String)| client.0 == above && client.1 == *framework;
            (self.share(1, is), self.served(is))
        };
        let ranked = own.into_iter().map(|(_, framework)| (rank(framework), framework.clone()));
        ranked.min_by(compare).map(|(_, framework)| (above.to_owned(), framework))
    }

    fn served(&self, of: impl Fn(&(String, String)) -> bool) -> u64 {
        self.served.iter().filter(|(client, _)| of(client)).map(|(_, times)| *times).sum()
    }

    fn share(&self, weight: u32, of: impl Fn(&(String, String)) -> bool) -> Fraction {
        let total: Resources = self.agents.iter().map(|(_, total, _)| total).sum();
        let held: Resources =
            self.held.iter().filter(|(client, _)| of(client)).map(|(_, held)| held).sum();
        let thousandths = |scalar: Scalar| u128::try_from(scalar.thousandths()).unwrap();
        let mut largest = (0, 1);
        for (name, amount) in held.quantities().iter() {
            let of_total = thousandths(total.quantities().get(name)) * u128::from(weight);
            let fraction = (thousandths(amount), of_total);
            if compare_fractions(fraction, largest).is_gt() {
                largest = fraction;
            }
        }
        largest
    }
}

fn compare(a: &((Fraction, u64), String), b: &((Fraction, u64), String)) -> Ordering {
    let shares = compare_fractions(a.0.0, b.0.0);
    shares.then(a.0.1.cmp(&b.0.1)).then(a.1.cmp(&b.1))
}

fn compare_fractions(a: Fraction, b: Fraction) -> Ordering {
    (a.0 * b.1).cmp(&(b.0 * a.1))
}
