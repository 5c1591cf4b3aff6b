//! What a bench says, and the statistics in it.

use std::time::Duration;

use serde_json::json;

/// One figure.
pub struct Measurement {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub goal: Goal,
    /// The floor or the rival, measured in the same run; same unit.
    pub baseline: f64,
    pub note: String,
}

/// What the figure should be.
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Measurement {
    /// One JSON object.
    pub fn line(&self) -> String {
        let (goal, met) = match self.goal {
            Goal::AtMost(goal) => (format!("<= {goal}"), self.value <= goal),
            Goal::AtLeast(goal) => (format!(">= {goal}"), self.value >= goal),
        };
        json!({
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "goal": goal,
            "met": met,
            "baseline": rounded(self.baseline),
            "ratio": rounded(self.value / self.baseline),
            "note": self.note,
        })
        .to_string()
    }
}

/// Times of one thing that was done often.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        let at = self.0.partition_point(|known| *known < time);
        self.0.insert(at, time);
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
    }

    #[test]
    fn a_line_says_whether_the_goal_was_met() {
        let mut measurement = Measurement {
            name: "a/b",
            value: 2.0,
            unit: "ms",
            goal: Goal::AtMost(3.0),
            baseline: 0.5,
            note: String::new(),
        };
        let line = measurement.line();
        assert!(line.contains(r#""met":true"#) && line.contains(r#""ratio":4.0"#), "{line}");
        measurement.goal = Goal::AtLeast(3.0);
        assert!(measurement.line().contains(r#""goal":">= 3","met":false"#));
    }
}
