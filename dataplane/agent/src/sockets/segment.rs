//! Undoes what offloads did to a received frame: completes a partial checksum, cuts merged TCP to segments again.
//!
//! Receive offload (GRO, LRO) merges the segments of a TCP flow, and packets of a sender on the same host arrive unsegmented
//! and with only a pseudo-header checksum (PACKET_VNET_HDR says which, linux/virtio_net.h). The ALG wants what was on the wire.

use super::sys::Offload;

/// VIRTIO_NET_HDR_GSO_TCPV4.
const GSO_TCPV4: u8 = 1;
/// VIRTIO_NET_HDR_GSO_ECN, set beside the type.
const GSO_ECN: u8 = 0x80;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// What a frame turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One packet, complete.
    Whole,
    /// To be cut with [`cut`] at this many bytes of TCP payload.
    Merged(usize),
    /// Merged in a way that cannot be TCP over IPv4, or its headers do not fit: drop it.
    Unusable,
}

/// Looks at what the kernel says about `packet`, which begins `network` bytes into the frame, and completes its checksum if need be.
pub fn complete(packet: &mut [u8], network: usize, offload: Offload) -> Shape {
    match offload.gso_type & !GSO_ECN {
        0 if offload.needs_checksum => complete_checksum(packet, network, offload).unwrap_or(Shape::Unusable),
        0 => Shape::Whole,
        GSO_TCPV4 if offload.gso_size > 0 => Shape::Merged(usize::from(offload.gso_size)),
        _ => Shape::Unusable,
    }
}

fn complete_checksum(packet: &mut [u8], network: usize, offload: Offload) -> Option<Shape> {
    let start = usize::from(offload.csum_start).checked_sub(network)?;
    let field = start.checked_add(usize::from(offload.csum_offset))?;
    // Link-layer padding is not part of the sum.
    let end = total_length(packet)?;
    if field + 2 > end || start < 20 {
        return None;
    }
    // The field holds the pseudo-header's sum, so that summing over it gives the checksum (checksum-offloads.rst).
    let sum = !fold(sum_words(packet.get(start..end)?));
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    Some(Shape::Whole)
}

/// Cuts a merged TCP packet into segments of `mss` payload bytes, as the kernel's tcp_gso_segment does: identification and
/// sequence number go on, FIN and PSH only on the last, CWR only on the first, checksums complete. `None` if it is not whole TCP
/// over IPv4.
pub fn cut(packet: &[u8], mss: usize) -> Option<Vec<Vec<u8>>> {
    let end = total_length(packet)?;
    let ip = usize::from(packet[0] & 0xf) * 4;
    if packet[0] >> 4 != 4 || ip < 20 || packet[9] != libc::IPPROTO_TCP as u8 || mss == 0 {
        return None;
    }
    let tcp = packet.get(ip..end)?;
    let offset = usize::from(*tcp.get(12)? >> 4) * 4;
    if offset < 20 || offset > tcp.len() {
        return None;
    }
    let header = &packet[..ip + offset];
    let payload = &tcp[offset..];
    let identification = u16::from_be_bytes([header[4], header[5]]);
    let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    let flags = tcp[13];
    let count = payload.len().div_ceil(mss).max(1);
    let segments = (0..count).map(|i| {
        let part = &payload[i * mss..payload.len().min((i + 1) * mss)];
        let mut segment = [header, part].concat();
        let length = segment.len() as u16;
        segment[2..4].copy_from_slice(&length.to_be_bytes());
        segment[4..6].copy_from_slice(&identification.wrapping_add(i as u16).to_be_bytes());
        segment[ip + 4..ip + 8].copy_from_slice(&sequence.wrapping_add((i * mss) as u32).to_be_bytes());
        let first_only = if i == 0 { 0 } else { CWR };
        let last_only = if i + 1 == count { 0 } else { FIN | PSH };
        segment[ip + 13] = flags & !first_only & !last_only;
        fill_checksums(&mut segment, ip);
        segment
    });
    Some(segments.collect())
}

/// The total length field, if the packet has an IPv4 header and all the bytes.
fn total_length(packet: &[u8]) -> Option<usize> {
    let end = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    (packet.len() >= end && end >= 20).then_some(end)
}

fn fill_checksums(segment: &mut [u8], ip: usize) {
    segment[10..12].fill(0);
    let header = !fold(sum_words(&segment[..ip]));
    segment[10..12].copy_from_slice(&header.to_be_bytes());
    segment[ip + 16..ip + 18].fill(0);
    let pseudo = sum_words(&segment[12..20]) + u32::from(segment[9]) + (segment.len() - ip) as u32;
    let tcp = !fold(pseudo + sum_words(&segment[ip..]));
    segment[ip + 16..ip + 18].copy_from_slice(&tcp.to_be_bytes());
}

/// Sum of 16-bit words (RFC 1071); 64 KiB of them fit in 32 bits.
fn sum_words(bytes: &[u8]) -> u32 {
    let mut pairs = bytes.chunks_exact(2);
    let sum: u32 = pairs.by_ref().map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
    sum + pairs.remainder().first().map_or(0, |b| u32::from(*b) << 8)
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP packet with 12 bytes of options, sequence number 1000, identification 7, all of `flags`.
    fn packet(payload: usize, flags: u8) -> Vec<u8> {
        let mut p = vec![0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1];
        p.extend([0x06, 0xbb, 0x27, 0x10, 0, 0, 0x03, 0xe8, 0, 0, 0, 1, 0x80, flags, 0x10, 0, 0, 0, 0, 0]);
        p.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        p.extend((0..payload).map(|i| i as u8));
        let length = p.len() as u16;
        p[2..4].copy_from_slice(&length.to_be_bytes());
        fill_checksums(&mut p, 20);
        p
    }

    fn checksums_are_right(p: &[u8]) -> bool {
        let pseudo = sum_words(&p[12..20]) + 6 + (p.len() - 20) as u32;
        fold(sum_words(&p[..20])) == 0xffff && fold(pseudo + sum_words(&p[20..])) == 0xffff
    }

    #[test]
    fn a_merged_packet_is_cut_to_the_segments_it_was_made_of() {
        let merged = packet(2500, FIN | PSH | CWR | 0x10);
        let segments = cut(&merged, 1000).unwrap();
        let seen: Vec<_> = segments
            .iter()
            .map(|s| {
                assert!(checksums_are_right(s));
                let seq = u32::from_be_bytes([s[24], s[25], s[26], s[27]]);
                (s.len() - 52, u16::from_be_bytes([s[4], s[5]]), seq, s[33])
            })
            .collect();
        assert_eq!(seen, [(1000, 7, 1000, CWR | 0x10), (1000, 8, 2000, 0x10), (500, 9, 3000, FIN | PSH | 0x10)]);
        let payload: Vec<u8> = segments.iter().flat_map(|s| s[52..].to_vec()).collect();
        assert_eq!(payload, merged[52..]);
    }

    #[test]
    fn one_segment_of_a_merge_is_itself() {
        assert_eq!(cut(&packet(10, PSH), 1000), Some(vec![packet(10, PSH)]));
    }

    #[test]
    fn a_partial_checksum_is_completed_and_padding_left_out_of_it() {
        let whole = packet(7, PSH);
        let mut partial = whole.clone();
        let pseudo = fold(sum_words(&partial[12..20]) + 6 + (partial.len() - 20) as u32);
        partial[36..38].copy_from_slice(&pseudo.to_be_bytes());
        let unpadded = partial.len();
        partial.extend([0xa5; 9]);
        let offload = Offload { needs_checksum: true, csum_start: 14 + 20, csum_offset: 16, ..Offload::default() };
        assert_eq!(complete(&mut partial, 14, offload), Shape::Whole);
        assert_eq!(partial[..unpadded], whole);
    }

    #[test]
    fn what_the_kernel_says_decides_the_shape() {
        let shape = |o: Offload| complete(&mut packet(10, 0), 14, o);
        let plain = Offload::default();
        assert_eq!(shape(plain), Shape::Whole);
        assert_eq!(shape(Offload { gso_type: 1, gso_size: 1448, ..plain }), Shape::Merged(1448));
        assert_eq!(shape(Offload { gso_type: 0x81, gso_size: 1448, ..plain }), Shape::Merged(1448));
        assert_eq!(shape(Offload { gso_type: 1, gso_size: 0, ..plain }), Shape::Unusable);
        assert_eq!(shape(Offload { gso_type: 3, gso_size: 100, ..plain }), Shape::Unusable);
        let outside = Offload { needs_checksum: true, csum_start: 0xffff, csum_offset: 16, ..plain };
        assert_eq!(shape(outside), Shape::Unusable);
    }

    #[test]
    fn what_is_not_whole_tcp_is_not_cut() {
        let good = packet(100, 0);
        assert_eq!(cut(&good[..60], 50), None);
        let mut udp = good.clone();
        udp[9] = 17;
        assert_eq!(cut(&udp, 50), None);
        let mut long_header = good;
        long_header[32] = 0xf0;
        long_header[2..4].copy_from_slice(&60u16.to_be_bytes());
        assert_eq!(cut(&long_header[..60], 50), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), mss in 0usize..3000,
                                  csum_start in 0u16..400, csum_offset in 0u16..400, network in 0usize..100) {
            let offload = Offload { needs_checksum: true, csum_start, csum_offset, ..Offload::default() };
            let _ = complete(&mut bytes, network, offload);
            let _ = cut(&bytes, mss);
        }
    }
}
