//! An address changes hands by the operator's word alone, while what runs is not whole or the next snapshot is refused: the pod before
//! leaves nothing, and the pod that has it now keeps what it has.

use callgate_proto::model::NodeConfig;
use callgate_proto::pb;
use callgate_proto::pb::agent_message::Kind as Ours;
use nix::sys::signal::Signal;

use super::agent::{Place, acknowledged, config, here, snapshot, until};
use super::fake::Stream;
use super::lab::{Lab, root, sh};
use super::probes::{Connection, NODE, POD, Servers, tcp as ask};
use super::refusals::{of_node, too_many};

const SERVER: &str = "192.0.2.10:80";

/// Pod A's address is this pod's now, and this is wanted. Whether that could not be made whole.
async fn told(stream: &mut Stream, config: &NodeConfig, uid: &str) -> Option<bool> {
    stream.tell(snapshot(config, uid)).await;
    loop {
        match stream.next_but_reports().await {
            Some(Ours::Outcome(pb::Outcome { hash, failure, sequence: _ })) if hash == config.content_hash() => {
                return failure.map(|failure| failure.broken);
            }
            // What was wanted before is not whole any more.
            Some(Ours::Outcome(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn tracked() -> usize {
    sh("conntrack -L -p tcp --orig-src 10.244.1.2 2>/dev/null").matches("dport=80 ").count()
}

fn in_force() -> bool {
    sh("nft list map ip callgate src_hosts").contains("10.244.1.2")
}

#[test]
fn while_what_runs_is_not_whole_each_pod_loses_its_flows_once_when_it_has_gone_and_the_next_keeps_its_own() {
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
        let nobody = NodeConfig { node: "node-a".into(), ..NodeConfig::default() };
        stream.tell(snapshot(&nobody, "u0")).await;
        acknowledged(&mut stream, &nobody).await;
        sh("ip route add 198.51.100.0/24 via 192.0.2.10 table 7411");
        for uid in ["u1", "u2", "u3"] {
            assert_eq!(told(&mut stream, &config(), uid).await, Some(true));
            assert_eq!(tracked(), 0, "what the pod before {uid} had");
            let mut flow = Connection::open(&lab.a, SERVER, None).unwrap_or_else(|seen| panic!("{seen:?}"));
            for _ in 0..2 {
                assert_eq!(told(&mut stream, &config(), uid).await, Some(true));
                assert_eq!((flow.still(), tracked()), (NODE, 1), "{uid}");
            }
        }
        agent.end(Signal::SIGKILL);
        sh("ip route del 198.51.100.0/24 table 7411");
        agent = place.start();
        let (mut stream, _) = place.attached().await;
        assert_eq!(
            (told(&mut stream, &config(), "u3").await, tracked()),
            (None, 1),
            "also of an agent that was killed"
        );
        assert_eq!((told(&mut stream, &config(), "u4").await, tracked()), (None, 0));
        agent.end(Signal::SIGTERM);
        place.cleanup().unwrap();
    });
}

#[test]
fn an_address_that_is_another_pods_has_no_rule_and_no_flow_of_the_pod_before_though_the_snapshot_is_refused() {
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
        assert_eq!(told(&mut stream, &config(), "u1").await, None);
        assert_eq!((ask(&lab.a, SERVER), tracked(), in_force()), (NODE, 1, true));
        let refused = of_node(too_many());
        assert_eq!(told(&mut stream, &refused, "u1").await, Some(false));
        assert_eq!((tracked(), in_force()), (1, true), "nobody else has it");
        assert_eq!(told(&mut stream, &refused, "u2").await, Some(false));
        assert_eq!((tracked(), in_force(), ask(&lab.a, SERVER)), (0, false, POD));
        sh("nft flush ruleset");
        until("the table is back", || sh("nft list tables").contains("ip callgate"));
        assert!(!in_force());
        // The next agent begins with what ran before, which gives it to the pod before.
        agent.end(Signal::SIGKILL);
        agent = place.start();
        let (mut stream, _) = place.attached().await;
        assert_eq!((in_force(), ask(&lab.a, SERVER)), (false, POD));
        assert_eq!((told(&mut stream, &config(), "u2").await, ask(&lab.a, SERVER)), (None, NODE));
        agent.end(Signal::SIGTERM);
        place.cleanup().unwrap();
    });
}
