//! What a bench says, and the statistics in it.

use std::time::Duration;

use serde_json::json;

use crate::conditions::Conditions;

/// One figure.
pub struct Measurement {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    /// `None`: there for comparison, nothing was promised.
    pub goal: Option<Goal>,
    /// The floor or the rival, measured in the same run; same unit.
    pub baseline: Option<Baseline>,
    pub conditions: Conditions,
    pub note: String,
}

/// What the figure should be.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// What a figure is compared with.
pub struct Baseline {
    pub value: f64,
    /// The median of the ratios of rounds that ran side by side.
    pub ratio: f64,
}

impl Baseline {
    /// Of `ours` and `theirs`, one of each a round, interleaved.
    ///
    /// # Panics
    /// Without any rounds.
    pub fn paired(ours: &[f64], theirs: &[f64]) -> Baseline {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
        Baseline { value: median(theirs), ratio: median(&Vec::from_iter(ratios)) }
    }
}

impl Measurement {
    /// One JSON object.
    pub fn line(&self) -> String {
        let (goal, met) = match self.goal {
            Some(Goal::AtMost(goal)) => (Some(format!("<= {goal}")), Some(self.value <= goal)),
            Some(Goal::AtLeast(goal)) => (Some(format!(">= {goal}")), Some(self.value >= goal)),
            None => (None, None),
        };
        json!({
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "goal": goal,
            "met": met,
            "baseline": self.baseline.as_ref().map(|baseline| rounded(baseline.value)),
            "ratio": self.baseline.as_ref().map(|baseline| rounded(baseline.ratio)),
            "class": self.conditions.class,
            "load": rounded(self.conditions.load),
            "note": self.note,
        })
        .to_string()
    }
}

/// Times of one thing that was done often.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl FromIterator<Duration> for Times {
    fn from_iter<T: IntoIterator<Item = Duration>>(times: T) -> Times {
        let mut times = Vec::from_iter(times);
        times.sort_unstable();
        Times(times)
    }
}

impl Times {
    pub fn add(&mut self, time: Duration) {
        let at = self.0.partition_point(|known| *known < time);
        self.0.insert(at, time);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time that this part of them, from 0 to 1, is not longer than, in milliseconds.
    ///
    /// # Panics
    /// Without any times.
    pub fn quantile_ms(&self, part: f64) -> f64 {
        let last = self.0.len() - 1;
        let at = (part * last as f64).round() as usize;
        self.0[at.min(last)].as_secs_f64() * 1e3
    }
}

/// The middle one, or the upper of the two.
///
/// # Panics
/// Without any values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let mut times = Times::default();
        for ms in [5, 1, 4, 2, 3] {
            times.add(Duration::from_millis(ms));
        }
        assert_eq!([0.0, 0.5, 1.0].map(|part| times.quantile_ms(part)), [1.0, 3.0, 5.0]);
        let times = Times::from_iter([5, 1, 3].map(Duration::from_millis));
        assert_eq!([0.0, 0.5, 1.0].map(|part| times.quantile_ms(part)), [1.0, 3.0, 5.0]);
    }

    #[test]
    fn a_ratio_is_of_rounds_and_not_of_medians() {
        // The machine was busy in the second round: both suffered alike.
        let paired = Baseline::paired(&[2.0, 20.0, 4.0], &[1.0, 10.0, 4.0]);
        assert_eq!((paired.value, paired.ratio), (4.0, 2.0));
    }

    #[test]
    fn a_line_says_whether_the_goal_was_met() {
        let mut measurement = Measurement {
            name: "a/b",
            value: 2.0,
            unit: "ms",
            goal: Some(Goal::AtMost(3.0)),
            baseline: Some(Baseline { value: 0.5, ratio: 4.0 }),
            conditions: Conditions { class: "normal".to_owned(), load: 0.25 },
            note: String::new(),
        };
        let line = measurement.line();
        assert!(line.contains(r#""met":true"#) && line.contains(r#""ratio":4.0"#), "{line}");
        assert!(line.contains(r#""class":"normal","load":0.25"#), "{line}");
        measurement.goal = Some(Goal::AtLeast(3.0));
        assert!(measurement.line().contains(r#""goal":">= 3","met":false"#));
        measurement.goal = None;
        assert!(measurement.line().contains(r#""goal":null,"met":null"#));
    }
}
