//! A small seeded generator: allocation starts where nobody can guess, and tests repeat.

/// SplitMix64 (Steele, Lea, Flood 2014): one addition and two multiplications a number.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator that always gives the same numbers for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Given to `new`, it makes a generator that goes on like this one.
    pub(crate) fn state(&self) -> u64 {
        self.0
    }

    /// The next 64 bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next 16 bits.
    pub(crate) fn next_u16(&mut self) -> u16 {
        (self.next_u64() >> 48) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let first: Vec<u64> = std::iter::repeat_with({
            let mut random = Random::new(7);
            move || random.next_u64()
        })
        .take(4)
        .collect();
        let mut again = Random::new(7);
        assert_eq!(first, [again.next_u64(), again.next_u64(), again.next_u64(), again.next_u64()]);
        assert_ne!(first[0], Random::new(8).next_u64());
    }
}
