//! A configuration is refused: what ran before goes on, and is put back whatever somebody does to it meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use callgate_agent::kernel::{Applied, Kernel, Options, Record};
use callgate_proto::model::{Action, ControlConnection, NodeConfig, Source};
use callgate_proto::pb;
use callgate_proto::pb::agent_message::Kind as Ours;
use nix::sys::signal::Signal;

use super::agent::{Place, acknowledged, here, snapshot, until};
use super::configs::{ANYWHERE, Config, POD_A, POD_B, pptp, tcp};
use super::fake::Stream;
use super::lab::{Lab, root, sh, surface};
use super::probes::{NODE, POD, Servers, tcp as ask};

fn web(from: &[&str]) -> NodeConfig {
    Config::new().rule("web", Action::Nat, from, ANYWHERE, &[tcp("http", "80")]).build()
}

/// More rules than there are tags.
pub(crate) fn too_many() -> NodeConfig {
    let rule = |config: Config, n| config.rule(&format!("r{n}"), Action::Nat, &[POD_A], ANYWHERE, &[tcp("http", "80")]);
    (0..2047).fold(Config::new(), rule).build()
}

pub(crate) fn of_node(config: NodeConfig) -> NodeConfig {
    NodeConfig { node: "node-a".into(), algs: Vec::new(), ..config }
}

#[test]
fn a_table_that_somebody_removes_is_put_back_as_it_was_though_what_is_wanted_is_refused() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    kernel.apply(&web(&[POD_A, POD_B]), &[]).unwrap();
    let whole = sh("nft -s list ruleset");
    for damage in ["true", "nft flush ruleset", "nft delete element ip callgate src_hosts { 10.244.1.2 }"] {
        sh(damage);
        let refused = kernel.apply(&too_many(), &[]).unwrap_err().to_string();
        assert!(refused.contains("2047 connection tags"), "{refused}");
        assert_eq!(kernel.put_back(&[]).unwrap(), damage != "true", "{damage}");
        assert_eq!(sh("nft -s list ruleset"), whole, "{damage}");
    }
    kernel.stop().unwrap();
}

#[test]
fn an_edit_to_the_shared_mode_that_the_kernel_refuses_leaves_nothing_behind_that_later_ones_would_be_refused_for() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut kernel = lab.start();
    let good = Config::new().rule("vpn", Action::Nat, &[POD_A], ANYWHERE, &[pptp()]).build();
    kernel.apply(&good, &[]).unwrap();
    let before = surface();
    let mut bad = good.clone();
    bad.algs[0].control_connection = ControlConnection::Shared;
    // The kernel would not have overlapping sources.
    bad.sources.extend(["10.244.0.0/16", "10.244.3.0/24"].map(|net| Source { net: net.parse().unwrap(), chain: 0 }));
    let refused = kernel.apply(&bad, &[]).unwrap_err().to_string();
    assert!(refused.contains("elements of set src_nets"), "{refused}");
    assert_eq!(surface(), before);
    assert_eq!(kernel.apply(&good, &[]).unwrap(), Applied::default());
    sh("nft flush ruleset");
    assert!(kernel.apply(&bad, &[]).is_err());
    assert_eq!((kernel.put_back(&[]).unwrap(), surface()), (true, before));
    kernel.stop().unwrap();
}

#[test]
fn a_table_of_the_run_before_that_is_gone_is_missed_though_nothing_was_put_in_its_place_yet() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let mut first = lab.start();
    assert!(first.intact().unwrap(), "there was none");
    first.apply(&web(&[POD_A]), &[]).unwrap();
    drop(first);
    let mut second = lab.start();
    assert_eq!((second.intact().unwrap(), second.put_back(&[]).unwrap()), (true, false));
    sh("nft flush ruleset");
    assert!(!second.intact().unwrap());
    let missed = second.put_back(&[]).unwrap_err().to_string();
    assert_eq!(missed, "nftables table ip callgate, which the run before had left, is gone");
    second.apply(&web(&[POD_A]), &[]).unwrap();
    assert!(second.intact().unwrap());
    second.stop().unwrap();
}

#[test]
fn what_fails_behind_the_moment_a_configuration_is_in_force_takes_nothing_of_it_back_and_is_done_later() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    let (saved, room) = (Arc::new(Mutex::new(Record::default())), Arc::new(AtomicUsize::new(usize::MAX)));
    let (record, left) = (Arc::clone(&saved), Arc::clone(&room));
    let keep = move |new: &Record| {
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .map_err(|_| std::io::Error::from_raw_os_error(28))?;
        *record.lock().unwrap() = new.clone();
        Ok(())
    };
    let mut kernel = Kernel::start(Options::default(), None, Box::new(keep)).unwrap();
    kernel.apply(&web(&[POD_A]), &[]).unwrap();
    let other = Config::new().rule("mail", Action::Nat, &[POD_B], ANYWHERE, &[tcp("http", "80")]).build();
    // For the tags, and not for what comes when the flows of those that are gone are deleted.
    room.store(1, Ordering::SeqCst);
    kernel.commit(&other, &[]).unwrap();
    let error = kernel.settle(&[]).unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!((ask(&lab.a, "192.0.2.10:80"), ask(&lab.b, "192.0.2.10:80")), (POD, NODE));
    assert_eq!(saved.lock().unwrap().tags.retired().count(), 1);
    room.store(usize::MAX, Ordering::SeqCst);
    kernel.apply(&other, &[]).unwrap();
    assert_eq!(saved.lock().unwrap().tags.retired().count(), 0);
    assert_eq!(kernel.apply(&other, &[]).unwrap(), Applied::default());
    kernel.stop().unwrap();
}

/// The next outcome that is about this configuration.
async fn failure_of(stream: &mut Stream, config: &NodeConfig, wanted: impl Fn(&pb::Failure) -> bool) -> pb::Failure {
    loop {
        match stream.next_but_reports().await {
            Some(Ours::Outcome(pb::Outcome { hash, failure: Some(failure), sequence: _ })) => {
                assert_eq!(hash, config.content_hash());
                if wanted(&failure) {
                    return failure;
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn while_a_snapshot_is_refused_the_one_before_is_put_back_and_broken_is_said_only_as_long_as_something_is() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    sh("sysctl -qw net.ipv4.ip_forward=1");
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    here(async {
        let mut place = Place::new().await;
        let mut agent = place.start();
        let (mut stream, _) = place.attached().await;
        let (runs, refused) = (of_node(web(&[POD_A])), of_node(too_many()));
        stream.tell(snapshot(&runs, "u1")).await;
        acknowledged(&mut stream, &runs).await;
        let whole = sh("nft -s list ruleset");
        stream.tell(snapshot(&refused, "u1")).await;
        let failure = failure_of(&mut stream, &refused, |_| true).await;
        assert!(!failure.broken && failure.message.contains("2047"), "{failure:?}");
        sh("nft flush ruleset");
        until("the table is back", || sh("nft -s list ruleset") == whole);
        // The table comes back before the way of which something is somebody else's does.
        sh("ip route add 198.51.100.0/24 via 192.0.2.10 table 7411 && nft flush ruleset");
        until("the table is back beside a route that is not ours", || sh("nft -s list ruleset") == whole);
        let failure = failure_of(&mut stream, &refused, |failure| failure.broken).await;
        assert!(failure.message.contains("routing table 7411"), "{failure:?}");
        sh("ip route del 198.51.100.0/24 table 7411");
        let failure = failure_of(&mut stream, &refused, |failure| !failure.broken).await;
        assert!(!failure.message.contains("7411"), "{failure:?}");
        assert_eq!(ask(&lab.a, "192.0.2.10:80"), NODE);
        agent.end(Signal::SIGTERM);
        place.cleanup().unwrap();
    });
}
