//! Tunnels and what Auto has learned, as the status reply has them.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use callgate_pptp::shared::{TunnelState, Why};
use callgate_pptp::{Now, Traffic};
use callgate_proto::pb;

use crate::alg::Totals;
use crate::clock;

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
        alg: entry.alg.clone(),
    };
    totals.learned.iter().map(server).collect()
}

/// The same for whoever adds it up over nodes; `boot_unix_ms` is when our clock began.
pub(super) fn servers(totals: &Totals, boot_unix_ms: i64) -> Vec<pb::SharedServer> {
    let server = |entry: &callgate_pptp::shared::Learned| pb::SharedServer {
        alg: entry.alg.clone(),
        server: format!("{}:{}", entry.server, entry.server_port),
        reason: reason(entry.why).to_owned(),
        since_unix_s: boot_unix_ms.saturating_add_unsigned(entry.since.0) / 1_000,
    };
    totals.learned.iter().map(server).collect()
}

/// When our clock began, ms of the Unix epoch. Always the same, so that a report with it does not differ from the one before.
pub(super) fn boot_unix_ms() -> i64 {
    static BOOT: OnceLock<i64> = OnceLock::new();
    *BOOT.get_or_init(|| unix_ms().saturating_sub_unsigned(clock::now().0))
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
            alg: "pos/pptp".into(),
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
            alg: "pos/pptp".into(),
        };
        assert_eq!(learned(&totals, 1_000_000), [told]);
        let told = pb::SharedServer {
            alg: "pos/pptp".into(),
            server: "203.0.113.7:1723".into(),
            reason: "second-reset".into(),
            since_unix_s: 996,
        };
        assert_eq!(servers(&totals, 995_000), [told]);
    }
}
