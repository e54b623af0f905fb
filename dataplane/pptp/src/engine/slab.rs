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
    fn indices_go_on_from_block_to_block() {
        let mut slab = Slab::default();
        let indices: Vec<u32> = (0..1_000).map(|n| slab.insert(n)).collect();
        assert_eq!(indices, (0..1_000).collect::<Vec<u32>>());
        assert_eq!((slab.get(999), slab.get(1_000), slab.len()), (Some(&999), None, 1_000));
    }
}
