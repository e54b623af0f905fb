//! What the ALG's sockets and files count, beside the engine's own counters.

callgate_pptp::counters! {
    /// Totals since the thread started; packets unless they say otherwise.
    pub struct Counters {
        /// From clients, read behind the pod-side link.
        rx_pods,
        /// From servers, read on external devices.
        rx_outside,
        /// Reads that found packets: `rx_pods` and `rx_outside` over this is how many a read brings.
        rx_batches,
        /// Dropped: from outside, addressed to none of our external addresses.
        rx_not_ours,
        /// Dropped by the kernel because the pod-side socket was full.
        rx_pods_overflow,
        /// Dropped by the kernel because an external device's socket was full.
        rx_outside_overflow,
        /// Dropped: longer than any IPv4 packet.
        rx_truncated,
        /// Dropped: merged by an offload that is not TCP's.
        rx_offload,
        /// Reads that failed, an interface that went down included.
        rx_errors,
        /// Sent, to either side.
        tx_packets,
        /// Of `tx_packets`: GRE that was handed to its neighbour without routing.
        tx_straight,
        /// Larger than the MTU of the way out: cut, or dropped where it has DF and is no GRE.
        tx_too_big,
        /// Dropped: a queue or the socket was full.
        tx_no_buffers,
        /// Dropped: no route, or the device was down.
        tx_no_route,
        /// Dropped: a filter of the host forbids it.
        tx_filtered,
        /// Dropped: another error of the kernel.
        tx_errors,
        /// Changes of durable state written to the journal.
        journal_entries,
        /// Writes of the journal that failed (it is repaired by a snapshot as soon as one can be written).
        journal_errors,
        /// Times that the journal was begun anew with a snapshot.
        journal_snapshots,
        /// Events that were not logged because the log could not keep up.
        events_unlogged,
        /// External devices that are read, now.
        taps,
    }
}
