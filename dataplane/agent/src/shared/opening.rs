//! Connections to servers: from which port they begin, and what becomes of the port.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use callgate_pptp::shared::{ConnectError, UpstreamId};
use callgate_proto::model::External;

use super::ends::{End, Outer};
use super::legs::{Heard, NotBegun};
use super::mode::{Mode, With};

/// Ports tried for one connection to a server, where others of this host have some of ours.
const PORTS: usize = 8;

impl Mode {
    /// Begins one; `client`: whose alone it is.
    pub(super) fn open(
        &mut self,
        upstream: UpstreamId,
        (external, server): (Ipv4Addr, SocketAddrV4),
        client: Option<Ipv4Addr>,
        heard: &mut Vec<Heard>,
        with: &mut With<'_>,
    ) {
        self.counters.shared_connects += 1;
        // The route may be another than when the session was let through.
        if with.gate.open_way(*server.ip(), External::Address(external)).is_err() {
            return heard.push(Heard::Failed(upstream, ConnectError::Unreachable));
        }
        if let Some(most) = self.legs.full(1) {
            if let Some(held) = self.unopened.due(with.now) {
                tracing::warn!(%server, %external, held, "cannot open a connection to a server: there are {most} already");
            }
            return heard.push(Heard::Failed(upstream, ConnectError::Local));
        }
        // What cannot be used stays taken until another is found.
        let (mut unused, mut failed) = (Vec::new(), Some(ConnectError::Local));
        while unused.len() < PORTS {
            let port = match with.engine.lend_port(external, (*server.ip(), server.port()), client, with.now) {
                Ok(port) => port,
                Err(why) => {
                    failed = Some(why);
                    break;
                }
            };
            let outer = Outer { external: SocketAddrV4::new(external, port), server };
            // Before the SYN leaves: its answer must find its way here.
            self.ends.live(End::Server(outer));
            self.owners.extend(client.map(|client| (outer, client)));
            let Err(NotBegun { error, sent }) = self.legs.connect(upstream, outer) else {
                failed = None;
                break;
            };
            unused.push((outer, sent));
            failed = Some(super::socket::connect_error(&error));
            if error.kind() != io::ErrorKind::AddrInUse {
                if let Some(held) = self.unopened.due(with.now) {
                    tracing::warn!(%server, %external, held, "cannot open a connection to a server: {error}");
                }
                break;
            }
        }
        for (outer, sent) in unused {
            if sent { self.rests(outer, with) } else { self.gives_back(outer, with) }
        }
        heard.extend(failed.map(|why| Heard::Failed(upstream, why)));
    }

    /// The socket of a connection to a server is gone; its port rests.
    pub(super) fn rests(&mut self, outer: Outer, with: &mut With<'_>) {
        self.ends.over(End::Server(outer), with.now);
        let client = self.owners.remove(&outer);
        self.changes.push(with.engine.rest_port(ours(outer), its(outer), client, with.now));
    }

    /// There is no socket, and the server has nothing of a connection: its port may be anybody's.
    pub(super) fn gives_back(&mut self, outer: Outer, with: &mut With<'_>) {
        self.ends.disown(End::Server(outer));
        let client = self.owners.remove(&outer);
        with.engine.give_back_port(ours(outer), its(outer), client);
    }

    /// This very port is a connection's that goes on; false when something else has it.
    pub(super) fn goes_on_from(&mut self, outer: Outer, client: Option<Ipv4Addr>, with: &mut With<'_>) -> bool {
        let free = with.engine.lend_this_port(ours(outer), its(outer), client);
        self.owners.extend(client.filter(|_| free).map(|client| (outer, client)));
        free
    }
}

fn ours(outer: Outer) -> (Ipv4Addr, u16) {
    (*outer.external.ip(), outer.external.port())
}

fn its(outer: Outer) -> (Ipv4Addr, u16) {
    (*outer.server.ip(), outer.server.port())
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
