//! Random histories: against the reference, and against what must hold in any of them.

use proptest::collection::vec;
use proptest::prelude::*;

use super::reference::Reference;
use super::*;

const ROLES: [&str; 6] = ["a", "a/x", "a/x/deep", "a/y", "b", "c"];

/// One thing that happens. Numbers pick among what exists, so that every history makes sense.
#[derive(Clone, Debug)]
enum Event {
    AddAgent {
        cpus: u32,
        mem: u32,
    },
    RemoveAgent(usize),
    Resize {
        agent: usize,
        cpus: u32,
        mem: u32,
    },
    Active {
        agent: usize,
        active: bool,
    },
    AddFramework {
        framework: usize,
        roles: Vec<usize>,
    },
    UpdateFramework {
        framework: usize,
        roles: Vec<usize>,
    },
    RemoveFramework(usize),
    Connected {
        framework: usize,
        connected: bool,
    },
    Suppress(usize),
    Revive(usize),
    Weight {
        role: usize,
        weight: u32,
    },
    Recover {
        allocation: usize,
        all: bool,
        refuse_ms: Option<u64>,
    },
    /// Of something that was given a part is reserved, or is so no more.
    ConvertGiven {
        allocation: usize,
        back: bool,
    },
    /// The same of what nobody holds, for a role.
    ConvertLeft {
        agent: usize,
        role: usize,
        back: bool,
    },
    Wait {
        ms: u64,
    },
}

fn plain_event() -> impl Strategy<Value = Event> {
    let recover = |(allocation, all)| Event::Recover { allocation, all, refuse_ms: None };
    prop_oneof![
        4 => (1..9u32, 1..9u32).prop_map(|(cpus, mem)| Event::AddAgent { cpus, mem: mem * 64 }),
        2 => (0..6usize, vec(0..ROLES.len(), 1..3))
            .prop_map(|(framework, roles)| Event::AddFramework { framework, roles }),
        1 => (0..ROLES.len(), 1..5u32).prop_map(|(role, weight)| Event::Weight { role, weight }),
        6 => (any::<usize>(), any::<bool>()).prop_map(recover),
        4 => Just(Event::Wait { ms: 10 }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let recover = |(allocation, all, refuse_ms)| Event::Recover { allocation, all, refuse_ms };
    let roles = || vec(0..ROLES.len(), 0..3);
    prop_oneof![
        6 => plain_event(),
        1 => any::<usize>().prop_map(Event::RemoveAgent),
        1 => (any::<usize>(), 1..9u32, 1..9u32)
            .prop_map(|(agent, cpus, mem)| Event::Resize { agent, cpus, mem: mem * 64 }),
        1 => (any::<usize>(), any::<bool>())
            .prop_map(|(agent, active)| Event::Active { agent, active }),
        1 => (0..6usize, roles())
            .prop_map(|(framework, roles)| Event::UpdateFramework { framework, roles }),
        1 => (0..6usize).prop_map(Event::RemoveFramework),
        1 => (0..6usize, any::<bool>())
            .prop_map(|(framework, connected)| Event::Connected { framework, connected }),
        1 => (0..6usize).prop_map(Event::Suppress),
        1 => (0..6usize).prop_map(Event::Revive),
        6 => (any::<usize>(), any::<bool>(), prop::option::of(0..2000u64)).prop_map(recover),
        3 => (0..1000u64).prop_map(|ms| Event::Wait { ms }),
    ]
}

/// Also with operations that turn resources into others.
fn event_or_operation() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => event(),
        3 => (any::<usize>(), any::<bool>())
            .prop_map(|(allocation, back)| Event::ConvertGiven { allocation, back }),
        1 => (any::<usize>(), 0..ROLES.len(), any::<bool>())
            .prop_map(|(agent, role, back)| Event::ConvertLeft { agent, role, back }),
    ]
}

/// One CPU becomes the role's, or back.
fn conversion(role: &str, back: bool) -> Conversion {
    let dynamic = Reservation {
        role: role.into(),
        kind: ReservationKind::Dynamic,
        principal: None,
        labels: Default::default(),
    };
    let plain = room(1, 0);
    let step = Conversion {
        converted: plain.push_reservation(&dynamic),
        consumed: plain,
        last_copy: false,
    };
    if back { step.reversed() } else { step }
}

/// Plays a history and keeps, apart from the allocator, what it gave and what was refused.
struct Play {
    allocator: DrfAllocator,
    ms: u64,
    agents: Vec<(AgentId, Resources)>,
    made: u32,
    given: Vec<Allocation>,
    refused: Vec<(Allocation, u64)>,
    log: Vec<String>,
}

fn options(roles: &[usize]) -> FrameworkOptions {
    in_roles(&Vec::from_iter(roles.iter().map(|role| ROLES[*role])))
}

fn id(framework: usize) -> FrameworkId {
    format!("f{framework}").into()
}

impl Play {
    fn new() -> Self {
        Play {
            allocator: allocator(),
            ms: 0,
            agents: Vec::new(),
            made: 0,
            given: Vec::new(),
            refused: Vec::new(),
            log: Vec::new(),
        }
    }

    fn all(events: &[Event]) -> Result<Self, TestCaseError> {
        let mut play = Play::new();
        for event in events {
            play.play(event);
            play.allocate()?;
        }
        Ok(play)
    }

    fn play(&mut self, event: &Event) {
        let now = at(self.ms);
        let agents = self.agents.len().max(1);
        match event {
            Event::AddAgent { cpus, mem } => {
                let id = AgentId::from(format!("s{}", self.made));
                self.made += 1;
                let total = room(*cpus, *mem);
                self.allocator.add_agent(
                    now,
                    &id,
                    total.clone(),
                    BTreeMap::new(),
                    AgentOptions::default(),
                );
                self.agents.push((id, total));
            }
            Event::RemoveAgent(at) if !self.agents.is_empty() => {
                let (id, _) = self.agents.remove(at % agents);
                self.allocator.remove_agent(&id);
                self.given.retain(|given| given.agent != id);
            }
            Event::Resize { agent, cpus, mem } if !self.agents.is_empty() => {
                let (id, total) = &mut self.agents[agent % agents];
                *total = room(*cpus, *mem);
                self.allocator.update_agent(now, id, total.clone());
            }
            Event::Active { agent, active } if !self.agents.is_empty() => {
                let id = &self.agents[agent % agents].0;
                match active {
                    true => self.allocator.activate_agent(now, id),
                    false => self.allocator.deactivate_agent(id),
                }
            }
            Event::RemoveAgent(_) | Event::Resize { .. } | Event::Active { .. } => {}
            Event::AddFramework { framework, roles } => {
                self.allocator.add_framework(now, &id(*framework), options(roles));
                let options = options(roles);
                self.forget(*framework, |role| !options.roles.contains(role));
            }
            Event::UpdateFramework { framework, roles } => {
                self.allocator.update_framework(now, &id(*framework), options(roles));
                let options = options(roles);
                self.forget(*framework, |role| !options.roles.contains(role));
            }
            Event::RemoveFramework(framework) => {
                self.allocator.remove_framework(&id(*framework));
                self.forget(*framework, |_| true);
            }
            Event::Connected { framework, connected: true } => {
                self.allocator.activate_framework(now, &id(*framework));
            }
            Event::Connected { framework, connected: false } => {
                self.allocator.deactivate_framework(&id(*framework));
                self.forget(*framework, |_| true);
            }
            Event::Suppress(framework) => self.allocator.suppress(&id(*framework), &[]),
            Event::Revive(framework) => {
                self.allocator.revive(now, &id(*framework), &[]);
                self.forget(*framework, |_| true);
            }
            Event::Weight { role, weight } => {
                self.allocator.set_weight(now, ROLES[*role], f64::from(*weight));
            }
            Event::Recover { allocation, all, refuse_ms } => {
                self.recover(*allocation, *all, *refuse_ms)
            }
            Event::ConvertGiven { allocation, back } if !self.given.is_empty() => {
                let at_index = allocation % self.given.len();
                let given = &mut self.given[at_index];
                let plain = conversion(&given.role, *back);
                let step = Conversion {
                    consumed: plain.consumed.allocate(&given.role),
                    converted: plain.converted.allocate(&given.role),
                    last_copy: false,
                };
                let steps = std::slice::from_ref(&step);
                let allocator = &mut self.allocator;
                // The framework may hold it on the agent by another allocation.
                let here = given.resources.convert(steps).is_ok();
                if here
                    && allocator
                        .convert_allocated(now, &given.framework, &given.agent, steps)
                        .is_ok()
                {
                    given.resources = given.resources.convert(steps).expect("it was given");
                    let mut agents = self.agents.iter_mut();
                    let agent = agents.find(|(id, _)| *id == given.agent).expect("known");
                    agent.1 = agent.1.convert(&[plain]).expect("the agent has it");
                }
            }
            Event::ConvertLeft { agent, role, back } if !self.agents.is_empty() => {
                let (id, total) = &mut self.agents[agent % agents];
                let step = conversion(ROLES[*role], *back);
                if self.allocator.convert_available(now, id, std::slice::from_ref(&step)).is_ok() {
                    *total = total.convert(&[step]).expect("the agent has it");
                }
            }
            Event::ConvertGiven { .. } | Event::ConvertLeft { .. } => {}
            Event::Wait { ms } => self.ms += ms,
        }
    }

    fn recover(&mut self, allocation: usize, all: bool, refuse_ms: Option<u64>) {
        if self.given.is_empty() {
            return;
        }
        let at_index = allocation % self.given.len();
        let given = &mut self.given[at_index];
        let one = room(1, 64).allocate(&given.role);
        let back = match given.resources.checked_sub(&one) {
            Some(rest) if !all => {
                given.resources = rest;
                one
            }
            _ => std::mem::take(&mut given.resources),
        };
        let given = Allocation { resources: back.clone(), ..given.clone() };
        self.given.retain(|given| !given.resources.is_empty());
        let refuse = refuse_ms.map(Duration::from_millis);
        self.allocator.recover(at(self.ms), &given.framework, &given.agent, &back, refuse);
        if let Some(ms) = refuse_ms {
            let framework = self.allocator.frameworks.get(&given.framework);
            if framework.is_some_and(|f| f.active && f.options.roles.contains(&given.role)) {
                self.refused.push((given, self.ms + ms.max(100)));
            }
        }
    }

    fn forget(&mut self, framework: usize, role: impl Fn(&String) -> bool) {
        let framework = id(framework);
        self.refused.retain(|(refused, _)| refused.framework != framework || !role(&refused.role));
    }

    /// What comes out, and whether it may.
    fn allocate(&mut self) -> Result<(), TestCaseError> {
        let allocations = self.allocator.allocate(at(self.ms));
        prop_assert_eq!(self.allocator.check_invariants(), Ok(()));
        for new in allocations {
            self.log.push(format!("{} {}", self.ms, line(&new)));
            let total = self.agents.iter().find(|(id, _)| *id == new.agent).map(|(_, total)| total);
            let before = self.given.iter().filter(|given| given.agent == new.agent);
            let before: Resources = before.map(|given| given.resources.unallocated()).sum();
            for (name, amount) in new.resources.quantities().iter() {
                let sum = before.quantities().get(name).saturating_add(amount);
                let total = total.map(|total| total.quantities().get(name)).unwrap_or_default();
                prop_assert!(sum <= total, "{name} of {}: {sum} of {total}", new.agent);
            }
            for (refused, until) in &self.refused {
                let same = (&refused.framework, &refused.role, &refused.agent)
                    == (&new.framework, &new.role, &new.agent);
                let blocked =
                    same && *until > self.ms && refused.resources.contains(&new.resources);
                prop_assert!(!blocked, "{} was refused until {until}", line(&new));
            }
            self.given.push(new);
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn agrees_with_progressive_filling(events in vec(plain_event(), 1..60)) {
        let mut play = Play::new();
        let mut reference = Reference::default();
        let mut known = BTreeSet::new();
        for event in &events {
            // Who leaves a role is forgotten with how often it was served; the reference never
            // forgets, so nobody leaves here.
            if let Event::AddFramework { framework, .. } = event
                && !known.insert(*framework)
            {
                continue;
            }
            let before = play.given.clone();
            play.play(event);
            match event {
                Event::AddAgent { cpus, mem } => {
                    reference.add_agent(&format!("s{}", play.made - 1), room(*cpus, *mem));
                }
                Event::AddFramework { framework, roles } => {
                    let framework = format!("f{framework}");
                    let roles = roles.iter().map(|role| ROLES[*role].to_owned());
                    reference.clients.extend(roles.map(|role| (role, framework.clone())));
                }
                Event::Weight { role, weight } => {
                    reference.weights.insert(ROLES[*role].to_owned(), *weight);
                }
                Event::Recover { allocation, .. } if !before.is_empty() => {
                    let given = &before[allocation % before.len()];
                    let still = |now: &&Allocation| {
                        (&now.framework, &now.role, &now.agent)
                            == (&given.framework, &given.role, &given.agent)
                    };
                    let sum = |of: &[Allocation]| -> Resources {
                        of.iter().filter(still).map(|given| given.resources.unallocated()).sum()
                    };
                    let back = sum(&before).checked_sub(&sum(&play.given)).unwrap();
                    let (role, framework) = (&given.role, given.framework.as_str());
                    reference.recover(role, framework, given.agent.as_str(), &back);
                }
                _ => {}
            }
            if let Event::Wait { .. } = event {
                let from = play.log.len();
                play.allocate()?;
                let time = format!("{} ", play.ms);
                let lines = play.log[from..].iter().map(|line| line.trim_start_matches(&time));
                prop_assert_eq!(Vec::from_iter(lines), reference.allocate());
            }
        }
    }

    #[test]
    fn never_gives_twice_nor_what_was_refused(events in vec(event(), 1..120)) {
        Play::all(&events)?;
    }

    #[test]
    fn never_gives_twice_what_operations_made(events in vec(event_or_operation(), 1..120)) {
        Play::all(&events)?;
    }

    #[test]
    fn the_same_history_gives_the_same_offers(events in vec(event(), 1..80)) {
        prop_assert_eq!(Play::all(&events)?.log, Play::all(&events)?.log);
    }

    /// Nothing that could be offered lies idle once every refusal has ended.
    #[test]
    fn all_is_offered_in_the_end(events in vec(event(), 1..80)) {
        let mut play = Play::all(&events)?;
        play.play(&Event::AddFramework { framework: 0, roles: vec![0] });
        while let Some(next) = play.allocator.poll_timeout() {
            play.ms = play.ms.max(next.div_ceil(1_000_000));
            play.allocate()?;
        }
        prop_assert!(play.allocator.candidates.is_empty(), "{:?}", play.allocator.candidates);
    }
}
