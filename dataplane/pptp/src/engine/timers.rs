//! One ordered queue of deadlines. Entries are hints: what is really due is asked of their owner.

use std::collections::BTreeSet;

use crate::types::Now;

/// Whose deadline it is: index and serial number. Serial numbers are never used twice, so a stale entry finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A connection: retransmission, first message, echo, closing.
    Connection(u32, u64),
    /// A call: set-up, idle.
    Call(u32, u64),
    /// GRE held for a call.
    Held(u64),
    /// Remembered and held fragments.
    Fragments,
}

/// All deadlines.
#[derive(Debug)]
pub(crate) struct Timers<T = Timer> {
    queue: BTreeSet<(Now, T)>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { queue: BTreeSet::new() }
    }
}

impl<T: Copy + Ord> Timers<T> {
    /// Wakes `timer` at `at`.
    pub(crate) fn set(&mut self, at: Now, timer: T) {
        self.queue.insert((at, timer));
    }

    /// Takes back what `set` did with the same arguments.
    pub(crate) fn clear(&mut self, at: Now, timer: T) {
        self.queue.remove(&(at, timer));
    }

    /// Wakes `timer` at `at` at the latest; `armed` is when its owner knows it will be woken. An earlier entry is harmless:
    /// when it fires, the owner looks at its deadline again.
    pub(crate) fn no_later(&mut self, armed: &mut Option<Now>, at: Now, timer: T) {
        if armed.is_none_or(|armed| at < armed) {
            if let Some(before) = armed.replace(at) {
                self.clear(before, timer);
            }
            self.set(at, timer);
        }
    }

    /// What is due, earliest first.
    pub(crate) fn due(&self, now: Now) -> impl Iterator<Item = T> + '_ {
        self.queue.iter().take_while(move |(at, _)| *at <= now).map(|&(_, timer)| timer)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Now> {
        self.queue.first().map(|&(at, _)| at)
    }

    /// Takes the earliest deadline that is due.
    pub(crate) fn pop_due(&mut self, now: Now) -> Option<T> {
        let &(at, timer) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.remove(&(at, timer));
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_not_before_they_are_due() {
        let mut timers: Timers = Timers::default();
        timers.set(Now(20), Timer::Call(0, 1));
        timers.set(Now(10), Timer::Connection(0, 1));
        timers.set(Now(10), Timer::Fragments);
        timers.clear(Now(10), Timer::Fragments);
        assert_eq!(timers.next(), Some(Now(10)));
        assert_eq!(timers.pop_due(Now(9)), None);
        assert_eq!(timers.pop_due(Now(30)), Some(Timer::Connection(0, 1)));
        assert_eq!(timers.pop_due(Now(19)), None);
        assert_eq!(timers.pop_due(Now(20)), Some(Timer::Call(0, 1)));
        assert_eq!(timers.next(), None);
    }
}
