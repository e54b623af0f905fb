//! XDP before tc: where both links can, silently not where they cannot, and back.

use std::time::{Duration, Instant};

use callgate_agent::fast::{Fast, Hook, Mode, Pins, Setup, State, Status, remove};

use super::lab::{CLIENT, Lab, NOW, SERVER, Sender, call, has_xdp, index, opened, root, settle, sh};
use super::packets::Gre;
use super::passes::{counter, pass};

/// One packet each way; by XDP, or not.
fn passes(lab: &Lab, fast: &Fast, xdp: bool) {
    let before = counter(fast, "fast_xdp_packets");
    pass(lab, &call(1), &[Gre::up(&call(1))], &[Gre::down(&call(1))]);
    assert_eq!(counter(fast, "fast_xdp_packets") - before, if xdp { 2 } else { 0 });
}

/// Whether there can be XDP here: before Linux 6.3 a test of it looks whether that is said, and has nothing else to see.
fn here() -> bool {
    if !root() {
        return false;
    }
    if !has_xdp() {
        let (_fast, status) = Lab::new().start(Mode::Xdp, &[]);
        let told = detail(&status);
        assert!(told.contains("no XDP: this kernel does not say what drivers can"), "{told}");
    }
    has_xdp()
}

/// Looks again, as after news of links.
fn look(fast: &mut Fast) {
    fast.refresh();
    settle(fast);
}

fn detail(status: &Status) -> String {
    status.get().unwrap_or_default().feature().detail
}

#[test]
fn where_an_end_takes_no_frames_calls_go_by_tc_and_people_hear_why_until_it_takes_them() {
    if !here() {
        return;
    }
    let (lab, mut fast, status) = Lab::with_call(Mode::Xdp);
    passes(&lab, &fast, true);
    lab.frames_are_taken(false);
    look(&mut fast);
    passes(&lab, &fast, false);
    let why = "no XDP on cg-in, cg-out: its other end takes no frames of XDP (GRO is off there)";
    assert!(detail(&status).ends_with(why), "{}", detail(&status));
    assert!(!sh("ip -d link show cg-in").contains("xdp"), "its other end has its offloads back");
    lab.frames_are_taken(true);
    look(&mut fast);
    passes(&lab, &fast, true);
    assert!(detail(&status).ends_with("on cg-in, cg-out; XDP on cg-in, cg-out"), "{}", detail(&status));
    assert!(status.get().unwrap_or_default().feature().available);
}

#[test]
fn a_link_with_anothers_program_keeps_it_and_is_told() {
    if !here() {
        return;
    }
    let lab = Lab::new();
    let other = Setup { mode: Mode::Xdp, table: "other".into(), ..lab.setup() };
    let (mut others, _) = lab.start_with(other, &[]);
    others.foresee(vec![CLIENT]);
    settle(&mut others);
    let (mut fast, status) = lab.start(Mode::Xdp, &[]);
    assert!(opened(&mut fast, call(1)));
    // The other one knows no such call, and passes it on.
    passes(&lab, &fast, false);
    let told = detail(&status);
    assert!(told.ends_with("XDP on cg-out; no XDP on cg-in: another XDP program is on it"), "{told}");
}

#[test]
fn a_neighbour_or_a_link_that_gets_another_ethernet_address_is_followed() {
    if !here() {
        return;
    }
    let (lab, mut fast, _) = Lab::with_call(Mode::Xdp);
    passes(&lab, &fast, true);
    lab.client.sh("ip link set eth0 address 02:00:00:00:00:77");
    lab.neighbours("cg-in");
    // What is remembered of a neighbour is asked for again after a second.
    let (server, limit) = (lab.server_sends(), Instant::now() + Duration::from_secs(10));
    while lab.at_client.addressed()[0] == 0 {
        assert!(Instant::now() < limit, "packets still go to the old address");
        server.send(&Gre::down(&call(1)).bytes());
    }
    // What was under way.
    while !lab.at_client.take().is_empty() {}
    sh("ip link set cg-in address 02:00:00:00:00:78");
    look(&mut fast);
    // Until it is asked for again, what comes to the new address is tc's.
    let before = counter(&fast, "fast_xdp_packets");
    while counter(&fast, "fast_xdp_packets") == before {
        assert!(Instant::now() < limit, "packets are not taken at the new address");
        pass(&lab, &call(1), &[Gre::up(&call(1))], &[]);
    }
    passes(&lab, &fast, true);
}

#[test]
fn a_link_whose_program_is_taken_away_or_that_comes_anew_gets_it_again() {
    if !here() {
        return;
    }
    let (lab, mut fast, status) = Lab::with_call(Mode::Xdp);
    passes(&lab, &fast, true);
    let number = index("cg-in");
    // With its name the link to the program goes, in the kernel's own time.
    let name = Pins::of(&lab.root, "callgate").unwrap().link(number, Hook::Xdp);
    std::fs::remove_file(&name).unwrap();
    let limit = Instant::now() + Duration::from_secs(10);
    // XDP's thread looks by itself every 5 s: it may have been there already.
    while sh("ip -d link show cg-in").contains("prog/xdp") && !name.exists() {
        assert!(Instant::now() < limit, "it is still there");
    }
    pass(&lab, &call(1), &[Gre::up(&call(1))], &[Gre::down(&call(1))]);
    let soon = fast.deadline(NOW).unwrap();
    assert!(soon <= NOW.after(5_000), "{soon:?}: nobody tells");
    fast.work(soon);
    settle(&mut fast);
    look(&mut fast);
    passes(&lab, &fast, true);
    // Another link with the same number: nothing of the old one is taken for its.
    sh("ip link del cg-in");
    look(&mut fast);
    assert!(detail(&status).contains("XDP on cg-out"), "{}", detail(&status));
    sh(&format!("ip link add cg-in index {number} type veth peer name eth0 netns {}", lab.client.path()));
    lab.client.sh("ip link set eth0 up");
    sh("ip addr add 10.0.0.1/24 dev cg-in && ip link set cg-in up");
    lab.neighbours("cg-in");
    lab.frames_are_taken(true);
    look(&mut fast);
    look(&mut fast);
    // The client's link is another one too: what it has been sent to is asked for again after a second.
    let before = counter(&fast, "fast_xdp_packets");
    let limit = Instant::now() + Duration::from_secs(10);
    while counter(&fast, "fast_xdp_packets") < before + 4 {
        assert!(Instant::now() < limit, "no XDP on the new link: {}", detail(&status));
        lab.server_sends().send(&Gre::down(&call(1)).bytes());
        lab.client_sends().send(&Gre::up(&call(1)).bytes());
    }
}

#[test]
fn frames_for_another_machine_are_not_taken() {
    if !here() {
        return;
    }
    let (lab, fast, _) = Lab::with_call(Mode::Xdp);
    let packet = Gre::up(&call(1)).bytes();
    let stray = lab.client.run(|| Sender::here("eth0", "02:00:00:00:00:99"));
    stray.send(&packet);
    assert_eq!(lab.at_gateway.wait(1), [packet], "a packet socket sees it, as on every link");
    assert_eq!((lab.at_server.take().len(), counter(&fast, "fast_xdp_packets")), (0, 0));
    passes(&lab, &fast, true);
}

#[test]
fn it_stays_without_calls_goes_with_another_mode_and_nothing_is_left_of_it() {
    if !here() {
        return;
    }
    let lab = Lab::new();
    let (mut fast, _) = lab.start(Mode::Xdp, &[]);
    fast.foresee(vec![CLIENT, SERVER]);
    settle(&mut fast);
    let on = || sh("ip -d link show").matches("prog/xdp").count();
    assert_eq!(on(), 2, "a card gets it before the first call");
    drop(fast);
    let (fast, status) = lab.start(Mode::Xdp, &[]);
    let State { xdp, by_xdp, .. } = status.get().unwrap_or_default();
    assert_eq!((on(), xdp.unwrap().on.len(), by_xdp), (2, 2, false), "adopted, and no call passes yet");
    drop(fast);
    let (fast, status) = lab.start(Mode::Auto, &[call(1)]);
    assert_eq!(on(), 0);
    assert!(detail(&status).ends_with("no XDP: it is not asked for (--fast-path xdp)"), "{}", detail(&status));
    passes(&lab, &fast, false);
    drop(fast);
    drop(lab.start(Mode::Xdp, &[call(1)]));
    assert_eq!(on(), 2);
    remove(&lab.root, "callgate").unwrap();
    assert_eq!((on(), Pins::of(&lab.root, "callgate").unwrap().links()), (0, vec![]));
}
