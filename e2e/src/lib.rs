//! Labs with real peers in network namespaces: what the end-to-end tests, the demo and the benches share.
//!
//! ```text
//!  clients (own net + mount namespace each)     gw                 inet (a router)      servers
//!  c1 ── veth ─┐                          ┌───────────┐
//!  c2 ── veth ─┤ lan0 (bridge) ───────────┤ a gateway ├── out0 ──── gw0 │ srv0 (bridge) ── s1, s2, s3
//!  c3 ── veth ─┘                          └───────────┘
//!      peers::pptp_client            gateway::{nat, callgate}                      peers::pptpd
//! ```

pub mod bench;
pub mod cluster;
pub mod demo;
pub mod demo_cluster;
pub mod figures;
pub mod gateway;
pub mod lab;
pub mod peers;
pub mod ppp;
pub mod readme;
pub mod traffic;
pub mod wait;
