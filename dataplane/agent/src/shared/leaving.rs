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
    /// This one has time until then.
    pub(super) fn add(&mut self, token: u64, client: Option<Ipv4Addr>, until: Now) {
        self.by_time.insert((until, token));
        self.by_client.extend(client.map(|client| (client, until, token)));
    }

    /// The oldest of this client, if they are too many.
    pub(super) fn too_many(&self, client: Ipv4Addr) -> Option<u64> {
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
        let (mut leaving, [a, b]) = (Leaving::default(), [A, B].map(Option::unwrap));
        leaving.add(1, B, Now(5));
        (2..10).for_each(|token| leaving.add(token, A, Now(10 + token)));
        assert_eq!((leaving.too_many(a), leaving.too_many(b)), (None, None), "eight");
        leaving.add(10, A, Now(20));
        assert_eq!((leaving.too_many(a), leaving.too_many(b)), (Some(2), None));
        leaving.remove(2, A, Now(12));
        assert_eq!(leaving.too_many(a), None);
        leaving.add(11, A, Now(21));
        assert_eq!(leaving.too_many(a), Some(3));
        leaving.remove(11, A, Now(21));
        assert_eq!(leaving.too_many(a), None, "whoever closes at once costs nobody else");
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
