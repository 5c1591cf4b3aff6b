//! What operators decide: checked, committed before it is answered, carried out, and known to the next
//! leader.

use std::time::Duration;

use mezzo_proto::internal::v1::LaunchPosition;
use mezzo_proto::internal::v1::master_to_agent::Message as ToAgent;
use mezzo_proto::v1;
use mezzo_proto::v1::framework_info::capability::Type as CapabilityType;
use mezzo_proto::v1::maintenance::{Schedule, Window};
use mezzo_proto::v1::quota::QuotaConfig;
use mezzo_proto::v1::scheduler::{call, event};
use mezzo_proto::v1::{DrainState, TaskState};
use mezzo_types::Position;

use super::cluster::{Cluster, framework_info, task};
use crate::{Answer, Effect, Input, Order, Refusal, RequestId};

fn order(cluster: &mut Cluster, order: Order) -> Result<Answer, Refusal> {
    let request = RequestId(cluster.now.mono_ns + cluster.log.len() as u64 + 500_000);
    cluster.input(Input::Order { request, order: Box::new(order) });
    cluster.replies.remove(&request).expect("every order is answered")
}

fn done(cluster: &mut Cluster, given: Order) {
    assert_eq!(order(cluster, given), Ok(Answer::Done));
}

fn refused(cluster: &mut Cluster, given: Order, part: &str) {
    let before = cluster.log.len();
    let refusal = order(cluster, given).expect_err("refused");
    assert!(matches!(refusal, Refusal::BadRequest(_) | Refusal::Conflict(_)), "{refusal:?}");
    assert!(refusal.to_string().contains(part), "{refusal} lacks {part}");
    assert_eq!(cluster.log.len(), before, "what is refused is not written down");
}

fn in_role(role: &str) -> v1::FrameworkInfo {
    let info = framework_info(true);
    let mut capabilities = info.capabilities.clone();
    let multi = CapabilityType::MultiRole as i32;
    capabilities.push(v1::framework_info::Capability { r#type: Some(multi) });
    v1::FrameworkInfo { capabilities, roles: vec![role.to_owned()], ..info }
}

fn weight(role: &str, weight: f64) -> v1::WeightInfo {
    v1::WeightInfo { role: Some(role.to_owned()), weight }
}

fn quota(role: &str, guarantee: f64, limit: f64) -> QuotaConfig {
    let cpus = |value: f64| {
        let amounts = (value >= 0.0).then(|| ("cpus".to_owned(), v1::value::Scalar { value }));
        amounts.into_iter().collect()
    };
    QuotaConfig { role: role.to_owned(), guarantees: cpus(guarantee), limits: cpus(limit) }
}

/// No guarantee, or no limit.
const NONE: f64 = -1.0;

fn quotas(quotas: Vec<QuotaConfig>) -> Order {
    Order::UpdateQuotas { quotas, force: false }
}

fn cpus(offers: &[v1::Offer]) -> f64 {
    let all = offers.iter().flat_map(|offer| &offer.resources);
    all.filter(|r| r.name == "cpus").filter_map(|r| r.scalar).map(|s| s.value).sum()
}

fn offers_of(events: &[v1::scheduler::Event]) -> Vec<v1::Offer> {
    events.iter().flat_map(|event| &event.offers).flat_map(|o| o.offers.clone()).collect()
}

/// What was offered since the last look.
fn offered(cluster: &mut Cluster, stream: crate::StreamId) -> Vec<v1::Offer> {
    offers_of(&cluster.take_events(stream))
}

fn kinds(cluster: &mut Cluster, stream: crate::StreamId) -> Vec<&'static str> {
    let events = cluster.take_events(stream);
    events.iter().map(|e| e.r#type().as_str_name()).collect()
}

#[test]
fn an_order_is_answered_once_it_is_committed() {
    let mut cluster = Cluster::new();
    let (_, agent) = cluster.agent("cpus:8;mem:1024");
    let window = Window {
        machine_ids: vec![v1::MachineId { hostname: Some("other".into()), ip: None }],
        unavailability: v1::Unavailability::default(),
    };
    let orders = [
        Order::UpdateWeights(vec![weight("eng", 2.0)]),
        quotas(vec![quota("eng", 1.0, 2.0)]),
        Order::RemoveQuota { role: "eng".into() },
        Order::UpdateSchedule(Schedule { windows: vec![window.clone()] }),
        Order::StartMaintenance(window.machine_ids.clone()),
        Order::StopMaintenance(window.machine_ids.clone()),
        Order::Deactivate(agent.as_str().into()),
        Order::Reactivate(agent.as_str().into()),
        Order::Drain { agent: agent.as_str().into(), config: v1::DrainConfig::default() },
    ];
    let mut length = cluster.log.len() as u64;
    for order in orders {
        let text = format!("{order:?}");
        let input = Input::Order { request: RequestId(1), order: Box::new(order) };
        cluster.master.handle(cluster.now, input);
        let effects: Vec<Effect> = std::iter::from_fn(|| cluster.master.poll_effect()).collect();
        let mut answered = None;
        for effect in effects {
            match effect {
                Effect::Persist(command) => {
                    cluster.registry.apply(&command);
                    length += 1;
                }
                Effect::Reply { result, after, .. } => {
                    assert_eq!(result, Ok(Answer::Done), "{text}");
                    assert!(after > Position(0) && after <= Position(length), "{text}: {after:?}");
                    answered = Some(after);
                }
                _ => {}
            }
        }
        assert!(answered.is_some(), "{text}");
    }
}

#[test]
fn weights_are_positive_and_rescind_the_offers_of_those_concerned() {
    let mut cluster = Cluster::new();
    let (stream, _) = cluster.framework(in_role("eng/web"));
    cluster.agent("cpus:8;mem:1024");
    cluster.take_events(stream);
    refused(&mut cluster, Order::UpdateWeights(vec![weight("eng", 0.0)]), "positive");
    refused(&mut cluster, Order::UpdateWeights(vec![weight("eng", f64::NAN)]), "positive");
    refused(&mut cluster, Order::UpdateWeights(vec![weight("a//b", 1.0)]), "invalid");
    done(&mut cluster, Order::UpdateWeights(vec![weight("ops", 3.0)]));
    assert_eq!(kinds(&mut cluster, stream), [""; 0], "nobody is in that role");
    done(&mut cluster, Order::UpdateWeights(vec![weight(" eng ", 2.0), weight("ops", 1.0)]));
    assert_eq!(kinds(&mut cluster, stream), ["RESCIND"]);
    cluster.advance(Duration::from_secs(1));
    assert_eq!(kinds(&mut cluster, stream), ["OFFERS"]);
    let cluster = cluster.fail_over();
    assert_eq!(cluster.master.weights, [("eng".to_owned(), 2.0)].into());
}

#[test]
fn a_limit_bounds_what_is_offered_also_after_a_fail_over() {
    let mut cluster = Cluster::new();
    done(&mut cluster, quotas(vec![quota("eng", NONE, 3.0)]));
    let (stream, id) = cluster.framework(in_role("eng/web"));
    let (link, agent) = cluster.agent("cpus:8;mem:1024");
    let offers = cluster.take_offers(stream);
    assert_eq!(cpus(&offers), 3.0);
    cluster.launch(stream, &id, &[&offers[0]], vec![task("t", &agent, "cpus:2;mem:32")]);
    cluster.take_messages(link);
    cluster.advance(Duration::from_secs(6));
    let rest = cluster.take_offers(stream);
    assert_eq!(cpus(&rest), 1.0, "{rest:?}");

    // The new leader does not know yet what runs on the agent, but the ledger does.
    let mut cluster = cluster.fail_over();
    let back = v1::FrameworkInfo { id: Some(id), ..in_role("eng/web") };
    let (stream, _) = cluster.framework(back);
    cluster.agent("cpus:8;mem:1024");
    let offers = cluster.take_offers(stream);
    assert_eq!(cpus(&offers), 1.0, "{offers:?}");
}

#[test]
fn a_limit_that_is_lifted_or_set_changes_what_is_out() {
    let mut cluster = Cluster::new();
    let (stream, _) = cluster.framework(in_role("eng"));
    cluster.agent("cpus:8;mem:1024");
    assert_eq!(cpus(&cluster.take_offers(stream)), 8.0);
    done(&mut cluster, quotas(vec![quota("eng", NONE, 2.0)]));
    cluster.advance(Duration::from_secs(1));
    let events = cluster.take_events(stream);
    assert!(events[0].rescind.is_some(), "{events:?}");
    assert_eq!(cpus(&offers_of(&events)), 2.0);
    done(&mut cluster, Order::RemoveQuota { role: "eng".into() });
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cpus(&cluster.take_offers(stream)), 6.0, "what was held back");
    assert_eq!(cluster.registry.quotas.len(), 0);
}

#[test]
fn what_is_guaranteed_is_kept_free_for_the_role() {
    let mut cluster = Cluster::new();
    let (other, _) = cluster.framework(in_role("ops"));
    let (link, _) = cluster.agent("cpus:8;mem:1024");
    assert_eq!(cpus(&cluster.take_offers(other)), 8.0);
    done(&mut cluster, quotas(vec![quota("eng", 6.0, NONE)]));
    cluster.advance(Duration::from_secs(1));
    let events = cluster.take_events(other);
    assert!(events[0].rescind.is_some(), "{events:?}");
    assert_eq!(cpus(&offers_of(&events)), 2.0, "the rest is kept");
    let stream = cluster.subscribe(in_role("eng"));
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cpus(&offered(&mut cluster, stream)), 6.0);
    assert!(cluster.take_messages(link).is_empty());
}

#[test]
fn quotas_are_checked_against_what_is_used_and_what_there_is() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(in_role("eng/web"));
    let (_, agent) = cluster.agent("cpus:8;mem:1024");
    let offers = cluster.take_offers(stream);
    cluster.launch(stream, &id, &[&offers[0]], vec![task("t", &agent, "cpus:2;mem:32")]);
    refused(&mut cluster, quotas(vec![quota("eng/web", NONE, 1.0)]), "nested");
    refused(&mut cluster, quotas(vec![quota("eng", 2.0, 1.0)]), "may not exceed its limit");
    refused(&mut cluster, quotas(vec![quota("eng", NONE, 1.0)]), "consumes cpus:2 already");
    let two = vec![quota("ops", 5.0, NONE), quota("eng", 4.0, NONE)];
    refused(&mut cluster, quotas(two.clone()), "come to cpus:9");
    assert_eq!(cluster.master.quotas.len(), 0, "all or nothing");
    done(&mut cluster, Order::UpdateQuotas { quotas: two, force: true });
    done(&mut cluster, Order::UpdateQuotas { quotas: vec![quota("eng", NONE, 1.0)], force: true });
    assert_eq!(cluster.fail_over().master.quotas.len(), 2);
}

#[test]
fn the_old_calls_for_quotas_are_understood() {
    let mut cluster = Cluster::new();
    cluster.agent("cpus:8;mem:1024");
    let request = |role: &str, value, force| {
        Order::SetQuota(v1::quota::QuotaRequest {
            force: Some(force),
            role: Some(role.to_owned()),
            guarantee: vec![v1::Resource {
                name: "cpus".into(),
                r#type: v1::value::Type::Scalar as i32,
                scalar: Some(v1::value::Scalar { value }),
                ..v1::Resource::default()
            }],
        })
    };
    refused(&mut cluster, request("eng", 9.0, false), "come to cpus:9");
    let over = order(&mut cluster, request("eng", 9.0, false));
    assert!(matches!(over, Err(Refusal::Conflict(_))), "409, as with Mesos: {over:?}");
    done(&mut cluster, request("eng", 9.0, true));
    assert_eq!(cluster.master.quotas["eng"], quota("eng", 9.0, 9.0));
    refused(&mut cluster, request("eng", 1.0, true), "has a quota already");
    done(&mut cluster, Order::RemoveQuota { role: "eng".into() });
    refused(&mut cluster, Order::RemoveQuota { role: "eng".into() }, "no quota to remove");
}

fn drain(agent: &str, mark_gone: bool) -> Order {
    let config = v1::DrainConfig { max_grace_period: None, mark_gone: Some(mark_gone) };
    Order::Drain { agent: agent.into(), config }
}

fn drain_state(cluster: &Cluster, agent: &str) -> Option<DrainState> {
    let recorded = cluster.registry.agents[agent].drain_info.map(|info| info.state());
    let known = cluster.master.agents[agent].drain.as_ref().map(|(info, _)| info.state());
    assert_eq!(recorded, known, "what is known is written down");
    known
}

#[test]
fn a_drained_agent_ends_its_tasks_and_is_offered_again_when_reactivated() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let (link, agent) = cluster.agent("cpus:8;mem:1024");
    let offers = cluster.take_offers(stream);
    cluster.launch(stream, &id, &[&offers[0]], vec![task("t", &agent, "cpus:2;mem:32")]);
    cluster.advance(Duration::from_secs(6));
    assert_eq!(kinds(&mut cluster, stream), ["OFFERS"]);
    cluster.take_messages(link);
    done(&mut cluster, drain(&agent, false));
    assert_eq!(kinds(&mut cluster, stream), ["RESCIND"]);
    let ordered = cluster.to_agents.remove(&link).expect("a message");
    let [(ToAgent::Drain(message), after)] = ordered.as_slice() else { panic!("{ordered:?}") };
    assert_eq!((message.ended, *after), (false, Position(cluster.log.len() as u64)));
    assert_eq!(drain_state(&cluster, &agent), Some(DrainState::Draining));
    refused(&mut cluster, Order::Reactivate(agent.as_str().into()), "still in the DRAINING state");
    cluster.update(link, &id, "t", TaskState::TaskKilled, 1);
    assert_eq!(drain_state(&cluster, &agent), Some(DrainState::Draining), "not acknowledged yet");
    cluster.acknowledge(stream, &id, &agent, "t", 1);
    assert_eq!(drain_state(&cluster, &agent), Some(DrainState::Drained));
    cluster.advance(Duration::from_secs(60));
    assert!(!kinds(&mut cluster, stream).contains(&"OFFERS"));
    cluster.take_messages(link);
    done(&mut cluster, Order::Reactivate(agent.as_str().into()));
    assert!(matches!(cluster.take_messages(link).as_slice(), [ToAgent::Drain(d)] if d.ended));
    cluster.advance(Duration::from_secs(1));
    assert_eq!(kinds(&mut cluster, stream), ["OFFERS"]);
    refused(&mut cluster, Order::Reactivate(agent.as_str().into()), "not deactivated");
    refused(&mut cluster, drain("nobody", false), "Unknown agent");
}

#[test]
fn a_drain_goes_on_under_the_next_leader() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let (_, agent) = cluster.agent("cpus:8;mem:1024");
    let offers = cluster.take_offers(stream);
    cluster.launch(stream, &id, &[&offers[0]], vec![task("t", &agent, "cpus:2;mem:32")]);
    let config = v1::DrainConfig {
        max_grace_period: Some(v1::DurationInfo { nanoseconds: 7 }),
        mark_gone: Some(false),
    };
    done(&mut cluster, Order::Drain { agent: agent.as_str().into(), config });
    let mut cluster = cluster.fail_over();
    assert_eq!(drain_state(&cluster, &agent), Some(DrainState::Draining));
    let info = v1::FrameworkInfo { id: Some(id), ..framework_info(true) };
    let (stream, _) = cluster.framework(info);
    // It lost its tasks meanwhile.
    let last = LaunchPosition { term: 1, sequence: 1 };
    let (link, _) = cluster.register(Some(&agent), "cpus:8;mem:1024", last, vec![], "boot-1");
    let messages = cluster.take_messages(link);
    assert!(matches!(messages.as_slice(), [ToAgent::Drain(d)] if d.config == Some(config)));
    assert_eq!(drain_state(&cluster, &agent), Some(DrainState::Drained), "nothing is left");
    assert_eq!(kinds(&mut cluster, stream), ["UPDATE"], "and nothing is offered");
}

#[test]
fn an_agent_that_is_to_go_is_gone_once_it_is_drained() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let (link, agent) = cluster.agent("cpus:8;mem:1024");
    let offers = cluster.take_offers(stream);
    cluster.launch(stream, &id, &[&offers[0]], vec![task("t", &agent, "cpus:2;mem:32")]);
    done(&mut cluster, drain(&agent, true));
    cluster.take_messages(link);
    cluster.update(link, &id, "t", TaskState::TaskGoneByOperator, 1);
    cluster.acknowledge(stream, &id, &agent, "t", 1);
    assert!(cluster.master.gone.contains_key(agent.as_str()));
    let messages = cluster.take_messages(link);
    assert!(
        messages.iter().any(|m| matches!(m, ToAgent::Refused(r) if r.shutdown)),
        "{messages:?}"
    );

    // One that has nothing to do goes at once.
    let (link, idle) = cluster.agent("cpus:8;mem:1024");
    done(&mut cluster, drain(&idle, true));
    assert!(cluster.master.gone.contains_key(idle.as_str()));
    assert!(!cluster.take_messages(link).is_empty());
}

#[test]
fn an_unreachable_agent_is_drained_when_it_returns() {
    let mut cluster = Cluster::new();
    let (link, agent) = cluster.agent("cpus:8;mem:1024");
    cluster.input(Input::LinkClosed { link });
    cluster.advance(Duration::from_secs(601));
    done(&mut cluster, drain(&agent, false));
    assert_eq!(drain_state(&cluster, &agent), Some(DrainState::Draining));
    let last = LaunchPosition::default();
    let (link, _) = cluster.register(Some(&agent), "cpus:8;mem:1024", last, vec![], "boot-1");
    assert!(matches!(cluster.take_messages(link).as_slice(), [ToAgent::Drain(_)]));
    assert_eq!(drain_state(&cluster, &agent), Some(DrainState::Drained));
}

#[test]
fn a_deactivated_agent_keeps_its_tasks_and_stays_so_over_links_and_leaders() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let (link, agent) = cluster.agent("cpus:8;mem:1024");
    cluster.take_events(stream);
    done(&mut cluster, Order::Deactivate(agent.as_str().into()));
    assert_eq!(kinds(&mut cluster, stream), ["RESCIND"]);
    assert!(cluster.take_messages(link).is_empty(), "nothing is ordered there");
    let again = |cluster: &mut Cluster| {
        let last = LaunchPosition::default();
        cluster.register(Some(&agent), "cpus:8;mem:1024", last, vec![], "boot-1").0
    };
    again(&mut cluster);
    cluster.advance(Duration::from_secs(20));
    assert!(!kinds(&mut cluster, stream).contains(&"OFFERS"));
    let mut cluster = cluster.fail_over();
    let (stream, _) = cluster.framework(v1::FrameworkInfo { id: Some(id), ..framework_info(true) });
    again(&mut cluster);
    cluster.advance(Duration::from_secs(20));
    assert!(!kinds(&mut cluster, stream).contains(&"OFFERS"));
    done(&mut cluster, Order::Reactivate(agent.as_str().into()));
    cluster.advance(Duration::from_secs(1));
    assert_eq!(kinds(&mut cluster, stream), ["OFFERS"]);
}

fn machine(hostname: &str) -> v1::MachineId {
    v1::MachineId { hostname: Some(hostname.to_owned()), ip: None }
}

fn schedule(hostnames: &[&str], start: i64) -> Order {
    let machine_ids = hostnames.iter().map(|name| machine(name)).collect::<Vec<_>>();
    let unavailability = v1::Unavailability {
        start: v1::TimeInfo { nanoseconds: start },
        duration: Some(v1::DurationInfo { nanoseconds: 5 }),
    };
    let windows = match machine_ids.is_empty() {
        true => vec![],
        false => vec![Window { machine_ids, unavailability }],
    };
    Order::UpdateSchedule(Schedule { windows })
}

#[test]
fn whoever_holds_something_of_a_planned_machine_is_asked_to_leave() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    // Its host name is "host".
    let (_, agent) = cluster.agent("cpus:8;mem:1024");
    cluster.take_events(stream);
    done(&mut cluster, schedule(&["HOST"], 100));
    assert_eq!(kinds(&mut cluster, stream), ["RESCIND"], "it said nothing of the plan");
    cluster.advance(Duration::from_secs(1));
    let events = cluster.take_events(stream);
    let offer = events[0].offers.clone().expect("first").offers.remove(0);
    assert_eq!(offer.unavailability.map(|u| u.start.nanoseconds), Some(100));
    let asked = events[1].inverse_offers.clone().expect("then").inverse_offers.remove(0);
    assert_eq!(asked.unavailability.start.nanoseconds, 100);
    assert_eq!(asked.agent_id.map(|id| id.value), Some(agent.clone()));

    let answer = call::AcceptInverseOffers {
        inverse_offer_ids: vec![asked.id.clone()],
        filters: Some(v1::Filters { refuse_seconds: Some(30.0) }),
    };
    let accept = |c: &mut v1::scheduler::Call| c.accept_inverse_offers = Some(answer.clone());
    let result = cluster.call(stream, &id, call::Type::AcceptInverseOffers, accept);
    assert_eq!(result, Ok(Answer::Accepted));
    let answers = cluster.master.inverse_offers.answers_for(&(&machine("host")).into());
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].framework_id, id);
    // Not asked again before its filter ends, and then asked again as it still holds the offer.
    cluster.advance(Duration::from_secs(29));
    assert!(!kinds(&mut cluster, stream).contains(&"INVERSE_OFFERS"));
    cluster.advance(Duration::from_secs(2));
    assert!(kinds(&mut cluster, stream).contains(&"INVERSE_OFFERS"));

    // A new plan voids questions and answers.
    done(&mut cluster, schedule(&["host"], 200));
    let led = kinds(&mut cluster, stream);
    assert_eq!(led, ["RESCIND", "RESCIND_INVERSE_OFFER", "OFFERS", "INVERSE_OFFERS"]);
    assert!(cluster.master.inverse_offers.answers_for(&(&machine("host")).into()).is_empty());
    cluster.advance(Duration::from_secs(1));
    cluster.take_events(stream);
    done(&mut cluster, schedule(&["host"], 200));
    assert_eq!(kinds(&mut cluster, stream), [""; 0], "the same plan changes nothing");
    // A new leader asks anew.
    let mut cluster = cluster.fail_over();
    let (stream, _) = cluster.framework(v1::FrameworkInfo { id: Some(id), ..framework_info(true) });
    let last = LaunchPosition::default();
    cluster.register(Some(&agent), "cpus:8;mem:1024", last, vec![], "boot-1");
    assert_eq!(kinds(&mut cluster, stream), ["OFFERS", "INVERSE_OFFERS"]);
}

#[test]
fn a_machine_that_is_down_loses_its_agents_until_it_is_up() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let (link, agent) = cluster.agent("cpus:8;mem:1024");
    let offers = cluster.take_offers(stream);
    cluster.launch(stream, &id, &[&offers[0]], vec![task("t", &agent, "cpus:2;mem:32")]);
    cluster.take_messages(link);
    let start = |name| Order::StartMaintenance(vec![machine(name)]);
    let stop = |name| Order::StopMaintenance(vec![machine(name)]);
    refused(&mut cluster, Order::StartMaintenance(vec![]), "is empty");
    refused(&mut cluster, start("host"), "not part of a maintenance schedule");
    done(&mut cluster, schedule(&["host", "other"], 100));
    refused(&mut cluster, stop("host"), "not in DOWN mode");
    refused(&mut cluster, drain(&agent, false), "maintenance schedule");
    cluster.take_events(stream);
    done(&mut cluster, start("Host"));
    let lost = cluster.take_statuses(stream);
    assert_eq!(lost[0].state(), TaskState::TaskLost, "for everybody");
    let messages = cluster.take_messages(link);
    assert!(matches!(messages.as_slice(), [ToAgent::Refused(r)] if r.shutdown), "{messages:?}");
    refused(&mut cluster, start("host"), "not in DRAINING mode");
    refused(&mut cluster, schedule(&["other"], 100), "is down and cannot be removed");

    // Also under the next leader nobody joins from there.
    let mut cluster = cluster.fail_over();
    let newcomer = crate::LinkId(99);
    let info = v1::AgentInfo { hostname: "host".into(), ..v1::AgentInfo::default() };
    let register = mezzo_proto::internal::v1::Register {
        agent_info: Some(info),
        ..mezzo_proto::internal::v1::Register::default()
    };
    let message = mezzo_proto::internal::v1::agent_to_master::Message::Register(Box::new(register));
    cluster.agent_says(newcomer, message);
    let messages = cluster.take_messages(newcomer);
    assert!(matches!(messages.as_slice(), [ToAgent::Refused(r)] if !r.shutdown), "{messages:?}");
    done(&mut cluster, stop("host"));
    assert_eq!(cluster.registry.maintenance.machines.len(), 1, "the other is still planned");
    cluster.agent("cpus:8;mem:1024");
    done(&mut cluster, schedule(&[], 0));
    assert_eq!(cluster.registry.maintenance.machines.len(), 0);
}

#[test]
fn an_agent_that_comes_back_to_a_machine_that_is_down_is_removed() {
    let mut cluster = Cluster::new();
    let (link, agent) = cluster.agent("cpus:8;mem:1024");
    cluster.input(Input::LinkClosed { link });
    cluster.advance(Duration::from_secs(601));
    done(&mut cluster, schedule(&["host"], 100));
    done(&mut cluster, Order::StartMaintenance(vec![machine("host")]));
    assert!(cluster.master.agents.contains_key(agent.as_str()), "it is given up, not removed");
    let back = crate::LinkId(98);
    let info = v1::AgentInfo {
        hostname: "host".into(),
        id: Some(v1::AgentId { value: agent.clone() }),
        ..v1::AgentInfo::default()
    };
    let register = mezzo_proto::internal::v1::Register {
        agent_info: Some(info),
        ..mezzo_proto::internal::v1::Register::default()
    };
    let message = mezzo_proto::internal::v1::agent_to_master::Message::Register(Box::new(register));
    cluster.agent_says(back, message);
    let messages = cluster.take_messages(back);
    assert!(matches!(messages.as_slice(), [ToAgent::Refused(r)] if r.shutdown), "{messages:?}");
    assert!(!cluster.master.agents.contains_key(agent.as_str()));
}

#[test]
fn an_offer_that_nobody_answers_is_taken_back() {
    let mut cluster = Cluster::with(|config| config.offer_timeout = Some(Duration::from_secs(30)));
    let (stream, id) = cluster.framework(framework_info(true));
    cluster.agent("cpus:8;mem:1024");
    let offers = cluster.take_offers(stream);
    cluster.advance(Duration::from_secs(29));
    assert!(!kinds(&mut cluster, stream).contains(&"RESCIND"));
    cluster.advance(Duration::from_secs(2));
    let events = cluster.take_events(stream);
    let rescinded = events.iter().find_map(|e| e.rescind.as_ref()).expect("a rescind");
    assert_eq!(rescinded.offer_id, offers[0].id);
    assert!(events.iter().any(|e| e.r#type() == event::Type::Offers), "and given out anew");
    let decline = call::Decline { offer_ids: vec![offers[0].id.clone()], filters: None };
    let late = cluster.call(stream, &id, call::Type::Decline, |c| c.decline = Some(decline));
    assert_eq!(late, Ok(Answer::Accepted));
}

#[test]
fn agents_hear_what_a_framework_says_of_itself() {
    let mut cluster = Cluster::new();
    let (stream, id) = cluster.framework(framework_info(true));
    let (link, agent) = cluster.agent("cpus:8;mem:1024");
    let offers = cluster.take_offers(stream);
    cluster.launch(stream, &id, &[&offers[0]], vec![task("t", &agent, "cpus:2;mem:32")]);
    let (idle, _) = cluster.agent("cpus:8;mem:1024");
    cluster.take_messages(link);
    let info = v1::FrameworkInfo {
        id: Some(id.clone()),
        name: "renamed".to_owned(),
        ..framework_info(true)
    };
    let update = call::UpdateFramework { framework_info: info.clone(), ..Default::default() };
    let result = cluster.call(stream, &id, call::Type::UpdateFramework, |c| {
        c.update_framework = Some(Box::new(update))
    });
    assert_eq!(result, Ok(Answer::Done));
    let told = cluster.to_agents.remove(&link).expect("a message");
    let [(ToAgent::UpdateFramework(told), after)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(told.framework_info.as_ref(), Some(&info));
    assert_eq!(*after, Position(cluster.log.len() as u64));
    assert!(cluster.take_messages(idle).is_empty(), "it runs nothing of it");
    // One that was away meanwhile hears of it when it is back, and only if it knows an older word.
    cluster.input(Input::LinkClosed { link });
    for (known, messages) in [(&framework_info(true), 1), (&info, 0)] {
        let known = v1::FrameworkInfo { id: Some(id.clone()), ..known.clone() };
        let (link, _) = cluster.register_knowing(&agent, "cpus:8;mem:1024", vec![known]);
        let told = cluster.take_messages(link);
        let told: Vec<_> =
            told.iter().filter(|m| matches!(m, ToAgent::UpdateFramework(_))).collect();
        assert_eq!(told.len(), messages);
    }
}

#[test]
fn without_room_nothing_is_decided() {
    let mut cluster = Cluster::new();
    cluster.input(Input::Room { shortage: Some("the disk is full".to_owned()) });
    let refusal = order(&mut cluster, Order::UpdateWeights(vec![weight("eng", 2.0)]));
    assert_eq!(refusal, Err(Refusal::Unavailable("the disk is full".to_owned())));
}
