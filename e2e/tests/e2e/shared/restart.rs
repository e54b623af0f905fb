//! A planned restart: the agent ends, another one goes on, and neither clients nor servers hear a word of it.

use std::io::Write as _;
use std::time::{Duration, Instant};

use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::control::{call_request, message};
use callgate_e2e::lab::packet::{Packet, flags};
use callgate_e2e::lab::topology::EXTERNAL;
use callgate_e2e::peers::program;
use callgate_e2e::wait;
use serde_json::Value;

use super::super::support::{LOOK, Scene, can_run, server};
use super::client::{Call, Client};
use super::crowd::Stage;
use super::manifests;
use super::server::Second;

/// Rules and state stay for the next start, as an agent of a cluster leaves them.
const KEEP: &[&str] = &["--keep"];

/// Whether it begins or ends a TCP connection.
fn opens_or_ends(packet: &Packet) -> bool {
    packet.tcp().is_some_and(|segment| segment.flags & (flags::SYN | flags::FIN | flags::RST) != 0)
}

fn echo_request(text: &[u8; 4]) -> Vec<u8> {
    message(5, 16, &[(12, text)])
}

/// Whether somebody has sent a segment with these octets again: nobody has acknowledged it.
fn is_repeated(capture: &Capture, payload: &[u8]) -> bool {
    let carries = |packet: &&Packet| packet.tcp().is_some_and(|segment| segment.payload == payload);
    capture.packets().iter().filter(carries).count() > 1
}

fn names(stage: &Stage, count: usize) -> Vec<String> {
    let calls = stage.callgate.wait_calls(&stage.lab.gw, count).unwrap();
    let name = |call: callgate_e2e::gateway::callgate::Call| {
        let (ids, pac) = ((call.pns_call_id, call.pns_call_id_outside), (call.pac_call_id, call.pac_call_id_outside));
        format!("{:?} {:?} {ids:?} {pac:?} {:?}", call.client, call.external, call.tunnel)
    };
    calls.into_iter().map(name).collect()
}

/// A hundred clients with a call each; what is under way when the agent ends arrives after the next has begun.
fn no_call_is_lost(mode: &str, tunnels: usize) {
    const CLIENTS: usize = 100;
    let mut stage = Stage::with_flags(mode, CLIENTS + 1, (65_535, Second::Serve), KEEP);
    let (mut clients, mut calls) = stage.fill(0..CLIENTS);
    assert_eq!(stage.server.connections(), (tunnels, tunnels));
    let before = names(&stage, CLIENTS);
    // Half a message each way, read by the agent that ends.
    clients[0].stream.write_all(&echo_request(b"half")[..9]).unwrap();
    stage.server.says(0, &echo_request(b"HALF")[..5]);
    stage.gre_is_right(&calls);
    let at_server = Capture::start(&stage.lab.servers[0], "eth0").unwrap();
    let at_clients = Capture::start(&stage.lab.clients[0], "eth0").unwrap();
    let begun = Instant::now();
    stage.callgate.stop().unwrap();
    let stopped = begun.elapsed();
    let silent = (at_server.packets().len(), at_clients.packets().len());
    // Nobody is there now. The rest of both, a request, and an answer that was not asked for yet.
    clients[0].stream.write_all(&echo_request(b"half")[9..]).unwrap();
    clients[1].stream.write_all(&call_request(9)).unwrap();
    stage.server.says(0, &echo_request(b"HALF")[5..]);
    wait::until_true("all of it is sent again, since nobody answers", Duration::from_secs(10), || {
        Ok(is_repeated(&at_clients, &echo_request(b"half")[9..])
            && is_repeated(&at_clients, &call_request(9))
            && is_repeated(&at_server, &echo_request(b"HALF")[5..]))
    })
    .unwrap();
    let of_the_gateway = |packets: Vec<Packet>, seen: usize, inside: bool| -> Vec<Packet> {
        let its = move |packet: &Packet| if inside { packet.source == server(0) } else { packet.source != server(0) };
        packets.into_iter().skip(seen).filter(its).collect()
    };
    assert_eq!(of_the_gateway(at_server.packets(), silent.0, false), [], "to the server while nobody is there");
    assert_eq!(of_the_gateway(at_clients.packets(), silent.1, true), [], "to clients while nobody is there");
    let begun = Instant::now();
    stage.callgate.run(&stage.lab.gw).unwrap();
    println!("{mode}: {CLIENTS} calls, ended after {stopped:?}, the next was ready after {:?}", begun.elapsed());
    let reply = clients[0].hear(6).unwrap();
    assert_eq!(&reply[12..16], b"half");
    let reply = clients[1].hear(8).unwrap();
    let pac = u16::from_be_bytes([reply[12], reply[13]]);
    calls.push(Call { client: clients[1].address, pns: 9, pac });
    at_server
        .wait("the answer to the server's Echo-Request", Duration::from_secs(10), |packet| {
            packet.source == EXTERNAL
                && packet.tcp().is_some_and(|segment| {
                    segment.payload.get(9) == Some(&6) && segment.payload.get(12..16) == Some(b"HALF")
                })
        })
        .unwrap();
    assert!(clients.iter_mut().all(Client::is_well), "every control connection lives: {}", stage.callgate.log());
    let after = names(&stage, CLIENTS + 1);
    let lost: Vec<_> = before.iter().filter(|name| !after.contains(name)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(stage.server.connections(), (tunnels, tunnels), "none was opened or closed");
    for (capture, whose) in [(at_server, "the server"), (at_clients, "clients")] {
        let packets = capture.stop().unwrap();
        let ends: Vec<_> = packets.iter().filter(|packet| opens_or_ends(packet)).collect();
        assert!(ends.is_empty(), "seen by {whose}: {ends:?}");
    }
    stage.gre_is_right(&calls);
    // All of it goes on as ever: a call is ended, a session too, and somebody new is served.
    clients[7].stream.write_all(&message(12, 16, &[(12, &[0, 0])])).unwrap();
    clients[7].hear(13).unwrap();
    clients[8].stream.write_all(&message(3, 16, &[(12, &[1])])).unwrap();
    clients[8].hear(4).unwrap();
    let (_new, _) = stage.fill(CLIENTS..CLIENTS + 1);
    wait::until_true("the server knows of both ends", Duration::from_secs(10), || {
        Ok(stage.server.calls().len() == CLIENTS)
    })
    .unwrap();
    // And once more.
    stage.callgate.stop().unwrap();
    stage.callgate.run(&stage.lab.gw).unwrap();
    clients.remove(8);
    assert!(clients.iter_mut().all(Client::is_well));
}

#[test]
fn a_planned_restart_loses_no_call_of_a_hundred_in_one_tunnel() {
    if can_run("a_planned_restart_loses_no_call_of_a_hundred_in_one_tunnel") {
        no_call_is_lost("Shared", 1);
    }
}

#[test]
fn a_planned_restart_loses_no_call_of_a_hundred_under_auto() {
    if can_run("a_planned_restart_loses_no_call_of_a_hundred_under_auto") {
        no_call_is_lost("Auto", 100);
    }
}

#[test]
fn clients_that_leave_while_nobody_is_there_have_left_when_the_next_agent_is() {
    if !can_run("clients_that_leave_while_nobody_is_there_have_left_when_the_next_agent_is") {
        return;
    }
    let mut stage = Stage::with_flags("Shared", 6, (65_535, Second::Serve), KEEP);
    let (mut clients, mut calls) = stage.fill(0..6);
    stage.callgate.stop().unwrap();
    clients.remove(1).reset();
    drop(clients.remove(0));
    stage.callgate.run(&stage.lab.gw).unwrap();
    wait::until_true("the server has heard that both have left", Duration::from_secs(20), || {
        Ok(stage.server.calls().len() == 4)
    })
    .unwrap();
    calls.drain(..2);
    stage.gre_is_right(&calls);
    assert!(clients.iter_mut().all(Client::is_well));
    assert_eq!((stage.server.connections(), stage.server.cleared()), ((1, 1), 2));
}

/// What a hand-over that cannot be believed means: both ends hear RST at once, and are served again.
fn both_ends_are_reset(change: impl Fn(&mut Value), why: &str) {
    let mut stage = Stage::with_flags("Shared", 5, (65_535, Second::Serve), KEEP);
    let (clients, _) = stage.fill(0..5);
    stage.callgate.stop().unwrap();
    let path = stage.lab.gw.dir.join("callgate/state/handover.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(&path, value.to_string()).unwrap();
    stage.callgate.run(&stage.lab.gw).unwrap();
    for mut client in clients {
        assert_eq!(client.hear(0).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
    stage.server.wait_without_connection();
    assert!(stage.callgate.log().contains(why), "{}", stage.callgate.log());
    let (_clients, calls) = stage.fill(0..5);
    stage.gre_is_right(&calls);
    assert!(!path.exists(), "it is taken once");
}

#[test]
fn what_was_handed_over_too_long_ago_is_reset_at_both_ends() {
    if can_run("what_was_handed_over_too_long_ago_is_reset_at_both_ends") {
        let older = |value: &mut Value| {
            let at = value["at"].as_u64().unwrap();
            value["at"] = at.checked_sub(121_000).expect("a host that is up for two minutes").into();
        };
        both_ends_are_reset(older, "are not waited for after 120000 ms");
    }
}

#[test]
fn what_another_version_handed_over_is_reset_at_both_ends() {
    if can_run("what_another_version_handed_over_is_reset_at_both_ends") {
        both_ends_are_reset(|value| value["state"]["version"] = 2.into(), "it has version 2");
    }
}

#[test]
fn after_rubbish_in_the_state_directory_clients_are_reset_when_they_speak_and_served_again() {
    if !can_run("after_rubbish_in_the_state_directory_clients_are_reset_when_they_speak_and_served_again") {
        return;
    }
    let mut stage = Stage::with_flags("Shared", 4, (65_535, Second::Serve), KEEP);
    let (clients, _) = stage.fill(0..4);
    stage.callgate.stop().unwrap();
    std::fs::write(stage.lab.gw.dir.join("callgate/state/handover.json"), "{\"version\":1,").unwrap();
    stage.callgate.run(&stage.lab.gw).unwrap();
    assert!(stage.callgate.log().contains("calls of Shared and Auto are lost"), "{}", stage.callgate.log());
    for mut client in clients {
        client.stream.write_all(&echo_request(b"gone")).unwrap();
        assert_eq!(client.hear(6).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
    let (mut again, _) = stage.fill(0..4);
    assert!(again.iter_mut().all(Client::is_well));
}

#[test]
fn cleanup_after_a_hand_over_tells_clients_and_servers() {
    if !can_run("cleanup_after_a_hand_over_tells_clients_and_servers") {
        return;
    }
    let mut stage = Stage::with_flags("Shared", 5, (65_535, Second::Serve), KEEP);
    let (mut clients, _) = stage.fill(0..5);
    stage.callgate.stop().unwrap();
    let state = stage.lab.gw.dir.join("callgate/state");
    let mut cleanup = stage.lab.gw.command(program("callgate-dataplane").unwrap());
    cleanup.args(["cleanup", "--state-dir"]).arg(&state).arg("--api").arg(stage.callgate.api());
    let output = cleanup.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for client in &mut clients {
        client.hear(13).unwrap();
        client.hear(3).unwrap();
    }
    stage.server.wait_without_connection();
    assert!(!state.exists());
}

#[test]
fn real_clients_and_a_real_pptpd_notice_nothing_of_a_planned_restart() {
    if !can_run("real_clients_and_a_real_pptpd_notice_nothing_of_a_planned_restart") {
        return;
    }
    let mut scene = Scene::with_flags(6, 1, &manifests("Shared"), KEEP);
    let links = scene.dial_all();
    for _ in 0..if cfg!(feature = "long") { 20 } else { 2 } {
        scene.callgate.stop().unwrap();
        scene.callgate.run(&scene.lab.gw).unwrap();
        scene.all_live(&links, LOOK);
    }
    assert!(scene.clients.iter_mut().all(|client| client.is_running()));
    for client in &mut scene.clients {
        client.hang_up().unwrap();
    }
    scene.callgate.wait_calls(&scene.lab.gw, 0).unwrap();
}
