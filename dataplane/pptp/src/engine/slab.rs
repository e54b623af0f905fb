//! Values at stable small indices; a freed index is used again.
//!
//! In blocks, so that growing moves nothing and leaves no second half empty: at 60,000 connections a doubling vector
//! would waste more than the connections themselves need.

/// Values a block.
const BLOCK: usize = 64;

/// A vector of blocks with holes.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    blocks: Vec<Box<[Option<T>]>>,
    free: Vec<u32>,
    used: u32,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), free: Vec::new(), used: 0, len: 0 }
    }
}

impl<T> Slab<T> {
    /// Stores a value and gives its index. There are never 2^32 of them: ports and Call IDs run out before.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        let index = self.free.pop().unwrap_or(self.used);
        if index == self.used {
            self.used += 1;
            if index as usize / BLOCK == self.blocks.len() {
                self.blocks.push((0..BLOCK).map(|_| None).collect());
            }
        }
        if let Some(slot) = self.slot(index) {
            *slot = Some(value);
            self.len += 1;
        }
        index
    }

    /// Values at the places they had, and the free places between them, the one that is taken next last. `None` unless these are all
    /// places from 0 on, each once.
    pub(crate) fn restore(values: Vec<(u32, T)>, free: Vec<u32>) -> Option<Self> {
        let used = u32::try_from(values.len() + free.len()).ok()?;
        let mut taken = vec![false; used as usize];
        for index in values.iter().map(|(index, _)| *index).chain(free.iter().copied()) {
            let place = taken.get_mut(index as usize)?;
            if std::mem::replace(place, true) {
                return None;
            }
        }
        let blocks = (used as usize).div_ceil(BLOCK);
        let blocks = (0..blocks).map(|_| (0..BLOCK).map(|_| None).collect()).collect();
        let mut slab = Self { blocks, free, used, len: values.len() };
        for (index, value) in values {
            if let Some(slot) = slab.slot(index) {
                *slot = Some(value);
            }
        }
        Some(slab)
    }

    /// Free places between the used ones, the one that is taken next last.
    pub(crate) fn free(&self) -> &[u32] {
        &self.free
    }

    /// Takes the value out.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.slot(index)?.take()?;
        self.free.push(index);
        self.len -= 1;
        Some(value)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.blocks.get(index as usize / BLOCK)?.get(index as usize % BLOCK)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slot(index)?.as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All values by ascending index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let slots = self.blocks.iter().flat_map(|block| block.iter());
        slots.enumerate().filter_map(|(index, slot)| Some((index as u32, slot.as_ref()?)))
    }

    fn slot(&mut self, index: u32) -> Option<&mut Option<T>> {
        self.blocks.get_mut(index as usize / BLOCK)?.get_mut(index as usize % BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_index_is_used_again() {
        let mut slab = Slab::default();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.insert('c'), a);
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(a, &'c'), (b, &'b')]);
        assert_eq!((slab.len(), slab.get(b), slab.get(9), slab.get(1_000)), (2, Some(&'b'), None, None));
        assert_eq!(slab.get_mut(a), Some(&mut 'c'));
    }

    #[test]
    fn what_is_restored_goes_on_at_the_same_places() {
        let mut slab = Slab::default();
        for n in 0..200 {
            slab.insert(n);
        }
        for index in [7, 150, 3] {
            slab.remove(index);
        }
        let values: Vec<(u32, u32)> = slab.iter().map(|(index, value)| (index, *value)).collect();
        let mut again = Slab::restore(values.clone(), slab.free().to_vec()).unwrap();
        assert_eq!(again.iter().collect::<Vec<_>>(), slab.iter().collect::<Vec<_>>());
        for n in 0..5 {
            assert_eq!((again.insert(n), again.len()), (slab.insert(n), slab.len()));
        }
        assert!(Slab::restore(values.clone(), vec![7, 150]).is_none(), "a hole");
        assert!(Slab::restore(values.clone(), vec![7, 150, 4]).is_none(), "twice");
        assert!(Slab::restore(values, vec![7, 150, u32::MAX]).is_none(), "far away");
    }

    #[test]
    fn indices_go_on_from_block_to_block() {
        let mut slab = Slab::default();
        let indices: Vec<u32> = (0..1_000).map(|n| slab.insert(n)).collect();
        assert_eq!(indices, (0..1_000).collect::<Vec<u32>>());
        assert_eq!((slab.get(999), slab.get(1_000), slab.len()), (Some(&999), None, 1_000));
    }
}
