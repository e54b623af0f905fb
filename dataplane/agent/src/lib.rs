//! The agent of one node: puts a configuration into the kernel and runs the PPTP ALG.
//!
//! ```text
//!  manifests ─► standalone ─► compile ─► NodeConfig ─┬─► kernel (netlink, nftables)
//!                   │                                └─► alg (thread: sockets ◄─► pptp engine ─► state/journal)
//!                   └─► status ─► api (gRPC on a unix socket) ◄─ kubectl-callgate
//! ```

pub mod alg;
pub mod api;
pub mod args;
pub mod clock;
pub mod kernel;
pub mod log;
pub mod netlink;
pub mod nft;
pub mod sockets;
pub mod standalone;
pub mod state;
