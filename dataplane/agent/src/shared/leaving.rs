//! Connections that are told to close and whose other end has not closed yet: until when, and how many of a client. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use callgate_pptp::Now;

/// Of one client at once: as many as may be half-open. They count against no other limit, and each holds a descriptor.
const PER_CLIENT: usize = 8;

/// By their tokens.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    by_time: BTreeSet<(Now, u64)>,
    by_client: BTreeSet<(Ipv4Addr, Now, u64)>,
}

impl Leaving {
    /// This one has time until then; the one of the same client that has had its time, since they are too many.
    pub(super) fn add(&mut self, token: u64, client: Option<Ipv4Addr>, until: Now) -> Option<u64> {
        self.by_time.insert((until, token));
        let client = client?;
        self.by_client.insert((client, until, token));
        let mut own = self.by_client.range((client, Now(0), 0)..=(client, Now(u64::MAX), u64::MAX));
        let &(_, _, oldest) = own.next()?;
        (own.count() >= PER_CLIENT).then_some(oldest)
    }

    /// It is gone.
    pub(super) fn remove(&mut self, token: u64, client: Option<Ipv4Addr>, until: Now) {
        self.by_time.remove(&(until, token));
        if let Some(client) = client {
            self.by_client.remove(&(client, until, token));
        }
    }

    /// The next time somebody is late.
    pub(super) fn next(&self) -> Option<Now> {
        self.by_time.first().map(|&(until, _)| until)
    }

    /// Who is late.
    pub(super) fn late(&self, now: Now) -> Vec<u64> {
        self.by_time.iter().take_while(|(until, _)| *until <= now).map(|&(_, token)| token).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<Ipv4Addr> = Some(Ipv4Addr::new(10, 0, 0, 2));
    const B: Option<Ipv4Addr> = Some(Ipv4Addr::new(10, 0, 0, 3));

    #[test]
    fn who_closes_ever_more_loses_the_oldest_and_nobody_elses() {
        let mut leaving = Leaving::default();
        assert_eq!(leaving.add(1, B, Now(5)), None);
        for token in 2..10 {
            assert_eq!(leaving.add(token, A, Now(10 + token)), None, "{token}");
        }
        assert_eq!(leaving.add(10, A, Now(20)), Some(2));
        leaving.remove(2, A, Now(12));
        assert_eq!(leaving.add(11, A, Now(21)), Some(3));
        assert_eq!(leaving.add(12, B, Now(21)), None);
        for token in 13..100 {
            assert_eq!(
                leaving.add(token, None, Now(22)),
                None,
                "connections to servers are as many as there are calls"
            );
        }
    }

    #[test]
    fn they_are_late_in_the_order_of_their_times() {
        let mut leaving = Leaving::default();
        leaving.add(1, A, Now(30));
        leaving.add(2, None, Now(10));
        leaving.add(3, B, Now(20));
        assert_eq!((leaving.next(), leaving.late(Now(9))), (Some(Now(10)), vec![]));
        assert_eq!(leaving.late(Now(20)), [2, 3]);
        leaving.remove(2, None, Now(10));
        leaving.remove(3, B, Now(20));
        leaving.remove(1, A, Now(30));
        assert_eq!((leaving.next(), leaving.late(Now(99))), (None, vec![]));
    }
}
