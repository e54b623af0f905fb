//! Everything the shared mode counts, under stable names.

crate::counters! {
    /// Totals since it was made (not saved across a restart).
    pub struct Counters {
        /// Client sessions accepted.
        sessions_opened,
        /// Client sessions that ended, for whatever reason.
        sessions_closed,
        /// Client connections refused once they were accepted, before a word was said: limits.
        sessions_refused,
        /// Sessions ended because a message could not be understood.
        sessions_malformed,
        /// Sessions ended because the client did not read, or did not answer in time.
        sessions_unresponsive,
        /// Connections to servers that were asked for.
        upstreams_opened,
        /// Connections to servers that came about and were answered.
        upstreams_established,
        /// Connections to servers that did not come about.
        upstreams_failed,
        /// Established connections to servers that ended.
        upstreams_closed,
        /// Messages of clients.
        messages_from_clients,
        /// Messages of servers.
        messages_from_servers,
        /// Messages written to clients.
        messages_to_clients,
        /// Messages written to servers.
        messages_to_servers,
        /// Messages that could not be understood, both sides.
        messages_malformed,
        /// Messages about a call that does not exist, or that say nothing new: not passed on.
        messages_ignored,
        /// Set-Link-Info of clients that was not passed on to a server that has much to read already.
        link_infos_dropped,
        /// Calls that came up.
        calls_up,
        /// Calls that ended, whether they had come up or not.
        calls_ended,
        /// Calls refused here: limits, share, no server.
        calls_refused,
        /// Calls whose request was given to another connection because the first one ended before its answer.
        calls_retried,
        /// Calls refused because the server gave them a Call ID that a live call of another client has.
        calls_pac_id_taken,
        /// Calls whose PAC Call ID was taken already on the client's side and is another one there.
        calls_pac_id_changed,
        /// GRE passed on, client to server.
        gre_up_packets,
        /// Octets of GRE passed on, client to server, IPv4 headers included.
        gre_up_bytes,
        /// GRE passed on, server to client.
        gre_down_packets,
        /// Octets of GRE passed on, server to client, IPv4 headers included.
        gre_down_bytes,
        /// GRE held because the call's reply was still under way.
        gre_held,
        /// Held GRE that was passed on.
        gre_released,
        /// Dropped: GRE of a call that is not up, or for which there was no room to hold it.
        drop_gre_not_up,
        /// Later fragments of GRE passed on.
        gre_fragments,
        /// ICMP fragmentation-needed and time-exceeded passed on to clients.
        icmp_passed,
        /// Dropped: ICMP about a call of ours that may not pass: any to a server (pptpd ends every call on it).
        drop_icmp,
    }
}
