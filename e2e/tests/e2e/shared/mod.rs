//! `controlConnection: Shared` and `Auto`: all clients through one control connection, with real and with scripted peers.
//!
//! ```text
//!  scripted clients (many addresses of one node) ═╗                       ╔═ scripted server: Max Channels, manners
//!  pptp-linux ════════════════════════════════════╬═ Callgate ═ tunnels ══╣
//!                                                 ╝                       ╚═ pptpd
//! ```

mod auto;
mod beside;
pub(crate) mod client;
mod crowd;
mod cuts;
mod figures;
mod real;
mod restart;
pub(crate) mod server;

use callgate_e2e::gateway::callgate::CLASSIC;

/// The classic set-up with this way of carrying control connections.
pub(crate) fn manifests(control_connection: &str) -> String {
    let spec = format!("idleTimeout: 0s, controlConnection: {control_connection}}}");
    CLASSIC.replace("idleTimeout: 0s}", &spec)
}
