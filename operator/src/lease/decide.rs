//! The decision of one look at the Lease. Pure: time is a parameter.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;

use super::DURATION;

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Write this: the Lease is free, its holder is gone, or it is ours.
    Write(LeaseSpec),
    /// Somebody else leads.
    Wait,
}

/// When the Lease was last seen to change, by our own clock: clocks of two nodes may differ, so what another wrote is never
/// compared with ours.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    spec: Option<LeaseSpec>,
    at: Option<Instant>,
}

impl Seen {
    /// Takes note of a Lease read at `now`.
    pub fn note(&mut self, spec: &LeaseSpec, now: Instant) {
        if self.spec.as_ref() != Some(spec) {
            (self.spec, self.at) = (Some(spec.clone()), Some(now));
        }
    }

    /// The Lease as last read; empty while none was.
    pub fn last(&self) -> LeaseSpec {
        self.spec.clone().unwrap_or_default()
    }

    fn unchanged_for(&self, now: Instant) -> Duration {
        self.at.map_or(Duration::ZERO, |at| now.duration_since(at))
    }
}

/// Decides about a Lease that was just read and noted. `stamp` is the time to write into it.
pub fn decide(lease: &LeaseSpec, me: &str, seen: &Seen, now: Instant, stamp: &MicroTime) -> Decision {
    let holder = lease.holder_identity.as_deref().filter(|holder| !holder.is_empty());
    let renewed = LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(DURATION.as_secs() as i32),
        renew_time: Some(stamp.clone()),
        ..lease.clone()
    };
    if holder == Some(me) {
        return Decision::Write(renewed);
    }
    let lasts = lease.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let lasts = lasts.map_or(DURATION, Duration::from_secs);
    if holder.is_some() && seen.unchanged_for(now) < lasts {
        return Decision::Wait;
    }
    let transitions = lease.lease_transitions.unwrap_or(0);
    Decision::Write(LeaseSpec {
        acquire_time: Some(stamp.clone()),
        lease_transitions: Some(if holder.is_some() { transitions.saturating_add(1) } else { transitions }),
        ..renewed
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn stamp(second: i64) -> MicroTime {
        MicroTime(Timestamp::from_second(second).unwrap())
    }

    fn of(holder: &str, renewed: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            acquire_time: Some(stamp(1)),
            renew_time: Some(stamp(renewed)),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_nobody_holds_is_taken() {
        let decision = decide(&LeaseSpec::default(), "me", &Seen::default(), Instant::now(), &stamp(9));
        let taken = LeaseSpec { lease_transitions: Some(0), acquire_time: Some(stamp(9)), ..of("me", 9) };
        assert_eq!(decision, Decision::Write(taken));
    }

    #[test]
    fn ones_own_is_renewed_without_a_transition() {
        let decision = decide(&of("me", 5), "me", &Seen::default(), Instant::now(), &stamp(9));
        assert_eq!(decision, Decision::Write(of("me", 9)));
    }

    #[test]
    fn anothers_is_taken_only_after_it_stood_still_for_its_whole_duration_by_our_own_clock() {
        let (start, mut seen) = (Instant::now(), Seen::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        // Its clock is an hour behind: that does not matter.
        seen.note(&of("other", -3600), start);
        assert_eq!(decide(&of("other", -3600), "me", &seen, after(14), &stamp(9)), Decision::Wait);
        seen.note(&of("other", -3590), after(14));
        assert_eq!(decide(&of("other", -3590), "me", &seen, after(28), &stamp(9)), Decision::Wait);
        let taken = LeaseSpec { acquire_time: Some(stamp(9)), lease_transitions: Some(4), ..of("me", 9) };
        assert_eq!(decide(&of("other", -3590), "me", &seen, after(29), &stamp(9)), Decision::Write(taken));
    }

    #[test]
    fn one_that_was_given_up_is_taken_at_once() {
        let decision = decide(&of("", 5), "me", &Seen::default(), Instant::now(), &stamp(9));
        let taken = LeaseSpec { acquire_time: Some(stamp(9)), ..of("me", 9) };
        assert_eq!(decision, Decision::Write(taken));
    }
}
