//! Lines about what was refused, held down for each client: one that tries again at once must not fill the log. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Lines of one sort about one client in one span.
const LINES: u32 = 10;

/// How long a span is.
const SPAN: Duration = Duration::from_secs(10);

/// Sorts and clients that are told apart; what comes beside so many is one client's.
const APART: usize = 1_024;

/// The sort of a line and whom it is about, where that is known.
type About = (&'static str, Option<Ipv4Addr>);

/// What has been written lately.
#[derive(Debug, Default)]
pub(super) struct Restraint(BTreeMap<About, Lately>);

/// Of one sort about one client.
#[derive(Debug)]
struct Lately {
    since: Instant,
    lines: u32,
    held: u64,
}

impl Restraint {
    /// Whether a line may be written, with how many of its kind were held back since the last one.
    pub(super) fn due(&mut self, (sort, client): About, now: Instant) -> Option<u64> {
        if self.0.len() >= APART && !self.0.contains_key(&(sort, client)) {
            self.0.retain(|_, lately| now.duration_since(lately.since) < SPAN);
        }
        let apart = self.0.len() < APART || self.0.contains_key(&(sort, client));
        let client = client.filter(|_| apart);
        let lately = self.0.entry((sort, client)).or_insert(Lately { since: now, lines: 0, held: 0 });
        if now.duration_since(lately.since) >= SPAN {
            (lately.since, lately.lines) = (now, 0);
        }
        if lately.lines == LINES {
            lately.held += 1;
            return None;
        }
        lately.lines += 1;
        Some(std::mem::take(&mut lately.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(client: u32) -> About {
        ("connection_refused", Some(Ipv4Addr::from_bits(client)))
    }

    #[test]
    fn ten_lines_of_a_sort_about_a_client_are_written_in_ten_seconds_and_then_how_many_were_not() {
        let (mut restraint, start) = (Restraint::default(), Instant::now());
        let written = |restraint: &mut Restraint, about, times, now| -> Vec<u64> {
            (0..times).filter_map(|_| restraint.due(about, now)).collect()
        };
        assert_eq!(written(&mut restraint, about(1), 25, start), [0; 10]);
        assert_eq!(written(&mut restraint, about(2), 1, start), [0], "another client");
        assert_eq!(written(&mut restraint, ("call_refused", about(1).1), 1, start), [0], "another sort");
        assert_eq!(written(&mut restraint, about(1), 2, start + SPAN), [15, 0]);
    }

    #[test]
    fn beside_many_clients_all_others_are_one() {
        let (mut restraint, start) = (Restraint::default(), Instant::now());
        let clients = APART as u32 + 25;
        let written = (0..clients).filter(|client| restraint.due(about(*client), start).is_some()).count();
        assert_eq!((written, restraint.0.len()), (APART + LINES as usize, APART + 1));
        // Those of whom nothing was said for a span make room.
        assert_eq!(restraint.due(about(clients), start + SPAN), Some(0));
        assert_eq!(restraint.0.len(), 1);
    }
}
