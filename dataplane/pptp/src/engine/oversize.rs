//! A packet that does not fit the way out: cut into fragments.

use super::Engine;
use crate::types::{Command, Side};
use crate::wire::ipv4;

impl Engine {
    /// The shell could not send `packet` (as rewritten) to `to` because it exceeds `mtu`: its fragments are queued as
    /// commands. GRE is cut even where its sender forbids it (DF): it leaves under an address and ids that are ours, and
    /// a pptpd that is told ends every call of that address. Anything else with DF is dropped.
    pub fn too_big(&mut self, packet: &[u8], to: Side, mtu: u16) {
        let Ok(ip) = ipv4::Packet::new_checked(packet) else { return };
        let whole = ip.dont_fragment();
        if whole && ip.protocol() != ipv4::PROTOCOL_GRE {
            return;
        }
        let header_len = ip.header_len();
        // Offsets count in units of 8 octets.
        let room = (usize::from(mtu).saturating_sub(header_len)) / 8 * 8;
        if room == 0 {
            return;
        }
        self.counters.fragmented += 1;
        let (offset, more, id) = (ip.fragment_offset(), ip.more_fragments(), ip.id());
        let id = match (ip.is_fragment(), whole) {
            (true, _) => id,
            // Packets that nobody was to cut may all have the same identification (RFC 6864).
            (false, true) => self.fragments.id_for(to, 0),
            (false, false) => self.fragments.id_for(to, id),
        };
        let payload = ip.payload();
        let header = packet.get(..header_len).unwrap_or_default();
        let count = payload.len().div_ceil(room);
        for (number, part) in payload.chunks(room).enumerate() {
            let mut bytes = [header, part].concat();
            let mut fragment = ipv4::Packet::new_unchecked(&mut bytes[..]);
            fragment.set_total_len((header_len + part.len()) as u16);
            fragment.set_id(id);
            fragment.set_fragment(false, more || number + 1 < count, offset + number * room);
            fragment.fill_checksum();
            self.commands.push_back(Command::Send { to, packet: bytes });
        }
    }
}
