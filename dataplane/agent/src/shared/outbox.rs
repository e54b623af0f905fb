//! What waits to be written to one leg: whole messages, of which the kernel may have the beginning of the first. Pure.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Messages the kernel has not taken; in a hand-over, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outbox {
    waiting: VecDeque<Vec<u8>>,
    /// How many octets of the first the kernel has.
    taken: usize,
    /// How many of the octets that wait the core has been told of as written: an earlier socket's kernel had them.
    #[serde(default)]
    told: usize,
}

impl Outbox {
    /// Whether the kernel has all.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// One message more, behind those that wait.
    pub(super) fn push(&mut self, message: Vec<u8>) {
        self.waiting.push_back(message);
    }

    /// What is left of the first message.
    pub(super) fn next(&self) -> Option<&[u8]> {
        Some(self.waiting.front()?.get(self.taken..).unwrap_or_default())
    }

    /// The kernel has taken so many octets of `next`.
    pub(super) fn took(&mut self, octets: usize) {
        self.taken += octets;
        if self.waiting.front().is_some_and(|first| first.len() <= self.taken) {
            self.waiting.pop_front();
            self.taken = 0;
        }
    }

    /// Of so many octets that the kernel has taken, those that are news to the core.
    pub(super) fn news(&mut self, octets: usize) -> usize {
        let known = octets.min(self.told);
        self.told -= known;
        octets - known
    }

    /// Nothing can be written any more.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The kernel has not taken this again of what it had before: it comes before all that waits.
    pub(super) fn put_in_front(&mut self, mut left: Vec<Vec<u8>>) {
        self.told += left.iter().map(Vec::len).sum::<usize>();
        let Some(last) = left.last_mut() else { return };
        if self.taken > 0
            && let Some(first) = self.waiting.pop_front()
        {
            // It is the beginning of the first message that waits.
            last.extend_from_slice(first.get(self.taken..).unwrap_or_default());
            self.taken = 0;
        }
        left.into_iter().rev().for_each(|message| self.waiting.push_front(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(waiting: &[&[u8]], taken: usize, told: usize) -> Outbox {
        Outbox { waiting: waiting.iter().map(|message| message.to_vec()).collect(), taken, told }
    }

    #[test]
    fn what_the_kernel_had_and_has_not_again_comes_first_in_whole_messages() {
        let mut held = outbox(&[&[1, 2, 3], &[4]], 2, 0);
        held.put_in_front(vec![vec![8, 9], vec![1, 2]]);
        assert_eq!(held, outbox(&[&[8, 9], &[1, 2, 3], &[4]], 0, 4));
        // Once more, before any of it was written.
        held.put_in_front(vec![vec![7]]);
        assert_eq!(held, outbox(&[&[7], &[8, 9], &[1, 2, 3], &[4]], 0, 5));
        held.put_in_front(vec![]);
        assert_eq!(held, outbox(&[&[7], &[8, 9], &[1, 2, 3], &[4]], 0, 5));
    }

    #[test]
    fn the_kernel_takes_one_message_after_the_other_and_the_core_hears_only_what_is_new_to_it() {
        let mut held = outbox(&[&[1, 2, 3], &[4]], 0, 4);
        held.took(2);
        assert_eq!((held.news(2), held.next()), (0, Some(&[3][..])));
        held.push(vec![5, 6]);
        held.took(1);
        held.took(1);
        assert_eq!((held.news(2), held.next()), (0, Some(&[5, 6][..])));
        held.took(2);
        assert_eq!((held.news(2), held.next(), held.is_empty()), (2, None, true));
    }
}
