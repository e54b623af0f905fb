//! Clients that are gone: what they had ends before somebody else has their address.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::Engine;
use super::connection::Reset;
use super::event::CloseReason;
use crate::types::{Now, Side};

impl Engine {
    /// Ends every connection of these clients with its calls. Servers are told by RST; nothing is sent to the address, which
    /// may be somebody else's by now.
    pub fn end_clients(&mut self, gone: &BTreeSet<Ipv4Addr>, now: Now) {
        if gone.is_empty() {
            return;
        }
        let theirs: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.ended.is_none() && gone.contains(&connection.flow.client))
            .map(|(index, _)| index)
            .collect();
        for index in theirs {
            self.close(index, CloseReason::ClientGone, Reset::Only(Side::Server), now);
        }
        self.allocator.disown(gone);
        self.patience.disown(gone);
    }
}
