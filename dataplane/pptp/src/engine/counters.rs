//! Everything the engine counts, under stable names.

/// Declares a struct of named totals, `u64` each and zero at first; `iter` lists them in the order of the declaration.
#[macro_export]
macro_rules! counters {
    ($(#[$about:meta])* pub struct $Counters:ident { $($(#[$doc:meta])* $name:ident,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl $Counters {
            /// Every counter as (name, value), in the order of the declaration.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Totals since the engine was made (not saved across a restart). All count packets unless they say otherwise.
    pub struct Counters {
        /// GRE of live calls passed on, client to server; `status` adds what passed by the fast path.
        gre_up_packets,
        /// Bytes of `gre_up_packets`, IPv4 headers included.
        gre_up_bytes,
        /// GRE of live calls passed on, server to client; `status` adds what passed by the fast path.
        gre_down_packets,
        /// Bytes of `gre_down_packets`, IPv4 headers included.
        gre_down_bytes,
        /// GRE held because the call's reply was still under way.
        gre_held,
        /// Held GRE that was passed on when the reply came.
        gre_released,
        /// Later fragments of GRE passed on.
        gre_fragments,
        /// Dropped: GRE whose Call ID belongs to no live call of that pair of addresses.
        drop_gre_unknown_call,
        /// Dropped: not enhanced GRE (version 1, K set, protocol 0x880B), or its payload length exceeds the packet.
        drop_gre_malformed,
        /// Dropped: held GRE that ran out of time or room.
        drop_gre_held,
        /// Dropped: a later fragment whose first one never came.
        drop_fragment_unknown,
        /// Dropped: a fragmented TCP segment.
        drop_fragment_tcp,
        /// Dropped: TTL would reach 0.
        drop_ttl,
        /// Dropped: broken IPv4 header or length, or, from a server, a wrong checksum of the header.
        drop_ip_malformed,
        /// Dropped: an IP protocol that is none of TCP, GRE, ICMP.
        drop_ip_protocol,
        /// Dropped: broken TCP header or checksum.
        drop_tcp_malformed,
        /// Client segments without a connection: answered with RST.
        tcp_unknown_client,
        /// Dropped: server segments without a connection.
        drop_tcp_unknown_server,
        /// Dropped: segments outside the window of what that side may send (forged or very late).
        drop_tcp_window,
        /// Dropped: an RST with an implausible sequence number.
        drop_tcp_rst_forged,
        /// Dropped: a SYN for a live connection; the client is told what is expected (RFC 5961), so that a real restart
        /// of the client resets the old connection first.
        drop_tcp_syn_live,
        /// Dropped: a segment with a hole before it (its sender sends again).
        drop_tcp_gap,
        /// Dropped: a segment beyond what is held for one direction (its sender sends again).
        drop_tcp_full,
        /// Dropped: data or FIN in a SYN, or before the handshake was complete.
        drop_tcp_early,
        /// Segments that repeated what had been passed on.
        tcp_duplicates,
        /// Segments sent again by the ALG itself.
        tcp_retransmitted,
        /// Acknowledgements given on a receiver's behalf.
        tcp_custody_acks,
        /// RST segments made by the ALG.
        tcp_resets_sent,
        /// ICMP fragmentation-needed and time-exceeded passed on to the client, inner header translated.
        icmp_to_client,
        /// Packets cut into fragments by the ALG.
        fragmented,
        /// Dropped: ICMP protocol-unreachable about GRE (one of them ends every pptpd call of an address).
        drop_icmp_protocol_unreachable,
        /// Dropped: ICMP fragmentation-needed of a client about GRE (the same).
        drop_icmp_too_big_gre,
        /// Dropped: ICMP fragmentation-needed of a client about a control connection (it would change the server's path
        /// MTU for the whole address, and no message needs it).
        drop_icmp_too_big_tcp,
        /// Dropped: ICMP about nothing we carry.
        drop_icmp_unknown,
        /// Dropped: ICMP of another type, or broken.
        drop_icmp_other,
        /// Control connections opened.
        connections_opened,
        /// Control connections ended, for whatever reason.
        connections_closed,
        /// Control connections refused: no rule, no route, limits, no port.
        connections_refused,
        /// Of `connections_refused`: the client had kept the server waiting for a first message again and again.
        silent_clients_refused,
        /// Control connections reset because their first message did not come in time.
        first_message_timeouts,
        /// Control messages passed on, client to server.
        messages_up,
        /// Control messages passed on, server to client.
        messages_down,
        /// Malformed control messages, both directions, whatever is wrong with them: the log's `reason` has that.
        messages_malformed,
        /// Control messages about a call that does not exist: taken out of the stream, except Set-Link-Info of the
        /// client.
        messages_unknown_call,
        /// Control messages the ALG made itself.
        messages_made,
        /// Control messages the ALG took out of a stream.
        messages_swallowed,
        /// Calls that came up.
        calls_up,
        /// Calls that ended, whether they had come up or not.
        calls_ended,
        /// Calls refused by the ALG: Call IDs used up (all, or the client's), `maxCalls` or the client's share of it, too many
        /// on the connection.
        calls_refused,
        /// Calls ended by a time-out of the ALG.
        calls_timed_out,
        /// Calls refused because the server gave them a Call ID that a live call of another client has.
        calls_pac_id_taken,
        /// Calls that lost their place to a newer one with the same PAC Call ID.
        calls_pac_id_reused,
    }
}
