//! Links that come, go, are renamed or moved, and the kinds that stand on others.

use callgate_agent::fast::{Fast, Hook, Mode, Pins, remove};

use super::adoption::Flood;
use super::lab::{CLIENT, Lab, NOW, Namespace, SERVER, Sender, call, index, mac, opened, root, settle, sh, skipped};
use super::packets::Gre;
use super::passes::has_tcx;

const MODES: [Mode; 2] = [Mode::Auto, Mode::Clsact];

/// One packet each way.
fn passes(lab: &Lab, client: &Sender) {
    let (up, down) = (Gre::up(&call(1)), Gre::down(&call(1)));
    client.send(&up.bytes());
    assert_eq!(lab.at_server.wait(1), [up.beyond(&call(1)).bytes()]);
    lab.server_sends().send(&down.bytes());
    assert_eq!(lab.at_client.wait(1), [down.beyond(&call(1)).bytes()]);
    assert_eq!(lab.at_gateway.take(), Vec::<Vec<u8>>::new());
}

fn look(fast: &mut Fast) {
    fast.refresh();
    settle(fast);
}

fn pinned(lab: &Lab) -> Vec<u32> {
    Pins::of(&lab.root, "callgate").unwrap().links().into_iter().map(|(link, _)| link).collect()
}

#[test]
fn a_link_that_is_made_anew_or_renamed_is_followed() {
    if !root() {
        return;
    }
    for mode in MODES {
        let lab = Lab::new();
        let (mut fast, status) = lab.start(mode, &[call(1)]);
        passes(&lab, &lab.client_sends());
        sh("ip link set cg-in name cg-new");
        look(&mut fast);
        assert!(status.get().unwrap_or_default().links.contains("cg-new"), "{:?}", status.get());
        passes(&lab, &lab.through("cg-new"));
        let before = index("cg-new");
        sh(&format!("ip link del cg-new && ip link add cg-in type veth peer name eth0 netns {}", lab.client.path()));
        lab.client.sh("ip link set eth0 up");
        sh("ip addr add 10.0.0.1/24 dev cg-in && ip link set cg-in up");
        lab.neighbours("cg-in");
        look(&mut fast);
        passes(&lab, &lab.client_sends());
        let mut expected = [index("cg-in"), index("cg-out")];
        expected.sort_unstable();
        assert_eq!(pinned(&lab), expected, "nothing is left of link {before}");
    }
}

#[test]
fn a_link_that_was_away_in_another_namespace_is_attached_anew() {
    if !root() {
        return;
    }
    for mode in MODES {
        let lab = Lab::new();
        let (mut fast, _) = lab.start(mode, &[call(1)]);
        passes(&lab, &lab.client_sends());
        let number = index("cg-in");
        // There and back before anybody looks.
        away_and_back();
        assert_eq!(index("cg-in"), number);
        lab.neighbours("cg-in");
        look(&mut fast);
        passes(&lab, &lab.client_sends());
    }
}

/// How a link is made on top of `cg-in`, and what the client has to do for it.
const KINDS: [(&str, &str, &str); 4] = [
    ("bridge", "ip link add cg-l3 type bridge && ip link set cg-in master cg-l3", "true"),
    ("macvlan", "ip link add link cg-in name cg-l3 type macvlan mode bridge", "true"),
    (
        "vlan",
        "ip link add link cg-in name cg-l3 type vlan id 7",
        "ip link set eth0 down && ip link set eth0 name cg-low && ip link add link cg-low name eth0 type vlan id 7 \
         && ip link set cg-low up && ip link set eth0 up",
    ),
    (
        "bond",
        "ip link add cg-l3 type bond mode active-backup && ip link set cg-in down && ip link set cg-in master cg-l3",
        "true",
    ),
];

/// Whether this kernel has links of this kind. Bridges and macvlans it must have.
fn has(kind: &str) -> bool {
    let (on, lower) = (Namespace::fresh(), if kind == "bridge" || kind == "bond" { "" } else { "link lo" });
    let id = if kind == "vlan" { "id 3" } else { "" };
    let made = on.sh(&format!("ip link add {lower} name cg-try type {kind} {id} 2>&1 || true"));
    let has = !made.contains("Unknown device type");
    assert!(has || ["vlan", "bond"].contains(&kind), "{made}");
    if !has {
        // Not a skip of the test: the other kinds are looked at, and no machine of ours has a kernel with these.
        println!("this kernel has no links of kind {kind}: not looked at");
    }
    has
}

#[test]
fn bridges_macvlans_vlans_and_bonds_are_links_like_others() {
    if !root() {
        return;
    }
    let kinds: Vec<_> = KINDS.into_iter().filter(|(kind, ..)| has(kind)).collect();
    for mode in MODES {
        for (kind, make, client) in kinds.iter().copied() {
            let lab = Lab::new();
            sh("ip addr flush dev cg-in");
            sh(make);
            lab.client.sh(client);
            sh("ip link set cg-in up && ip link set cg-l3 up && ip addr add 10.0.0.1/24 dev cg-l3");
            lab.neighbours("cg-l3");
            sh("timeout 10 sh -c 'until ip link show cg-l3 | grep -q LOWER_UP; do :; done'");
            let (mut fast, status) = lab.start(mode, &[]);
            assert!(opened(&mut fast, call(1)), "{kind}: {:?}", status.get());
            assert!(status.get().unwrap_or_default().links.contains("cg-l3"), "{kind}: {:?}", status.get());
            let client = lab.through("cg-l3");
            // Two each way: a bridge has learned by then.
            passes(&lab, &client);
            passes(&lab, &client);
        }
    }
}

#[test]
fn a_packet_that_a_bridge_or_a_vlan_has_for_somebody_else_is_not_ours() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let (_fast, _) = lab.start(Mode::Auto, &[call(1)]);
    let packet = Gre::up(&call(1)).bytes();
    // To another machine's MAC address.
    lab.client.run(|| Sender::here("eth0", "02:00:00:00:00:99")).send(&packet);
    // With a tag: to VLAN 9, which the gateway does not have.
    let to = mac("cg-in");
    let tagged = lab.client.run(move || Sender::of_type("eth0", &to, 0x8100_u16.to_be()));
    tagged.send(&[&[0, 9, 8, 0], &packet[..]].concat());
    let good = Gre::up(&call(1)).seq(8);
    lab.client_sends().send(&good.bytes());
    assert_eq!(lab.at_server.wait(1), [good.beyond(&call(1)).bytes()]);
}

#[test]
fn a_link_without_calls_loses_the_program_after_a_while() {
    if !root() {
        return;
    }
    for mode in MODES {
        let lab = Lab::new();
        let qdiscs = || ["cg-in", "cg-out"].map(|link| sh(&format!("tc qdisc show dev {link}")));
        let before = qdiscs();
        let (mut fast, status) = lab.start(mode, &[call(1)]);
        assert_eq!(pinned(&lab).len(), 2);
        fast.close(&call(1), NOW);
        let at = fast.deadline(NOW).unwrap();
        assert!(at > NOW);
        fast.work(at);
        // Nobody waits for the link; whoever looks for its name does.
        assert_eq!((status.get().unwrap_or_default().links.len(), fast.deadline(at)), (0, None));
        settle(&mut fast);
        let filters = || ["cg-in", "cg-out"].map(|link| sh(&format!("tc filter show dev {link} ingress"))).concat();
        assert_eq!(filters(), "");
        // Behind clsact a qdisc that is ours stays, with its name, until the agent is stopped.
        let ours = before.iter().map(|_| true).filter(|_| mode == Mode::Clsact).count();
        assert_eq!(pinned(&lab).len(), ours);
        // The next call needs it again.
        assert!(opened(&mut fast, call(1)));
        passes(&lab, &lab.client_sends());
        drop(fast);
        remove(&lab.root, "callgate").unwrap();
        assert_eq!((qdiscs(), filters().as_str()), (before, ""), "{mode:?}");
    }
}

#[test]
fn links_of_likely_ends_are_ready_before_the_first_call_and_getting_the_program_then_costs_them_no_packet() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let qdisc = "qdisc clsact ffff: parent ffff:fff1 \n";
    let ready = || ["cg-in", "cg-out"].map(|link| sh(&format!("tc qdisc show dev {link} clsact")));
    let (mut fast, _) = lab.start(Mode::Auto, &[]);
    fast.foresee(vec![CLIENT, SERVER]);
    settle(&mut fast);
    if has_tcx() {
        assert_eq!(ready(), ["", ""], "tcx needs none");
    }
    drop(fast);
    let (mut fast, status) = lab.start(Mode::Clsact, &[]);
    fast.foresee(vec![CLIENT, SERVER]);
    settle(&mut fast);
    assert_eq!((ready(), status.get().unwrap_or_default().links.len()), ([qdisc, qdisc].map(str::to_owned), 0));
    // What the node itself sends by the link, while it gets the program and loses it, again and again.
    let flood = Flood::start(Sender::here("cg-out", &lab.server.run(|| mac("eth0"))), vec![call(7)]);
    for _ in 0..10 {
        fast.expect(CLIENT, SERVER, NOW);
        settle(&mut fast);
        assert_eq!(status.get().unwrap_or_default().links.len(), 2);
        fast.work(fast.deadline(NOW).unwrap());
        settle(&mut fast);
        assert_eq!(status.get().unwrap_or_default().links.len(), 0);
    }
    let sent = flood.stop();
    assert_eq!(lab.at_server.take().len() as u64, sent);
    println!("{sent} packets");
}

#[test]
fn a_program_that_somebody_else_has_taken_away_is_missed_within_seconds_and_put_there_again() {
    if !root() {
        return;
    }
    for take in ["tc qdisc del dev cg-in clsact", "tc filter del dev cg-in ingress"] {
        let lab = Lab::new();
        let (mut fast, _) = lab.start(Mode::Clsact, &[call(1)]);
        passes(&lab, &lab.client_sends());
        sh(take);
        let at = fast.deadline(NOW).unwrap();
        assert!(at.since(NOW) <= 5_000, "it is looked at by then");
        fast.work(at);
        assert_eq!(settle(&mut fast).last(), Some(&(call(1), true)), "{take}");
        passes(&lab, &lab.client_sends());
    }
}

#[test]
fn a_program_that_is_gone_from_tcx_is_missed_within_seconds_and_put_there_again() {
    if !root() {
        return;
    }
    if !has_tcx() {
        return skipped("needs tcx (Linux 6.6)");
    }
    for made_anew in [true, false] {
        let lab = Lab::new();
        let (mut fast, status) = lab.start(Mode::Auto, &[call(1)]);
        passes(&lab, &lab.client_sends());
        let number = index("cg-in");
        if made_anew {
            // With the same number, before anybody looks.
            let peer = format!("type veth peer name eth0 netns {}", lab.client.path());
            sh(&format!("ip link del cg-in && ip link add cg-in index {number} {peer}"));
            lab.client.sh("ip link set eth0 up");
            sh("ip addr add 10.0.0.1/24 dev cg-in && ip link set cg-in up");
            lab.neighbours("cg-in");
        } else {
            std::fs::remove_file(Pins::of(&lab.root, "callgate").unwrap().link(number, Hook::Tcx)).unwrap();
        }
        let at = fast.deadline(NOW).unwrap();
        assert!(at.since(NOW) <= 5_000, "it is looked at by then");
        fast.work(at);
        assert!(settle(&mut fast).contains(&(call(1), false)), "{made_anew}: it is missed");
        // What has lost its name the kernel takes away a moment later, and refuses the same program until then.
        let begun = std::time::Instant::now();
        while !fast.placed().any(|path| path == call(1)) {
            assert!(begun.elapsed().as_secs() < 10, "{made_anew}: {:?}", status.get());
            fast.work(fast.deadline(NOW).unwrap());
            settle(&mut fast);
        }
        passes(&lab, &lab.client_sends());
    }
}

#[test]
fn a_link_that_has_just_gone_has_not_been_robbed_and_refuses_nothing() {
    if !root() {
        return;
    }
    for mode in MODES {
        let lab = Lab::new();
        let (mut fast, status) = lab.start(mode, &[call(1)]);
        let links = ["cg-in", "cg-out"].map(str::to_owned);
        sh("ip link del cg-in");
        // Nobody has said so yet.
        assert_eq!(fast.work(fast.deadline(NOW).unwrap()), []);
        assert_eq!((settle(&mut fast), status.get().unwrap_or_default().links), (vec![], links.into()), "{mode:?}");
        look(&mut fast);
        assert_eq!(status.get().unwrap_or_default().links, ["cg-out".to_owned()].into(), "{mode:?}");
        // The same where the program is to be put on it.
        let lab = Lab::new();
        let (mut fast, status) = lab.start(mode, &[call(1)]);
        fast.close(&call(1), NOW);
        fast.work(fast.deadline(NOW).unwrap());
        settle(&mut fast);
        sh("ip link del cg-in");
        fast.open(call(1), NOW);
        settle(&mut fast);
        let waits = "the program is being put on link cg-in".to_owned();
        assert_eq!(status.get().unwrap_or_default().slow, Some((1, waits)), "{mode:?}");
    }
}

/// A link goes to another namespace and comes back: the same name, the same number, and nothing on it.
fn away_and_back() {
    let elsewhere = Namespace::fresh();
    sh(&format!("ip link set cg-in netns {}", elsewhere.path()));
    let home = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
    elsewhere.sh(&format!("ip link set cg-in netns {home}"));
    sh("ip addr add 10.0.0.1/24 dev cg-in && ip link set cg-in up");
}

#[test]
fn filters_and_qdiscs_of_others_stay() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let theirs = "protocol ip u32 match ip protocol 250 0xff flowid 1:1";
    sh(&format!("tc qdisc add dev cg-in clsact && tc filter add dev cg-in ingress prio 5 {theirs}"));
    sh(&format!("tc filter add dev cg-in egress prio 9 {theirs}"));
    let before = sh("tc qdisc show dev cg-in; tc filter show dev cg-in ingress; tc filter show dev cg-in egress");
    let (mut fast, _) = lab.start(Mode::Clsact, &[call(1)]);
    passes(&lab, &lab.client_sends());
    fast.close(&call(1), NOW);
    fast.work(fast.deadline(NOW).unwrap());
    settle(&mut fast);
    let after = sh("tc qdisc show dev cg-in; tc filter show dev cg-in ingress; tc filter show dev cg-in egress");
    assert_eq!(after, before);
}

#[test]
fn behind_clsact_filters_of_others_come_first_with_a_priority_or_without() {
    if !root() {
        return;
    }
    for theirs in ["prio 1", ""] {
        let lab = Lab::new();
        let (_fast, _) = lab.start(Mode::Clsact, &[call(1)]);
        // Whatever it matches ends there, as what the CNI plugin `bandwidth` limits does.
        sh(&format!("tc filter add dev cg-in ingress protocol ip {theirs} u32 match ip protocol 47 0xff flowid 1:1"));
        let up = Gre::up(&call(1)).bytes();
        lab.client_sends().send(&up);
        assert_eq!(lab.at_gateway.wait(1), [up], "{theirs}");
    }
    // A qdisc that is theirs, too.
    let lab = Lab::new();
    sh("tc qdisc add dev cg-in ingress");
    let before = sh("tc qdisc show dev cg-in");
    let (_fast, _) = lab.start(Mode::Clsact, &[call(1)]);
    passes(&lab, &lab.client_sends());
    remove(&lab.root, "callgate").unwrap();
    assert_eq!(sh("tc qdisc show dev cg-in"), before);
}

#[test]
fn a_link_that_is_not_ethernet_leaves_its_calls_to_the_alg() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    sh("ip tuntap add cg-tun mode tun && ip link set cg-tun up");
    sh(&format!("ip route add {CLIENT} dev cg-tun"));
    let (mut fast, status) = lab.start(Mode::Auto, &[]);
    assert!(!fast.open(call(1), NOW));
    assert_eq!(status.get().unwrap_or_default().slow, Some((1, "link cg-tun has no Ethernet".into())));
    fast.close(&call(1), NOW);
    assert_eq!(status.get().unwrap_or_default().slow, None, "it is none any more");
}

#[test]
fn a_next_hop_that_changes_is_followed_and_what_was_counted_is_kept() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let (mut fast, _) = lab.start(Mode::Auto, &[call(1)]);
    passes(&lab, &lab.client_sends());
    sh("ip neigh replace 192.0.2.11 lladdr 02:00:00:00:00:11 dev cg-out nud permanent");
    sh("ip route replace default via 192.0.2.11");
    look(&mut fast);
    // Frames to that MAC address are for another host: the server's socket says so, and takes them all the same.
    let up = Gre::up(&call(1));
    lab.client_sends().send(&up.bytes());
    assert_eq!(lab.at_server.wait(1), [up.beyond(&call(1)).bytes()]);
    assert_eq!(fast.passed(&call(1)).unwrap().up.traffic.packets, 2);
}

#[test]
fn the_name_of_a_link_that_a_run_before_has_made_ready_goes_with_the_link_whichever_way_is_used_now() {
    if !root() {
        return;
    }
    for mode in MODES {
        let lab = Lab::new();
        let (mut fast, _) = lab.start(Mode::Clsact, &[]);
        fast.foresee(vec![CLIENT, SERVER]);
        settle(&mut fast);
        drop(fast);
        let (mut fast, _) = lab.start(mode, &[]);
        assert_eq!(pinned(&lab).len(), 2, "{mode:?}");
        sh("ip link del cg-in");
        look(&mut fast);
        assert_eq!(pinned(&lab), [index("cg-out")], "{mode:?}");
    }
}
