//! Conntrack: forgets the flows that carry a mark.

use super::Error;
use super::attr::Attrs;
use super::socket::Socket;

/// Subsystem 1 (conntrack), message 2 (delete).
const DELETE: u16 = (1 << 8) | 2;
const CTA_MARK: u16 = 8;
const CTA_MARK_MASK: u16 = 21;

/// Deletes every IPv4 flow with `mark & mask == value`; the kernel filters (nf_conntrack_netlink.c,
/// ctnetlink_flush_conntrack).
pub(crate) fn flush_mark(netfilter: &mut Socket, value: u32, mask: u32) -> Result<(), Error> {
    let body = Attrs::after(&[2, 0, 0, 0]).be32(CTA_MARK, value).be32(CTA_MARK_MASK, mask);
    netfilter.request(DELETE, 0, &body.into_bytes()).map(|_| ())
}
