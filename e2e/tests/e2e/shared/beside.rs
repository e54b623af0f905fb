//! Shared beside PerClient on one node: what happens to the one is not noticed by the other.

use std::net::Ipv4Addr;
use std::time::Duration;

use callgate_e2e::gateway::callgate::{CLASSIC, Callgate};
use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::node::Node;
use callgate_e2e::lab::topology::{EXTERNAL, Lab};
use callgate_e2e::wait;

use super::super::raw;
use super::super::support::{can_run, server};
use super::client::{Call, Client, give_addresses, gre};
use super::server::{Second, Server};

/// Shared to the first server, PerClient to the second.
fn manifests() -> String {
    let of = |name: &str, control: &str, order: u32, server: Ipv4Addr| {
        let named = ["name: pptp,", "name: pptp}", "pptp-service", "tills-to-head-office"];
        let text = CLASSIC.replace("idleTimeout: 0s}", &format!("idleTimeout: 0s, controlConnection: {control}}}"));
        let text = named.iter().fold(text, |text, old| {
            let (stem, end) = old.split_at(old.len() - usize::from(old.ends_with([',', '}'])));
            text.replace(old, &format!("{stem}-{name}{end}"))
        });
        text.replace("order: 100", &format!("order: {order}")).replace("0.0.0.0/0", &format!("{server}/32"))
    };
    format!("{}---\n{}", of("all", "Shared", 100, server(0)), of("each", "PerClient", 101, server(1)))
}

/// GRE of a call of the client with this number reaches this server, under its ids and with this text.
fn passes(node: &Node, at: &Node, call: Call, server: Ipv4Addr, text: &str) -> bool {
    let capture = Capture::start(at, "eth0").unwrap();
    let came = wait::until_true("a GRE packet arrives", Duration::from_secs(5), || {
        raw::send(node, &gre(call.client, server, call.pac, 1, text.as_bytes()))?;
        Ok(capture.packets().iter().any(|packet| packet.source == EXTERNAL && packet.bytes.ends_with(text.as_bytes())))
    });
    came.is_ok()
}

#[test]
fn calls_of_per_client_outlive_a_kill_that_ends_those_of_shared() {
    if !can_run("calls_of_per_client_outlive_a_kill_that_ends_those_of_shared") {
        return;
    }
    let lab = Lab::new(1, 2).unwrap();
    let node = &lab.clients[0];
    give_addresses(node, 6);
    let mut callgate = Callgate::start(&lab.gw, &manifests()).unwrap();
    let servers: Vec<Server> = lab.servers.iter().map(|node| Server::start(node, 65_535, Second::Serve)).collect();
    let open = |number: usize, to: usize| {
        let mut client = Client::connect_to(node, number, server(to)).unwrap();
        assert_eq!(client.start().unwrap(), 1);
        let call = client.call(7).unwrap();
        (client, call)
    };
    let mut shared: Vec<_> = (0..3).map(|number| open(number, 0)).collect();
    let mut each: Vec<_> = (3..6).map(|number| open(number, 1)).collect();
    assert_eq!((servers[0].connections().1, servers[1].connections().1), (1, 3));
    for (_, call) in &each {
        assert!(passes(node, &lab.servers[1], *call, server(1), "before"));
    }
    callgate.kill9();
    for (client, _) in &mut shared {
        assert_eq!(client.hear(0).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
    callgate.run(&lab.gw).unwrap();
    for (client, call) in &mut each {
        assert!(client.is_well(), "its control connection lives");
        assert!(passes(node, &lab.servers[1], *call, server(1), "after"), "{}", callgate.log());
    }
    assert_eq!(servers[1].calls().len(), 3);
    assert_eq!(callgate.wait_calls(&lab.gw, 3).unwrap().iter().filter(|call| call.tunnel.is_some()).count(), 0);
    let again = open(0, 0);
    assert!(passes(node, &lab.servers[0], again.1, server(0), "again"));
}
