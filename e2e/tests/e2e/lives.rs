//! Clients and servers come and go: the others notice nothing, and nothing stays behind.

use std::net::Ipv4Addr;
use std::time::Duration;

use callgate_e2e::gateway::callgate::CLASSIC;
use callgate_e2e::lab::node::Node;
use callgate_e2e::lab::ping;
use callgate_e2e::lab::topology::client_address;
use callgate_e2e::peers::pptp_client::PptpClient;
use callgate_e2e::peers::pptpd::{Pptpd, inner_address};
use callgate_e2e::wait;

use super::support::{LOOK, Scene, UP, can_run, server};

/// How often a client comes back.
const RETURNS: usize = if cfg!(feature = "long") { 100 } else { 10 };

#[test]
fn one_client_holds_tunnels_to_three_servers() {
    if !can_run("one_client_holds_tunnels_to_three_servers") {
        return;
    }
    let scene = Scene::new(1, 3);
    let node = &scene.lab.clients[0];
    let mut clients = Vec::new();
    for index in 0..3 {
        let client = PptpClient::dial(node, server(index)).unwrap();
        assert_eq!(client.wait_up(node, UP).unwrap().remote, inner_address(index));
        clients.push(client);
    }
    let pinged = ping::all((0..3).map(|index| (node, inner_address(index))), LOOK).unwrap();
    assert_eq!(pinged.iter().map(ping::Pinged::loss_percent).collect::<Vec<_>>(), [0, 0, 0]);
    assert_eq!(scene.callgate.wait_calls(&scene.lab.gw, 3).unwrap().len(), 3);
}

#[test]
fn a_client_may_come_and_go_while_another_stays() {
    if !can_run("a_client_may_come_and_go_while_another_stays") {
        return;
    }
    let mut scene = Scene::new(2, 1);
    let links = scene.dial_all();
    let mut staying =
        ping::Ping::start(&scene.lab.clients[0], links[0].remote, Duration::from_secs(3 * RETURNS as u64)).unwrap();
    let mut outlived = 0;
    for _ in 0..RETURNS {
        outlived += usize::from(!scene.clients[1].hang_up().unwrap());
        let node = &scene.lab.clients[1];
        scene.clients[1] = PptpClient::dial(node, server(0)).unwrap();
        scene.clients[1].wait_up(node, UP).unwrap();
    }
    println!("{outlived} of {RETURNS} pptp outlived their SIGTERM (baselines: the same without NAT)");
    staying.stop_now();
    assert_eq!(staying.finish().unwrap().loss_percent(), 0);
    assert_eq!(scene.callgate.wait_calls(&scene.lab.gw, 2).unwrap().len(), 2);
    assert_eq!(scene.callgate.counter(&scene.lab.gw, "calls_up").unwrap(), 2 + RETURNS as u64);
}

#[test]
fn a_client_killed_without_warning_harms_nobody_and_leaves_nothing() {
    if !can_run("a_client_killed_without_warning_harms_nobody_and_leaves_nothing") {
        return;
    }
    let mut scene = Scene::new(3, 1);
    scene.lab.gw.sysctl("net/netfilter/nf_conntrack_gre_timeout", "2").unwrap();
    let links = scene.dial_all();
    let staying: Vec<ping::Ping> = (0..2)
        .map(|index| ping::Ping::start(&scene.lab.clients[index], links[index].remote, Duration::from_secs(5)).unwrap())
        .collect();
    let (clients, lab) = (&mut scene.clients, &scene.lab);
    clients[2].kill9(&lab.clients[2]);
    for ping in staying {
        assert_eq!(ping.finish().unwrap().loss_percent(), 0);
    }
    // The dead client's kernel answers the server's FIN or echo with RST.
    scene.callgate.wait_calls(&scene.lab.gw, 2).unwrap();
    assert_eq!(scene.callgate.counter(&scene.lab.gw, "calls_ended").unwrap(), 1);
    assert_eq!(scene.callgate.connections(&scene.lab.gw).unwrap(), 2);
    // Its last GRE packet's flow ends with the kernel's own time-out: nothing renews it.
    wait::until_true("its flows are gone", Duration::from_secs(10), || {
        Ok(flows(&scene.lab.gw, client_address(2)).is_empty())
    })
    .unwrap();
}

/// Flows of a client in the gateway's conntrack that are not on their way out.
fn flows(gw: &Node, client: Ipv4Addr) -> Vec<String> {
    let all = gw.run("conntrack", &["-L"]).unwrap();
    let ending = ["TIME_WAIT", "CLOSE", "LAST_ACK"];
    all.lines()
        .filter(|line| line.contains(&format!("src={client} ")) && !ending.iter().any(|state| line.contains(state)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_client_that_vanishes_from_the_network_harms_nobody_and_its_call_times_out() {
    if !can_run("a_client_that_vanishes_from_the_network_harms_nobody_and_its_call_times_out") {
        return;
    }
    let idle = CLASSIC.replace("idleTimeout: 0s}          # 0s: never", "idleTimeout: 4s}");
    let mut scene = Scene::with(3, 1, &idle);
    let links = scene.dial_all();
    let staying: Vec<ping::Ping> = (0..2)
        .map(|index| {
            ping::Ping::start(&scene.lab.clients[index], links[index].remote, Duration::from_secs(60)).unwrap()
        })
        .collect();
    // Nothing of it is ever heard again: no FIN, no RST, no answer to ARP.
    scene.lab.clients[2].ip("link set eth0 down").unwrap();
    let left = scene.callgate.wait_calls(&scene.lab.gw, 2).unwrap();
    assert!(left.iter().all(|call| call.client.address != client_address(2)), "{left:?}");
    // The server is told: of three PPP ends two are left.
    wait::until_true("the server hears of it", Duration::from_secs(10), || {
        Ok(scene.lab.servers[0].syslog.find(0, "callgate-ppp").iter().filter(|line| line.contains(": down ")).count()
            == 1)
    })
    .unwrap();
    for mut ping in staying {
        ping.stop_now();
        assert_eq!(ping.finish().unwrap().loss_percent(), 0);
    }
}

#[test]
fn a_server_that_restarts_is_called_again() {
    if !can_run("a_server_that_restarts_is_called_again") {
        return;
    }
    let mut scene = Scene::new(2, 1);
    scene.dial_all();
    let node = &scene.lab.servers[0];
    scene.servers.remove(0).stop(node).unwrap();
    scene.callgate.wait_calls(&scene.lab.gw, 0).unwrap();
    wait::until_true("the clients hear of it", Duration::from_secs(10), || {
        Ok(scene.clients.iter_mut().all(|client| !client.is_running()))
    })
    .unwrap();
    scene.servers.push(Pptpd::start(node, 0).unwrap());
    let links = scene.dial_all();
    scene.all_live(&links, LOOK);
}

#[test]
fn of_two_calls_on_one_control_connection_pptpd_keeps_the_newest() {
    if !can_run("of_two_calls_on_one_control_connection_pptpd_keeps_the_newest") {
        return;
    }
    // A second pptp to the same server goes through the first one's call manager, on the same TCP connection.
    let mut scene = Scene::new(2, 1);
    let links = scene.dial_all();
    let node = &scene.lab.clients[0];
    let second = PptpClient::dial(node, server(0)).unwrap();
    let newest = second.wait_up(node, UP).unwrap();
    let calls = scene.callgate.calls(&scene.lab.gw).unwrap();
    let ports: std::collections::BTreeSet<u16> = calls.iter().map(|call| call.client.port).collect();
    assert_eq!((calls.len(), ports.len()), (3, 2), "{calls:?}");
    // Both links have the same two addresses: the old one is the older device.
    let text = node.run("ip", &["-o", "-4", "addr", "show", "to", &newest.local.to_string()]).unwrap();
    let devices: Vec<&str> = text.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(devices.len(), 2, "{text}");
    let losses = devices.iter().map(|device| {
        node.ip(&format!("route replace {} dev {device}", newest.remote)).unwrap();
        let pinged = ping::all([(node, newest.remote), (&scene.lab.clients[1], links[1].remote)], LOOK).unwrap();
        pinged.iter().map(ping::Pinged::loss_percent).collect::<Vec<_>>()
    });
    assert_eq!(losses.collect::<Vec<_>>(), [[100, 0], [0, 0]]);
}
