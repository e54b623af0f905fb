//! A seeded hash for small integer keys: a multiplication a word, no table, not to be guessed from outside.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// A hash map whose hashing is decided by the engine's seed.
pub(crate) type FlatMap<K, V> = HashMap<K, V, Seeded>;

/// Makes hashers that start from one seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seeded(u64);

impl Seeded {
    /// Hashing as `seed` decides it.
    pub(crate) fn new(seed: u64) -> Self {
        // An even or zero start would let words cancel each other.
        Self(seed | 1)
    }
}

impl BuildHasher for Seeded {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold(self.0)
    }
}

/// Multiplies to 128 bits and folds the halves together, once for each word.
#[derive(Debug)]
pub(crate) struct Fold(u64);

impl Fold {
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u16(&mut self, word: u16) {
        self.word(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.word(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.word(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn neighbouring_keys_spread_over_all_buckets() {
        let build = Seeded::new(42);
        let mut buckets = [0u32; 256];
        for id in 0..=u16::MAX {
            buckets[(build.hash_one((0x0a00_0001_c000_0201_u64, id)) & 255) as usize] += 1;
        }
        // 256 a bucket on average; a bad mix shows as empty or double buckets.
        assert!(buckets.iter().all(|&n| (128..512).contains(&n)), "{buckets:?}");
    }

    #[test]
    fn another_seed_gives_other_hashes() {
        let hashes: BTreeSet<u64> = (0..64).map(|seed| Seeded::new(seed * 2).hash_one((1u64, 2u16))).collect();
        assert_eq!(hashes.len(), 64);
    }
}
