//! One line of the log for many failures of one kind. Pure: time is a parameter.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long a kind of failure is not told of again.
const SILENCE: Duration = Duration::from_secs(60);

/// What has been told.
#[derive(Debug, Default)]
pub struct Complaints(BTreeMap<String, Told>);

#[derive(Debug)]
struct Told {
    at: Instant,
    /// Not told since.
    silent: u64,
}

impl Complaints {
    /// Whether to tell of a failure of this kind now; if so, how many of the kind have not been told since the last time.
    pub fn tell(&mut self, kind: &str, now: Instant) -> Option<u64> {
        if let Some(told) = self.0.get_mut(kind) {
            if now.saturating_duration_since(told.at) < SILENCE {
                told.silent += 1;
                return None;
            }
            let silent = told.silent;
            *told = Told { at: now, silent: 0 };
            return Some(silent);
        }
        // Kinds are few, but nobody promises it.
        self.0.retain(|_, told| now.saturating_duration_since(told.at) < SILENCE);
        self.0.insert(kind.to_owned(), Told { at: now, silent: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once_a_minute_with_the_number_of_the_others() {
        let (mut complaints, begin) = (Complaints::default(), Instant::now());
        let mut tell = |kind: &str, second| complaints.tell(kind, begin + Duration::from_secs(second));
        assert_eq!([tell("a", 0), tell("a", 1), tell("b", 1), tell("a", 59)], [Some(0), None, Some(0), None]);
        assert_eq!([tell("a", 60), tell("a", 61)], [Some(2), None]);
    }
}
