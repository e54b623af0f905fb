//! Real peers: pptp-linux and pptpd, with our userland PPP in the place of pppd.
//!
//! ```text
//!  pptp SERVER (fd 0/1) ═ socketpair ═ callgate-ppp client ─ tun      pptpd ─► pptpctrl ═ pty ═ callgate-ppp ─ tun
//! ```

pub mod pptp_client;
pub mod pptpd;
pub mod uml;

use std::path::PathBuf;

use anyhow::bail;

/// A program of this project: next to the running one, in CALLGATE_BIN_DIR, or where cargo puts it.
///
/// # Errors
/// If it is not there, with how to build it.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("CALLGATE_BIN_DIR").map(PathBuf::from);
    let exe = std::env::current_exe().ok();
    // Tests are in target/PROFILE/deps, programs in target/PROFILE.
    let near = exe.iter().flat_map(|exe| exe.ancestors().skip(1).take(2)).map(std::path::Path::to_path_buf);
    for dir in named.into_iter().chain(near) {
        let path = dir.join(name);
        if path.is_file() {
            // Programs are started in other directories than this one.
            return Ok(std::path::absolute(path)?);
        }
    }
    bail!("{name} is not built: cargo build -p callgate-agent -p kubectl-callgate -p callgate-e2e --bins")
}
