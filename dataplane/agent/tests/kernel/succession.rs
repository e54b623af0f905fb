//! A start with other flags, or without its record: what the run before left judges packets until the first configuration does.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use callgate_agent::kernel::{Kernel, Options};
use callgate_proto::model::{Action, NodeConfig};

use super::configs::{ANYWHERE, Config, POD_A, anything, pptp, tcp, udp};
use super::lab::{Lab, Namespace, root, sh, surface};
use super::probes::{Capture, Connection, NODE, Servers, ping, raw_socket, send_ip};
use super::steering::{PPTP_GRE, segment};

const A: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// Nothing of pod A leaves as it is.
fn config() -> NodeConfig {
    Config::new()
        .rule("tills", Action::Nat, &[POD_A], ANYWHERE, &[pptp(), tcp("http", "80"), udp("dns", "53")])
        .rule("last", Action::Drop, &[POD_A], ANYWHERE, &[anything("any")])
        .build()
}

/// Pod A begins flows all the time: one that is translated, one that is dropped, and what is the ALG's.
struct Flood {
    over: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Flood {
    fn start(pod: &Namespace) -> Self {
        let (over, rounds, pod) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), pod.clone());
        let (is_over, count) = (Arc::clone(&over), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            pod.run(move || {
                let to = std::net::SocketAddr::from((SERVER, 0)).into();
                let (gre, control) = (raw_socket(47), raw_socket(6));
                let mut port = 20_000;
                while !is_over.load(Ordering::Relaxed) {
                    for port in [53, 99] {
                        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
                        // The server's answer that nobody listens comes back sooner or later.
                        let _ = socket.send_to(b"?", (SERVER, port));
                    }
                    port = if port == 60_000 { 20_000 } else { port + 1 };
                    gre.send_to(PPTP_GRE, &to).unwrap();
                    control.send_to(&segment(A, SERVER, port, 1723, 0x10), &to).unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        Self { over, rounds, thread }
    }

    /// Until much more has been sent.
    fn goes_on(&self) {
        let before = self.rounds.load(Ordering::Relaxed);
        while self.rounds.load(Ordering::Relaxed) < before + 200 {
            std::thread::yield_now();
        }
    }

    fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// A start with `next` after a run with the flags that are the default; the run's `record` is lost, or it is there.
fn nothing_slips_through(what: &str, next: Options, remembered: bool) {
    let lab = Lab::new();
    sh("sysctl -qw net.ipv4.ip_forward=1");
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    let before = surface();
    let mut killed = lab.start();
    killed.apply(&config(), &[OWN]).unwrap();
    let mut flow = Connection::open(&lab.a, "192.0.2.10:80", None).unwrap_or_else(|seen| panic!("{seen:?}"));
    assert_eq!(flow.still(), NODE);
    drop(killed);
    // Untranslated packets, and what the node's TCP says on the ALG's connections.
    let slipped = Capture::start(&lab.server, "src host 10.244.1.2 or (tcp[tcpflags] & tcp-rst != 0 and port 1723)");
    let flood = Flood::start(&lab.a);
    let speaks = |flood: &Flood| {
        flood.goes_on();
        send_ip(&lab.server, OWN, 6, &segment(SERVER, OWN, 1723, 10000, 0x10));
    };
    speaks(&flood);
    let table = next.nft_table.clone();
    let mut kernel = match remembered {
        true => lab.start_with(next),
        false => Kernel::start(next, None, Box::new(|_| Ok(()))).unwrap(),
    };
    speaks(&flood);
    // The kernel is in the midst of no packet while one table takes the other's place: see docs/dataplane.md, under what is not done.
    flood.stop();
    assert_eq!(ping(&lab.a, "10.244.1.1"), "answered");
    kernel.commit(&config(), &[]).unwrap();
    let flood = Flood::start(&lab.a);
    speaks(&flood);
    let own = sh(&format!("nft list set ip {table} own_addresses"));
    assert!(own.contains("elements = { 192.0.2.1 }"), "{what}: {own}");
    kernel.settle(&[]).unwrap();
    speaks(&flood);
    assert_eq!(flow.still(), NODE, "{what}");
    flood.stop();
    assert_eq!(slipped.stop(), "", "{what}");
    kernel.stop().unwrap();
    assert_eq!(surface(), before, "{what}");
}

#[test]
fn with_other_flags_than_before_no_packet_slips_through_between_the_start_and_the_first_configuration_nor_behind_it() {
    if !root() {
        return;
    }
    let with = |change: fn(&mut Options)| {
        let mut options = Options::default();
        change(&mut options);
        options
    };
    for (what, options) in [
        ("priority", with(|o| o.rule_priority = 7411)),
        ("table", with(|o| o.nft_table = "other".into())),
        ("mark", with(|o| o.steer = "0x800000/0x800000".parse().unwrap())),
        ("routes", with(|o| o.route_table = 7500)),
        ("links that meet those of before", with(|o| std::mem::swap(&mut o.steer_link, &mut o.tap_link))),
        (
            "everything",
            with(|o| {
                (o.nft_table, o.steer_link, o.tap_link) = ("other".into(), "cg-steer".into(), "cg-tap".into());
                (o.route_table, o.rule_priority) = (7500, 7500);
                o.steer = "0x800000/0x800000".parse().unwrap();
            }),
        ),
    ] {
        nothing_slips_through(what, options, true);
    }
}

#[test]
fn without_a_record_of_the_run_before_none_does_either() {
    if !root() {
        return;
    }
    nothing_slips_through("nothing else", Options::default(), false);
}
