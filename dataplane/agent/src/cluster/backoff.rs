//! How long to wait before the next attempt: exponential, with full jitter, so that a thousand agents do not come back at once.

use std::time::Duration;

/// Longest wait after the first failure.
const FIRST: Duration = Duration::from_millis(500);

/// Longest wait of all: a thousand agents are then 250 handshakes a second for the operator that is back, and none of them is late.
const LONGEST: Duration = Duration::from_secs(8);

/// The wait after the `attempt`th failure in a row (from 0): evenly spread between nothing and the ceiling, which doubles with each
/// failure. `random` is evenly spread over all its values.
pub(super) fn delay(attempt: u32, random: u64) -> Duration {
    let ceiling = FIRST.saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX)).min(LONGEST);
    // The upper half of the product is the ceiling scaled by random / 2^64.
    let nanos = (ceiling.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_eight_seconds_and_stays_there() {
        let ceilings = [0, 1, 2, 3, 4, 5, 6, 7, 31, 32, u32::MAX].map(|attempt| {
            // The largest random number gives the ceiling, less a fraction of a nanosecond.
            delay(attempt, u64::MAX).as_millis() + 1
        });
        assert_eq!(ceilings, [500, 1000, 2000, 4000, 8000, 8000, 8000, 8000, 8000, 8000, 8000]);
    }

    #[test]
    fn the_wait_is_spread_evenly_from_nothing_to_the_ceiling() {
        let quarters = [0, 1 << 62, 1 << 63, 3 << 62].map(|random| delay(2, random).as_millis());
        assert_eq!(quarters, [0, 500, 1000, 1500]);
    }
}
