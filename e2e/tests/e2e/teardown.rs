//! The host is left as it was found; who may not start is told why.

use std::process::Stdio;
use std::time::Duration;

use callgate_e2e::gateway::callgate::{CLASSIC, Callgate};
use callgate_e2e::lab::topology::Lab;
use callgate_e2e::peers::pptp_client::PptpClient;
use callgate_e2e::peers::pptpd::Pptpd;
use callgate_e2e::peers::program;
use callgate_e2e::traffic::manifests::{put, remove, rule};
use callgate_e2e::traffic::surface;
use callgate_e2e::wait;

use super::support::{LOOK, Scene, can_run};

/// How long peers may take to act on what they are told.
const TOLD: Duration = Duration::from_secs(15);

#[test]
fn after_sigterm_the_host_is_as_it_was() {
    if !can_run("after_sigterm_the_host_is_as_it_was") {
        return;
    }
    let lab = Lab::new(1, 1).unwrap();
    lab.gw.sysctl("net/ipv4/ip_forward", "0").unwrap();
    let before = surface::of(&lab.gw).unwrap();
    let mut callgate = Callgate::start(&lab.gw, &CLASSIC).unwrap();
    assert_ne!(surface::of(&lab.gw).unwrap(), before);
    callgate.kill9();
    callgate.run(&lab.gw).unwrap();
    callgate.stop().unwrap();
    assert_eq!(surface::difference(&before, &surface::of(&lab.gw).unwrap()), "");
}

/// Waits until every client has hung up by itself and the server has no more processes than before they called. Both would go on for
/// minutes if they were not told.
fn both_ends_hear_of_it(scene: &mut Scene, idle: usize) {
    wait::until_true("clients and server know that the calls have ended", TOLD, || {
        let clients = scene.clients.iter_mut().map(PptpClient::is_running).filter(|runs| *runs).count();
        Ok(clients == 0 && scene.lab.servers[0].pids().len() == idle)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", scene.callgate.log()));
}

#[test]
fn a_stop_ends_the_tunnels_tells_both_sides_and_the_next_start_carries_new_ones() {
    if !can_run("a_stop_ends_the_tunnels_tells_both_sides_and_the_next_start_carries_new_ones") {
        return;
    }
    let mut scene = Scene::new(2, 1);
    let idle = scene.lab.servers[0].pids().len();
    scene.dial_all();
    scene.callgate.stop().unwrap();
    both_ends_hear_of_it(&mut scene, idle);
    scene.callgate.run(&scene.lab.gw).unwrap();
    let links = scene.dial_all();
    scene.all_live(&links, LOOK);
}

#[test]
fn cleanup_after_a_killed_agent_tells_both_sides_of_its_tunnels_and_leaves_nothing() {
    if !can_run("cleanup_after_a_killed_agent_tells_both_sides_of_its_tunnels_and_leaves_nothing") {
        return;
    }
    let lab = Lab::new(2, 1).unwrap();
    let before = surface::of(&lab.gw).unwrap();
    let callgate = Callgate::start(&lab.gw, &CLASSIC).unwrap();
    let servers = vec![Pptpd::start(&lab.servers[0], 0).unwrap()];
    let mut scene = Scene { clients: Vec::new(), servers, callgate, lab };
    let idle = scene.lab.servers[0].pids().len();
    scene.dial_all();
    scene.callgate.kill9();
    let mut cleanup = scene.lab.gw.command(program("callgate-dataplane").unwrap());
    cleanup.args(["cleanup", "--state-dir"]).arg(scene.lab.gw.dir.join("callgate/state"));
    let output = cleanup.arg("--api").arg(scene.callgate.api()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    both_ends_hear_of_it(&mut scene, idle);
    let ended: Vec<&str> = said.lines().filter(|line| line.contains("connection closed")).collect();
    let why = |line: &&str| line.contains(" INFO ") && line.contains("the gateway is being stopped");
    assert!(ended.len() == 2 && ended.iter().all(why), "{said}");
    assert_eq!(surface::difference(&before, &surface::of(&scene.lab.gw).unwrap()), "");
    assert!(!scene.lab.gw.dir.join("callgate/state").exists());
}

#[test]
fn a_removed_rule_ends_its_tunnels_and_a_broken_file_ends_nothing() {
    if !can_run("a_removed_rule_ends_its_tunnels_and_a_broken_file_ends_nothing") {
        return;
    }
    let mut scene = Scene::new(2, 1);
    let links = scene.dial_all();
    let file = scene.callgate.manifests.join("rules.yaml");
    std::fs::write(&file, "kind: [\n").unwrap();
    std::fs::write(scene.callgate.manifests.join("more.yaml"), "apiVersion: callgate.io/v1alpha1\nkind: IpRule\n")
        .unwrap();
    let status = callgate_e2e::wait::until("the problems in the status", LOOK, || {
        let status = scene.callgate.kubectl(&scene.lab.gw, &["status"])?;
        Ok((status.contains("rules.yaml") && status.contains("more.yaml")).then_some(status))
    });
    let status = status.unwrap();
    assert!(status.contains("is not YAML"), "{status}");
    scene.all_live(&links, LOOK);
    std::fs::remove_file(scene.callgate.manifests.join("more.yaml")).unwrap();
    std::fs::remove_file(&file).unwrap();
    scene.callgate.wait_calls(&scene.lab.gw, 0).unwrap();
    // The log has a thread of its own.
    callgate_e2e::wait::until("the reason in the log", LOOK, || {
        Ok(scene.callgate.log().contains("the rule that allowed it is gone").then_some(()))
    })
    .unwrap();
}

#[test]
fn after_the_last_pptp_rule_and_its_last_call_no_packet_of_the_host_passes_anything_of_the_alg() {
    if !can_run("after_the_last_pptp_rule_and_its_last_call_no_packet_of_the_host_passes_anything_of_the_alg") {
        return;
    }
    let web = rule("web", 200, "NAT", "10.10.0.0/16", "cidrs: [0.0.0.0/0]", &["http"]);
    let mut scene = Scene::with(1, 1, &web);
    let idle = scene.lab.servers[0].pids().len();
    // The devices that are read, too. The order in which the kernel lists chains is that in which they were made.
    let looks = |scene: &Scene| {
        let taps = scene.lab.gw.run("sh", &["-c", "grep -c ^ /proc/net/packet"]).unwrap();
        let text = format!("{}# taps\n{taps}", surface::of(&scene.lab.gw).unwrap());
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    let before = looks(&scene);
    put(&scene.callgate, &scene.lab.gw, "pptp.yaml", &CLASSIC).unwrap();
    scene.dial_all();
    assert_ne!(surface::difference(&before, &looks(&scene)), "");
    remove(&scene.callgate, &scene.lab.gw, "pptp.yaml").unwrap();
    both_ends_hear_of_it(&mut scene, idle);
    let mut left = String::new();
    wait::until_true("the host is as it was with the other rule alone", TOLD, || {
        left = surface::difference(&before, &looks(&scene));
        Ok(left.is_empty())
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{left}\n{}", scene.callgate.log()));
    // And a rule that comes again finds everything anew.
    put(&scene.callgate, &scene.lab.gw, "pptp.yaml", &CLASSIC).unwrap();
    let links = scene.dial_all();
    scene.all_live(&links, LOOK);
}

#[test]
fn without_rights_or_with_a_second_agent_the_error_says_what_to_do() {
    if !can_run("without_rights_or_with_a_second_agent_the_error_says_what_to_do") {
        return;
    }
    let lab = Lab::new(1, 1).unwrap();
    let callgate = Callgate::start(&lab.gw, &CLASSIC).unwrap();
    let dir = lab.gw.dir.join("callgate");
    let agent = program("callgate-dataplane").unwrap();
    let said = |mut command: std::process::Command, state: &str| {
        command.args(["standalone", "--manifests"]).arg(&callgate.manifests).arg("--state-dir").arg(dir.join(state));
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let mut nobody = lab.gw.command("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&agent);
    let without_rights = said(nobody, "other");
    assert!(without_rights.contains("needs root"), "{without_rights}");
    let second = said(lab.gw.command(&agent), "state");
    assert!(second.contains("is in use by another callgate-dataplane (process "), "{second}");
}
