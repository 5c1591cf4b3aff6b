//! What a repair found and did, in plain words.

use std::fmt;
use std::path::PathBuf;

/// Lines of one kind that are printed; the rest is counted.
const LINES_MAX: usize = 1000;

/// The outcome of a repair, printed as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// The store.
    pub dir: PathBuf,
    /// What is damaged.
    pub damage: Vec<String>,
    /// What could be read and makes sense: a number of each kind.
    pub kept: Vec<(&'static str, usize)>,
    /// What is lost, or was put together from what is left.
    pub lost: Vec<String>,
    /// What follows from that for tasks and frameworks.
    pub consequences: Vec<String>,
    /// Where the damaged store is kept, if it was replaced.
    pub replaced: Option<PathBuf>,
}

impl RepairReport {
    /// Nothing is damaged and nothing lost.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.lost.is_empty()
    }
}

impl fmt::Display for RepairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dir = self.dir.display();
        let kept: Vec<_> = self.kept.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        if self.is_sound() {
            return writeln!(f, "store {dir} is sound: {}", kept.join(", "));
        }
        writeln!(f, "store {dir} is damaged")?;
        for (mark, lines) in
            [("damage", &self.damage), ("lost", &self.lost), ("so", &self.consequences)]
        {
            for line in lines.iter().take(LINES_MAX) {
                writeln!(f, "  {mark}: {line}")?;
            }
            if lines.len() > LINES_MAX {
                writeln!(f, "  {mark}: and {} more", lines.len() - LINES_MAX)?;
            }
        }
        writeln!(f, "  saved: {}", kept.join(", "))?;
        match &self.replaced {
            Some(kept) => writeln!(f, "repaired; the damaged store is kept as {}", kept.display()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_is_lost_and_what_to_do() {
        let mut report = RepairReport {
            dir: "/w/meta".into(),
            kept: vec![("tasks", 3), ("containers", 2)],
            ..RepairReport::default()
        };
        assert_eq!(report.to_string(), "store /w/meta is sound: 3 tasks, 2 containers\n");
        report.lost.push("task 't'".to_owned());
        let text = report.to_string();
        assert!(text.contains("is damaged\n  lost: task 't'\n"), "{text}");
        report.replaced = Some("/w/meta.damaged-1".into());
        assert!(report.to_string().contains("kept as /w/meta.damaged-1"));
    }
}
