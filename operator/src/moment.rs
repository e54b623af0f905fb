//! A moment by two clocks: one that never jumps, to measure with, and the one that people read.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// When something was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// For intervals: nobody sets this clock.
    pub instant: Instant,
    /// For people and for what is written: somebody may have set it since.
    pub time: Timestamp,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self { instant: Instant::now(), time: Timestamp::now() }
    }

    /// How long after `earlier` it is; zero where it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant)
    }
}

#[cfg(test)]
impl Moment {
    /// So many seconds after 1970, and after the first moment of these tests.
    pub(crate) fn at(second: u64) -> Self {
        static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        let first = Instant::from_std(*FIRST.get_or_init(std::time::Instant::now));
        let time = Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
        Self { instant: first + Duration::from_secs(second), time }
    }

    /// This much later, by both clocks.
    pub(crate) fn after(self, duration: Duration) -> Self {
        Self { instant: self.instant + duration, time: self.time + duration }
    }
}
