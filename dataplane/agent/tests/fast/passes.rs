//! What passes, as what it comes out, and what is counted of it.

use std::time::{Duration, Instant};

use callgate_agent::fast::{Both, Fast, Mode, Setup, Slow, Status};
use callgate_pptp::{CallPath, IdPair, Traffic};

use super::lab::{CLIENT, Lab, NOW, SERVER, call, kernel_is, modes, opened, root, settle, sh};
use super::packets::Gre;

/// Sends each packet both ways; what came out, which has to be the same changed as it should be, octet by octet.
pub(crate) fn pass(lab: &Lab, path: &CallPath, up: &[Gre], down: &[Gre]) {
    let (client, server) = (lab.client_sends(), lab.server_sends());
    up.iter().for_each(|packet| client.send(&packet.bytes()));
    let expected: Vec<_> = up.iter().map(|packet| packet.beyond(path).bytes()).collect();
    assert_eq!(lab.at_server.wait(up.len()), expected);
    down.iter().for_each(|packet| server.send(&packet.bytes()));
    let expected: Vec<_> = down.iter().map(|packet| packet.beyond(path).bytes()).collect();
    assert_eq!(lab.at_client.wait(down.len()), expected);
    assert_eq!(lab.at_gateway.take(), Vec::<Vec<u8>>::new(), "the ALG's tap sees nothing of it");
}

/// Whether the kernel has tcx: since Linux 6.6.
pub(crate) fn has_tcx() -> bool {
    kernel_is((6, 6))
}

pub(crate) fn counter(fast: &Fast, name: &str) -> u64 {
    fast.counters().into_iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no counter {name}")).1
}

#[test]
fn packets_come_out_with_the_addresses_and_the_call_id_of_the_other_side_and_nothing_else_changed() {
    if !root() {
        return;
    }
    for mode in modes() {
        let (_idle, idle) = Lab::new().start(mode, &[]);
        let (lab, fast, status) = Lab::with_call(mode);
        let with_xdp = |path: String| if mode == Mode::Xdp { path.replace("at ", "at XDP and ") } else { path };
        assert_eq!(with_xdp(idle.path()), status.path(), "also while no link has the program");
        let path = call(1);
        let variants = |packet: Gre| {
            vec![
                packet.clone(),
                Gre { ttl: 2, tos: 0, ..packet.clone() },
                Gre { ack: Some(0xdead_beef), ..packet.clone() },
                Gre { seq: None, ack: Some(9), payload: vec![], ..packet.clone() },
                Gre { dont_fragment: false, ..packet.clone() },
                packet.length(1_500),
            ]
        };
        pass(&lab, &path, &variants(Gre::up(&path)), &variants(Gre::down(&path)));
        let links = ["cg-in", "cg-out"].map(str::to_owned);
        assert_eq!(status.get().unwrap_or_default().links, links.into());
        let path = if mode != Mode::Clsact && has_tcx() { "eBPF at tcx" } else { "eBPF at clsact" };
        assert_eq!(status.path(), with_xdp(path.to_owned()));
        assert_eq!(counter(&fast, "fast_xdp_packets"), if mode == Mode::Xdp { 12 } else { 0 });
    }
}

#[test]
fn checksums_are_right_for_all_kinds_of_addresses_and_ids() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let (mut fast, _) = lab.start(Mode::Auto, &[]);
    let ids = [0, 1, 0x00ff, 0xff00, 0x7fff, 0x8000, 0xfffe, 0xffff];
    for (number, (one, other)) in ids.into_iter().flat_map(|one| ids.map(|other| (one, other))).enumerate() {
        let (pns, pac) = (IdPair { client: one, server: other }, IdPair { client: other, server: one });
        let path = CallPath { pns, pac, ..call(0) };
        assert!(opened(&mut fast, path));
        let ttl = [2, 3, 64, 128, 255][number % 5];
        let odd = |packet: Gre| Gre { ttl, tos: number as u8, ..packet };
        pass(&lab, &path, &[odd(Gre::up(&path))], &[odd(Gre::down(&path))]);
        fast.close(&path, NOW);
    }
}

#[test]
fn packets_bytes_and_losses_are_counted_as_the_alg_counts_them() {
    if !root() {
        return;
    }
    let (lab, mut fast, _) = Lab::with_call(Mode::Auto);
    let path = call(1);
    let up = |seq| Gre::up(&path).seq(seq);
    // Two lost, one of them only late; a peer that starts anew; an acknowledgement alone.
    let sequence = [up(u32::MAX - 1), up(u32::MAX), up(2), up(1), up(500_000), up(0), up(1), up(3)];
    let acknowledgement = Gre { seq: None, ack: Some(3), payload: vec![], ..Gre::up(&path) };
    let all = [sequence.to_vec(), vec![acknowledgement]].concat();
    let bytes = all.iter().map(|packet| packet.bytes().len() as u64).sum();
    pass(&lab, &path, &all, &[Gre::down(&path).length(100)]);
    let passed = fast.passed(&path).unwrap();
    assert_eq!(passed.up.traffic, Traffic { packets: 9, bytes, lost: 1 + 1 });
    assert_eq!(passed.down.traffic, Traffic { packets: 1, bytes: 100, lost: 0 });
    assert!(passed.up.last_seen >= passed.up.last_payload && passed.up.last_payload > 0, "{passed:?}");
    assert_eq!(fast.all_passed(), [(path, passed)].into());
    assert_eq!(fast.close(&path, NOW), passed);
    assert_eq!(fast.close(&path, NOW), Both::default());
    let total = [("fast_up_packets", 9), ("fast_down_packets", 1), ("fast_down_bytes", 100), ("fast_calls", 0)];
    assert_eq!(total.map(|(name, _)| (name, counter(&fast, name))), total);
}

#[test]
fn an_acknowledgement_alone_is_no_user_data() {
    if !root() {
        return;
    }
    let (lab, fast, _) = Lab::with_call(Mode::Auto);
    let path = call(1);
    let acknowledgement = Gre { seq: None, ack: Some(3), payload: vec![], ..Gre::up(&path) };
    pass(&lab, &path, &[acknowledgement], &[]);
    let up = fast.passed(&path).unwrap().up;
    assert!(up.last_seen > 0 && up.last_payload == 0, "{up:?}");
}

#[test]
fn a_closed_call_passes_no_packet_and_the_others_go_on() {
    if !root() {
        return;
    }
    for mode in modes() {
        let lab = Lab::new();
        let (mut fast, _) = lab.start(mode, &[call(1), call(2)]);
        pass(&lab, &call(1), &[Gre::up(&call(1))], &[Gre::down(&call(1))]);
        fast.close(&call(1), NOW);
        let (up, down) = (Gre::up(&call(1)).bytes(), Gre::down(&call(1)).bytes());
        lab.client_sends().send(&up);
        lab.server_sends().send(&down);
        assert_eq!(lab.at_gateway.wait(2), [up, down]);
        pass(&lab, &call(2), &[Gre::up(&call(2))], &[Gre::down(&call(2))]);
        assert_eq!(counter(&fast, "fast_left_unknown"), 2);
    }
}

#[test]
fn where_two_calls_of_a_client_have_one_way_up_the_newer_has_it_and_then_the_older_again() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let (mut fast, _) = lab.start(Mode::Auto, &[]);
    let (older, newer) = (call(1), CallPath { pns: IdPair { client: 9, server: 41_000 }, ..call(1) });
    assert!(opened(&mut fast, older));
    pass(&lab, &older, &[Gre::up(&older)], &[Gre::down(&older)]);
    assert!(fast.open(newer, NOW), "the links have the program already");
    pass(&lab, &newer, &[Gre::up(&newer)], &[Gre::down(&newer)]);
    pass(&lab, &older, &[], &[Gre::down(&older)]);
    fast.close(&newer, NOW);
    // The engine says so again of the one that has the way now.
    assert!(fast.open(older, NOW));
    pass(&lab, &older, &[Gre::up(&older)], &[Gre::down(&older)]);
    let passed = fast.close(&older, NOW);
    assert_eq!((passed.up.traffic.packets, passed.down.traffic.packets), (2, 3));
}

#[test]
fn nobody_waits_for_a_link_to_get_the_program_and_its_first_call_goes_by_the_alg_so_long() {
    if !root() {
        return;
    }
    for mode in modes() {
        let lab = Lab::new();
        let (mut fast, status) = lab.start(mode, &[]);
        let path = call(1);
        assert!(!fast.open(path, NOW) && !fast.is_settled());
        let why = "the program is being put on link cg-in";
        assert_eq!(status.get().unwrap_or_default().slow, Some((1, why.to_owned())));
        assert!(fast.deadline(NOW).is_some_and(|at| at > NOW), "it is looked at again, and not all the time");
        assert_eq!(settle(&mut fast), [(path, true)]);
        pass(&lab, &path, &[Gre::up(&path)], &[Gre::down(&path)]);
        assert_eq!(status.get().unwrap_or_default().slow, None);
        assert_eq!(fast.close(&path, NOW).up.traffic.packets, 1);
    }
}

#[test]
fn links_get_the_program_when_a_control_connection_begins_and_lose_it_where_no_call_follows() {
    if !root() {
        return;
    }
    // With XDP there is always another look to come.
    for mode in [Mode::Auto, Mode::Clsact] {
        let lab = Lab::new();
        let (mut fast, status) = lab.start(mode, &[]);
        fast.expect(CLIENT, SERVER, NOW);
        assert_eq!(settle(&mut fast), []);
        assert_eq!(status.get().unwrap_or_default().links.len(), 2);
        assert!(fast.open(call(1), NOW), "its links have it already");
        fast.close(&call(1), NOW);
        fast.work(fast.deadline(NOW).unwrap());
        fast.expect(CLIENT, SERVER, NOW);
        settle(&mut fast);
        let spared = fast.deadline(NOW).unwrap();
        assert!(spared > NOW);
        fast.work(spared);
        assert_eq!((status.get().unwrap_or_default().links.len(), fast.deadline(spared)), (0, None));
    }
}

#[test]
fn what_passes_is_not_tracked_and_meets_no_rule_of_the_host() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    sh("nft 'add table ip t; add chain ip t p { type filter hook prerouting priority -300; policy accept; }; \
        add rule ip t p ct state new,established,related,invalid,untracked counter'");
    let (mut fast, _) = lab.start(Mode::Auto, &[]);
    let path = call(1);
    assert!(opened(&mut fast, path));
    pass(&lab, &path, &[Gre::up(&path)], &[Gre::down(&path)]);
    let rules = sh("nft list table ip t");
    assert!(rules.contains("packets 0 bytes 0"), "{rules}");
    assert_eq!(sh("conntrack -L 2>/dev/null"), "");
}

#[test]
fn calls_beyond_the_size_of_the_table_go_by_the_alg_until_there_is_room() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let (mut fast, status) = lab.start_with(Setup { entries: 4, ..lab.setup() }, &[]);
    assert_eq!([1, 2, 3].map(|number| opened(&mut fast, call(number))), [true, true, false]);
    assert_eq!(status.get().unwrap_or_default().slow, Some((1, Slow::Full.to_string())));
    let up = Gre::up(&call(3)).bytes();
    lab.client_sends().send(&up);
    assert_eq!(lab.at_gateway.wait(1), [up]);
    fast.close(&call(1), NOW);
    assert_eq!(fast.deadline(NOW), Some(NOW));
    assert_eq!(fast.work(NOW), [(call(3), true)]);
    pass(&lab, &call(3), &[Gre::up(&call(3))], &[Gre::down(&call(3))]);
    assert_eq!(status.get().unwrap_or_default().slow, None);
}

#[test]
fn switched_off_it_does_nothing_and_says_so() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let (mut fast, status) = lab.start(Mode::Off, &[]);
    assert!(!fast.open(call(1), NOW));
    assert_eq!((fast.deadline(NOW), fast.counters(), fast.passed(&call(1))), (None, vec![], None));
    assert_eq!((status.path(), status.get().unwrap_or_default().off), ("AF_PACKET".into(), "--fast-path=off".into()));
    let up = Gre::up(&call(1)).bytes();
    lab.client_sends().send(&up);
    assert_eq!(lab.at_gateway.wait(1), [up]);
}

#[test]
fn an_end_without_a_route_keeps_a_call_with_the_alg_until_there_is_one() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    sh("ip route del default");
    let (mut fast, status) = lab.start(Mode::Auto, &[]);
    let path = call(1);
    assert!(!fast.open(path, NOW));
    assert_eq!(status.get().unwrap_or_default().slow, Some((1, format!("no route to {}", path.server))));
    sh("ip route add default via 192.0.2.10");
    fast.refresh();
    assert_eq!(settle(&mut fast), [(path, true)]);
    pass(&lab, &path, &[Gre::up(&path)], &[Gre::down(&path)]);
    sh(&format!("ip route add unreachable {CLIENT}"));
    fast.refresh();
    assert_eq!(fast.work(NOW), [(path, false)]);
    let passed = fast.passed(&path).unwrap();
    assert_eq!((passed.up.traffic.packets, passed.down.traffic.packets), (1, 1), "what was counted stays known");
}

#[test]
fn a_route_whose_next_hop_has_no_ipv4_address_keeps_its_calls_with_the_alg() {
    if !root() {
        return;
    }
    let (lab, mut fast, status) = Lab::with_call(Mode::Auto);
    let (path, slow) = (call(1), |status: &Status| status.get().unwrap_or_default().slow);
    sh("sysctl -qw net.ipv6.conf.cg-out.disable_ipv6=0");
    let routes = [
        ("via inet6 fe80::1 dev cg-out", format!("the next hop to {SERVER} has no IPv4 address")),
        ("encap ip id 7 dst 192.0.2.10 via 192.0.2.10", format!("the route to {SERVER} encapsulates packets")),
    ];
    for (route, why) in routes {
        sh(&format!("ip -4 route replace default {route}"));
        fast.refresh();
        assert_eq!(settle(&mut fast), [(path, false)], "{route}");
        assert_eq!(slow(&status), Some((1, why)));
        let up = Gre::up(&path).bytes();
        lab.client_sends().send(&up);
        assert_eq!(lab.at_gateway.wait(1), [up]);
        sh("ip route replace default via 192.0.2.10");
        fast.refresh();
        assert_eq!(settle(&mut fast), [(path, true)]);
    }
    pass(&lab, &path, &[Gre::up(&path)], &[Gre::down(&path)]);
    assert_eq!(slow(&status), None);
}

#[test]
fn calls_at_the_end_of_the_list_have_their_turn_however_often_routes_change() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let paths: Vec<CallPath> = (0..20_000).map(call).collect();
    let (mut fast, _) = lab.start_with(Setup { entries: 40_000, ..lab.setup() }, &paths);
    assert_eq!(fast.placed().count(), paths.len());
    sh("ip route del default");
    let deadline = Instant::now() + Duration::from_secs(20);
    while fast.placed().next().is_some() {
        assert!(Instant::now() < deadline, "{} calls have the way they had", fast.placed().count());
        fast.refresh();
        fast.work(NOW);
    }
}
