//! 16-bit numbers (Call IDs, ports) given out from a random start, never one that is live or in quarantine.
//!
//! ```text
//!  bit set = taken, in quarantine, or never to be given out
//!  take(start): the first clear bit from `start` on, around the end; at most 1,025 words are looked at
//! ```

const WORDS: usize = 65_536 / 64;

/// One pool of 16-bit numbers, 8 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pool {
    taken: Box<[u64]>,
    in_use: u32,
    capacity: u32,
}

impl Pool {
    /// A pool of all 65,536 numbers.
    pub(crate) fn full() -> Self {
        Self { taken: vec![0; WORDS].into_boxed_slice(), in_use: 0, capacity: 65_536 }
    }

    /// A pool of the numbers in these inclusive ranges only (they may overlap; an empty one has `first > last`).
    pub(crate) fn of_ranges(ranges: &[(u16, u16)]) -> Self {
        let mut taken = vec![u64::MAX; WORDS].into_boxed_slice();
        for &(first, last) in ranges {
            for number in first..=last {
                taken[usize::from(number) / 64] &= !(1 << (number % 64));
            }
        }
        let capacity = taken.iter().map(|word| word.count_zeros()).sum();
        Self { taken, in_use: 0, capacity }
    }

    /// Takes the first free number from `start` on; `None` when there is none.
    pub(crate) fn take(&mut self, start: u16) -> Option<u16> {
        if self.in_use >= self.capacity {
            return None;
        }
        let (word, bit) = (usize::from(start) / 64, start % 64);
        // The first word is looked at twice: its upper part first, its lower part at the very end.
        for step in 0..=WORDS {
            let index = (word + step) % WORDS;
            let mut free = !self.taken[index];
            if step == 0 {
                free &= u64::MAX << bit;
            }
            if free != 0 {
                let number = (index * 64) as u16 + free.trailing_zeros() as u16;
                self.set(number);
                return Some(number);
            }
        }
        None
    }

    /// Takes this very number (at a restart); false when it was taken already or never belonged here.
    pub(crate) fn take_exactly(&mut self, number: u16) -> bool {
        let free = !self.is_set(number);
        if free {
            self.set(number);
        }
        free
    }

    /// Gives a number back.
    pub(crate) fn give_back(&mut self, number: u16) {
        if self.is_set(number) {
            self.taken[usize::from(number) / 64] &= !(1 << (number % 64));
            self.in_use = self.in_use.saturating_sub(1);
        }
    }

    /// Whether nothing is taken: the pool can be dropped.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_use == 0
    }

    /// Whether this number could be taken (of a pool nothing is taken from: whether it belongs to it).
    pub(crate) fn contains(&self, number: u16) -> bool {
        !self.is_set(number)
    }

    fn is_set(&self, number: u16) -> bool {
        self.taken[usize::from(number) / 64] & (1 << (number % 64)) != 0
    }

    fn set(&mut self, number: u16) {
        self.taken[usize::from(number) / 64] |= 1 << (number % 64);
        self.in_use += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_number_is_given_once_and_then_none() {
        let mut pool = Pool::full();
        let given: BTreeSet<u16> = (0..65_536u32).map(|n| pool.take((n * 7919) as u16).expect("free")).collect();
        assert_eq!(given.len(), 65_536);
        assert_eq!(pool.take(0), None);
        pool.give_back(0);
        assert_eq!(pool.take(65_535), Some(0));
    }

    #[test]
    fn the_search_goes_around_the_end_and_back_into_its_first_word() {
        let mut pool = Pool::of_ranges(&[(64, 66)]);
        assert_eq!([pool.take(66), pool.take(66), pool.take(66), pool.take(66)], [Some(66), Some(64), Some(65), None]);
    }

    #[test]
    fn only_numbers_of_the_ranges_are_given() {
        let mut pool = Pool::of_ranges(&[(10, 11), (11, 12), (9, 8), (65_535, 65_535)]);
        let mut given: Vec<Option<u16>> = (0..5).map(|_| pool.take(0)).collect();
        given.sort_unstable();
        assert_eq!(given, [None, Some(10), Some(11), Some(12), Some(65_535)]);
    }

    #[test]
    fn a_number_taken_exactly_is_not_given_again() {
        let mut pool = Pool::of_ranges(&[(5, 6)]);
        assert!(pool.take_exactly(5));
        assert!(!pool.take_exactly(5));
        assert!(!pool.take_exactly(7));
        assert_eq!([pool.take(5), pool.take(5)], [Some(6), None]);
        pool.give_back(5);
        pool.give_back(5);
        pool.give_back(6);
        assert!(pool.is_idle());
    }
}
