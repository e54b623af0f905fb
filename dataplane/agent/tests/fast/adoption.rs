//! A process that ends, and the next one: packets flow on, leftovers go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aya::maps::MapInfo;
use aya::programs::ProgramInfo;
use callgate_agent::fast::{Fast, Hook, LAYOUT, Mode, Pins, Setup, remove};
use callgate_pptp::CallPath;
use nix::mount::{MsFlags, mount};

use super::lab::{CLIENT, Lab, NOW, SERVER, Sender, call, index, modes, opened, root, settle, sh};
use super::packets::Gre;

fn calls(count: u16) -> Vec<CallPath> {
    (0..count).map(call).collect()
}

fn passes(lab: &Lab, path: &CallPath) {
    let (up, down) = (Gre::up(path), Gre::down(path));
    lab.client_sends().send(&up.bytes());
    assert_eq!(lab.at_server.wait(1), [up.beyond(path).bytes()]);
    lab.server_sends().send(&down.bytes());
    assert_eq!(lab.at_client.wait(1), [down.beyond(path).bytes()]);
}

/// Sends from the client until the ALG has it: a link of tcx without a name goes in the kernel's own time (`bpf_link_put`).
fn comes_to_the_alg(lab: &Lab, packet: &[u8]) {
    let (client, deadline) = (lab.client_sends(), Instant::now() + Duration::from_secs(10));
    let mut seen = Vec::new();
    while seen.is_empty() {
        assert!(Instant::now() < deadline, "the program is still on the link");
        client.send(packet);
        seen = lab.at_gateway.take();
    }
    assert!(seen.iter().all(|came| came == packet), "{seen:x?}");
}

/// GRE of these calls from the client in turn, numbered, until it is told to end; how many were sent.
pub(crate) struct Flood {
    end: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Flood {
    pub(crate) fn start(sender: Sender, paths: Vec<CallPath>) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let mut sent = 0;
            while !until.load(Ordering::Relaxed) {
                for path in &paths {
                    sender.send(&Gre::up(path).seq(sent as u32).bytes());
                    sent += 1;
                }
                // The other CPU has its share too.
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
            sent
        });
        Self { end, thread }
    }

    pub(crate) fn stop(self) -> u64 {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn packets_flow_while_nobody_is_there_and_the_next_run_adopts_calls_and_counts() {
    if !root() {
        return;
    }
    for mode in modes() {
        let lab = Lab::new();
        let (fast, _) = lab.start(mode, &calls(3));
        passes(&lab, &call(1));
        // As if killed: nothing is said to the kernel.
        drop(fast);
        passes(&lab, &call(1));
        // Meanwhile call 2 has ended, and call 5 was set up by nobody.
        let live = [call(0), call(1), call(5)];
        let (mut fast, status) = lab.start(mode, &live);
        assert_eq!(status.get().unwrap_or_default().links.len(), 2);
        live.iter().for_each(|path| passes(&lab, path));
        let passed = fast.passed(&call(1)).unwrap();
        assert_eq!((passed.up.traffic.packets, passed.down.traffic.packets), (3, 3));
        // Totals are this run's: one packet of each call.
        let total = |fast: &Fast, name| {
            fast.counters().into_iter().find(|(counter, _)| *counter == name).map(|(_, value)| value)
        };
        let expected = |packets, octets| ["up", "down"].map(|_| [Some(packets), Some(octets)]);
        let length = |packet: Gre| packet.bytes().len() as u64;
        let totals = |fast: &Fast| {
            [["fast_up_packets", "fast_up_bytes"], ["fast_down_packets", "fast_down_bytes"]]
                .map(|both| both.map(|name| total(fast, name)))
        };
        assert_eq!(length(Gre::up(&call(1))), length(Gre::down(&call(1))));
        let seen = totals(&fast);
        assert_eq!(seen, expected(3, 3 * length(Gre::up(&call(1)))));
        fast.close(&call(1), NOW);
        assert_eq!(totals(&fast), seen, "also when they have ended");
        let gone = Gre::up(&call(2)).bytes();
        lab.client_sends().send(&gone);
        assert_eq!(lab.at_gateway.wait(1), [gone]);
    }
}

#[test]
fn restarts_under_traffic_lose_and_leave_no_packet() {
    if !root() {
        return;
    }
    for mode in modes() {
        let lab = Lab::new();
        let paths = calls(20);
        let (mut fast, _) = lab.start(mode, &paths);
        let flood = Flood::start(lab.client_sends(), paths.clone());
        let mut arrived = 0;
        for _ in 0..10 {
            drop(fast);
            arrived += lab.at_server.take().len() as u64;
            fast = lab.start(mode, &paths).0;
            arrived += lab.at_server.take().len() as u64;
        }
        let sent = flood.stop();
        arrived += lab.at_server.take().len() as u64;
        assert_eq!((arrived, lab.at_gateway.take().len()), (sent, 0), "{mode:?}");
        println!("{mode:?}: {sent} packets over 10 restarts");
        let passed = fast.all_passed();
        assert_eq!(passed.values().map(|both| both.up.traffic.packets).sum::<u64>(), sent);
    }
}

#[test]
fn another_layout_of_the_map_is_filled_before_the_links_change_over() {
    if !root() {
        return;
    }
    for mode in modes() {
        let lab = Lab::new();
        let paths = calls(20);
        let old = Setup { mode, layout: LAYOUT + 1, ..lab.setup() };
        let (fast, _) = lab.start_with(old.clone(), &paths);
        let flood = Flood::start(lab.client_sends(), paths.clone());
        drop(fast);
        let (_fast, _) = lab.start(mode, &paths);
        let sent = flood.stop();
        let arrived = lab.at_server.take().len() as u64;
        assert_eq!((arrived, lab.at_gateway.take().len()), (sent, 0), "{mode:?}");
        let left = Pins::of(&lab.root, "callgate").unwrap().with_layout(LAYOUT + 1).map();
        assert!(!left.exists(), "{left:?} is left");
        passes(&lab, &call(3));
    }
}

#[test]
fn names_of_filters_hold_the_program_of_the_run_that_is_there_and_no_map_of_one_before() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let maps = |fast: &mut Fast| {
        fast.foresee(vec![CLIENT, SERVER]);
        settle(fast);
        let pins = Pins::of(&lab.root, "callgate").unwrap();
        let names = pins.links().into_iter().map(|(link, hook)| pins.link(link, hook));
        names.map(|name| ProgramInfo::from_pin(name).unwrap().map_ids().unwrap().unwrap()).collect::<Vec<_>>()
    };
    // One with calls, and one whose links were only made ready; each of another layout than the one before.
    let run = |layout, live: &[CallPath]| {
        let (mut fast, _) = lab.start_with(Setup { mode: Mode::Clsact, layout, ..lab.setup() }, live);
        let held = maps(&mut fast);
        let map = Pins::of(&lab.root, "callgate").unwrap().with_layout(layout).map();
        let own = MapInfo::from_pin(map).unwrap().id();
        assert_eq!((held.len(), held.iter().all(|maps| maps.contains(&own))), (2, true), "layout {layout}: {held:?}");
    };
    run(LAYOUT + 1, &calls(2));
    run(LAYOUT, &calls(2));
    run(LAYOUT + 1, &[]);
    run(LAYOUT, &[]);
}

#[test]
fn another_way_of_attaching_adopts_what_is_there_and_each_restart_after_it_leaves_no_packet() {
    if !root() {
        return;
    }
    let paths = calls(20);
    // How each run attaches, and whether it has calls; before the next one, links are made ready as for rules.
    let runs = [
        [(Mode::Auto, true), (Mode::Clsact, true), (Mode::Clsact, true)],
        [(Mode::Clsact, true), (Mode::Auto, true), (Mode::Auto, true)],
        [(Mode::Clsact, false), (Mode::Auto, true), (Mode::Auto, true)],
    ];
    for runs in runs {
        let lab = Lab::new();
        let mut before = None;
        for (at, (mode, has_calls)) in runs.into_iter().enumerate() {
            let live = if has_calls { &paths[..] } else { &[] };
            let flood = before.is_some().then(|| Flood::start(lab.client_sends(), paths.clone()));
            drop(before.take());
            let (mut fast, status) = lab.start(mode, live);
            if let Some(flood) = flood {
                let sent = flood.stop();
                let came = (lab.at_server.take().len() as u64, lab.at_gateway.take().len());
                assert_eq!(came, (sent, 0), "run {at} of {runs:?}");
            }
            assert_eq!(
                status.get().unwrap_or_default().links.len(),
                if has_calls { 2 } else { 0 },
                "run {at} of {runs:?}"
            );
            fast.foresee(vec![CLIENT, SERVER]);
            settle(&mut fast);
            before = Some(fast).filter(|_| has_calls);
        }
        remove(&lab.root, "callgate").unwrap();
        assert_eq!(sh("tc qdisc show; tc filter show dev cg-in ingress").matches("clsact").count(), 0);
    }
}

#[test]
fn a_start_without_the_fast_path_removes_what_a_run_before_has_left() {
    if !root() {
        return;
    }
    for mode in modes() {
        let lab = Lab::new();
        let surface = || sh("tc qdisc show; tc filter show dev cg-in ingress");
        let before = surface();
        drop(lab.start(mode, &calls(2)));
        let _off = lab.start(Mode::Off, &calls(2));
        comes_to_the_alg(&lab, &Gre::up(&call(1)).bytes());
        assert_eq!((surface(), lab.root.join("callgate").exists()), (before, false));
    }
}

#[test]
fn what_cannot_be_removed_carries_no_call_and_goes_when_it_can_be() {
    if !root() {
        return;
    }
    let none: Option<&str> = None;
    for mode in modes() {
        let lab = Lab::new();
        drop(lab.start(mode, &calls(2)));
        passes(&lab, &call(1));
        // As where the directory is mounted for reading only into a pod: names stay, what they stand for can be reached.
        mount(none, &lab.root, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, none).unwrap();
        let (mut off, status) = lab.start(Mode::Off, &[]);
        let (up, down) = (Gre::up(&call(1)).bytes(), Gre::down(&call(1)).bytes());
        lab.client_sends().send(&up);
        lab.server_sends().send(&down);
        assert_eq!(lab.at_gateway.wait(2), [up, down], "{mode:?}");
        let left_over = status.get().unwrap_or_default().left_over;
        let more = if mode == Mode::Xdp { 3 } else { 1 };
        let expected = format!("(and {more} more); it carries no call any more");
        assert!(left_over.ends_with(&expected), "{left_over}");
        let filters = || ["cg-in", "cg-out"].map(|link| sh(&format!("tc filter show dev {link} ingress"))).concat();
        assert_eq!(filters(), "", "{mode:?}: the second link has its turn too");
        mount(none, &lab.root, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none).unwrap();
        let limit = Instant::now() + Duration::from_secs(10);
        while let Some(at) = off.deadline(NOW) {
            assert!(Instant::now() < limit, "{:?}", status.get());
            off.work(at);
            std::thread::yield_now();
        }
        assert_eq!(
            (status.get().unwrap_or_default().left_over.as_str(), lab.root.join("callgate").exists()),
            ("", false)
        );
    }
}

#[test]
fn where_no_name_can_be_given_any_more_what_has_one_is_removed_or_nothing_begins() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let up = Gre::up(&call(1)).bytes();
    let begun = || drop(lab.start(Mode::Auto, &calls(2)));
    begun();
    // Something else has the name of the next map's directory.
    let other = Setup { layout: LAYOUT + 1, ..lab.setup() };
    let hindrance = Pins::of(&lab.root, "callgate").unwrap().with_layout(LAYOUT + 1).map();
    std::os::unix::fs::symlink("nowhere", hindrance.parent().unwrap()).unwrap();
    let (fast, status) = lab.start_with(other.clone(), &calls(2));
    assert!(!status.get().unwrap_or_default().unpinned.is_empty());
    assert_eq!(Pins::of(&lab.root, "callgate").unwrap().links(), []);
    passes(&lab, &call(1));
    assert_eq!(fast.passed(&call(1)).unwrap().up.traffic.packets, 1, "by the new one");
    drop(fast);
    comes_to_the_alg(&lab, &up);
    begun();
    let none: Option<&str> = None;
    mount(none, &lab.root, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
    let (fast, status) = lab.start_with(other, &calls(2));
    let off = status.get().unwrap_or_default().off;
    assert!(off.contains("what a run before has left there cannot be removed"), "{off}");
    drop(fast);
    mount(none, &lab.root, none, MsFlags::MS_REMOUNT, none).unwrap();
    remove(&lab.root, "callgate").unwrap();
    comes_to_the_alg(&lab, &up);
}

#[test]
fn a_filter_is_never_where_its_name_is_not() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let surface = || sh("tc qdisc show; tc filter show dev cg-in ingress; tc filter show dev cg-out ingress");
    let before = surface();
    let (mut fast, status) = lab.start(Mode::Clsact, &[]);
    let name = Pins::of(&lab.root, "callgate").unwrap().link(1, Hook::Clsact(true));
    std::fs::remove_dir(name.parent().unwrap()).unwrap();
    assert!(!opened(&mut fast, call(1)));
    let why = status.get().unwrap_or_default().slow.unwrap_or_default().1;
    assert!(why.contains("No such file or directory"), "{why}");
    assert_eq!(surface(), before);
}

#[test]
fn a_name_whose_filter_is_not_there_gets_it() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    drop(lab.start(Mode::Clsact, &calls(2)));
    // As if killed before the filter was put; on one of the links somebody has a qdisc by now.
    sh("tc qdisc del dev cg-in clsact; tc filter del dev cg-out ingress");
    let (_fast, status) = lab.start(Mode::Clsact, &calls(2));
    assert_eq!(status.get().unwrap_or_default().links.len(), 2);
    passes(&lab, &call(1));
    remove(&lab.root, "callgate").unwrap();
    assert_eq!(sh("tc filter show dev cg-in ingress; tc filter show dev cg-out ingress"), "");
}

#[test]
fn a_filter_that_a_version_before_has_put_under_another_priority_is_adopted_or_removed() {
    if !root() {
        return;
    }
    for mode in [Mode::Clsact, Mode::Off] {
        let lab = Lab::new();
        drop(lab.start(Mode::Clsact, &calls(2)));
        let links = ["cg-in", "cg-out"];
        for link in links {
            let name = Pins::of(&lab.root, "callgate").unwrap().link(index(link), Hook::Clsact(true));
            sh(&format!("tc filter del dev {link} ingress"));
            let bpf = format!("bpf direct-action pinned {}", name.display());
            sh(&format!("tc filter add dev {link} ingress protocol ip pref 7411 handle 1 {bpf}"));
        }
        passes(&lab, &call(1));
        let (_fast, _) = lab.start(mode, &calls(2));
        let filters = links.map(|link| {
            let all = sh(&format!("tc filter show dev {link} ingress"));
            (all.contains("pref 7411"), all.contains("pref 60000"))
        });
        assert_eq!(filters, [(false, mode == Mode::Clsact); 2], "{mode:?}");
    }
}

#[test]
fn removing_takes_program_map_and_names_and_is_fine_where_there_are_none() {
    if !root() {
        return;
    }
    for mode in modes() {
        let lab = Lab::new();
        let before = sh("tc qdisc show");
        drop(lab.start(mode, &calls(2)));
        // What is there by another table stays.
        let other = Setup { table: "other".into(), ..lab.setup() };
        drop(lab.start_with(other, &[]));
        remove(&lab.root, "callgate").unwrap();
        remove(&lab.root, "callgate").unwrap();
        assert_eq!(sh("tc qdisc show"), before);
        assert!(!Pins::of(&lab.root, "callgate").unwrap().map().exists());
        assert!(Pins::of(&lab.root, "other").unwrap().map().exists());
        remove(&lab.root, "other").unwrap();
        assert!(!lab.root.join("callgate").exists());
    }
}

#[test]
fn without_a_bpf_file_system_it_ends_with_its_process_where_there_is_tcx_and_does_not_begin_elsewhere() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let plain = tempfile::tempdir().unwrap();
    let setup = Setup { root: plain.path().to_owned(), ..lab.setup() };
    let expected = format!("{0} is no bpf file system: mount -t bpf bpf {0}", plain.path().display());
    let by_tcx = super::passes::has_tcx();
    if by_tcx {
        let (fast, status) = lab.start_with(setup.clone(), &calls(2));
        passes(&lab, &call(1));
        assert_eq!(status.get().unwrap_or_default().unpinned, expected);
        drop(fast);
        let up = Gre::up(&call(1)).bytes();
        lab.client_sends().send(&up);
        assert_eq!(lab.at_gateway.wait(1), [up]);
    }
    // A filter would go on without anybody who could find it; a kernel without tcx has nothing else.
    for mode in modes().into_iter().filter(|mode| *mode == Mode::Clsact || !by_tcx) {
        let (mut fast, status) = lab.start_with(Setup { mode, ..setup.clone() }, &[]);
        assert!(!opened(&mut fast, call(1)), "{mode:?}");
        let off = format!(
            "{expected}; a filter behind clsact outlives the agent, and would have no name to be found again by"
        );
        assert_eq!(status.get().map(|state| (state.off, state.slow)), Some((off, None)), "{mode:?}");
    }
    assert!(Pins::of(plain.path(), "callgate").unwrap().links().iter().all(|(_, hook)| *hook != Hook::Tcx));
}
