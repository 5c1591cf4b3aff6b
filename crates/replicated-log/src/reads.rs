//! Linearizable reads: the leader notes its commit index, has a majority confirm that it still leads, and answers when
//! everything up to that index has been delivered (raft's read index; no leases, so no clocks are trusted).

use std::collections::VecDeque;

/// Reads that may be under way. Each costs a few dozen bytes.
pub(crate) const MAX_READS: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Not asked about yet: they share the next question.
    waiting: Vec<u64>,
    /// Asked about, and not confirmed: number of the question and tokens.
    asked: VecDeque<(u64, Vec<u64>)>,
    /// Confirmed, and not delivered up to the index yet.
    confirmed: VecDeque<(u64, Vec<u64>)>,
    /// Number of the last question. Raft tells answers apart by it within a term, and no node leads twice in one.
    questions: u64,
    count: usize,
}

impl Reads {
    /// Whether there was room.
    pub fn add(&mut self, token: u64) -> bool {
        if self.count >= MAX_READS {
            return false;
        }
        self.count += 1;
        self.waiting.push(token);
        true
    }

    /// The context of a question about all that wait, if any do. A read must not join an earlier question: what was
    /// committed meanwhile would be missing from its answer.
    pub fn ask(&mut self) -> Option<Vec<u8>> {
        if self.waiting.is_empty() {
            return None;
        }
        self.questions += 1;
        self.asked.push_back((self.questions, std::mem::take(&mut self.waiting)));
        Some(self.questions.to_be_bytes().to_vec())
    }

    /// A majority has answered the question with this context.
    pub fn confirm(&mut self, context: &[u8], index: u64) {
        let asked = |question: &u64| context == question.to_be_bytes();
        let found = self.asked.iter().position(|(question, _)| asked(question));
        if let Some((_, tokens)) = found.and_then(|found| self.asked.remove(found)) {
            self.confirmed.push_back((index, tokens));
        }
    }

    /// Index and tokens of reads that can be answered when everything up to `delivered` has been.
    pub fn answer(&mut self, delivered: u64) -> Option<(u64, Vec<u64>)> {
        if self.confirmed.front()?.0 > delivered {
            return None;
        }
        let (index, tokens) = self.confirmed.pop_front()?;
        self.count -= tokens.len();
        Some((index, tokens))
    }

    /// The lead is lost: those that are not confirmed never will be. What is confirmed stays so.
    pub fn abandon(&mut self) -> Vec<u64> {
        let asked = self.asked.drain(..).flat_map(|(_, tokens)| tokens);
        let tokens: Vec<u64> = asked.chain(self.waiting.drain(..)).collect();
        self.count -= tokens.len();
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_never_joins_an_earlier_question() {
        let mut reads = Reads::default();
        assert!(reads.add(1) && reads.add(2));
        let first = reads.ask().expect("two wait");
        assert_eq!(reads.ask(), None);
        assert!(reads.add(3));
        let second = reads.ask().expect("one waits");
        assert_ne!(first, second);
        reads.confirm(&first, 5);
        reads.confirm(&first, 6);
        reads.confirm(b"another's", 7);
        assert_eq!(reads.answer(4), None);
        assert_eq!(reads.answer(5), Some((5, vec![1, 2])));
        assert!(reads.add(4));
        assert_eq!(reads.abandon(), [3, 4]);
        reads.confirm(&second, 9);
        assert_eq!((reads.answer(100), reads.count), (None, 0));
    }
}
