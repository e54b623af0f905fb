//! A packet that does not fit the way out: told to its sender, or cut into fragments.

use super::Engine;
use crate::types::{Command, Side};
use crate::wire::ipv4;

impl Engine {
    /// The shell could not send `packet` (as rewritten) to `to` because it exceeds `mtu`: with DF set the sender is
    /// told by ICMP fragmentation-needed, without it fragments are queued as commands.
    pub fn too_big(&mut self, packet: &[u8], to: Side, mtu: u16) {
        let Ok(ip) = ipv4::Packet::new_checked(packet) else { return };
        if ip.dont_fragment() {
            self.send_too_big(packet, to, mtu);
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
        let id = if ip.is_fragment() { id } else { self.fragments.id_for(to, id) };
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
