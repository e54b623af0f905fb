//! Tunnels and what Auto has learned, as the status reply has them.

use std::time::{SystemTime, UNIX_EPOCH};

use callgate_pptp::shared::{TunnelState, Why};
use callgate_pptp::{Now, Traffic};
use callgate_proto::pb;

use crate::alg::Totals;

/// Control connections to servers that carry calls of many clients, by number.
pub(super) fn tunnels(totals: &Totals) -> Vec<pb::Tunnel> {
    let traffic = |of: Traffic| pb::Traffic { packets: of.packets, bytes: of.bytes, lost: of.lost };
    let tunnel = |(view, port): &(callgate_pptp::shared::TunnelView, u16)| pb::Tunnel {
        tunnel: view.tunnel.0,
        external_address: view.external.to_string(),
        external_port: u32::from(*port),
        server_address: view.server.to_string(),
        server_port: u32::from(view.server_port),
        alg: view.alg.clone(),
        state: state(view.state).to_owned(),
        channels: u32::from(view.channels),
        calls: view.calls,
        tx: Some(traffic(view.up)),
        rx: Some(traffic(view.down)),
        age_ms: totals.at.since(view.since),
        idle_ms: totals.at.since(view.last_seen),
    };
    totals.tunnels.iter().map(tunnel).collect()
}

/// Servers that take one control connection of an address only; `unix_ms` is the time of `totals`.
pub(super) fn learned(totals: &Totals, unix_ms: i64) -> Vec<pb::LearnedServer> {
    let ago = |at: Now| unix_ms.saturating_sub_unsigned(totals.at.since(at));
    let server = |entry: &callgate_pptp::shared::Learned| pb::LearnedServer {
        server_address: entry.server.to_string(),
        server_port: u32::from(entry.server_port),
        reason: reason(entry.why).to_owned(),
        message: entry.why.text().to_owned(),
        since_unix_ms: ago(entry.since),
        seen_unix_ms: ago(entry.seen),
        until_unix_ms: unix_ms.saturating_add_unsigned(entry.until.since(totals.at)),
    };
    totals.learned.iter().map(server).collect()
}

/// Milliseconds of the Unix epoch.
pub(super) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn state(state: TunnelState) -> &'static str {
    match state {
        TunnelState::Opening => "Opening",
        TunnelState::Established => "Established",
        TunnelState::Closing => "Closing",
    }
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::SecondRefused => "second-refused",
        Why::SecondReset => "second-reset",
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use callgate_pptp::shared::Learned;

    use super::*;

    #[test]
    fn what_was_learned_is_told_in_the_time_of_the_wall() {
        let server = Ipv4Addr::new(203, 0, 113, 7);
        let entry = Learned {
            server,
            server_port: 1723,
            why: Why::SecondReset,
            since: Now(1_000),
            seen: Now(4_000),
            until: Now(64_000),
        };
        let totals = Totals { learned: vec![entry], at: Now(5_000), ..Totals::default() };
        let told = pb::LearnedServer {
            server_address: "203.0.113.7".into(),
            server_port: 1723,
            reason: "second-reset".into(),
            message: Why::SecondReset.text().into(),
            since_unix_ms: 996_000,
            seen_unix_ms: 999_000,
            until_unix_ms: 1_059_000,
        };
        assert_eq!(learned(&totals, 1_000_000), [told]);
    }
}
