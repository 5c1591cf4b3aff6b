//! When to ask for votes.
//!
//! Raft draws its election timeouts from the thread's random numbers, and again at each of its resets, so no run could be
//! repeated. Here raft's own timeout is out of reach ([`NEVER`]), and the node campaigns when raft's clock
//! (`election_elapsed`, which hearing of a leader and granting a vote set back) reaches a timeout drawn from a seed.

use crate::random::Random;

/// Ticks that never pass.
pub(crate) const NEVER: usize = 1 << 40;

/// The next timeout, and a campaign that was asked for.
#[derive(Debug)]
pub(crate) struct Election {
    random: Random,
    base_ticks: usize,
    timeout_ticks: usize,
    /// The term that the timeout was drawn for.
    term: u64,
    /// Ticks until the node campaigns if no leader has shown up by then.
    hurried_ticks: Option<usize>,
}

impl Election {
    pub fn new(seed: u64, node_id: u64, base_ticks: usize) -> Self {
        let mut election = Self {
            random: Random::new(seed ^ node_id.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            base_ticks,
            timeout_ticks: 0,
            term: 0,
            hurried_ticks: None,
        };
        election.draw();
        election
    }

    /// Draws the next timeout, `base..2 * base`.
    pub fn draw(&mut self) {
        self.timeout_ticks = self.base_ticks + self.draw_below(self.base_ticks);
    }

    pub fn draw_below(&mut self, limit: usize) -> usize {
        self.random.below(limit as u64) as usize
    }

    pub fn is_hurried(&self) -> bool {
        self.hurried_ticks.is_some()
    }

    /// Draws anew if the term has changed: two nodes that drew the same are unlikely to do so again.
    pub fn note_term(&mut self, term: u64) {
        if self.term != term {
            self.term = term;
            self.draw();
        }
    }

    pub fn hurry(&mut self, ticks: usize) {
        self.hurried_ticks = Some(ticks);
    }

    /// One tick of a node that does not lead and has not heard of a leader for `elapsed_ticks`; whether it campaigns.
    pub fn tick(&mut self, elapsed_ticks: usize, has_leader: bool) -> bool {
        if has_leader {
            self.hurried_ticks = None;
        }
        match self.hurried_ticks {
            Some(0 | 1) => {
                self.hurried_ticks = None;
                true
            }
            Some(ticks) => {
                self.hurried_ticks = Some(ticks - 1);
                elapsed_ticks >= self.timeout_ticks
            }
            None => elapsed_ticks >= self.timeout_ticks,
        }
    }

    /// Ticks until [`Election::tick`] says yes, if nothing happens.
    pub fn due_ticks(&self, elapsed_ticks: usize) -> usize {
        let silent = self.timeout_ticks.saturating_sub(elapsed_ticks);
        self.hurried_ticks.unwrap_or(silent).min(silent).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeouts(seed: u64, node_id: u64) -> Vec<usize> {
        let mut election = Election::new(seed, node_id, 10);
        (1..200)
            .map(|term| {
                election.note_term(term);
                election.timeout_ticks
            })
            .collect()
    }

    #[test]
    fn timeouts_are_those_of_the_seed_and_the_node() {
        assert_eq!(timeouts(1, 1), timeouts(1, 1));
        assert_ne!(timeouts(1, 1), timeouts(1, 2));
        assert_ne!(timeouts(1, 1), timeouts(2, 1));
        let drawn = timeouts(1, 1);
        assert!(drawn.iter().all(|ticks| (10..20).contains(ticks)), "{drawn:?}");
        assert!((10..20).all(|ticks| drawn.contains(&ticks)), "{drawn:?}");
    }

    #[test]
    fn a_hurried_campaign_is_off_when_a_leader_shows_up() {
        let mut election = Election::new(1, 1, 10);
        election.hurry(2);
        assert_eq!(election.due_ticks(0), 2);
        assert!(!election.tick(0, false));
        assert!(election.tick(1, false));
        assert!(!election.tick(2, false));
        election.hurry(1);
        assert!(!election.tick(0, true));
        assert!(!election.tick(1, false));
        assert!(election.tick(20, false), "silence is still noticed");
    }
}
