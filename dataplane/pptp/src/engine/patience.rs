//! Who keeps servers waiting: a client whose connections to a server end before their first message waits longer each time.
//!
//! pptpd serves nobody else while it waits for the first packet of a connection, so a client that connects and says nothing, again
//! and again, would keep all others out. A connection that gets to its first message is no offence, however many there are at once.
//! Not saved: after a restart everybody has done nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::types::{Flow, Now};

/// A server is kept waiting for so long, in one connection or several, before it counts, ms. A check that connects and closes is no
/// offence.
const FREE: u64 = 1_000;

/// The part of the time in which a client may keep a server waiting without counting ever.
const PART: u64 = 16;

/// The first wait, ms; each further one is twice as long.
const FIRST: u64 = 4_000;

/// The longest wait is `FIRST << DOUBLINGS`: a little more than four minutes.
const DOUBLINGS: u32 = 6;

/// What a client has done is forgotten so long after its last wait was over, ms. A connection that succeeds does not shorten this:
/// it costs nothing, and would buy the next silence.
const FORGET: u64 = 300_000;

/// Clients and servers that are remembered; beyond, the one whose offence is oldest is forgotten.
const REMEMBERED: usize = 4_096;

/// Client, server and server's port.
type Ends = (Ipv4Addr, Ipv4Addr, u16);

/// What one client has done to one server.
#[derive(Debug, Clone, Copy, Default)]
struct Offences {
    /// How long it has kept the server waiting since its last wait began, ms, less what is free.
    kept: u64,
    /// When it last did.
    last: Now,
    /// Waits so far, and when the last of them began and ends.
    waits: u32,
    began: Now,
    until: Now,
}

impl Offences {
    fn is_forgotten(&self, now: Now) -> bool {
        now >= self.last.max(self.until).after(FORGET)
    }
}

/// All that is remembered.
#[derive(Debug, Default)]
pub(crate) struct Patience(BTreeMap<Ends, Offences>);

impl Patience {
    /// How long this client must not connect to this server, ms, if it must not.
    pub(crate) fn wait(&self, flow: Flow, now: Now) -> Option<u64> {
        self.0.get(&ends(flow)).map(|offences| offences.until.since(now)).filter(|wait| *wait > 0)
    }

    /// A connection has ended without its first message, for which the server has waited from then to then.
    pub(crate) fn kept_waiting(&mut self, flow: Flow, (since, until): (Now, Now), now: Now) {
        self.make_room(ends(flow), now);
        let offences = self.0.entry(ends(flow)).or_default();
        if offences.is_forgotten(now) {
            *offences = Offences::default();
        }
        // Those that were opened together are one offence.
        if since < offences.began {
            return;
        }
        offences.kept = offences.kept.saturating_sub(now.since(offences.last) / PART) + until.since(since);
        offences.last = now;
        if offences.kept >= FREE {
            (offences.began, offences.until) = (now, now.after(FIRST << offences.waits.min(DOUBLINGS)));
            offences.waits += 1;
            offences.kept = 0;
        }
    }

    fn make_room(&mut self, ends: Ends, now: Now) {
        if self.0.len() < REMEMBERED || self.0.contains_key(&ends) {
            return;
        }
        self.0.retain(|_, offences| !offences.is_forgotten(now));
        if self.0.len() < REMEMBERED {
            return;
        }
        if let Some(oldest) = self.0.iter().min_by_key(|(_, offences)| offences.last).map(|(ends, _)| *ends) {
            self.0.remove(&oldest);
        }
    }

    /// Clients are gone; whoever has an address next has done nothing.
    pub(crate) fn disown(&mut self, gone: &BTreeSet<Ipv4Addr>) {
        self.0.retain(|(client, ..), _| !gone.contains(client));
    }
}

fn ends(flow: Flow) -> Ends {
    (flow.client, flow.server, flow.server_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000;

    fn flow(client: u32, server: u32) -> Flow {
        let address = |number| Ipv4Addr::from_bits(0x0a00_0000 + number);
        Flow { client: address(client), client_port: 1, server: address(server), server_port: 1723 }
    }

    #[test]
    fn each_wait_is_twice_as_long_as_the_one_before_up_to_four_minutes() {
        let (mut patience, mut now) = (Patience::default(), Now(START));
        let waits: Vec<u64> = (0..9)
            .map(|_| {
                patience.kept_waiting(flow(1, 2), (now, now.after(5_000)), now.after(5_000));
                now = now.after(5_000);
                let wait = patience.wait(flow(1, 2), now).unwrap_or_default();
                now = now.after(wait);
                assert_eq!(patience.wait(flow(1, 2), now), None);
                wait
            })
            .collect();
        assert_eq!(waits, [4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 256_000, 256_000]);
        assert_eq!([flow(1, 3), flow(3, 2)].map(|other| patience.wait(other, Now(START))), [None; 2]);
        // Forgotten five minutes after the last wait.
        let later = now.after(FORGET);
        patience.kept_waiting(flow(1, 2), (later, later.after(5_000)), later.after(5_000));
        assert_eq!(patience.wait(flow(1, 2), later.after(5_000)), Some(4_000));
    }

    #[test]
    fn what_was_opened_together_is_one_offence_and_short_ones_add_up() {
        let mut patience = Patience::default();
        for n in 0..8 {
            let (since, until) = (Now(START + n * 100), Now(START + n * 100 + 5_000));
            patience.kept_waiting(flow(1, 2), (since, until), until);
        }
        assert_eq!(patience.wait(flow(1, 2), Now(START + 5_000)), Some(4_000));
        let waits: Vec<_> = (0..5)
            .map(|n| {
                let until = Now(START + n + 300);
                patience.kept_waiting(flow(3, 2), (Now(START + n), until), until);
                patience.wait(flow(3, 2), until)
            })
            .collect();
        assert_eq!(waits, [None, None, None, Some(4_000), Some(3_999)]);
    }

    #[test]
    fn a_check_that_connects_and_closes_every_few_seconds_is_never_refused() {
        let mut patience = Patience::default();
        for n in 0..10_000 {
            let now = Now(START + n * 5_000);
            patience.kept_waiting(flow(1, 2), (now, now.after(300)), now.after(300));
            assert_eq!(patience.wait(flow(1, 2), now.after(300)), None);
        }
    }

    #[test]
    fn no_more_than_so_many_are_remembered_and_the_latest_of_them() {
        let mut patience = Patience::default();
        for server in 0..5_000 {
            let now = Now(START + u64::from(server));
            patience.kept_waiting(flow(1, server), (now, now.after(5_000)), now.after(5_000));
        }
        let waits = |server| patience.wait(flow(1, server), Now(START)).is_some();
        assert_eq!((patience.0.len(), [0, 903, 904, 4_999].map(waits)), (4_096, [false, false, true, true]));
        patience.disown(&[flow(1, 0).client].into());
        assert_eq!(patience.0.len(), 0);
    }
}
