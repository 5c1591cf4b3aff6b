//! One behaviour each.

use super::*;

const NONE: [&str; 0] = [];

#[test]
fn the_first_event_is_served_at_once_and_the_next_ones_together() {
    let mut a = allocator();
    assert_eq!(a.poll_timeout(), None);
    a.add_framework(at(100), &"A".into(), in_roles(&["r"]));
    assert_eq!(a.poll_timeout(), None, "nothing to give yet");
    add_agent(&mut a, at(100), "s1", room(1, 64));
    assert_eq!(a.poll_timeout(), Some(at(100).mono_ns));
    assert_eq!(allocate(&mut a, at(100)), ["A r s1 cpus:1; mem:64"]);
    assert_eq!(a.poll_timeout(), None);

    add_agent(&mut a, at(101), "s2", room(2, 64));
    assert_eq!(a.poll_timeout(), Some(at(105).mono_ns));
    add_agent(&mut a, at(102), "s3", room(3, 64));
    assert_eq!(a.poll_timeout(), Some(at(105).mono_ns), "later events do not put it off");
    assert_eq!(allocate(&mut a, at(104)), NONE);
    assert_eq!(allocate(&mut a, at(105)), ["A r s2 cpus:2; mem:64", "A r s3 cpus:3; mem:64"]);

    add_agent(&mut a, at(200), "s4", room(1, 64));
    assert_eq!(a.poll_timeout(), Some(at(200).mono_ns), "it was quiet");
}

#[test]
fn a_freed_crumb_is_offered_with_the_remainder_and_only_its_agent_is_looked_at() {
    let mut a = allocator();
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    for agent in ["s1", "s2", "s3"] {
        add_agent(&mut a, at(0), agent, room(4, 400));
    }
    assert_eq!(allocate(&mut a, at(0)).len(), 3);
    recover(&mut a, at(10), "A", "s2", &room(1, 100).allocate("r"), None);
    recover(&mut a, at(10), "A", "s2", &room(2, 200).allocate("r"), None);
    assert_eq!(a.marked.len(), 1);
    assert_eq!(allocate(&mut a, at(10)), ["A r s2 cpus:3; mem:300"]);
}

#[test]
fn a_refusal_holds_for_its_time_and_for_no_more_than_was_refused() {
    let mut a = allocator();
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    add_agent(&mut a, at(0), "s1", room(4, 400));
    assert_eq!(allocate(&mut a, at(0)).len(), 1);
    let refuse = Some(Duration::from_secs(5));
    recover(&mut a, at(0), "A", "s1", &room(3, 300).allocate("r"), refuse);
    assert_eq!(allocate(&mut a, at(10)), NONE);
    assert_eq!(a.poll_timeout(), Some(at(5000).mono_ns), "the filter's end");

    recover(&mut a, at(20), "A", "s1", &room(1, 100).allocate("r"), None);
    assert_eq!(allocate(&mut a, at(20)), ["A r s1 cpus:4; mem:400"], "more than was refused");

    recover(&mut a, at(30), "A", "s1", &room(4, 400).allocate("r"), refuse);
    assert_eq!(allocate(&mut a, at(5000)), NONE);
    assert_eq!(allocate(&mut a, at(5029)), NONE);
    assert_eq!(allocate(&mut a, at(5030)), ["A r s1 cpus:4; mem:400"]);
    assert_eq!(a.poll_timeout(), None);
}

#[test]
fn what_one_refuses_another_is_offered() {
    let mut a = allocator();
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    a.add_framework(at(0), &"B".into(), in_roles(&["r"]));
    add_agent(&mut a, at(0), "s1", room(4, 400));
    assert_eq!(allocate(&mut a, at(0)), ["A r s1 cpus:4; mem:400"]);
    recover(&mut a, at(1), "A", "s1", &room(4, 400).allocate("r"), Some(MS * 1000));
    assert_eq!(allocate(&mut a, at(5)), ["B r s1 cpus:4; mem:400"]);
}

#[test]
fn refusing_for_no_time_is_paced() {
    let mut a = allocator();
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    add_agent(&mut a, at(0), "s1", room(4, 400));
    assert_eq!(allocate(&mut a, at(0)).len(), 1);
    recover(&mut a, at(10), "A", "s1", &room(4, 400).allocate("r"), Some(Duration::ZERO));
    assert_eq!(allocate(&mut a, at(20)), NONE);
    assert_eq!(allocate(&mut a, at(110)), ["A r s1 cpus:4; mem:400"]);
}

#[test]
fn reviving_forgets_the_refusals_of_the_named_roles() {
    let mut a = allocator();
    a.add_framework(at(0), &"A".into(), in_roles(&["q", "r"]));
    add_agent(&mut a, at(0), "s1", room(4, 400));
    assert_eq!(allocate(&mut a, at(0)), ["A q s1 cpus:4; mem:400"]);
    let refuse = Some(Duration::from_secs(60));
    recover(&mut a, at(10), "A", "s1", &room(4, 400).allocate("q"), refuse);
    assert_eq!(allocate(&mut a, at(10)), ["A r s1 cpus:4; mem:400"]);
    recover(&mut a, at(20), "A", "s1", &room(4, 400).allocate("r"), refuse);
    assert_eq!(allocate(&mut a, at(20)), NONE);
    a.revive(at(30), &"A".into(), &["r".to_owned()]);
    assert_eq!(allocate(&mut a, at(30)), ["A r s1 cpus:4; mem:400"]);
}

#[test]
fn the_suppressed_the_inactive_and_the_gone_are_offered_nothing() {
    let mut a = allocator();
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    a.suppress(&"A".into(), &[]);
    add_agent(&mut a, at(0), "s1", room(4, 400));
    assert_eq!(allocate(&mut a, at(0)), NONE);
    a.revive(at(10), &"A".into(), &[]);
    assert_eq!(allocate(&mut a, at(10)), ["A r s1 cpus:4; mem:400"]);

    a.deactivate_framework(&"A".into());
    recover(&mut a, at(20), "A", "s1", &room(4, 400).allocate("r"), None);
    assert_eq!(allocate(&mut a, at(20)), NONE);
    a.activate_framework(at(30), &"A".into());
    assert_eq!(allocate(&mut a, at(30)), ["A r s1 cpus:4; mem:400"]);

    a.deactivate_agent(&"s1".into());
    recover(&mut a, at(40), "A", "s1", &room(4, 400).allocate("r"), None);
    assert_eq!(allocate(&mut a, at(40)), NONE);
    a.activate_agent(at(50), &"s1".into());
    assert_eq!(allocate(&mut a, at(50)), ["A r s1 cpus:4; mem:400"]);

    a.remove_framework(&"A".into());
    assert_eq!(a.tree.clients().count(), 1, "kept while it holds something");
    recover(&mut a, at(60), "A", "s1", &room(4, 400).allocate("r"), Some(MS * 1000));
    assert_eq!(allocate(&mut a, at(70)), NONE);
    assert_eq!(a.tree.clients().count(), 0);
    assert_eq!(a.poll_timeout(), None, "no filter of the gone is waited for");
}

#[test]
fn suppression_at_subscription_is_for_the_role_that_it_names() {
    let mut a = allocator();
    let mut options = in_roles(&["q", "r"]);
    options.suppressed.insert("q".to_owned());
    a.add_framework(at(0), &"A".into(), options);
    add_agent(&mut a, at(0), "s1", room(4, 400));
    assert_eq!(allocate(&mut a, at(0)), ["A r s1 cpus:4; mem:400"]);
}

#[test]
fn leaving_a_role_ends_its_offers_and_joining_one_begins_them() {
    let mut a = allocator();
    a.add_framework(at(0), &"A".into(), in_roles(&["q"]));
    add_agent(&mut a, at(0), "s1", room(4, 400));
    assert_eq!(allocate(&mut a, at(0)), ["A q s1 cpus:4; mem:400"]);
    a.update_framework(at(10), &"A".into(), in_roles(&["r"]));
    recover(&mut a, at(10), "A", "s1", &room(4, 400).allocate("q"), None);
    assert_eq!(allocate(&mut a, at(10)), ["A r s1 cpus:4; mem:400"]);
    assert_eq!(a.tree.clients().count(), 1);
}

#[test]
fn agents_with_gpus_are_for_those_who_know_what_to_do_with_them() {
    let mut a = allocator();
    let with_gpu = room(4, 400) + Resources::from(scalar(ResourceName::GPUS, 1));
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    add_agent(&mut a, at(0), "s1", with_gpu.clone());
    assert_eq!(allocate(&mut a, at(0)), NONE);
    let gpu = Capabilities { gpu: true, ..Capabilities::default() };
    a.add_framework(at(10), &"B".into(), capable(in_roles(&["r"]), gpu));
    assert_eq!(allocate(&mut a, at(10)), ["B r s1 cpus:4; gpus:1; mem:400"]);

    let config = AllocatorConfig { filter_gpu_resources: false, ..AllocatorConfig::default() };
    let mut a = DrfAllocator::new(config);
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    add_agent(&mut a, at(0), "s1", with_gpu);
    assert_eq!(allocate(&mut a, at(0)).len(), 1);
}

#[test]
fn revocable_resources_and_far_agents_need_their_capability() {
    let revocable = || room(2, 0).map(|resource| resource.revocable = true);
    let all = Capabilities { revocable: true, region_aware: true, ..Capabilities::default() };
    for (capabilities, near, far) in [
        (Capabilities::default(), "A r near cpus:1; mem:64", None),
        (all, "A r near cpus:1; cpus{revocable}:2; mem:64", Some("A r far cpus:1; mem:64")),
    ] {
        let mut a = allocator();
        a.add_framework(at(0), &"A".into(), capable(in_roles(&["r"]), capabilities));
        add_agent(&mut a, at(0), "near", room(1, 64) + revocable());
        let remote = AgentOptions { remote_region: true };
        a.add_agent(at(0), &"far".into(), room(1, 64), BTreeMap::new(), remote);
        let expected = Vec::from_iter([Some(near), far].into_iter().flatten());
        assert_eq!(allocate(&mut a, at(0)), expected);
    }
}

#[test]
fn a_reservation_is_for_its_role_and_those_below() {
    let mut a = allocator();
    add_agent(&mut a, at(0), "s1", room(1, 64) + reserved(room(2, 128), "eng"));
    a.add_framework(at(0), &"A".into(), in_roles(&["ops"]));
    assert_eq!(allocate(&mut a, at(0)), ["A ops s1 cpus:1; mem:64"]);
    a.add_framework(at(10), &"B".into(), in_roles(&["eng/web"]));
    let for_eng = reserved(room(2, 128), "eng");
    assert_eq!(allocate(&mut a, at(10)), [format!("B eng/web s1 {for_eng}")]);
}

#[test]
fn too_little_is_no_offer_unless_the_framework_says_otherwise() {
    let crumb: Resources = [
        Resource::new(ResourceName::CPUS, Value::Scalar(Scalar::from_thousandths(9))),
        scalar(ResourceName::MEM, 31),
    ]
    .into_iter()
    .collect();
    let mut a = allocator();
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    add_agent(&mut a, at(0), "s1", crumb);
    assert_eq!(allocate(&mut a, at(0)), NONE);
    assert_eq!(a.poll_timeout(), None, "a crumb keeps nobody busy");
    let mut modest = in_roles(&["r"]);
    modest.min_allocatable.insert("r".to_owned(), Vec::new());
    a.add_framework(at(10), &"B".into(), modest);
    assert_eq!(allocate(&mut a, at(10)), ["B r s1 cpus:0.009; mem:31"]);
}

#[test]
fn twice_the_weight_is_twice_the_share() {
    let mut a = allocator();
    a.set_weight(at(0), "heavy", 2.0);
    a.set_weight(at(0), "heavy", -1.0);
    a.add_framework(at(0), &"H".into(), in_roles(&["heavy"]));
    a.add_framework(at(0), &"L".into(), in_roles(&["light"]));
    for agent in 0..9 {
        add_agent(&mut a, at(0), &format!("s{agent}"), room(4, 400));
    }
    let lines = allocate(&mut a, at(0));
    assert_eq!(lines.iter().filter(|line| line.starts_with("H heavy")).count(), 6);
    assert_eq!(lines.iter().filter(|line| line.starts_with("L light")).count(), 3);
}

#[test]
fn siblings_share_what_their_parent_got() {
    let mut a = allocator();
    for (id, role) in [("A", "eng/a"), ("B", "eng/b"), ("C", "eng"), ("O", "ops")] {
        a.add_framework(at(0), &id.into(), in_roles(&[role]));
    }
    for agent in 0..12 {
        add_agent(&mut a, at(0), &format!("s{agent}"), room(4, 400));
    }
    let lines = allocate(&mut a, at(0));
    let count = |id: &str| lines.iter().filter(|line| line.starts_with(id)).count();
    assert_eq!((count("A"), count("B"), count("C"), count("O")), (2, 2, 2, 6));
}

#[test]
fn what_runs_already_counts_even_before_its_framework_is_known() {
    let mut a = allocator();
    let used = BTreeMap::from([(("A".into(), "r".to_owned()), room(3, 300).allocate("r"))]);
    a.add_agent(at(0), &"s1".into(), room(4, 400), used, AgentOptions::default());
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    a.add_framework(at(0), &"B".into(), in_roles(&["r"]));
    assert_eq!(allocate(&mut a, at(0)), ["B r s1 cpus:1; mem:100"], "A holds more");
    a.charge(&"C".into(), &"s1".into(), &room(1, 0).allocate("r"));
    recover(&mut a, at(10), "A", "s1", &room(0, 300).allocate("r"), None);
    assert_eq!(allocate(&mut a, at(10)), ["B r s1 mem:300"], "cpus are over-committed");
}

#[test]
fn an_agent_that_shrank_is_offered_again_when_it_fits() {
    let mut a = allocator();
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    add_agent(&mut a, at(0), "s1", room(4, 400));
    assert_eq!(allocate(&mut a, at(0)).len(), 1);
    a.update_agent(at(10), &"s1".into(), room(2, 600));
    assert_eq!(allocate(&mut a, at(10)), ["A r s1 mem:200"]);
    recover(&mut a, at(20), "A", "s1", &room(1, 0).allocate("r"), None);
    assert_eq!(allocate(&mut a, at(20)), NONE);
    recover(&mut a, at(30), "A", "s1", &room(2, 0).allocate("r"), None);
    assert_eq!(allocate(&mut a, at(30)), ["A r s1 cpus:1"]);
}

#[test]
fn a_removed_agent_leaves_nothing_behind() {
    let mut a = allocator();
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    add_agent(&mut a, at(0), "s1", room(4, 400));
    assert_eq!(allocate(&mut a, at(0)).len(), 1);
    recover(&mut a, at(0), "A", "s1", &room(1, 100).allocate("r"), Some(MS * 1000));
    a.remove_agent(&"s1".into());
    a.check_invariants().unwrap();
    assert_eq!(a.poll_timeout(), None);
    assert!(a.spread.is_empty());
    recover(&mut a, at(10), "A", "s1", &room(3, 300).allocate("r"), None);
    assert_eq!(a.check_invariants(), Ok(()), "late news of it is no fault");
}

#[test]
fn giving_back_what_was_not_given_shows_and_changes_nothing() {
    let mut a = allocator();
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    add_agent(&mut a, at(0), "s1", room(4, 400));
    assert_eq!(allocate(&mut a, at(0)).len(), 1);
    recover(&mut a, at(10), "A", "s1", &room(5, 400).allocate("r"), None);
    assert_eq!(a.allocate(at(10)), []);
    assert_eq!(a.check_invariants().unwrap_err().name, "recovered-was-allocated");
}

#[test]
fn offering_twice_is_noticed() {
    let mut a = allocator();
    a.add_framework(at(0), &"A".into(), in_roles(&["r"]));
    add_agent(&mut a, at(0), "s1", room(4, 400));
    assert_eq!(allocate(&mut a, at(0)).len(), 1);
    // What a faulty pass would leave behind: something given out that still counts as left.
    let agent = a.agents.values_mut().next().unwrap();
    agent.forge_left(room(1, 0));
    assert_eq!(a.check_invariants().unwrap_err().name, "no-double-offer");
}

/// A volume of 10 MB for `web`, shared.
fn shared_volume() -> Resource {
    let persistence = mezzo_types::Persistence { id: "v".into(), principal: None };
    let disk = mezzo_types::DiskInfo { persistence: Some(persistence), ..Default::default() };
    Resource {
        reservations: Reservations::fixed("web"),
        disk: Some(disk.into()),
        shared: true,
        ..scalar(ResourceName::DISK, 10)
    }
}

#[test]
fn a_shared_volume_is_in_one_offer_at_a_time_whoever_uses_it() {
    let mut allocator = allocator();
    let shared = Capabilities { shared: true, ..Capabilities::default() };
    allocator.add_framework(at(0), &"f".into(), capable(in_roles(&["web"]), shared));
    allocator.add_framework(at(0), &"g".into(), capable(in_roles(&["web"]), shared));
    let total = room(2, 128) + shared_volume().into();
    add_agent(&mut allocator, at(0), "s", total);
    let lines = allocate(&mut allocator, at(0));
    assert_eq!(lines, ["f web s cpus:2; disk(web)[volume v]<shared>:10; mem:128"]);
    let agent = AgentId::from("s");
    let offered = (room(2, 128) + shared_volume().into()).allocate("web");
    // A task of f uses the volume and half of the rest; the other half is declined.
    allocator.offer_ended(at(10), &agent, &offered);
    recover(&mut allocator, at(10), "f", "s", &room(1, 64).allocate("web"), Some(MS * 1000));
    let lines = allocate(&mut allocator, at(20));
    assert_eq!(lines, ["g web s cpus:1; disk(web)[volume v]<shared>:10; mem:64"]);
    // A second task of f uses it once more: that is no more of the cluster.
    allocator.charge(&"f".into(), &agent, &Resources::from(shared_volume()).allocate("web"));
    allocator.check_invariants().unwrap();
    let copy = Resources::from(shared_volume()).allocate("web");
    recover(&mut allocator, at(30), "f", "s", &copy, None);
    recover(&mut allocator, at(30), "f", "s", &copy, None);
    allocator.check_invariants().unwrap();
    // It is in g's offer still.
    recover(&mut allocator, at(30), "f", "s", &room(1, 64).allocate("web"), None);
    let lines = allocate(&mut allocator, at(2000));
    assert_eq!(lines, ["f web s cpus:1; mem:64"]);
}

#[test]
fn operations_turn_held_and_free_resources_into_others() {
    let mut allocator = allocator();
    allocator.add_framework(at(0), &"f".into(), in_roles(&["web"]));
    add_agent(&mut allocator, at(0), "s", room(4, 256));
    assert_eq!(allocate(&mut allocator, at(0)), ["f web s cpus:4; mem:256"]);
    let agent = AgentId::from("s");
    let step = |mb: u32| Conversion {
        consumed: room(0, mb),
        converted: reserved(room(0, mb), "web"),
        last_copy: false,
    };
    let error = allocator.convert_available(at(1), &agent, &[step(64)]).unwrap_err();
    assert_eq!(error.to_string(), "it takes mem:64, but there is {}");
    let allocated = Conversion {
        consumed: room(0, 64).allocate("web"),
        converted: reserved(room(0, 64), "web").allocate("web"),
        last_copy: false,
    };
    let framework = FrameworkId::from("f");
    let steps = std::slice::from_ref(&allocated);
    allocator.convert_allocated(at(1), &framework, &agent, steps).unwrap();
    allocator.check_invariants().unwrap();
    let rest = (room(4, 192) + reserved(room(0, 64), "web")).allocate("web");
    recover(&mut allocator, at(2), "f", "s", &rest, None);
    allocator.convert_available(at(2), &agent, &[step(64)]).unwrap();
    assert_eq!(allocate(&mut allocator, at(20)), ["f web s cpus:4; mem:128; mem(web):128"]);
    // What is held by nobody of that name cannot be converted for it.
    let stranger = allocator.convert_allocated(at(21), &"g".into(), &agent, steps);
    assert!(stranger.is_err());
    allocator.check_invariants().unwrap();
}
