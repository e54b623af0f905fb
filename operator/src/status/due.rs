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

/// Who goes before whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Somebody has edited it and waits for its status to be about that.
    Unobserved,
    /// Other objects.
    Object,
    /// EgressNodes.
    Node,
}

/// How a write failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It was not accepted, or not answered.
    Failed,
    /// The API server has too much to do (429, 503), and may have said for how long.
    Busy(Option<Duration>),
}

/// The queue.
#[derive(Debug, Default)]
pub struct Due {
    ready: BTreeSet<(Rank, Target)>,
    later: BTreeSet<(Instant, Rank, Target)>,
    /// Being written now; what is due of them meanwhile waits.
    under_way: BTreeMap<Target, Option<Rank>>,
    failures: BTreeMap<Target, Pause>,
    /// Of everything.
    pause: Option<Pause>,
}

/// Nothing before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pause {
    length: Duration,
    until: Instant,
}

impl Pause {
    fn after(before: Option<Self>, at_least: Duration, now: Instant) -> Self {
        let doubled = before.map_or(FIRST, |before| before.length * 2);
        let length = doubled.max(at_least).min(LONGEST);
        Self { length, until: now + length }
    }
}

impl Due {
    /// It is to be written, not before `at`.
    pub fn put(&mut self, rank: Rank, target: Target, at: Instant, now: Instant) {
        let at = self.failures.get(&target).map_or(at, |pause| pause.until.max(at));
        if let Some(again) = self.under_way.get_mut(&target) {
            *again = Some(again.map_or(rank, |before| before.min(rank)));
        } else if at <= now {
            self.ready.insert((rank, target));
        } else {
            self.later.insert((at, rank, target));
        }
    }

    /// Takes what is to be written next: it is under way from then on, until [`Self::done`] or [`Self::failed`].
    pub fn take(&mut self, now: Instant) -> Option<(Rank, Target)> {
        if self.pause.is_some_and(|pause| now < pause.until) {
            return None;
        }
        while self.later.first().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, rank, target)) = self.later.pop_first() {
                self.put(rank, target, now, now);
            }
        }
        let (rank, target) = self.ready.pop_first()?;
        self.under_way.insert(target.clone(), None);
        Some((rank, target))
    }

    /// When there may be something to take; `None` where nothing waits.
    pub fn wake(&self, now: Instant) -> Option<Instant> {
        let first = match self.ready.is_empty() {
            true => self.later.first().map(|(at, ..)| *at)?,
            false => now,
        };
        Some(self.pause.map_or(first, |pause| pause.until.max(first)))
    }

    /// It was written, or there was nothing to write.
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
