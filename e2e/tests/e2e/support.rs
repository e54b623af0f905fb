//! What most tests begin with.

use std::net::Ipv4Addr;
use std::time::Duration;

use callgate_e2e::gateway::callgate::{CLASSIC, Callgate};
use callgate_e2e::lab::packet::Packet;
use callgate_e2e::lab::ping;
use callgate_e2e::lab::root::root_or_skip;
use callgate_e2e::lab::topology::{Lab, server_address};
use callgate_e2e::peers::pptp_client::{Link, PptpClient};
use callgate_e2e::peers::pptpd::Pptpd;

/// How long a client may take to be up.
pub(crate) const UP: Duration = Duration::from_secs(20);

/// How long tunnels are looked at where nothing else is said.
pub(crate) const LOOK: Duration = Duration::from_secs(4);

/// Whether the test can run here; says so loudly if it cannot.
pub(crate) fn can_run(test: &str) -> bool {
    root_or_skip(test)
}

/// A lab with Callgate, servers and no client dialled yet.
pub(crate) struct Scene {
    // Dropped in this order: programs before the namespaces they are in.
    pub(crate) clients: Vec<PptpClient>,
    pub(crate) servers: Vec<Pptpd>,
    pub(crate) callgate: Callgate,
    pub(crate) lab: Lab,
}

impl Scene {
    pub(crate) fn new(clients: usize, servers: usize) -> Self {
        Self::with(clients, servers, &CLASSIC)
    }

    pub(crate) fn with(clients: usize, servers: usize, manifests: &str) -> Self {
        Self::with_flags(clients, servers, manifests, &[])
    }

    /// The same, with flags of Callgate.
    pub(crate) fn with_flags(clients: usize, servers: usize, manifests: &str, flags: &[&str]) -> Self {
        let lab = Lab::new(clients, servers).unwrap();
        let callgate = Callgate::start_with(&lab.gw, manifests, flags).unwrap();
        let servers = lab.servers.iter().enumerate().map(|(index, node)| Pptpd::start(node, index).unwrap()).collect();
        Self { clients: Vec::new(), servers, callgate, lab }
    }

    /// Every client dials the first server; their links.
    pub(crate) fn dial_all(&mut self) -> Vec<Link> {
        self.clients = self.lab.clients.iter().map(|node| PptpClient::dial(node, server_address(0)).unwrap()).collect();
        let ups = self.clients.iter().zip(&self.lab.clients).map(|(client, node)| client.wait_up(node, UP).unwrap());
        ups.collect()
    }

    /// Pings through these tunnels for `time`; loss of each in percent.
    pub(crate) fn loss(&self, links: &[Link], time: Duration) -> Vec<u32> {
        let targets = self.lab.clients.iter().zip(links).map(|(node, link)| (node, link.remote));
        ping::all(targets, time).unwrap().iter().map(ping::Pinged::loss_percent).collect()
    }

    /// No loss on any of these tunnels.
    pub(crate) fn all_live(&self, links: &[Link], time: Duration) {
        let loss = self.loss(links, time);
        if loss.iter().any(|loss| *loss != 0) {
            // Whether the gateway has seen them: what came, what went, and gaps in sequence numbers, of each call.
            let calls = self.callgate.kubectl(&self.lab.gw, &["calls"]);
            println!("{}", calls.unwrap_or_else(|error| format!("{error:#}")));
        }
        assert_eq!(loss, vec![0; links.len()], "{}", self.callgate.log());
    }
}

/// Address of a server by its index.
pub(crate) fn server(index: usize) -> Ipv4Addr {
    server_address(index)
}

/// How many messages these packets bring to `server`: each segment has to be one, and whole.
pub(crate) fn whole_messages(packets: &[Packet], server: Ipv4Addr) -> usize {
    let mut messages = 0;
    for packet in packets {
        let Some(segment) = packet.tcp().filter(|s| s.destination_port == 1723 && !s.payload.is_empty()) else {
            continue;
        };
        let said = usize::from(u16::from_be_bytes([segment.payload[0], segment.payload[1]]));
        assert_eq!(segment.payload.len(), said, "a segment that is not one whole message");
        assert_eq!(packet.destination, server);
        messages += 1;
    }
    messages
}
