//! GRE of live calls by eBPF: what user space sees of it (nothing), what people see, what a dead agent and an ended one leave.

use std::time::Duration;

use callgate_e2e::bench::bed::{Bed, Kind};
use callgate_e2e::bench::site::Site;
use callgate_e2e::gateway::callgate::{CLASSIC, Callgate};
use callgate_e2e::lab::kernel;
use callgate_e2e::lab::topology::{Lab, client_address};
use callgate_e2e::peers::pptpd::Pptpd;
use callgate_e2e::traffic::surface;
use serde_json::Value;

use super::support::{LOOK, Scene, can_run};

/// What packet sockets of ours may see meanwhile: a few messages of control connections, not each ping.
const MESSAGES: u64 = 12;

fn scene(lab: Lab, flags: &[&str]) -> Scene {
    let callgate = Callgate::start_with(&lab.gw, &CLASSIC, flags).unwrap();
    let servers = vec![Pptpd::start(&lab.servers[0], 0).unwrap()];
    Scene { clients: Vec::new(), servers, callgate, lab }
}

fn counter(scene: &Scene, name: &str) -> u64 {
    scene.callgate.counter(&scene.lab.gw, name).unwrap()
}

/// The path, and what is said of it.
fn path(scene: &Scene) -> (String, String) {
    let status = scene.callgate.kubectl(&scene.lab.gw, &["status", "-o", "json"]).unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    let features = status["features"].as_array().unwrap();
    let detail = features.iter().find(|feature| feature["name"] == "GRE path").unwrap();
    (status["path"].as_str().unwrap().to_owned(), detail["detail"].as_str().unwrap().to_owned())
}

/// Each client by a link of its own, as pods are by many CNIs: a bridge has no XDP. The other ends of links take frames that leave by it.
fn without_bridge(lab: &Lab) {
    // The bridge keeps its carrier, or its routes change under the test.
    lab.gw.ip("link add up0 type veth peer name up1\nlink set up0 master lan0 up\nlink set up1 up").unwrap();
    for (index, client) in lab.clients.iter().enumerate() {
        let (port, address) = (format!("c{}", index + 1), client_address(index));
        lab.gw.ip(&format!("link set {port} nomaster\nroute add {address} dev {port}")).unwrap();
        client.run("ethtool", &["-K", "eth0", "gro", "on"]).unwrap();
    }
    lab.inet.run("ethtool", &["-K", "gw0", "gro", "on"]).unwrap();
}

fn passes_beside_user_space(mode: &str, expected: &str) {
    let lab = Lab::new(2, 1).unwrap();
    if mode == "xdp" {
        without_bridge(&lab);
    }
    let before = surface::of(&lab.gw).unwrap();
    let mut scene = scene(lab, &["--fast-path", mode]);
    let links = scene.dial_all();
    scene.callgate.wait_calls(&scene.lab.gw, 2).unwrap();
    let seen = |scene: &Scene| counter(scene, "rx_pods") + counter(scene, "rx_outside");
    let (user_space, up, down) =
        (seen(&scene), counter(&scene, "fast_up_packets"), counter(&scene, "fast_down_packets"));
    scene.all_live(&links, LOOK);
    let (up, down) = (counter(&scene, "fast_up_packets") - up, counter(&scene, "fast_down_packets") - down);
    let told = seen(&scene) - user_space;
    let by_xdp = counter(&scene, "fast_xdp_packets");
    assert!(
        if expected.contains("XDP") { by_xdp > 3 * MESSAGES } else { by_xdp == 0 },
        "{by_xdp} by XDP: {:?}",
        path(&scene)
    );
    assert!(up > 3 * MESSAGES && down > 3 * MESSAGES && told < MESSAGES, "beside {up} and {down}, through {told}");
    let (path, detail) = path(&scene);
    assert_eq!(path, expected);
    assert!(detail.starts_with(&format!("{expected} on ")), "{detail}");
    for call in scene.callgate.calls(&scene.lab.gw).unwrap() {
        let enough = |traffic: &callgate_e2e::gateway::callgate::Traffic| {
            traffic.packets > MESSAGES && traffic.bytes > 40 * traffic.packets
        };
        assert!(enough(&call.tx) && enough(&call.rx), "{call:?}");
    }
    assert_eq!(scene.lab.gw.run("conntrack", &["-L", "-p", "gre"]).unwrap(), "", "no GRE is tracked");

    // Nobody is there, and nothing is lost.
    scene.callgate.kill9();
    assert_eq!(scene.loss(&links, LOOK), vec![0; 2]);
    scene.callgate.run(&scene.lab.gw).unwrap();
    scene.all_live(&links, Duration::from_secs(1));
    assert_eq!(counter(&scene, "fast_calls"), 2);
    scene.clients[0].hang_up().unwrap();
    scene.callgate.wait_calls(&scene.lab.gw, 1).unwrap();
    assert_eq!(counter(&scene, "fast_calls"), 1);
    scene.callgate.stop().unwrap();
    assert_eq!(surface::difference(&before, &surface::of(&scene.lab.gw).unwrap()), "");
}

#[test]
fn gre_of_live_calls_passes_beside_user_space_while_an_agent_is_there_and_while_none_is() {
    if !can_run("gre_of_live_calls_passes_beside_user_space_while_an_agent_is_there_and_while_none_is") {
        return;
    }
    passes_beside_user_space("auto", if kernel::has_tcx() { "eBPF at tcx" } else { "eBPF at clsact" });
}

#[test]
fn where_the_kernel_has_no_tcx_the_older_way_does_the_same() {
    if !can_run("where_the_kernel_has_no_tcx_the_older_way_does_the_same") {
        return;
    }
    passes_beside_user_space("clsact", "eBPF at clsact");
}

#[test]
fn between_links_whose_drivers_do_xdp_it_passes_before_the_kernel_has_a_packet_to_look_at() {
    if !can_run("between_links_whose_drivers_do_xdp_it_passes_before_the_kernel_has_a_packet_to_look_at") {
        return;
    }
    let tc = if kernel::has_tcx() { "tcx" } else { "clsact" };
    let xdp = if kernel::has_xdp() { "XDP and " } else { "" };
    passes_beside_user_space("xdp", &format!("eBPF at {xdp}{tc}"));
}

#[test]
fn switched_off_between_two_runs_the_calls_go_on_through_user_space_and_it_says_so() {
    if !can_run("switched_off_between_two_runs_the_calls_go_on_through_user_space_and_it_says_so") {
        return;
    }
    let mut scene = scene(Lab::new(2, 1).unwrap(), &["--fast-path", "auto"]);
    let links = scene.dial_all();
    scene.all_live(&links, Duration::from_secs(1));
    assert_eq!(counter(&scene, "fast_calls"), 2);
    scene.callgate.kill9();
    // Of a flag given twice the last one would be refused: another one in its place.
    scene.callgate.replace_flags(&["--fast-path", "off"]);
    scene.callgate.run(&scene.lab.gw).unwrap();
    let before = counter(&scene, "rx_pods");
    scene.all_live(&links, LOOK);
    assert!(counter(&scene, "rx_pods") - before > 3 * MESSAGES);
    let detail = "AF_PACKET: --fast-path=off; what it costs: each GRE packet goes through user space";
    assert_eq!(path(&scene), ("AF_PACKET".to_owned(), detail.to_owned()));
    assert_eq!(scene.lab.gw.run("find", &["/sys/fs/bpf", "-mindepth", "1", "-type", "d"]).unwrap(), "");
}

/// How often the agent is killed under load.
const KILLS: usize = if cfg!(feature = "long") { 50 } else { 5 };

#[test]
fn an_agent_killed_again_and_again_under_load_on_a_thousand_tunnels_costs_no_packet() {
    if !can_run("an_agent_killed_again_and_again_under_load_on_a_thousand_tunnels_costs_no_packet") {
        return;
    }
    killed_again_and_again(Kind::Fast);
}

#[test]
fn with_xdp_an_agent_killed_again_and_again_under_load_costs_no_packet_either() {
    if !can_run("with_xdp_an_agent_killed_again_and_again_under_load_costs_no_packet_either") {
        return;
    }
    killed_again_and_again(Kind::Xdp);
}

fn killed_again_and_again(kind: Kind) {
    let mut bed = bed(kind);
    assert_eq!(calls(bed.site()), 1_000);
    // 50,000 a second, as long as this machine has a CPU for it. XDP's rings of a veth have room for 256.
    let per_ms = if kind == Kind::Xdp { 20 } else { 50 };
    let (sent, arrived) = bed.survive(KILLS, per_ms, |_| Ok(())).unwrap();
    println!("{KILLS} kills: {sent} packets sent, {arrived} arrived translated");
    assert!(sent > 1_000 && sent == arrived, "{} of {sent} packets lost", sent.abs_diff(arrived));
    assert_eq!(calls(bed.site()), 1_000);
    assert_eq!(has_passed_by_xdp(bed.site()), kind == Kind::Xdp && kernel::has_xdp());
}

#[test]
fn an_agent_whose_map_has_another_layout_than_its_predecessors_takes_all_calls_over_under_load() {
    if !can_run("an_agent_whose_map_has_another_layout_than_its_predecessors_takes_all_calls_over_under_load") {
        return;
    }
    [Kind::Fast, Kind::Xdp].into_iter().for_each(takes_over_from_another_layout);
}

fn takes_over_from_another_layout(kind: Kind) {
    let mut bed = bed(kind);
    let own = bed_maps(bed.site());
    // To the next agent it is the map of a layout it does not know, with a program on the links that goes on by it.
    let old = own.replace("/v", "/v9");
    let (sent, arrived) = bed.survive(1, 50, |gw| gw.run("mv", &[&own, &old]).map(drop)).unwrap();
    println!("{sent} packets sent meanwhile, {arrived} arrived translated");
    assert!(sent > 1_000 && sent == arrived, "{} of {sent} packets lost", sent.abs_diff(arrived));
    // All is in a map of its own, and the other one is gone.
    assert_eq!(bed_maps(bed.site()), own);
    let callgate = bed.site().callgate.as_ref().unwrap();
    assert_eq!(callgate.counter(&bed.site().gw, "fast_calls").unwrap(), 1_000);
    assert_eq!(calls(bed.site()), 1_000);
    assert_eq!(has_passed_by_xdp(bed.site()), kind == Kind::Xdp && kernel::has_xdp());
}

/// A thousand calls, by XDP where that is the kind and the kernel has it.
fn bed(kind: Kind) -> Bed {
    let mut bed = Bed::build_unmeasured(kind).unwrap();
    bed.set_up(1_000, 1).unwrap();
    if kind == Kind::Xdp && kernel::has_xdp() {
        bed.wait_for_xdp().unwrap();
    }
    bed
}

/// Whether the agent that runs now has passed packets on by XDP.
fn has_passed_by_xdp(site: &Site) -> bool {
    site.callgate.as_ref().unwrap().counter(&site.gw, "fast_xdp_packets").unwrap() > 0
}

/// Live calls of its agent.
fn calls(site: &Site) -> usize {
    site.callgate.as_ref().unwrap().calls(&site.gw).unwrap().len()
}

/// The directories of an agent's maps.
fn bed_maps(site: &Site) -> String {
    site.gw.run("find", &["/sys/fs/bpf/callgate", "-name", "v*", "-type", "d"]).unwrap().trim().to_owned()
}
