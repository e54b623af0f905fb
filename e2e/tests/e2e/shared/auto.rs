//! `Auto`: each client has a connection of its own until the server refuses a second one; then all share, and nobody waits.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::super::support::can_run;
use super::client::Client;
use super::crowd::Stage;
use super::server::Second;

/// What Auto has to hold: a refused client is served within this time.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
fn under_per_client_a_server_that_takes_one_connection_serves_one_client() {
    if !can_run("under_per_client_a_server_that_takes_one_connection_serves_one_client") {
        return;
    }
    let stage = Stage::of("PerClient", 2, 65_535, Second::Refuse);
    let node = &stage.lab.clients[0];
    let _first = Client::with_call(node, 0, 0).unwrap();
    let mut second = Client::connect(node, 1).unwrap();
    assert_eq!(second.start().unwrap(), 3, "the server's refusal is passed on");
}

#[test]
fn auto_leaves_each_client_its_own_connection_where_the_server_takes_them() {
    if !can_run("auto_leaves_each_client_its_own_connection_where_the_server_takes_them") {
        return;
    }
    let stage = Stage::of("Auto", 4, 65_535, Second::Serve);
    let (_clients, calls) = stage.fill(0..4);
    assert_eq!(stage.server.connections(), (4, 4));
    stage.gre_is_right(&calls);
}

fn served_at_once(second: Second, reason: &str) {
    let mut stage = Stage::of("Auto", 12, 65_535, second);
    let (mut clients, mut calls) = stage.fill(0..1);
    for number in 1..6 {
        let begun = Instant::now();
        let (client, call) = Client::with_call(&stage.lab.clients[0], number, 0).unwrap();
        let took = begun.elapsed();
        println!("client {number} under Auto, server {second:?}: served after {took:?}");
        assert!(took < AT_ONCE, "{took:?}");
        clients.push(client);
        calls.push(call);
    }
    assert_eq!(stage.server.connections(), (2, 1), "only the second client's own connection was tried");
    stage.gre_is_right(&calls);
    assert!(clients.iter_mut().all(Client::is_well), "the first notices nothing");
    let status: serde_json::Value =
        serde_json::from_str(&stage.callgate.kubectl(&stage.lab.gw, &["status", "-o", "json"]).unwrap()).unwrap();
    let learned = status["learned"].as_array().unwrap();
    assert_eq!((learned.len(), learned[0]["reason"].as_str()), (1, Some(reason)), "{status:#}");
    let tunnels: BTreeSet<_> = stage.callgate.calls(&stage.lab.gw).unwrap().iter().map(|call| call.tunnel).collect();
    assert_eq!((tunnels.len(), status["tunnels"].as_array().map(Vec::len)), (1, Some(1)), "{status:#}");
    // What was learned outlives the process: no second connection is tried any more.
    drop(clients);
    stage.callgate.kill9();
    stage.callgate.run(&stage.lab.gw).unwrap();
    stage.server.wait_without_connection();
    let (_clients, calls) = stage.fill(6..12);
    assert_eq!(stage.server.connections(), (3, 1));
    stage.gre_is_right(&calls);
}

#[test]
fn auto_serves_a_client_at_once_whose_connection_the_server_refuses_and_every_later_one() {
    if can_run("auto_serves_a_client_at_once_whose_connection_the_server_refuses_and_every_later_one") {
        served_at_once(Second::Refuse, "second-refused");
    }
}

#[test]
fn auto_serves_a_client_at_once_whose_connection_the_server_resets_and_every_later_one() {
    if can_run("auto_serves_a_client_at_once_whose_connection_the_server_resets_and_every_later_one") {
        served_at_once(Second::Reset, "second-reset");
    }
}
