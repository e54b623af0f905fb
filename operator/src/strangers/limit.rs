//! A limit to lines of log of one sort: strangers must not fill it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many lines in so long a time.
const TOLD: (u64, Duration) = (10, Duration::from_secs(10));

/// Counts what is to be told.
#[derive(Debug)]
pub(crate) struct Limit {
    /// Since when it counts, and how many there were.
    lately: Mutex<(Instant, u64)>,
}

impl Default for Limit {
    fn default() -> Self {
        Self { lately: Mutex::new((Instant::now(), 0)) }
    }
}

impl Limit {
    /// Whether this one is told, and how many before it were not.
    pub(crate) fn tell(&self) -> Option<u64> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let (most, time) = TOLD;
        let untold = if lately.0.elapsed() < time {
            0
        } else {
            std::mem::replace(&mut *lately, (Instant::now(), 0)).1.saturating_sub(most)
        };
        lately.1 += 1;
        (lately.1 <= most).then_some(untold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_are_told_in_ten_seconds_and_then_how_many_were_not() {
        let limit = Limit::default();
        let told = |times| (0..times).filter_map(|_| limit.tell()).collect::<Vec<_>>();
        assert_eq!(told(25), [0; 10]);
        tokio::time::advance(TOLD.1).await;
        assert_eq!(told(2), [15, 0]);
    }
}
