//! How long to wait before a broken watch is tried again: longer each time, but never so long that an API server that is back is not noticed.

use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::utils::{Backoff, ResetTimerBackoff};

/// The first wait at most.
const FIRST: Duration = Duration::from_millis(500);
/// The longest. A handful of watches of two replicas, each every few seconds, are nothing to an API server that has trouble.
const LONGEST: Duration = Duration::from_secs(5);
/// A watch that has held for so long begins anew with the first wait.
const STEADY: Duration = Duration::from_secs(120);

/// The waits of one watch.
pub(super) fn pace() -> ResetTimerBackoff<Pace> {
    ResetTimerBackoff::new(Pace(0), STEADY)
}

/// Counts failures in a row.
pub(super) struct Pace(u32);

impl Iterator for Pace {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // Replicas that lost their API server together must not come back together.
        let wait = wait(self.0, Timestamp::now().subsec_nanosecond().unsigned_abs());
        self.0 = self.0.saturating_add(1);
        Some(wait)
    }
}

impl Backoff for Pace {
    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// The wait after `failures` before this one: between half of a ceiling, which doubles, and all of it. `nanos`: below a second, spread evenly.
fn wait(failures: u32, nanos: u32) -> Duration {
    let ceiling = FIRST.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX)).min(LONGEST);
    ceiling / 2 + (ceiling / 2).mul_f64(f64::from(nanos) / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_few_seconds_and_at_most_half_of_one_is_taken_off() {
        let of = |nanos| [0, 1, 2, 3, 4, 31, 32, u32::MAX].map(|failures| wait(failures, nanos).as_millis());
        assert_eq!(of(0), [250, 500, 1000, 2000, 2500, 2500, 2500, 2500]);
        assert_eq!(of(1_000_000_000), [500, 1000, 2000, 4000, 5000, 5000, 5000, 5000]);
    }

    #[test]
    fn what_goes_well_again_begins_with_the_first_wait() {
        let mut pace = Pace(0);
        assert_eq!((&mut pace).take(9).count(), 9);
        assert!(pace.next() >= Some(LONGEST / 2));
        pace.reset();
        assert!(pace.next() <= Some(FIRST));
    }
}
