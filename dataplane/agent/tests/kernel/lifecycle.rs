//! Start, adopt, stop: what is there in between and afterwards.

use std::net::Ipv4Addr;

use callgate_agent::kernel::{Applied, Error, Kernel, Options, Peers, Record};
use callgate_proto::model::Action;

use super::configs::{ANYWHERE, Config, POD_A, anything, tcp};
use super::lab::{Lab, empty, root, sh, surface};
use super::probes::{Capture, Connection, NODE, POD, Servers, tcp as ask};
use super::structure::everything;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

#[test]
fn a_stop_leaves_everything_as_it_was() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    // Two kinds of hosts: one that forwards nothing, one with switches of its own.
    for prepare in ["true", "sysctl -qw net.ipv4.conf.cg-a.forwarding=1 net.ipv4.conf.all.accept_redirects=0"] {
        sh(prepare);
        let before = surface();
        let mut kernel = lab.start();
        kernel.apply(&everything(), &[OWN]).unwrap();
        assert_ne!(surface(), before);
        kernel.stop().unwrap();
        assert_eq!(surface(), before);
        assert_eq!(lab.record(), Some(Record::default()));
    }
}

#[test]
fn a_start_adopts_what_a_killed_agent_left_and_touches_nothing() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let before = surface();
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    let config = Config::new().rule("web", Action::Nat, &[POD_A], ANYWHERE, &[tcp("http", "80")]).build();
    let mut killed = lab.start();
    killed.apply(&config, &[OWN]).unwrap();
    let mut old = Connection::open(&lab.a, "192.0.2.10:80", None).unwrap_or_else(|seen| panic!("{seen:?}"));
    assert_eq!(old.still(), NODE);
    drop(killed);
    let left = surface();
    let generation = || sh("nft -a list ruleset");
    let handles = generation();
    let mut next = lab.start();
    assert_eq!(next.apply(&config, &[OWN]).unwrap(), Applied::default());
    assert_eq!((surface(), generation()), (left, handles));
    assert_eq!((old.still(), ask(&lab.a, "192.0.2.10:80")), (NODE, NODE));
    next.stop().unwrap();
    assert_eq!(surface(), before);
}

#[test]
fn a_start_adopts_a_structure_and_mends_its_elements() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut killed = lab.start();
    killed.apply(&everything(), &[OWN]).unwrap();
    drop(killed);
    sh("nft delete element ip callgate src_hosts { 10.244.1.2 }");
    sh("nft add element ip callgate src_hosts { 10.244.9.9 : accept }");
    sh("nft add element ip callgate alg_ports { 5000-5001 }");
    let mut next = lab.start();
    let applied = next.apply(&everything(), &[OWN]).unwrap();
    let (added, removed) = (applied.elements_added, applied.elements_removed);
    assert_eq!((applied.structure_replaced, added, removed), (false, 1, 2));
    assert!(next.intact().unwrap());
    assert_eq!(next.apply(&everything(), &[OWN]).unwrap(), Applied::default());
    next.stop().unwrap();
}

#[test]
fn the_algs_addresses_outlive_a_restart_until_the_new_alg_says_which_it_has() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut killed = lab.start();
    killed.apply(&everything(), &[OWN]).unwrap();
    drop(killed);
    let set = || sh("nft list set ip callgate own_addresses");
    // Also when the manifests changed meanwhile, and the new agent knows of no connection yet.
    let config = Config::new().rule("web", Action::Nat, &[POD_A], ANYWHERE, &[tcp("http", "80")]).build();
    let mut next = lab.start();
    next.apply(&config, &[]).unwrap();
    next.apply(&everything(), &[Ipv4Addr::new(192, 0, 2, 2)]).unwrap();
    assert!(set().contains("elements = { 192.0.2.1, 192.0.2.2 }"), "{}", set());
    next.set_own_addresses(&[Ipv4Addr::new(192, 0, 2, 2)], &Peers::default()).unwrap();
    assert!(set().contains("elements = { 192.0.2.2 }"), "{}", set());
    next.apply(&everything(), &[]).unwrap();
    assert!(!set().contains("elements"), "{}", set());
    next.stop().unwrap();
}

#[test]
fn a_table_that_somebody_removed_or_edited_is_noticed_and_made_anew() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    kernel.apply(&everything(), &[OWN]).unwrap();
    let whole = sh("nft -s list ruleset");
    for damage in ["nft flush ruleset", "nft flush chain ip callgate forward", "nft add chain ip callgate more"] {
        assert!(kernel.intact().unwrap());
        sh(damage);
        assert!(!kernel.intact().unwrap(), "{damage}");
        assert!(kernel.apply(&everything(), &[OWN]).unwrap().structure_replaced);
        assert_eq!(sh("nft -s list ruleset"), whole, "{damage}");
    }
    kernel.stop().unwrap();
}

#[test]
fn other_options_remove_what_was_there_under_the_old_names() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let before = surface();
    let mut killed = lab.start();
    killed.apply(&everything(), &[OWN]).unwrap();
    drop(killed);
    let options = Options {
        nft_table: "other".into(),
        steer_link: "cg-steer".into(),
        tap_link: "cg-tap".into(),
        route_table: 7500,
        rule_priority: 7500,
        steer: "0x800000/0x800000".parse().unwrap(),
        ..Options::default()
    };
    let mut next = lab.start_with(options);
    next.apply(&everything(), &[OWN]).unwrap();
    let now = surface();
    let stale: Vec<&str> = now.lines().filter(|line| line.contains("7411") || line.contains("callgate0")).collect();
    assert_eq!(stale, Vec::<&str>::new());
    assert!(now.contains("fwmark 0x800000/0x800000 lookup 7500") && now.contains("table ip other"), "{now}");
    next.stop().unwrap();
    assert_eq!(surface(), before);
}

#[test]
fn without_a_record_the_table_of_before_stays_until_the_first_configuration_and_flows_of_forgotten_rules_go_behind_it()
{
    if !root() {
        return;
    }
    let lab = Lab::new();
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    let config = Config::new().rule("web", Action::Nat, &[POD_A], ANYWHERE, &[tcp("http", "80")]).build();
    let mut killed = lab.start();
    killed.apply(&config, &[]).unwrap();
    assert_eq!(ask(&lab.a, "192.0.2.10:80"), NODE);
    drop(killed);
    let left = sh("nft list ruleset");
    let mut next = Kernel::start(Options::default(), None, Box::new(|_| Ok(()))).unwrap();
    assert_eq!(sh("nft list ruleset"), left);
    let flows = || sh("conntrack -L -p tcp --orig-src 10.244.1.2 2>/dev/null").lines().count();
    assert_eq!(flows(), 1);
    let other = Config::new().rule("mail", Action::Nat, &[POD_A], ANYWHERE, &[tcp("mail", "25")]).build();
    next.commit(&other, &[]).unwrap();
    // Its tag is nobody's but that of what is to go.
    assert_eq!((next.record().tags.retired().collect(), flows()), (vec![1], 1));
    next.settle(&[]).unwrap();
    assert_eq!((next.record().tags.retired().collect(), flows()), (Vec::<u16>::new(), 0));
    drop(next);
    // Where there is no table, nothing needs them.
    sh(
        "nft delete table ip callgate && conntrack -I -p tcp -s 10.244.1.2 -d 192.0.2.10 --sport 9 --dport 25 -t 100 --state \
        ESTABLISHED -m 0x200000 2>/dev/null",
    );
    assert_eq!(flows(), 1);
    let next = Kernel::start(Options::default(), None, Box::new(|_| Ok(()))).unwrap();
    assert_eq!(flows(), 0);
    next.stop().unwrap();
}

#[test]
fn a_stop_ends_tagged_flows_and_no_others() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let _servers = Servers::start(lab.server.clone(), &[80, 443], &[]);
    let mut kernel = lab.start();
    kernel
        .apply(&Config::new().rule("web", Action::Nat, &[POD_A], ANYWHERE, &[tcp("http", "80")]).build(), &[])
        .unwrap();
    let open = |to| Connection::open(&lab.a, to, None).unwrap_or_else(|seen| panic!("{seen:?}"));
    let (mut ours, mut other) = (open("192.0.2.10:80"), open("192.0.2.10:443"));
    assert_eq!((ours.still(), other.still()), (NODE, POD));
    kernel.stop().unwrap();
    sh("sysctl -qw net.ipv4.ip_forward=1");
    let left = sh("conntrack -L -p tcp --orig-src 10.244.1.2 2>/dev/null");
    assert_eq!((left.matches("dport=443 ").count(), left.matches("dport=80 ").count()), (1, 0), "{left}");
    assert_eq!(other.still(), POD);
}

#[test]
fn names_that_are_taken_are_refused_with_a_remedy() {
    if !root() {
        return;
    }
    empty();
    let start = || Kernel::start(Options::default(), None, Box::new(|_| Ok(()))).err().unwrap().to_string();
    sh("ip link add callgate0 type veth peer name x");
    assert_eq!(
        start(),
        "of the links callgate0 and callgate1 at least one exists, and they are not one veth pair: remove what is there, \
         or choose other names with --steer-link and --tap-link"
    );
    sh("ip link set x name y && ip link set callgate0 name x && ip link set x up && ip link set y up && \
         ip route add 192.0.2.0/24 dev x table 7411");
    assert_eq!(start(), "routing table 7411 holds routes that are not ours: choose another with --route-table");
    sh("ip route flush table 7411 && sysctl -qw net.ipv4.ip_local_port_range='1024 60999'");
    assert!(start().starts_with("--external-ports 10000-29999,61000-65535: 10000-29999 overlaps"), "{}", start());
}

#[test]
fn nothing_is_done_that_could_not_be_recorded_first() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let before = surface();
    let full = || std::io::Error::from_raw_os_error(28);
    let started = Kernel::start(Options::default(), None, Box::new(move |_| Err(full())));
    assert!(matches!(started, Err(Error::Record(_))));
    assert_eq!(surface(), before);
    let mut room = true;
    let (sender, receiver) = std::sync::mpsc::channel();
    let keep = move |_: &Record| {
        if receiver.try_recv().is_ok() {
            room = false;
        }
        if room { Ok(()) } else { Err(full()) }
    };
    let mut kernel = Kernel::start(Options::default(), None, Box::new(keep)).unwrap();
    sender.send(()).unwrap();
    assert!(matches!(kernel.apply(&everything(), &[]), Err(Error::Record(_))));
    assert_eq!(sh("nft list ruleset"), "");
    drop(lab);
}

#[test]
fn a_configuration_the_kernel_refuses_leaves_the_old_one_in_force() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    let mut kernel = lab.start();
    let good = Config::new().rule("web", Action::Nat, &[POD_A], ANYWHERE, &[tcp("http", "80")]).build();
    kernel.apply(&good, &[]).unwrap();
    let (tags, table) = (kernel.record().tags.clone(), sh("nft -s list ruleset"));
    // compile never makes overlapping sources; the kernel would not have them.
    let mut bad = Config::new().rule("other", Action::Nat, &["10.244.3.0/24"], ANYWHERE, &[anything("any")]).build();
    let wide = callgate_proto::model::Source { net: "10.244.0.0/16".parse().unwrap(), chain: 0 };
    bad.sources.insert(0, wide);
    let error = kernel.apply(&bad, &[]).unwrap_err().to_string();
    assert!(error.contains("nftables table ip callgate, elements of set src_nets"), "{error}");
    assert!(kernel.intact().unwrap(), "nobody else has changed it");
    assert_eq!((kernel.record().tags.clone(), sh("nft -s list ruleset")), (tags, table));
    assert_eq!(ask(&lab.a, "192.0.2.10:80"), NODE);
    assert!(kernel.apply(&good, &[]).unwrap() == Applied::default());
    // The next change is one, and no table in place of another.
    let more = Config::new().rule("web", Action::Nat, &[POD_A], ANYWHERE, &[tcp("http", "80"), tcp("mail", "25")]);
    assert!(kernel.apply(&bad, &[]).is_err());
    let applied = kernel.apply(&more.build(), &[]).unwrap();
    assert!(applied.messages_sent < 20, "{applied:?}");
    kernel.stop().unwrap();
}

#[test]
fn own_addresses_change_by_themselves() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    assert_eq!(kernel.set_own_addresses(&[OWN], &Peers::default()).unwrap(), Applied::default());
    kernel.apply(&everything(), &[]).unwrap();
    let one = kernel.set_own_addresses(&[OWN], &Peers::default()).unwrap();
    assert_eq!(one, Applied { elements_added: 1, messages_sent: 3, bytes: one.bytes, ..Applied::default() });
    assert!(sh("nft list set ip callgate own_addresses").contains("elements = { 192.0.2.1 }"));
    assert_eq!(kernel.set_own_addresses(&[OWN], &Peers::default()).unwrap(), Applied::default());
    kernel.stop().unwrap();
}

#[test]
fn the_new_pair_is_silent() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let heard = Capture::start_here("not host 127.0.0.1");
    let kernel = lab.start();
    // The ping has been answered, so everything the links had to say at their birth was said.
    assert_eq!(super::probes::ping(&lab.a, "192.0.2.10"), "answered");
    let heard = heard.stop();
    assert!(heard.contains("ICMP echo reply") && !heard.contains("callgate"), "{heard}");
    let offloads = sh("ethtool -k callgate0 | grep -E 'tx-checksumming|tx-tcp-segmentation|generic-seg'");
    assert_eq!(offloads.matches(": off").count(), 3, "{offloads}");
    kernel.stop().unwrap();
}

#[test]
fn without_rights_there_is_one_clear_error() {
    if !root() {
        return;
    }
    let start = || {
        // Capabilities are a thread's own: only this one gives them up.
        let nobody = nix::unistd::Uid::from_raw(65534);
        // SAFETY is nix's: the raw system call changes the calling thread alone.
        set_thread_user(nobody);
        Kernel::start(Options::default(), None, Box::new(|_| Ok(()))).err().map(|error| error.to_string())
    };
    let error = std::thread::spawn(start).join().unwrap();
    assert_eq!(
        error.as_deref(),
        Some(
            "changing links, routes and nftables needs root (CAP_NET_ADMIN and CAP_NET_RAW): running as user 65534 without \
             them; start callgate-dataplane as root or with these capabilities"
        )
    );
}

fn set_thread_user(user: nix::unistd::Uid) {
    // The setuid of the C library would change every thread of the process.
    // SAFETY: no memory is passed.
    let result = unsafe { nix::libc::syscall(nix::libc::SYS_setresuid, user.as_raw(), user.as_raw(), user.as_raw()) };
    assert_eq!(result, 0);
}
