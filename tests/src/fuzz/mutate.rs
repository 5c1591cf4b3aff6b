//! Inputs that are nearly valid: they get further than noise.

/// Numbers that follow from a seed (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `end - 1`; 0 where `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % (end as u64).max(1)).unwrap_or(0)
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.roll() as u8).collect()
    }
}

/// Largest input that is made.
const LONGEST: usize = 64 * 1024;

/// What breaks parsers: ends of ranges, lengths that lie, things that nest.
const TOKENS: [&[u8]; 18] = [
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\x0f",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
    b"\x00\x00\x00\x00\x00\x00\xf0\x7f",
    b"\x00\x00\x00\x00\x00\x00\xf8\x7f",
    b"\xff\xff\xff\xff\xff\xff\xef\x7f",
    b"\x0b\x13\x1b\x23",
    b"18446744073709551616\n",
    b"1152921504606846976\n",
    b"-1",
    b"1e999",
    b"[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":",
    b"null",
    b"\\u0000",
    b"\xed\xa0\x80",
    b"\n",
    b"9223372036854775808",
];

/// Changes an input in a few places; `others` are spliced in.
pub fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], dice: &mut Dice) {
    for _ in 0..=dice.below(5) {
        let at = dice.below(input.len() + 1);
        let end = (at + dice.below(32) + 1).min(input.len());
        match dice.below(9) {
            0 if at < input.len() => input[at] = dice.roll() as u8,
            1 if at < input.len() => input[at] ^= 1 << dice.below(8),
            2 => {
                let new = dice.below(16);
                let new = dice.bytes(new);
                input.splice(at..at, new);
            }
            3 if at < end => drop(input.drain(at..end)),
            4 if at < end => {
                let copy = input[at..end].to_vec();
                let times = if dice.below(20) == 0 { 1000 } else { 1 + dice.below(3) };
                input.splice(at..at, copy.repeat(times));
            }
            5 if dice.below(4) == 0 => input.truncate(at),
            6 if !others.is_empty() => {
                let other = &others[dice.below(others.len())];
                let from = dice.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            7 => {
                let token = TOKENS[dice.below(TOKENS.len())];
                let end = if dice.below(2) == 0 { at } else { (at + token.len()).min(input.len()) };
                input.splice(at..end, token.iter().copied());
            }
            _ if at < input.len() => input[at] = input[at].wrapping_add(1),
            _ => {}
        }
    }
    input.truncate(LONGEST);
}
