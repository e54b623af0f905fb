//! The operator's own authority: kept in a Secret, published in a ConfigMap, and the certificate served, all renewed while
//! it runs.
//!
//! ```text
//!  Secret ──► Authority ──decide(now)──► Authority ──► Secret       next: published before it signs
//!                 │                                                 current: signs
//!                 ├── bundle ──► ConfigMap (ca.crt) ──► agents      old: still trusted until it ends
//!                 └── issue ───► leaf ──► watch ──► accept (one ServerConfig a connection)
//! ```

mod accept;
mod authority;
mod keep;
mod leaf;
mod peer;

pub use accept::{Handshakes, accept};
pub use authority::{Authority, Lifetimes, Pair};
pub use keep::{Keeper, Names};
pub use leaf::server_config;
pub use peer::{Peer, Proof};

/// Why a certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// rcgen.
    #[error("making a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What is stored is damaged.
    #[error("{0} is not a certificate with its key: delete the Secret, and a new authority is made")]
    Stored(&'static str),
    /// rustls.
    #[error("serving a certificate: {0}")]
    Serve(#[from] rustls::Error),
}
