//! What fits: cutting tasks out of an offer.
//!
//! Amounts are compared in thousandths, as the master does, so that ten tasks of 0.1 CPUs fill
//! one CPU exactly.

use crate::task::Task;
use crate::v1;

/// What is left of one offer while tasks are placed on it.
#[derive(Debug, Clone)]
pub struct Room {
    agent_id: v1::AgentId,
    left: Vec<v1::Resource>,
}

impl Room {
    /// All that the offer holds, except what a command task cannot use as a plain amount:
    /// revocable and shared resources, persistent volumes, disks with a source, and resources of
    /// resource providers.
    pub fn of(offer: &v1::Offer) -> Self {
        Room {
            agent_id: offer.agent_id.clone(),
            left: offer.resources.iter().filter(|resource| is_plain(resource)).cloned().collect(),
        }
    }

    /// Takes the task's demand out of the room and returns the task bound to the offer's agent.
    /// Reserved resources are used first. None, and nothing taken, if the demand does not fit.
    pub fn fit(&mut self, task: &Task) -> Option<v1::TaskInfo> {
        let demand = task.demand();
        let mut left = self.left.clone();
        let mut taken = Vec::new();
        for (name, amount) in [
            ("cpus", demand.cpus),
            ("mem", demand.mem_mb),
            ("disk", demand.disk_mb),
            ("gpus", f64::from(demand.gpus)),
        ] {
            take_scalar(&mut left, name, thousandths(amount), &mut taken)?;
        }
        take_ports(&mut left, demand.ports, &mut taken)?;
        self.left = left;
        Some(task.on(self.agent_id.clone(), taken))
    }

    /// How much of a scalar resource is left: `cpus`, or `mem` and `disk` in megabytes.
    pub fn scalar(&self, name: &str) -> f64 {
        let sum: i64 =
            self.left.iter().filter(|resource| resource.name == name).map(amount_of).sum();
        sum as f64 / 1000.0
    }

    /// How many ports are left.
    pub fn ports(&self) -> u64 {
        self.left
            .iter()
            .filter(|resource| resource.name == "ports")
            .flat_map(|resource| resource.ranges.iter().flat_map(|ranges| &ranges.range))
            .map(|range| range.end.saturating_sub(range.begin).saturating_add(1))
            .fold(0, u64::saturating_add)
    }
}

fn is_plain(resource: &v1::Resource) -> bool {
    resource.revocable.is_none()
        && resource.shared.is_none()
        && resource.provider_id.is_none()
        && resource
            .disk
            .as_ref()
            .is_none_or(|disk| disk.source.is_none() && disk.persistence.is_none())
}

#[expect(deprecated, reason = "offers to frameworks without stacked reservations carry `role`")]
fn is_reserved(resource: &v1::Resource) -> bool {
    !resource.reservations.is_empty()
        || resource.reservation.is_some()
        || resource.role.as_deref().is_some_and(|role| role != "*")
}

fn thousandths(amount: f64) -> i64 {
    (amount * 1000.0).round() as i64
}

fn amount_of(resource: &v1::Resource) -> i64 {
    resource.scalar.as_ref().map_or(0, |scalar| thousandths(scalar.value))
}

/// Positions of the resources of a name, reserved ones first.
fn order(left: &[v1::Resource], name: &str) -> Vec<usize> {
    let mut positions: Vec<usize> =
        (0..left.len()).filter(|position| left[*position].name == name).collect();
    positions.sort_by_key(|position| !is_reserved(&left[*position]));
    positions
}

fn take_scalar(
    left: &mut [v1::Resource],
    name: &str,
    mut wanted: i64,
    taken: &mut Vec<v1::Resource>,
) -> Option<()> {
    for position in order(left, name) {
        let available = amount_of(&left[position]);
        let part = wanted.min(available);
        if part <= 0 {
            continue;
        }
        let mut piece = left[position].clone();
        piece.scalar = Some(v1::value::Scalar { value: part as f64 / 1000.0 });
        taken.push(piece);
        left[position].scalar =
            Some(v1::value::Scalar { value: (available - part) as f64 / 1000.0 });
        wanted -= part;
    }
    (wanted <= 0).then_some(())
}

fn take_ports(
    left: &mut [v1::Resource],
    mut wanted: usize,
    taken: &mut Vec<v1::Resource>,
) -> Option<()> {
    for position in order(left, "ports") {
        let mut piece = Vec::new();
        let mut rest = Vec::new();
        let ranges = left[position].ranges.take().unwrap_or_default();
        for range in ranges.range.into_iter().filter(|range| range.begin <= range.end) {
            let count = (range.end - range.begin).saturating_add(1).min(wanted as u64);
            if count > 0 {
                let last = range.begin + (count - 1);
                piece.push(v1::value::Range { begin: range.begin, end: last });
                wanted -= count as usize;
            }
            if count == 0 {
                rest.push(range);
            } else if range.begin + (count - 1) < range.end {
                rest.push(v1::value::Range { begin: range.begin + count, end: range.end });
            }
        }
        if !piece.is_empty() {
            let mut resource = left[position].clone();
            resource.ranges = Some(v1::value::Ranges { range: piece });
            taken.push(resource);
        }
        left[position].ranges = Some(v1::value::Ranges { range: rest });
    }
    (wanted == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scalar(name: &str, value: f64) -> v1::Resource {
        v1::Resource {
            name: name.to_owned(),
            r#type: v1::value::Type::Scalar as i32,
            scalar: Some(v1::value::Scalar { value }),
            ..Default::default()
        }
    }

    fn reserved(name: &str, value: f64, role: &str) -> v1::Resource {
        v1::Resource {
            reservations: vec![v1::resource::ReservationInfo {
                role: Some(role.to_owned()),
                ..Default::default()
            }],
            ..scalar(name, value)
        }
    }

    fn ports(ranges: &[(u64, u64)]) -> v1::Resource {
        v1::Resource {
            name: "ports".to_owned(),
            r#type: v1::value::Type::Ranges as i32,
            ranges: Some(v1::value::Ranges {
                range: ranges
                    .iter()
                    .map(|(begin, end)| v1::value::Range { begin: *begin, end: *end })
                    .collect(),
            }),
            ..Default::default()
        }
    }

    fn offer(resources: Vec<v1::Resource>) -> v1::Offer {
        v1::Offer {
            agent_id: v1::AgentId { value: "agent".to_owned() },
            resources,
            ..Default::default()
        }
    }

    fn task(cpus: f64, mem: f64) -> Task {
        Task::command("t", "t").cpus(cpus).mem(mem).shell("true")
    }

    #[test]
    fn ten_tenths_fill_one_cpu_exactly() {
        let mut room = Room::of(&offer(vec![scalar("cpus", 1.0), scalar("mem", 1000.0)]));
        let task = task(0.1, 32.0);
        for _ in 0..10 {
            assert!(room.fit(&task).is_some());
        }
        assert!(room.fit(&task).is_none());
        assert_eq!((room.scalar("cpus"), room.scalar("mem")), (0.0, 680.0));
    }

    #[test]
    fn reserved_resources_go_first_and_keep_their_reservation() {
        let mut room = Room::of(&offer(vec![scalar("cpus", 2.0), reserved("cpus", 1.0, "ads")]));
        let info = room.fit(&task(1.5, 0.0)).expect("fits");
        let pieces: Vec<_> =
            info.resources.iter().map(|r| (amount_of(r), r.reservations.len())).collect();
        assert_eq!(pieces, [(1000, 1), (500, 0)]);
    }

    #[test]
    fn nothing_is_taken_when_a_part_does_not_fit() {
        let mut room = Room::of(&offer(vec![scalar("cpus", 2.0), scalar("mem", 10.0)]));
        assert!(room.fit(&task(1.0, 11.0)).is_none());
        assert_eq!(room.scalar("cpus"), 2.0);
    }

    #[test]
    fn ports_are_cut_from_the_front() {
        let mut room = Room::of(&offer(vec![ports(&[(31000, 31001), (31005, 31010)])]));
        let info = room.fit(&Task::command("t", "t").ports(3)).expect("fits");
        assert_eq!(info.resources, [ports(&[(31000, 31001), (31005, 31005)])]);
        assert_eq!(room.ports(), 5);
        assert!(room.fit(&Task::command("t", "t").ports(6)).is_none());
        assert_eq!(room.ports(), 5);
    }

    #[test]
    fn revocable_cpus_and_volumes_are_left_alone() {
        let revocable =
            v1::Resource { revocable: Some(v1::resource::RevocableInfo {}), ..scalar("cpus", 4.0) };
        let volume = v1::Resource {
            disk: Some(Box::new(v1::resource::DiskInfo {
                persistence: Some(v1::resource::disk_info::Persistence::default()),
                ..Default::default()
            })),
            ..scalar("disk", 100.0)
        };
        let room = Room::of(&offer(vec![revocable, volume]));
        assert_eq!((room.scalar("cpus"), room.scalar("disk")), (0.0, 0.0));
    }

    proptest! {
        #[test]
        fn taken_and_left_add_up(parts in prop::collection::vec(0i64..5000, 1..5), wanted in 0i64..12000) {
            let total: i64 = parts.iter().sum();
            let resources = parts.iter().map(|p| scalar("cpus", *p as f64 / 1000.0)).collect();
            let mut room = Room::of(&offer(resources));
            let fitted = room.fit(&task(wanted as f64 / 1000.0, 0.0));
            prop_assert_eq!(fitted.is_some(), wanted <= total);
            let taken: i64 =
                fitted.iter().flat_map(|info| &info.resources).map(amount_of).sum();
            prop_assert_eq!(taken + thousandths(room.scalar("cpus")), total);
        }
    }
}
