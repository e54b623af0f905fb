//! Segments of our own: header, optional timestamps, data, checksums.

use std::net::Ipv4Addr;

use super::super::bytes::put;
use super::super::{Error, Result, Seq, ipv4};
use super::{Flags, HEADER_LEN, Packet, options};

/// A TCP header with no option but timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: Seq,
    /// Acknowledgement number.
    pub ack: Seq,
    /// Flags.
    pub flags: Flags,
    /// Window, unscaled.
    pub window: u16,
    /// Value and echo reply, where the connection uses timestamps.
    pub timestamps: Option<(u32, u32)>,
}

impl Repr {
    /// The values of a segment; other options than timestamps are left out.
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Self {
        Self {
            src_port: packet.src_port(),
            dst_port: packet.dst_port(),
            seq: packet.seq(),
            ack: packet.ack(),
            flags: packet.flags(),
            window: packet.window(),
            timestamps: options::timestamps(packet.options()),
        }
    }

    /// Octets of the header.
    pub const fn buffer_len(&self) -> usize {
        HEADER_LEN + if self.timestamps.is_some() { 12 } else { 0 }
    }

    /// Writes header and `payload`, checksum between these addresses included, to the start of `buffer`.
    ///
    /// # Errors
    /// `buffer` is shorter than both.
    pub fn emit(&self, buffer: &mut [u8], payload: &[u8], src: Ipv4Addr, dst: Ipv4Addr) -> Result<()> {
        let header_len = self.buffer_len();
        let segment = buffer.get_mut(..header_len + payload.len()).ok_or(Error)?;
        if let Some((value, echo)) = self.timestamps {
            // Padded in front, as everybody does, so that the numbers are aligned.
            put(segment, HEADER_LEN, &[1, 1, options::TIMESTAMPS, 10]);
            put(segment, HEADER_LEN + 4, &value.to_be_bytes());
            put(segment, HEADER_LEN + 8, &echo.to_be_bytes());
        }
        put(segment, header_len, payload);
        let mut packet = Packet::new_unchecked(segment);
        packet.set_src_port(self.src_port);
        packet.set_dst_port(self.dst_port);
        packet.set_seq(self.seq);
        packet.set_ack(self.ack);
        packet.set_header_len(header_len);
        packet.set_flags(self.flags);
        packet.set_window(self.window);
        packet.set_urgent(0);
        packet.fill_checksum(src, dst);
        Ok(())
    }
}

/// A whole IPv4 packet: `ip` (its protocol and payload length are set here), `tcp`, `payload`.
///
/// # Errors
/// The packet would be longer than 65,535 octets.
pub fn datagram(ip: &ipv4::Repr, tcp: &Repr, payload: &[u8]) -> Result<Vec<u8>> {
    let payload_len = tcp.buffer_len() + payload.len();
    let ip = ipv4::Repr { protocol: ipv4::PROTOCOL_TCP, payload_len, ..*ip };
    let mut bytes = vec![0; ip.buffer_len() + payload_len];
    ip.emit(&mut bytes)?;
    tcp.emit(bytes.get_mut(ipv4::HEADER_LEN..).ok_or(Error)?, payload, ip.src, ip.dst)?;
    Ok(bytes)
}
