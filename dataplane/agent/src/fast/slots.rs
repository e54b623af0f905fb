//! The map of live calls as the agent sees it: a hash table in memory shared with the program, two places for each key.
//!
//! ```text
//!  bucket 0      bucket 1                        bucket N-1
//!  ┌──┬─────┐    ┌────────┐                      ┌────────┐      a slot is one cache line: key, rule, meter
//!  │h │ 1…7 │    │ 0 … 7  │   ...                │ 0 … 7  │      h: the header, in a slot that is never taken
//!  └──┴─────┘    └────────┘                      └────────┘
//! ```
//! A key is in one of two buckets, which a hash with a secret seed names; the search begins at a slot that it names too. With the
//! table half full a look-up finds its key in the first or second cache line it reads, where the kernel's own hash map reads three
//! that depend on each other: with 60,000 calls that was 350 ns a packet (measured; docs/performance.md).

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::layout::{Entry, Key, Meter, Rule, SLOTS, Slot};

/// Slots of the first bucket that are left free before the second one is asked: the search of most ends in the first.
const SPARE: usize = 1;

/// There is no room for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// How a table is read: the program has to know it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// Where a call stands depends on it.
    pub(super) seed: u64,
    /// Buckets less one.
    pub(super) mask: u32,
}

/// The table.
pub(super) struct Table<M> {
    memory: M,
    reading: Reading,
    /// Keys that are there.
    used: usize,
    /// Keys that may be there.
    room: usize,
}

/// Buckets, a power of two, for so many keys: half full when all are there.
pub(super) fn buckets(keys: u32) -> u32 {
    (2 * keys).div_ceil(SLOTS as u32).next_power_of_two()
}

impl<M: Deref<Target = [Slot]>> Table<M> {
    /// The table in this memory, empty if it is all zeroes: then it is made with this seed. For so many keys at most.
    ///
    /// # Errors
    /// When the memory is no whole table.
    pub(super) fn open(memory: M, seed: u64, room: u32) -> Result<Self, String> {
        let buckets = memory.len() / SLOTS;
        let [header, ..] = &memory[..] else { return Err("the map has no room".to_owned()) };
        if !buckets.is_power_of_two() || buckets * SLOTS != memory.len() {
            return Err(format!("a map of {} slots is not ours", memory.len()));
        }
        let mask = buckets as u32 - 1;
        // All its words have been read by nobody before the mask, and the seed, are there.
        if header.seed().load(Ordering::Acquire) == 0 {
            header.mask().store(mask, Ordering::Relaxed);
            header.seed().store(seed | 1, Ordering::Release);
        }
        let seed = header.seed().load(Ordering::Acquire);
        if header.mask().load(Ordering::Relaxed) != mask {
            return Err("the map's header is not ours".to_owned());
        }
        let used = memory.iter().filter(|slot| slot.is_taken()).count();
        Ok(Self { memory, reading: Reading { seed, mask }, used, room: room as usize })
    }

    /// How it is read.
    pub(super) fn reading(&self) -> Reading {
        self.reading
    }

    /// The slots a key may be in, in the order of the search.
    fn places(&self, key: &Key) -> impl Iterator<Item = &Slot> {
        let Reading { seed, mask } = self.reading;
        let hash = hash(seed, key);
        let start = (hash >> 24) as usize;
        let buckets = [hash as u32 & mask, (hash >> 32) as u32 & mask];
        buckets.into_iter().flat_map(move |bucket| {
            (0..SLOTS).map(move |at| &self.memory[bucket as usize * SLOTS + (start ^ at) % SLOTS])
        })
    }

    fn find(&self, key: &Key) -> Option<&Slot> {
        self.places(key).find(|slot| slot.holds(key))
    }

    /// Where a new key goes: the first bucket while it has more than `SPARE` free slots, else the emptier one.
    fn free(&self, key: &Key) -> Option<&Slot> {
        let places: Vec<&Slot> = self.places(key).collect();
        let (first, second) = places.split_at(SLOTS);
        let free = |bucket: &[&Slot]| bucket.iter().filter(|slot| self.may_be_taken(slot)).count();
        let (here, there) = (free(first), free(second));
        let bucket = if here > SPARE || here >= there { first } else { second };
        bucket.iter().find(|slot| self.may_be_taken(slot)).copied()
    }

    fn may_be_taken(&self, slot: &Slot) -> bool {
        !slot.is_taken() && !std::ptr::eq(slot, &raw const self.memory[0])
    }

    /// What is there under this key; `now` is CLOCK_MONOTONIC, ns.
    pub(super) fn get(&self, key: &Key, now: u64) -> Option<Entry> {
        self.find(key).map(|slot| slot.entry(now))
    }

    /// Packets with this key go by `rule` from now on. Counting goes on where the key is there already.
    pub(super) fn put(&mut self, key: &Key, rule: &Rule) -> Result<(), Full> {
        if let Some(slot) = self.find(key) {
            if slot.rule() != *rule {
                // In between its packets are the ALG's: none goes by half a rule.
                slot.hide();
                slot.show(key, rule);
            }
            return Ok(());
        }
        if self.used >= self.room {
            return Err(Full);
        }
        let slot = self.free(key).ok_or(Full)?;
        slot.clear_meter();
        slot.show(key, rule);
        self.used += 1;
        Ok(())
    }

    /// Takes a key out; what it has counted.
    pub(super) fn remove(&mut self, key: &Key, now: u64) -> Option<Meter> {
        let slot = self.find(key)?;
        slot.hide();
        let meter = slot.entry(now).meter;
        self.used -= 1;
        Some(meter)
    }

    /// Everything that is there.
    pub(super) fn all(&self, now: u64) -> BTreeMap<Key, Entry> {
        self.memory.iter().filter_map(|slot| Some((slot.key()?, slot.entry(now)))).collect()
    }
}

/// As `hash` in the program.
fn hash(seed: u64, key: &Key) -> u64 {
    let (source, destination, call_id) = key.words();
    let fold = |hash: u64| hash ^ (hash >> 32);
    let mut hash = ((u64::from(source) << 32) | u64::from(destination)) ^ seed;
    hash = fold(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    hash = hash.wrapping_add(u64::from(call_id));
    hash = fold(hash.wrapping_mul(0xd6e8_feb8_6659_fd93));
    fold(hash.wrapping_mul(0xd6e8_feb8_6659_fd93))
}

impl Slot {
    /// Of the header only.
    fn seed(&self) -> &AtomicU64 {
        &self.packets
    }

    /// Of the header only.
    fn mask(&self) -> &AtomicU32 {
        &self.last_seen
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
