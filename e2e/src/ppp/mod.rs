//! A small userland PPP: enough of LCP and IPCP to carry IPv4 over a PPTP call without a kernel that has PPP.
//!
//! ```text
//!  fd 0 ──► hdlc::Decoder ──► link::Link ──► IPv4 packets ──► tun
//!  fd 1 ◄── hdlc::encode  ◄──  (pure)    ◄── IPv4 packets ◄── tun
//!                               │
//!                 negotiate::Negotiation<lcp::Lcp>  then  negotiate::Negotiation<ipcp::Ipcp>
//! ```
//! Sources: RFC 1661 (PPP), RFC 1662 (HDLC-like framing), RFC 1332 (IPCP). No authentication, no compression.

pub mod dial;
pub mod hdlc;
pub mod ipcp;
pub mod lcp;
pub mod link;
pub mod negotiate;
pub mod packet;
pub mod run;
pub mod tun;
