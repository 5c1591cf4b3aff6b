//! Limits and guarantees: by example, and over random histories.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::Quota;

const ROLES: [&str; 4] = ["a", "a/x", "b", "c"];

fn quota(guarantee: Option<u32>, limit: Option<u32>) -> Quota {
    let cpus = |units: u32| (ResourceName::CPUS, Scalar::from_units(units));
    Quota {
        guarantees: guarantee.map(cpus).into_iter().collect(),
        limits: limit.map(cpus).into_iter().collect(),
    }
}

fn framework(allocator: &mut DrfAllocator, id: &str, role: &str) {
    allocator.add_framework(at(0), &id.into(), in_roles(&[role]));
}

#[test]
fn a_role_and_those_below_it_share_one_limit() {
    let mut allocator = allocator();
    allocator.set_quota(at(0), "a", quota(None, Some(5)));
    framework(&mut allocator, "f", "a/x");
    framework(&mut allocator, "g", "a");
    add_agent(&mut allocator, at(0), "s1", room(4, 64));
    add_agent(&mut allocator, at(0), "s2", room(4, 64));
    let lines = allocate(&mut allocator, at(0));
    assert_eq!(lines, ["g a s1 cpus:4; mem:64", "f a/x s2 cpus:1; mem:64"]);
    // What is given back may be had by whoever is held back.
    allocator.add_framework(at(0), &"h".into(), in_roles(&["b"]));
    assert_eq!(allocate(&mut allocator, at(10)), ["h b s2 cpus:3"]);
}

#[test]
fn what_is_reserved_counts_even_unused() {
    let mut allocator = allocator();
    allocator.set_quota(at(0), "a", quota(None, Some(5)));
    framework(&mut allocator, "f", "a");
    let mut total = room(8, 64);
    total += &reserved(room(3, 0), "a/x");
    add_agent(&mut allocator, at(0), "s1", total);
    assert_eq!(allocate(&mut allocator, at(0)), ["f a s1 cpus:2; mem:64"]);
}

#[test]
fn room_under_a_limit_is_given_out_wherever_it_was_held_back() {
    let mut allocator = allocator();
    allocator.set_quota(at(0), "a", quota(None, Some(4)));
    framework(&mut allocator, "f", "a");
    for agent in ["s1", "s2", "s3"] {
        add_agent(&mut allocator, at(0), agent, room(4, 0));
    }
    assert_eq!(allocate(&mut allocator, at(0)), ["f a s1 cpus:4"]);
    let part = room(2, 0).allocate("a");
    recover(&mut allocator, at(10), "f", "s1", &part, Some(Duration::from_secs(60)));
    let lines = allocate(&mut allocator, at(20));
    assert_eq!(lines, ["f a s2 cpus:2"], "s1 is refused, the others were held back");
    allocator.set_quota(at(30), "a", Quota::default());
    assert_eq!(allocate(&mut allocator, at(40)), ["f a s2 cpus:2", "f a s3 cpus:4"]);
}

#[test]
fn a_limit_of_zero_is_nothing_of_it() {
    let mut allocator = allocator();
    allocator.set_quota(at(0), "a", quota(None, Some(0)));
    framework(&mut allocator, "f", "a");
    add_agent(&mut allocator, at(0), "s1", room(4, 64));
    assert_eq!(allocate(&mut allocator, at(0)), ["f a s1 mem:64"]);
}

#[test]
fn a_guarantee_is_served_first_and_kept_free() {
    let mut allocator = allocator();
    allocator.set_quota(at(0), "a", quota(Some(6), None));
    framework(&mut allocator, "g", "b");
    add_agent(&mut allocator, at(0), "s1", room(4, 64));
    add_agent(&mut allocator, at(0), "s2", room(4, 64));
    // 8 are free, 6 are owed.
    let lines = allocate(&mut allocator, at(0));
    assert_eq!(lines, ["g b s1 cpus:2; mem:64", "g b s2 mem:64"]);
    framework(&mut allocator, "f", "a");
    assert_eq!(allocate(&mut allocator, at(10)), ["f a s1 cpus:2", "f a s2 cpus:4"]);
    // What comes is nobody's guarantee any more: it goes by share, and b has most of the memory.
    add_agent(&mut allocator, at(20), "s3", room(4, 64));
    let lines = allocate(&mut allocator, at(30));
    assert_eq!(lines, ["f a s3 cpus:4; mem:64"]);
}

#[test]
fn what_was_kept_free_is_given_out_when_the_guarantee_is_met_elsewhere() {
    let mut allocator = allocator();
    allocator.set_quota(at(0), "a", quota(Some(4), None));
    framework(&mut allocator, "g", "b");
    add_agent(&mut allocator, at(0), "s1", room(4, 0));
    assert_eq!(allocate(&mut allocator, at(0)), [""; 0]);
    // Others are looked at again when more is free than is owed.
    add_agent(&mut allocator, at(10), "s2", room(4, 0));
    assert_eq!(allocate(&mut allocator, at(20)), ["g b s1 cpus:4"]);
    allocator.set_quota(at(30), "a", Quota::default());
    assert_eq!(allocate(&mut allocator, at(40)), ["g b s2 cpus:4"]);
}

#[test]
fn a_role_that_lost_what_its_guarantee_wants_may_have_what_was_held_back() {
    let mut allocator = allocator();
    allocator.set_quota(at(0), "b", quota(Some(1), None));
    framework(&mut allocator, "f", "a");
    add_agent(&mut allocator, at(0), "s1", room(1, 0));
    add_agent(&mut allocator, at(0), "s2", room(5, 0));
    assert_eq!(allocate(&mut allocator, at(0)), ["f a s1 cpus:1", "f a s2 cpus:4"]);
    allocator.set_quota(at(10), "a", quota(Some(5), None));
    assert_eq!(allocate(&mut allocator, at(20)), [""; 0]);
    allocator.remove_agent(&"s1".into());
    assert_eq!(allocate(&mut allocator, at(30)), ["f a s2 cpus:1"]);
}

#[test]
fn agents_of_before_count_until_they_are_back() {
    let mut allocator = allocator();
    allocator.set_quota(at(0), "a", quota(None, Some(4)));
    framework(&mut allocator, "f", "a");
    let used = BTreeMap::from([("a/x".to_owned(), room(3, 0).allocate("a/x"))]);
    allocator.await_agent(&"old".into(), room(8, 0), used);
    add_agent(&mut allocator, at(0), "s1", room(8, 0));
    assert_eq!(allocate(&mut allocator, at(0)), ["f a s1 cpus:1"]);
    allocator.remove_agent(&"old".into());
    add_agent(&mut allocator, at(10), "s2", room(8, 0));
    let lines = allocate(&mut allocator, at(20));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].ends_with("cpus:3"), "{lines:?}");
}

#[derive(Clone, Debug)]
enum Event {
    Agent { cpus: u32, reserved: u32 },
    RemoveAgent(usize),
    Framework { framework: usize, role: usize },
    Quota { role: usize, guarantee: Option<u32>, limit: Option<u32> },
    Recover { allocation: usize, refuse: bool },
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let amount = || prop::option::of(0..9u32);
    prop_oneof![
        3 => (1..9u32, 0..3u32).prop_map(|(cpus, reserved)| Event::Agent { cpus, reserved }),
        1 => any::<usize>().prop_map(Event::RemoveAgent),
        2 => (0..5usize, 0..ROLES.len())
            .prop_map(|(framework, role)| Event::Framework { framework, role }),
        2 => (0..3usize, amount(), amount()).prop_map(|(role, guarantee, limit)| Event::Quota {
            role,
            guarantee,
            limit,
        }),
        4 => (any::<usize>(), any::<bool>())
            .prop_map(|(allocation, refuse)| Event::Recover { allocation, refuse }),
        2 => (0..300u64).prop_map(Event::Wait),
    ]
}

/// What the reference counts: open CPUs that a role's subtree holds, and all that is reserved for it.
fn consumed(role: &str, given: &[Allocation], agents: &[(AgentId, Resources)]) -> i64 {
    let below = |of: &str| of == role || of.starts_with(&format!("{role}/"));
    let cpus = |resources: &Resources| resources.cpus().thousandths();
    let held = given.iter().filter(|given| below(&given.role));
    let held: i64 = held.map(|given| cpus(&given.resources.unreserved())).sum();
    let reserved = |total: &Resources| {
        cpus(&total.filter(|resource| resource.reservation_role().is_some_and(below)))
    };
    held + agents.iter().map(|(_, total)| reserved(total)).sum::<i64>()
}

fn free(given: &[Allocation], agents: &[(AgentId, Resources)]) -> i64 {
    let total = agents.iter().map(|(_, total)| total.unreserved().cpus().thousandths());
    let held = given.iter().map(|given| given.resources.unreserved().cpus().thousandths());
    total.sum::<i64>() - held.sum::<i64>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// No offer takes a role over its limit, and none takes what is owed to others; and once all is
    /// quiet, nobody who may have more is left without.
    #[test]
    fn offers_keep_to_the_quotas(events in vec(event(), 1..60)) {
        let mut allocator = allocator();
        let mut agents: Vec<(AgentId, Resources)> = Vec::new();
        let mut given: Vec<Allocation> = Vec::new();
        let mut quotas: BTreeMap<&str, Quota> = BTreeMap::new();
        let mut frameworks: BTreeMap<usize, &str> = BTreeMap::new();
        let (mut ms, mut made) = (0u64, 0);
        for event in events {
            ms += 10;
            match event {
                Event::Agent { cpus, reserved: kept } => {
                    let id = AgentId::from(format!("s{made}"));
                    made += 1;
                    let mut total = room(cpus, 0);
                    total += &reserved(room(kept, 0), "a/x");
                    allocator.add_agent(at(ms), &id, total.clone(), BTreeMap::new(), AgentOptions::default());
                    agents.push((id, total));
                }
                Event::RemoveAgent(which) if !agents.is_empty() => {
                    let (id, _) = agents.remove(which % agents.len());
                    allocator.remove_agent(&id);
                    given.retain(|given| given.agent != id);
                }
                Event::RemoveAgent(_) => {}
                Event::Framework { framework, role } => {
                    let id = FrameworkId::from(format!("f{framework}"));
                    allocator.add_framework(at(ms), &id, in_roles(&[ROLES[role]]));
                    frameworks.insert(framework, ROLES[role]);
                }
                Event::Quota { role, guarantee, limit } => {
                    let role = ["a", "b", "c"][role];
                    let guarantee = guarantee.min(limit.or(guarantee));
                    allocator.set_quota(at(ms), role, quota(guarantee, limit));
                    quotas.insert(role, quota(guarantee, limit));
                }
                Event::Recover { allocation, refuse } if !given.is_empty() => {
                    let back = given.remove(allocation % given.len());
                    let refuse = refuse.then_some(Duration::from_millis(200));
                    let Allocation { framework, agent, resources, .. } = &back;
                    allocator.recover(at(ms), framework, agent, resources, refuse);
                }
                Event::Recover { .. } => {}
                Event::Wait(more) => ms += more,
            }
            let before = given.clone();
            given.extend(allocator.allocate(at(ms)));
            allocator.check_invariants().unwrap();
            let is = |role: &str, given: &[Allocation]| consumed(role, given, &agents);
            for (role, quota) in &quotas {
                if let Some(limit) = quota.limits.get(&ResourceName::CPUS) {
                    let (had, has) = (is(role, &before), is(role, &given));
                    prop_assert!(has <= limit.thousandths().max(had), "{role} has {has} of {limit}");
                }
            }
            let owed = |given: &[Allocation]| -> i64 {
                let owed = quotas.iter().map(|(role, quota)| {
                    let guarantee = quota.guarantees.get(&ResourceName::CPUS).thousandths();
                    (guarantee - is(role, given)).max(0)
                });
                owed.sum()
            };
            let short = |given: &[Allocation]| (owed(given) - free(given, &agents)).max(0);
            prop_assert!(short(&given) <= short(&before), "{} is owed, {} is free", owed(&given), free(&given, &agents));
        }
        // Refusals are over by then.
        for _ in 0..20 {
            ms += 300;
            given.extend(allocator.allocate(at(ms)));
        }
        let quota_of = |role: &str| quotas.get(super::super::quotas::top(role));
        let has = |role: &str| consumed(super::super::quotas::top(role), &given, &agents);
        let unmet = |role: &str| {
            let guarantees = quota_of(role).map(|quota| quota.guarantees.get(&ResourceName::CPUS));
            (guarantees.unwrap_or_default().thousandths() - has(role)).max(0)
        };
        let owed: i64 = quotas.keys().map(|role| unmet(role)).sum();
        for role in frameworks.values() {
            let limit = quota_of(role).and_then(|quota| quota.limits.get(&ResourceName::CPUS));
            let below_limit = limit.map_or(i64::MAX, |limit| limit.thousandths() - has(role));
            let spare = if owed == 0 {
                i64::MAX
            } else {
                (free(&given, &agents) - owed).max(0) + unmet(role)
            };
            for agent in &agents {
                let own: Vec<_> =
                    given.iter().filter(|given| given.agent == agent.0).cloned().collect();
                let left = free(&own, std::slice::from_ref(agent));
                let may = left.min(below_limit).min(spare);
                prop_assert!(may < 10, "{role} could have {may} of {}", agent.0);
            }
        }
    }
}
