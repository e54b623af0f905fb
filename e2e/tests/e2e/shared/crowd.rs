//! Many scripted clients of one server: as few connections as it allows, GRE right for each, and nobody harms another.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use callgate_e2e::gateway::callgate::Callgate;
use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::control::{call_request, message, start_request};
use callgate_e2e::lab::packet::{Packet, flags};
use callgate_e2e::lab::topology::{EXTERNAL, Lab};
use callgate_e2e::wait;

use super::super::raw;
use super::super::support::{can_run, server};
use super::client::{Call, Client, address, give_addresses, gre};
use super::manifests;
use super::server::{Known, Second, Server};

/// A lab with Callgate, one scripted server, and one node that has the addresses of all clients.
pub(crate) struct Stage {
    pub(crate) callgate: Callgate,
    pub(crate) server: Server,
    pub(crate) lab: Lab,
}

impl Stage {
    fn new(clients: usize, channels: u16) -> Self {
        Self::of("Shared", clients, channels, Second::Serve)
    }

    /// With this `controlConnection`, and a server of these manners.
    pub(crate) fn of(control_connection: &str, clients: usize, channels: u16, second: Second) -> Self {
        Self::with_flags(control_connection, clients, (channels, second), &[])
    }

    /// The same, with flags of Callgate.
    pub(crate) fn with_flags(
        control_connection: &str,
        clients: usize,
        (channels, second): (u16, Second),
        flags: &[&str],
    ) -> Self {
        let lab = Lab::new(1, 1).unwrap();
        give_addresses(&lab.clients[0], clients);
        let callgate = Callgate::start_with(&lab.gw, &manifests(control_connection), flags).unwrap();
        let server = Server::start(&lab.servers[0], channels, second);
        Self { callgate, server, lab }
    }

    /// Every client with one call, all with Call ID 0.
    pub(crate) fn fill(&self, clients: std::ops::Range<usize>) -> (Vec<Client>, Vec<Call>) {
        clients.map(|number| Client::with_call(&self.lab.clients[0], number, 0).unwrap()).unzip()
    }

    /// One GRE packet of each call up and one down; fails unless each arrives where it belongs, under the right ids.
    pub(crate) fn gre_is_right(&self, calls: &[Call]) {
        let known = self.server.calls();
        assert_eq!(known.len(), calls.len());
        let at_server = Capture::start(&self.lab.servers[0], "eth0").unwrap();
        let at_clients = Capture::start(&self.lab.clients[0], "eth0").unwrap();
        for call in calls {
            let body = call.client.to_string();
            raw::send(&self.lab.clients[0], &gre(call.client, server(0), call.pac, 1, body.as_bytes())).unwrap();
        }
        // What left under which id of the PAC says which call of the server is whose.
        let listed = self.callgate.wait_calls(&self.lab.gw, calls.len()).unwrap();
        for call in &known {
            let body = format!("pns {}", call.pns);
            raw::send(&self.lab.servers[0], &gre(server(0), EXTERNAL, call.pns, 1, body.as_bytes())).unwrap();
        }
        let came = |packets: &[Packet], source| -> BTreeSet<(std::net::Ipv4Addr, u16, String)> {
            let of = |packet: &Packet| {
                let id = packet.gre()?.call_id;
                let text = String::from_utf8_lossy(packet.bytes.get(32..)?).into_owned();
                (packet.source == source).then_some((packet.destination, id, text))
            };
            packets.iter().filter_map(of).collect()
        };
        let up: BTreeSet<_> = listed
            .iter()
            .map(|call| {
                let (pns, tunnel) = (call.pns_call_id_outside.unwrap(), call.tunnel.unwrap());
                let at = known.iter().find(|known| known.pns == pns).unwrap();
                assert_eq!(
                    call.pac_call_id_outside,
                    Some(at.pac),
                    "call of {} in tunnel {tunnel}",
                    call.client.address
                );
                (server(0), at.pac, call.client.address.to_string())
            })
            .collect();
        let down: BTreeSet<_> = listed
            .iter()
            .map(|call| {
                (call.client.address, call.pns_call_id.unwrap(), format!("pns {}", call.pns_call_id_outside.unwrap()))
            })
            .collect();
        wait::until_true("GRE of every call has arrived", Duration::from_secs(10), || {
            Ok(came(&at_server.packets(), EXTERNAL).len() >= up.len()
                && came(&at_clients.packets(), server(0)).len() >= down.len())
        })
        .unwrap();
        assert_eq!(came(&at_server.stop().unwrap(), EXTERNAL), up);
        assert_eq!(came(&at_clients.stop().unwrap(), server(0)), down);
    }
}

/// TCP connections to the server that the packets open.
fn opened(packets: &[Packet]) -> usize {
    let syn = |packet: &&Packet| {
        packet.destination == server(0) && packet.tcp().is_some_and(|segment| segment.flags & 0x12 == flags::SYN)
    };
    packets.iter().filter(syn).filter_map(|packet| Some(packet.tcp()?.source_port)).collect::<BTreeSet<_>>().len()
}

#[test]
fn a_hundred_clients_share_one_connection_and_each_has_its_own_gre() {
    if !can_run("a_hundred_clients_share_one_connection_and_each_has_its_own_gre") {
        return;
    }
    let stage = Stage::new(100, 65_535);
    let outside = Capture::start(&stage.lab.servers[0], "eth0").unwrap();
    let (mut clients, calls) = stage.fill(0..100);
    let packets = outside.stop().unwrap();
    assert_eq!((opened(&packets), stage.server.connections()), (1, (1, 1)));
    stage.gre_is_right(&calls);
    assert_eq!(one_message_a_segment(&packets), 101, "one Start-Control-Connection-Request and 100 calls");
    assert!(clients.iter_mut().all(Client::is_well));
    let tunnels: BTreeSet<_> = stage.callgate.calls(&stage.lab.gw).unwrap().iter().map(|call| call.tunnel).collect();
    assert_eq!(tunnels.len(), 1, "{tunnels:?}");
}

/// Segments with payload to the server; fails unless each is exactly one message.
fn one_message_a_segment(packets: &[Packet]) -> usize {
    let said = packets.iter().filter(|packet| packet.destination == server(0)).filter_map(Packet::tcp);
    let said = said.filter(|segment| !segment.payload.is_empty());
    said.map(|segment| {
        let length = usize::from(u16::from_be_bytes([segment.payload[0], segment.payload[1]]));
        assert_eq!(segment.payload.len(), length, "a segment that is not one whole message");
    })
    .count()
}

#[test]
fn a_server_with_four_channels_gets_a_connection_for_every_four_calls() {
    if !can_run("a_server_with_four_channels_gets_a_connection_for_every_four_calls") {
        return;
    }
    let stage = Stage::new(21, 4);
    let mut clients = Vec::new();
    let mut calls = Vec::new();
    for number in 0..21 {
        let (mut more, call) = stage.fill(number..number + 1);
        clients.append(&mut more);
        calls.extend(call);
        assert_eq!(stage.server.connections().1, (number + 1).div_ceil(4), "with {} calls", number + 1);
    }
    stage.gre_is_right(&calls);
}

#[test]
fn clients_that_come_and_go_badly_harm_nobody_and_the_connection_stays() {
    if !can_run("clients_that_come_and_go_badly_harm_nobody_and_the_connection_stays") {
        return;
    }
    let rounds = if cfg!(feature = "long") { 1_000 } else { 60 };
    let stage = Stage::new(10 + 12, 65_535);
    let (mut stay, calls) = stage.fill(0..10);
    let node = &stage.lab.clients[0];
    let mut slow = Vec::new();
    for round in 0..rounds {
        let number = 10 + round % 12;
        match round % 6 {
            0 => Client::with_call(node, number, 0).unwrap().0.reset(),
            1 => drop(Client::with_call(node, number, 0).unwrap()),
            2 => {
                let (mut client, _) = Client::with_call(node, number, 0).unwrap();
                client.stream.write_all(&message(3, 16, &[(12, &[1])])).unwrap();
                client.hear(4).unwrap();
            }
            3 => {
                let (mut client, _) = Client::with_call(node, number, 0).unwrap();
                client.stream.write_all(&[0xff; 40]).unwrap();
                let error = client.hear(0).unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            }
            4 => {
                let mut client = Client::connect(node, number).unwrap();
                client.stream.write_all(&start_request()[..100]).unwrap();
                slow.push(client);
                if slow.len() > 4 {
                    slow.remove(0).reset();
                }
            }
            _ => {
                let mut client = Client::connect(node, number).unwrap();
                client.stream.write_all(&[start_request(), call_request(7), call_request(8)].concat()).unwrap();
                client.reset();
            }
        }
    }
    assert!(stay.iter_mut().all(Client::is_well));
    wait::until_true("only those who stay have calls", Duration::from_secs(20), || {
        Ok(stage.server.calls().len() == stay.len())
    })
    .unwrap();
    stage.gre_is_right(&calls);
    assert_eq!(stage.server.connections(), (1, 1), "one connection, the first");
    assert!(stage.server.cleared() >= rounds / 3, "{} cleared", stage.server.cleared());
    let addresses: BTreeSet<_> = calls.iter().map(|call| call.client).collect();
    assert_eq!(addresses, (0..10).map(address).collect());
}

#[test]
fn when_the_agent_is_killed_clients_hear_rst_at_once_and_are_served_again_by_the_next() {
    if !can_run("when_the_agent_is_killed_clients_hear_rst_at_once_and_are_served_again_by_the_next") {
        return;
    }
    let mut stage = Stage::new(20, 65_535);
    let (mut clients, _) = stage.fill(0..20);
    let at_clients = Capture::start(&stage.lab.clients[0], "eth0").unwrap();
    stage.callgate.kill9();
    for client in &mut clients {
        let error = client.hear(0).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    let reset = |packet: &Packet| packet.tcp().is_some_and(|segment| segment.flags & flags::RST != 0);
    let resets: Vec<_> = at_clients.stop().unwrap().into_iter().filter(reset).collect();
    assert!(resets.iter().filter(|packet| packet.source == server(0)).count() >= 20, "{resets:?}");
    wait::until_true("the server has lost its connection", Duration::from_secs(10), || {
        Ok(stage.server.calls().is_empty())
    })
    .unwrap();
    stage.callgate.run(&stage.lab.gw).unwrap();
    let (_again, calls) = stage.fill(0..20);
    stage.gre_is_right(&calls);
    let known: BTreeSet<Known> = stage.server.calls().into_iter().collect();
    assert_eq!(known.len(), 20);
}
