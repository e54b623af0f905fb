//! 16-bit numbers (Call IDs, ports) given out from a random start, never one that is live or in quarantine.
//!
//! ```text
//!  Range: which numbers there are at all, one bit each, shared by all pools of a kind
//!  Pool:  which of them are taken or in quarantine: a sorted list, one bit each once they are many
//!  take(start): the first free number from `start` on, around the end; at most 1,025 words are looked at
//! ```

use std::sync::Arc;

const WORDS: usize = 65_536 / 64;

/// Numbers taken beyond which a pool has one bit for each number, 8 KiB: most pools are of a server with few connections, and
/// whoever chooses the servers chooses how many pools there are.
const FEW: usize = 512;

/// Numbers that may be given out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Range {
    open: Box<[u64]>,
    capacity: usize,
}

impl Range {
    /// All 65,536 numbers.
    pub(crate) fn full() -> Self {
        Self::of(&[(0, u16::MAX)])
    }

    /// The numbers in these inclusive ranges (they may overlap; an empty one has `first > last`).
    pub(crate) fn of(ranges: &[(u16, u16)]) -> Self {
        let mut open = vec![0u64; WORDS].into_boxed_slice();
        for &(first, last) in ranges {
            for number in first..=last {
                open[usize::from(number) / 64] |= 1 << (number % 64);
            }
        }
        let capacity = open.iter().map(|word| word.count_ones() as usize).sum();
        Self { open, capacity }
    }

    /// Whether it has this number.
    pub(crate) fn contains(&self, number: u16) -> bool {
        self.open[usize::from(number) / 64] & (1 << (number % 64)) != 0
    }
}

/// What is taken of a range.
#[derive(Debug)]
pub(crate) struct Pool {
    range: Arc<Range>,
    taken: Taken,
}

#[derive(Debug)]
enum Taken {
    /// In ascending order.
    Few(Vec<u16>),
    Many {
        bits: Box<[u64]>,
        count: usize,
    },
}

impl Pool {
    /// A pool of these numbers, none of them taken.
    pub(crate) fn new(range: &Arc<Range>) -> Self {
        Self { range: Arc::clone(range), taken: Taken::Few(Vec::new()) }
    }

    /// Takes the first free number from `start` on; `None` when there is none.
    pub(crate) fn take(&mut self, start: u16) -> Option<u16> {
        if self.taken.count() >= self.range.capacity {
            return None;
        }
        let (word, bit) = (usize::from(start) / 64, start % 64);
        // The first word is looked at twice: its upper part first, its lower part at the very end.
        for step in 0..=WORDS {
            let index = (word + step) % WORDS;
            let mut free = self.range.open[index] & !self.taken.word(index);
            if step == 0 {
                free &= u64::MAX << bit;
            }
            if free != 0 {
                let number = (index * 64) as u16 + free.trailing_zeros() as u16;
                self.taken.insert(number);
                return Some(number);
            }
        }
        None
    }

    /// Takes this very number (at a restart); false when it was taken already or never belonged here.
    pub(crate) fn take_exactly(&mut self, number: u16) -> bool {
        self.range.contains(number) && self.taken.insert(number)
    }

    /// Gives a number back.
    pub(crate) fn give_back(&mut self, number: u16) {
        self.taken.remove(number);
    }

    /// Whether nothing is taken: the pool can be dropped.
    pub(crate) fn is_idle(&self) -> bool {
        self.taken.count() == 0
    }
}

impl Taken {
    fn count(&self) -> usize {
        match self {
            Self::Few(numbers) => numbers.len(),
            Self::Many { count, .. } => *count,
        }
    }

    /// The numbers from `64 * index` on, one bit each.
    fn word(&self, index: usize) -> u64 {
        match self {
            Self::Few(numbers) => {
                let from = numbers.partition_point(|number| usize::from(*number) / 64 < index);
                let word = numbers[from..].iter().take_while(|number| usize::from(**number) / 64 == index);
                word.fold(0, |word, number| word | 1 << (number % 64))
            }
            Self::Many { bits, .. } => bits[index],
        }
    }

    /// False when it was there before.
    fn insert(&mut self, number: u16) -> bool {
        let numbers = match self {
            Self::Few(numbers) => numbers,
            Self::Many { bits, count } => {
                let (word, bit) = (&mut bits[usize::from(number) / 64], 1 << (number % 64));
                let fresh = *word & bit == 0;
                *word |= bit;
                *count += usize::from(fresh);
                return fresh;
            }
        };
        let Err(place) = numbers.binary_search(&number) else { return false };
        if numbers.len() < FEW {
            numbers.insert(place, number);
            return true;
        }
        let mut many = Self::Many { bits: vec![0; WORDS].into_boxed_slice(), count: 0 };
        for number in numbers.drain(..).chain([number]) {
            many.insert(number);
        }
        *self = many;
        true
    }

    fn remove(&mut self, number: u16) {
        match self {
            Self::Few(numbers) => {
                if let Ok(place) = numbers.binary_search(&number) {
                    numbers.remove(place);
                }
            }
            Self::Many { bits, count } => {
                let (word, bit) = (&mut bits[usize::from(number) / 64], 1 << (number % 64));
                *count -= usize::from(*word & bit != 0);
                *word &= !bit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn of_ranges(ranges: &[(u16, u16)]) -> Pool {
        Pool::new(&Arc::new(Range::of(ranges)))
    }

    #[test]
    fn every_number_is_given_once_and_then_none() {
        let mut pool = Pool::new(&Arc::new(Range::full()));
        let given: BTreeSet<u16> = (0..65_536u32).map(|n| pool.take((n * 7919) as u16).expect("free")).collect();
        assert_eq!(given.len(), 65_536);
        assert_eq!(pool.take(0), None);
        pool.give_back(0);
        assert_eq!(pool.take(65_535), Some(0));
    }

    #[test]
    fn the_search_goes_around_the_end_and_back_into_its_first_word() {
        let mut pool = of_ranges(&[(64, 66)]);
        assert_eq!([pool.take(66), pool.take(66), pool.take(66), pool.take(66)], [Some(66), Some(64), Some(65), None]);
    }

    #[test]
    fn only_numbers_of_the_ranges_are_given() {
        let mut pool = of_ranges(&[(10, 11), (11, 12), (9, 8), (65_535, 65_535)]);
        let mut given: Vec<Option<u16>> = (0..5).map(|_| pool.take(0)).collect();
        given.sort_unstable();
        assert_eq!(given, [None, Some(10), Some(11), Some(12), Some(65_535)]);
    }

    #[test]
    fn a_number_taken_exactly_is_not_given_again() {
        let mut pool = of_ranges(&[(5, 6)]);
        assert!(pool.take_exactly(5));
        assert!(!pool.take_exactly(5));
        assert!(!pool.take_exactly(7));
        assert_eq!([pool.take(5), pool.take(5)], [Some(6), None]);
        pool.give_back(5);
        pool.give_back(5);
        pool.give_back(6);
        assert!(pool.is_idle());
    }

    #[test]
    fn a_pool_is_small_until_hundreds_are_taken_and_then_goes_on_with_the_same_numbers() {
        let mut pool = of_ranges(&[(1_000, 1_999), (9_000, 9_063)]);
        let mut taken = BTreeSet::new();
        for round in 0..40_000u32 {
            let number = (round.wrapping_mul(7_919) % 65_536) as u16;
            if round % 5 < 3 {
                taken.extend(pool.take(number));
            } else if let Some(&number) = taken.range(number..).next() {
                taken.remove(&number);
                pool.give_back(number);
                assert!(pool.take_exactly(number) && !pool.take_exactly(number));
                pool.give_back(number);
            }
            assert!(taken.len() > FEW || round > 5_000 || matches!(pool.taken, Taken::Few(_)));
            assert_eq!(pool.taken.count(), taken.len());
        }
        assert!(matches!(pool.taken, Taken::Many { .. }));
        let rest: Vec<u16> = std::iter::from_fn(|| pool.take(0)).collect();
        assert_eq!(rest.len() + taken.len(), 1_064);
        assert!(rest.iter().all(|number| taken.insert(*number)));
        taken.iter().for_each(|number| pool.give_back(*number));
        assert!(pool.is_idle());
    }
}
