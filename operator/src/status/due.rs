//! What is to be written and when: the most urgent first, what failed again after a pause that grows. Pure: time is a parameter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use callgate_compile::status::ObjectRef;
use tokio::time::Instant;

/// The pause after a first failure; it doubles with each that follows.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(60);

/// Whose status it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Of an IpRule, a Service, a PptpAlg.
    Object(ObjectRef),
    /// Of the EgressNode of this name.
    Node(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => object.fmt(f),
            Self::Node(node) => write!(f, "EgressNode {node}"),
        }
    }
}

/// Who goes before whom; within a rank who has waited longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Somebody has edited it and waits for its status to be about that.
    Unobserved,
    /// Other objects.
    Object,
    /// EgressNodes.
    Node,
    /// What only counts, of either: it is always a little old anyway.
    Counters,
}

/// How a write failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It was not accepted, or not answered.
    Failed,
    /// The API server has too much to do (429, 503), and may have said for how long.
    Busy(Option<Duration>),
}

/// The queue. Each target is in it once: it waits at one place, or is being written.
#[derive(Debug, Default)]
pub struct Due {
    waiting: BTreeMap<Target, Place>,
    /// Those that wait for their turn, by rank, and by how long they have waited.
    ready: BTreeMap<(Rank, u64), Target>,
    /// Those that wait for their time.
    later: BTreeSet<(Instant, Target)>,
    /// How many have come to be ready: the number of the last.
    count: u64,
    /// Being written now; what is due of them meanwhile waits.
    under_way: BTreeMap<Target, Option<Rank>>,
    failures: BTreeMap<Target, Pause>,
    /// Of everything.
    pause: Option<Pause>,
}

/// Where one waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    rank: Rank,
    turn: Turn,
}

/// What for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Those before it, by its number.
    Ready(u64),
    /// Its time.
    Later(Instant),
}

/// Nothing before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pause {
    length: Duration,
    until: Instant,
}

impl Pause {
    fn after(before: Option<Self>, at_least: Duration, now: Instant) -> Self {
        // What was long ago says nothing about now.
        let before = before.filter(|before| now < before.until + LONGEST);
        let doubled = before.map_or(FIRST, |before| before.length * 2);
        let length = doubled.max(at_least).min(LONGEST);
        Self { length, until: now + length }
    }
}

impl Due {
    /// It is to be written, not before `at`. Where it waits already, the better rank and the earlier time hold.
    pub fn put(&mut self, rank: Rank, target: Target, at: Instant, now: Instant) {
        if let Some(again) = self.under_way.get_mut(&target) {
            *again = Some(again.map_or(rank, |before| before.min(rank)));
            return;
        }
        let at = self.failures.get(&target).map_or(at, |pause| pause.until.max(at));
        let before = self.waiting.get(&target).copied();
        if let Some(place) = before {
            self.leave(&target, place);
        }
        let rank = before.map_or(rank, |before| before.rank.min(rank));
        let turn = match before.map(|before| before.turn) {
            Some(Turn::Ready(number)) => Turn::Ready(number),
            Some(Turn::Later(earlier)) if earlier.min(at) > now => Turn::Later(earlier.min(at)),
            None if at > now => Turn::Later(at),
            Some(Turn::Later(_)) | None => {
                self.count += 1;
                Turn::Ready(self.count)
            }
        };
        self.waiting.insert(target.clone(), Place { rank, turn });
        match turn {
            Turn::Ready(number) => drop(self.ready.insert((rank, number), target)),
            Turn::Later(at) => drop(self.later.insert((at, target))),
        }
    }

    fn leave(&mut self, target: &Target, Place { rank, turn }: Place) {
        match turn {
            Turn::Ready(number) => drop(self.ready.remove(&(rank, number))),
            Turn::Later(at) => drop(self.later.remove(&(at, target.clone()))),
        }
    }

    /// Takes what is to be written next: it is under way from then on, until [`Self::done`], [`Self::failed`] or
    /// [`Self::dropped`].
    pub fn take(&mut self, now: Instant) -> Option<Target> {
        if self.pause.is_some_and(|pause| now < pause.until) {
            return None;
        }
        while let Some((at, target)) = self.later.first().cloned().filter(|(at, _)| *at <= now) {
            // Its rank is the one it has.
            self.put(Rank::Counters, target, at, now);
        }
        let (_, target) = self.ready.pop_first()?;
        self.waiting.remove(&target);
        self.under_way.insert(target.clone(), None);
        Some(target)
    }

    /// When there may be something to take; `None` where nothing waits.
    pub fn wake(&self, now: Instant) -> Option<Instant> {
        let first = match self.ready.is_empty() {
            true => self.later.first().map(|(at, _)| *at)?,
            false => now,
        };
        Some(self.pause.map_or(first, |pause| pause.until.max(first)))
    }

    /// There was nothing to write, and nobody was asked.
    pub fn dropped(&mut self, target: &Target, now: Instant) {
        self.end(target, now);
    }

    /// It was written.
    pub fn done(&mut self, target: &Target, now: Instant) {
        self.failures.remove(target);
        self.pause = self.pause.filter(|pause| now < pause.until);
        self.end(target, now);
    }

    /// It could not be written, and is to be written again.
    pub fn failed(&mut self, rank: Rank, target: Target, trouble: Trouble, now: Instant) {
        match trouble {
            Trouble::Failed => {
                let pause = Pause::after(self.failures.get(&target).copied(), Duration::ZERO, now);
                self.failures.insert(target.clone(), pause);
            }
            // Many were under way when it began: together they are one sign of it.
            Trouble::Busy(_) if self.pause.is_some_and(|pause| now < pause.until) => {}
            Trouble::Busy(told) => self.pause = Some(Pause::after(self.pause, told.unwrap_or_default(), now)),
        }
        self.end(&target, now);
        self.put(rank, target, now, now);
    }

    /// Forgets failures of what is not there any more.
    pub fn retain(&mut self, is_there: impl Fn(&Target) -> bool) {
        self.failures.retain(|target, _| is_there(target));
    }

    fn end(&mut self, target: &Target, now: Instant) {
        if let Some(Some(rank)) = self.under_way.remove(target) {
            self.put(rank, target.clone(), now, now);
        }
    }
}

#[cfg(test)]
mod tests;
