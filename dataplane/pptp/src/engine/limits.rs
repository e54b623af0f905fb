//! Every number that bounds the engine, with its default and the reason for it; but for how long a silent client waits
//! (patience.rs) and how much of a limit one client may have (shares.rs).

use serde::{Deserialize, Serialize};

/// Bounds of one engine. Durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Inclusive ranges of external TCP ports for control connections; outside `ip_local_port_range`.
    pub port_ranges: Vec<(u16, u16)>,
    /// A control connection that has not sent its whole Start-Control-Connection-Request by then is reset on both
    /// sides. pptpd serves nobody else while it waits for it (up to 10 s), so this stays below.
    pub first_message_timeout_ms: u64,
    /// A connection whose TCP handshake is not complete by then is given up. A busy server lets SYNs be lost, and a
    /// client repeats them after 1, 3, 7 and 15 s.
    pub handshake_timeout_ms: u64,
    /// Connections of one client that may be waiting for their first message; the next SYN gets RST.
    pub half_open_per_client: u32,
    /// Connections to one server (address and port) that may be waiting for their first message.
    pub half_open_per_server: u32,
    /// Calls of one control connection: what looks at all of them stays quick.
    pub calls_per_connection: u32,
    /// Control connections altogether, over all services.
    pub max_connections: u32,
    /// External ports of one client towards all servers, in use or resting: a client that opens and resets without end uses
    /// up no more than these.
    pub ports_per_client: u32,
    /// Translated Call IDs of one client towards all servers, in use or resting.
    pub call_ids_per_client: u32,
    /// How long a closed connection's external port is not given out again (twice the longest segment life). One that was
    /// reset before its first message rests `linger_ms` only, and not at all where the server has refused the SYN.
    pub port_quarantine_ms: u64,
    /// The least time for which an ended call's translated Call ID is not given out again; the time used is the
    /// larger of this and twice the connection's echo time-out. Where the server has refused the call it does not rest.
    pub call_id_quarantine_ms: u64,
    /// A call without its reply by then is given up (RFC 2637 3.2: one minute).
    pub call_setup_timeout_ms: u64,
    /// A connection without any call is closed after this silence.
    pub callless_timeout_ms: u64,
    /// A connection of which one side has sent FIN is forgotten after this silence.
    pub half_closed_timeout_ms: u64,
    /// How long a connection that the gateway ends has, after both sides were told by message, to close by itself
    /// before it is reset.
    pub farewell_ms: u64,
    /// How long a closed connection still passes retransmissions.
    pub linger_ms: u64,
    /// GRE packets held for a call whose reply is still under way.
    pub early_gre_packets: u32,
    /// How long they are held.
    pub early_gre_ms: u64,
    /// GRE packets held for all calls together.
    pub early_gre_total: u32,
    /// Fragmented packets whose translation is remembered.
    pub fragment_entries: u32,
    /// How long it is remembered (Linux's own reassembly time-out is 30 s).
    pub fragment_ms: u64,
    /// Later fragments held until the first one arrives; of one source a quarter of these.
    pub fragment_held: u32,
    /// After `restore` no time-out strikes earlier than this, so that nobody pays for our absence.
    pub restore_grace_ms: u64,
    /// Notes about dropped packets (spoofed, unknown) come at most one in this time; counters count all.
    pub note_interval_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            port_ranges: vec![(10_000, 29_999), (61_000, 65_535)],
            first_message_timeout_ms: 5_000,
            handshake_timeout_ms: 30_000,
            half_open_per_client: 8,
            half_open_per_server: 256,
            calls_per_connection: 1_024,
            max_connections: 65_536,
            ports_per_client: 1_024,
            call_ids_per_client: 4_096,
            port_quarantine_ms: 120_000,
            call_id_quarantine_ms: 120_000,
            call_setup_timeout_ms: 60_000,
            callless_timeout_ms: 3_600_000,
            half_closed_timeout_ms: 60_000,
            farewell_ms: 2_000,
            linger_ms: 10_000,
            early_gre_packets: 8,
            early_gre_ms: 1_000,
            early_gre_total: 1_024,
            fragment_entries: 1_024,
            fragment_ms: 30_000,
            fragment_held: 64,
            restore_grace_ms: 60_000,
            note_interval_ms: 1_000,
        }
    }
}
