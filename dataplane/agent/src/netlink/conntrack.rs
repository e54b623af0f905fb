//! Conntrack: forgets the flows that carry a mark, or come from a source.

use std::net::Ipv4Addr;

use nix::errno::Errno;

use super::Error;
use super::attr::{Attrs, find, find_be32};
use super::socket::{DUMP, Socket};

/// Subsystem 1 (conntrack), message 1 (get) and 2 (delete).
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_MARK: u16 = 8;
const CTA_ZONE: u16 = 18;
const CTA_MARK_MASK: u16 = 21;
const CTA_FILTER: u16 = 25;
/// Message 5: global statistics, one short answer.
const GET_STATS: u16 = (1 << 8) | 5;
/// CTA_TUPLE_IP and CTA_IP_V4_SRC, inside a tuple.
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
/// CTA_FILTER_ORIG_FLAGS with CTA_FILTER_FLAG(CTA_IP_SRC) (nf_internals.h): compare the source of the original direction.
const ORIG_FLAGS: u16 = 1;
const IP_SRC: u32 = 1;

/// nfgenmsg: IPv4.
const FAMILY: [u8; 4] = [2, 0, 0, 0];

/// Whether conntrack can be listed and changed at all.
///
/// # Errors
/// Why not.
pub(crate) fn available(netfilter: &mut Socket) -> Result<(), Error> {
    netfilter.request(GET_STATS, 0, &FAMILY).map(|_| ())
}

/// Deletes every IPv4 flow with `mark & mask == value`; the kernel filters (nf_conntrack_netlink.c,
/// ctnetlink_flush_conntrack).
pub(crate) fn flush_mark(netfilter: &mut Socket, value: u32, mask: u32) -> Result<(), Error> {
    let body = Attrs::after(&FAMILY).be32(CTA_MARK, value).be32(CTA_MARK_MASK, mask);
    netfilter.request(DELETE, 0, &body.into_bytes()).map(|_| ())
}

/// Deletes every IPv4 flow that `source` began and whose mark has a bit under `mask`. The kernel filters by source from 5.8 on;
/// an older one lists all flows, and they are filtered here.
pub(crate) fn flush_source(netfilter: &mut Socket, source: Ipv4Addr, mask: u32) -> Result<(), Error> {
    let tuple = Attrs::new().nest(CTA_TUPLE_IP, Attrs::new().bytes(CTA_IP_V4_SRC, &source.octets()));
    let filter = Attrs::new().u32(ORIG_FLAGS, IP_SRC);
    let body = Attrs::after(&FAMILY).nest(CTA_TUPLE_ORIG, tuple).nest(CTA_FILTER, filter).into_bytes();
    for (_, flow) in netfilter.request(GET, DUMP, &body)? {
        let attrs = flow.get(4..).unwrap_or_default();
        let Some(tuple) = find(attrs, CTA_TUPLE_ORIG) else { continue };
        let from = find(tuple, CTA_TUPLE_IP).and_then(|ip| find(ip, CTA_IP_V4_SRC));
        let ours = find_be32(attrs, CTA_MARK).unwrap_or(0) & mask != 0;
        if from != Some(&source.octets()[..]) || !ours {
            continue;
        }
        let mut delete = Attrs::after(&FAMILY).bytes(CTA_TUPLE_ORIG | 0x8000, tuple);
        if let Some(zone) = find(attrs, CTA_ZONE) {
            delete = delete.bytes(CTA_ZONE, zone);
        }
        match netfilter.request(DELETE, 0, &delete.into_bytes()) {
            // Ended by itself meanwhile.
            Ok(_) | Err(Error::Kernel { errno: Errno::ENOENT, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
