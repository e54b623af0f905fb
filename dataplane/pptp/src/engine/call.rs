//! One call: its Call IDs, its state, what went through it.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::view::{CallDirection, CallState, Traffic};
use crate::types::{Now, Side};

/// Sequence gaps larger than this are a peer that started anew, not packets that got lost.
const LARGEST_GAP: u32 = 4_096;

/// One direction of a call's GRE.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meter {
    pub(crate) traffic: Traffic,
    /// The sequence number that would come next without loss.
    next: Option<u32>,
    /// When user traffic last passed (acknowledgements alone do not count).
    pub(crate) last_payload: Now,
}

impl Meter {
    pub(crate) fn new(now: Now) -> Self {
        Self { traffic: Traffic::default(), next: None, last_payload: now }
    }

    /// Counts one packet of `bytes` (IPv4 header included) with its sequence number, if it carries user traffic.
    pub(crate) fn count(&mut self, bytes: usize, sequence: Option<u32>, now: Now) {
        self.traffic.packets += 1;
        self.traffic.bytes += bytes as u64;
        let Some(sequence) = sequence else { return };
        self.last_payload = now;
        match self.next {
            None => self.next = Some(sequence.wrapping_add(1)),
            Some(next) => {
                let ahead = sequence.wrapping_sub(next);
                let behind = next.wrapping_sub(sequence);
                if ahead <= LARGEST_GAP {
                    self.traffic.lost += u64::from(ahead);
                    self.next = Some(sequence.wrapping_add(1));
                } else if behind <= LARGEST_GAP {
                    // Late, so it was counted as lost too early.
                    self.traffic.lost = self.traffic.lost.saturating_sub(1);
                } else {
                    self.next = Some(sequence.wrapping_add(1));
                }
            }
        }
    }
}

impl Meter {
    /// Counts one packet of a direction whose packets mostly pass elsewhere: gaps in what comes here say nothing.
    pub(crate) fn count_beside(&mut self, bytes: usize, payload: bool, now: Now) {
        self.traffic.packets += 1;
        self.traffic.bytes += bytes as u64;
        if payload {
            self.last_payload = now;
        }
    }

    fn is_unused(&self) -> bool {
        self.traffic == Traffic::default()
    }

    /// The next sequence number may be any.
    pub(crate) fn forget_sequence(&mut self) {
        self.next = None;
    }

    /// Much may have passed since it was saved: nobody is taken to have been silent before `now`.
    pub(crate) fn resume(&mut self, now: Now) {
        self.forget_sequence();
        self.last_payload = now;
    }
}

/// A call as the tables hold it. The client is the PNS, the server the PAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// Never used twice.
    pub(crate) serial: u64,
    /// Index of its connection.
    pub(crate) connection: u32,
    /// Its name in the journal, among the calls of its connection.
    pub(crate) number: u32,
    pub(crate) client: Ipv4Addr,
    pub(crate) external: Ipv4Addr,
    pub(crate) server: Ipv4Addr,
    pub(crate) data: CallData,
    /// The deadline its entry in the timer queue has.
    pub(crate) armed: Option<Now>,
    /// Its GRE passes beside the engine.
    pub(crate) beside: bool,
    /// It is about to end: its GRE must not pass beside the engine any more.
    pub(crate) closed: bool,
}

/// The part of a call that is saved with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallData {
    pub(crate) direction: CallDirection,
    pub(crate) state: CallState,
    /// The PNS's id as the client chose it, and what the server knows in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pns: Option<PnsId>,
    /// The PAC's (server's) id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pac: Option<u16>,
    pub(crate) created: Now,
    #[serde(default, with = "total", skip_serializing_if = "Meter::is_unused")]
    pub(crate) up: Meter,
    #[serde(default, with = "total", skip_serializing_if = "Meter::is_unused")]
    pub(crate) down: Meter,
    /// When the last GRE of any kind passed.
    pub(crate) last_seen: Now,
    /// When the client asked for its end; the server may still have to say its part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) clearing: Option<Now>,
}

/// The PNS's Call ID on both sides of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PnsId {
    /// As the client chose it.
    pub(crate) client: u16,
    /// As the server knows it.
    pub(crate) translated: u16,
}

impl CallData {
    pub(crate) fn new(direction: CallDirection, now: Now) -> Self {
        Self {
            direction,
            state: CallState::Requested,
            pns: None,
            pac: None,
            created: now,
            up: Meter::new(now),
            down: Meter::new(now),
            last_seen: now,
            clearing: None,
        }
    }

    /// When user traffic last passed, and which side had been silent for longer by then.
    pub(crate) fn last_payload(&self) -> (Now, Side) {
        let (up, down) = (self.up.last_payload, self.down.last_payload);
        (up.max(down), if up <= down { Side::Client } else { Side::Server })
    }
}

/// Of a meter only what passed is saved: what would come next, and who has been silent since when, nobody knows after a restart.
mod total {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Meter, Traffic};

    #[derive(Serialize, Deserialize)]
    struct Total {
        traffic: Traffic,
    }

    pub(super) fn serialize<S: Serializer>(meter: &Meter, serializer: S) -> Result<S::Ok, S::Error> {
        Total { traffic: meter.traffic }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Meter, D::Error> {
        Total::deserialize(deserializer).map(|total| Meter { traffic: total.traffic, ..Meter::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(sequences: &[u32]) -> u64 {
        let mut meter = Meter::new(Now(0));
        for &sequence in sequences {
            meter.count(100, Some(sequence), Now(1));
        }
        assert_eq!(
            (meter.traffic.packets, meter.traffic.bytes),
            (sequences.len() as u64, 100 * sequences.len() as u64)
        );
        meter.traffic.lost
    }

    #[test]
    fn gaps_are_losses_and_late_packets_are_not() {
        assert_eq!(lost(&[0, 1, 2]), 0);
        assert_eq!(lost(&[1, 2, 5]), 2);
        assert_eq!(lost(&[0, 2, 1, 3]), 0);
        assert_eq!(lost(&[u32::MAX, 0, 2]), 1);
    }

    #[test]
    fn a_peer_that_starts_anew_has_lost_nothing() {
        assert_eq!(lost(&[90_000, 90_001, 0, 1, 2]), 0);
    }

    #[test]
    fn acknowledgements_alone_are_not_user_traffic() {
        let mut meter = Meter::new(Now(5));
        meter.count(32, None, Now(9));
        assert_eq!((meter.last_payload, meter.traffic.packets), (Now(5), 1));
    }
}
