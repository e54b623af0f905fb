//! Tunnels outlive the agent, conntrack, and silence.

use std::time::Duration;

use callgate_e2e::gateway::callgate::CLASSIC;
use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::ping;
use callgate_e2e::lab::topology::OUT_IF;
use callgate_e2e::wait;

use super::support::{LOOK, Scene, can_run};

/// A lab whose GRE takes this way (`--fast-path`): only what comes through user space does the kernel track at all.
fn scene(clients: usize, way: &str) -> Scene {
    Scene::with_flags(clients, 1, &CLASSIC, &["--fast-path", way])
}

/// How often the agent is killed.
const KILLS: usize = if cfg!(feature = "long") { 20 } else { 5 };

fn killed(way: &str) {
    let mut scene = scene(10, way);
    let links = scene.dial_all();
    let before = scene.callgate.wait_calls(&scene.lab.gw, 10).unwrap();
    let outside = Capture::start(&scene.lab.gw, OUT_IF).unwrap();
    for _ in 0..KILLS {
        scene.callgate.kill9();
        scene.callgate.run(&scene.lab.gw).unwrap();
        scene.all_live(&links, Duration::from_secs(1));
    }
    let after = scene.callgate.wait_calls(&scene.lab.gw, 10).unwrap();
    let names = |calls: &[callgate_e2e::gateway::callgate::Call]| -> Vec<_> {
        calls.iter().map(|c| (c.client.clone(), c.external.clone(), c.pns_call_id_outside, c.pac_call_id)).collect()
    };
    assert_eq!(names(&before), names(&after));
    let ends: Vec<_> =
        outside.stop().unwrap().into_iter().filter(|p| p.tcp().is_some_and(|s| s.flags & 0x05 != 0)).collect();
    assert!(ends.is_empty(), "FIN or RST on a control connection: {ends:?}");
    assert!(scene.clients.iter_mut().all(|client| client.is_running()));
}

fn flushed(way: &str) {
    let mut scene = scene(3, way);
    let links = scene.dial_all();
    for _ in 0..3 {
        scene.lab.gw.run("conntrack", &["-F"]).unwrap();
        scene.all_live(&links, Duration::from_secs(2));
    }
    // The control connection too: a call can still be ended in order.
    for client in &mut scene.clients {
        client.hang_up().unwrap();
    }
    scene.callgate.wait_calls(&scene.lab.gw, 0).unwrap();
}

fn silent(way: &str) {
    let silence = Duration::from_secs(if cfg!(feature = "long") { 600 } else { 10 });
    let mut scene = scene(1, way);
    // The kernel's own idea of how long a GRE flow lives must not matter, shorter than any silence.
    for name in ["gre_timeout", "gre_timeout_stream"] {
        scene.lab.gw.sysctl(&format!("net/netfilter/nf_conntrack_{name}"), "2").unwrap();
    }
    let links = scene.dial_all();
    // Our PPP sends nothing by itself.
    wait::let_pass(silence);
    // The server speaks first: no packet of the client has opened the way anew.
    let first = ping::all([(&scene.lab.servers[0], links[0].local)], LOOK).unwrap();
    assert_eq!(first[0].loss_percent(), 0, "{}", scene.callgate.log());
    scene.all_live(&links, LOOK);

    let idle = CLASSIC.replace("idleTimeout: 0s}          # 0s: never", "idleTimeout: 2s}");
    assert_ne!(idle, *CLASSIC);
    std::fs::write(scene.callgate.manifests.join("rules.yaml"), idle).unwrap();
    scene.callgate.wait_calls(&scene.lab.gw, 0).unwrap();
    wait::until_true("the client hears of it", Duration::from_secs(10), || Ok(!scene.clients[0].is_running())).unwrap();
    // The log has a thread of its own.
    wait::until_true("the reason in the log", LOOK, || Ok(scene.callgate.log().contains("idleTimeout"))).unwrap();
}

#[test]
fn ten_tunnels_outlive_the_agent_killed_again_and_again() {
    if can_run("ten_tunnels_outlive_the_agent_killed_again_and_again") {
        killed("auto");
    }
}

#[test]
fn ten_tunnels_through_user_space_outlive_the_agent_killed_again_and_again() {
    if can_run("ten_tunnels_through_user_space_outlive_the_agent_killed_again_and_again") {
        killed("off");
    }
}

#[test]
fn a_flushed_conntrack_changes_nothing() {
    if can_run("a_flushed_conntrack_changes_nothing") {
        flushed("auto");
    }
}

#[test]
fn a_flushed_conntrack_changes_nothing_through_user_space() {
    if can_run("a_flushed_conntrack_changes_nothing_through_user_space") {
        flushed("off");
    }
}

#[test]
fn a_silent_call_stays_and_an_idle_time_out_ends_it() {
    if can_run("a_silent_call_stays_and_an_idle_time_out_ends_it") {
        silent("auto");
    }
}

#[test]
fn a_silent_call_through_user_space_stays_and_an_idle_time_out_ends_it() {
    if can_run("a_silent_call_through_user_space_stays_and_an_idle_time_out_ends_it") {
        silent("off");
    }
}
