//! The agent of one node: puts a configuration into the kernel and runs the PPTP ALG.
//!
//! ```text
//!  manifests ─► standalone ─► compile ─┐                 ┌─► kernel (netlink, nftables)
//!                                      ├─ NodeConfig ─► run
//!  operator (gRPC) ─► cluster ─────────┘      │          └─► alg (thread: sockets ◄─► pptp engine ─► state/journal)
//!                                             │          └─► fast (eBPF at tc, GRE of live calls)
//!                                             └─► report ─► api (gRPC on a unix socket) ◄─ kubectl-callgate
//! ```

pub mod alg;
pub mod api;
pub mod args;
pub mod cleanup;
pub mod clock;
pub mod cluster;
pub mod fast;
pub mod kernel;
pub mod log;
mod mapped;
pub mod netlink;
pub mod nft;
#[cfg(test)]
mod own_network;
pub mod run;
mod shared;
#[cfg(test)]
mod skipped;
pub mod sockets;
pub mod standalone;
pub mod state;
