//! A pod that goes takes its rules with it before the operator knows: whoever gets its address next is nobody's heir.

use std::time::Instant;

use callgate_proto::pb::agent_message::Kind as Ours;
use nix::sys::signal::Signal;

use super::agent::{Place, acknowledged, config, here, snapshot, snapshot_of, until};
use super::lab::{Lab, Namespace, index, root, sh, without_ipv6};
use super::probes::{NODE, POD, Servers, tcp as ask};
use super::refusals::{of_node, too_many};

const SERVER: &str = "192.0.2.10:80";

/// How a CNI connects pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// Each by a link that a route leads to.
    Routed,
    /// As ports of a bridge.
    Bridged,
}

impl Plan {
    /// A pod with the address of pod A, behind a link of its own with this name.
    fn pod(self, name: &str) -> Namespace {
        let pod = Namespace::fresh();
        sh(&format!("ip link add {name} type veth peer name eth0 netns {}", pod.path()));
        without_ipv6(name);
        match self {
            Self::Routed => sh(&format!("ip addr add 10.244.1.1/24 dev {name} && ip link set {name} up")),
            Self::Bridged => sh(&format!("ip link set {name} master cg-pods up")),
        };
        pod.sh("ip addr add 10.244.1.2/24 dev eth0 && ip link set eth0 up && ip route add default via 10.244.1.1");
        pod
    }

    /// The lab without its pod A.
    fn lab(self) -> Lab {
        let lab = Lab::new();
        sh("sysctl -qw net.ipv4.ip_forward=1 && ip link del cg-a");
        if self == Self::Bridged {
            sh("ip link add cg-pods type bridge && ip addr add 10.244.1.1/24 dev cg-pods && ip link set cg-pods up");
            without_ipv6("cg-pods");
        }
        lab
    }
}

/// Waits until the agent knows by which link the address is reached.
fn known(place: &Place, link: &str) {
    let wanted = format!("\"door\":{},\"left\":false", index(link));
    until("the link is known", || {
        std::fs::read_to_string(place.path("state/tenants.json")).unwrap_or_default().contains(&wanted)
    });
}

fn in_force() -> bool {
    sh("nft list map ip callgate src_hosts").contains("10.244.1.2")
}

fn an_heir_gets_nothing(plan: Plan) {
    if !root() {
        return;
    }
    let lab = plan.lab();
    let _servers = Servers::start(lab.server.clone(), &[80], &[]);
    here(async {
        let mut place = Place::new().await;
        let mut agent = place.start();
        let (mut stream, _) = place.attached().await;
        let first = plan.pod("cg-p1");
        stream.tell(snapshot(&config(), "u1")).await;
        acknowledged(&mut stream, &config()).await;
        assert_eq!(ask(&first, SERVER), NODE);
        known(&place, "cg-p1");

        let begun = Instant::now();
        sh("ip link del cg-p1");
        until("the pod that has gone has no rule", || !in_force());
        println!("{plan:?}: out of force after {:?}", begun.elapsed());
        let next = plan.pod("cg-p2");
        assert_eq!(ask(&next, SERVER), POD, "nobody has said anything");
        stream.tell(snapshot(&config(), "u1")).await;
        acknowledged(&mut stream, &config()).await;
        assert_eq!(ask(&next, SERVER), POD, "the operator has not heard yet");
        agent.end(Signal::SIGKILL);
        agent = place.start();
        let (mut stream, _) = place.attached().await;
        assert_eq!(ask(&next, SERVER), POD, "what the agent knew is not lost with it");
        stream.tell(snapshot(&config(), "u2")).await;
        acknowledged(&mut stream, &config()).await;
        assert_eq!(ask(&next, SERVER), NODE, "the operator names it");
        known(&place, "cg-p2");

        // While nobody listens, and the rules stay in the kernel.
        agent.end(Signal::SIGTERM);
        sh("ip link del cg-p2");
        let heir = plan.pod("cg-p3");
        agent = place.start();
        let (mut stream, hello) = place.attached().await;
        assert_eq!((hello.config_hash, ask(&heir, SERVER)), (config().content_hash(), POD), "found at the start");
        stream.tell(snapshot_of(&config(), "u2", 1)).await;
        acknowledged(&mut stream, &config()).await;
        assert_eq!(ask(&heir, SERVER), NODE, "the same pod in another sandbox");
        agent.end(Signal::SIGTERM);
        place.cleanup().unwrap();
    });
}

#[test]
fn whoever_gets_the_address_of_a_pod_with_a_routed_link_inherits_nothing_before_the_operator_names_it() {
    an_heir_gets_nothing(Plan::Routed);
}

#[test]
fn whoever_gets_the_address_of_a_pod_on_a_bridge_inherits_nothing_before_the_operator_names_it() {
    an_heir_gets_nothing(Plan::Bridged);
}

#[test]
fn a_pod_that_has_gone_does_not_come_back_into_force_with_the_table_while_a_snapshot_is_refused() {
    if !root() {
        return;
    }
    let _lab = Plan::Routed.lab();
    here(async {
        let mut place = Place::new().await;
        let mut agent = place.start();
        let (mut stream, _) = place.attached().await;
        let _pod = Plan::Routed.pod("cg-p1");
        stream.tell(snapshot(&config(), "u1")).await;
        acknowledged(&mut stream, &config()).await;
        known(&place, "cg-p1");
        let refused = of_node(too_many());
        stream.tell(snapshot(&refused, "u1")).await;
        let Some(Ours::Outcome(told)) = stream.next_but_reports().await else { panic!("no outcome") };
        assert_eq!((told.hash, told.failure.map(|failure| failure.broken)), (refused.content_hash(), Some(false)));
        sh("ip link del cg-p1");
        until("the pod that has gone has no rule", || !in_force());
        let table = || sh("nft list tables").contains("ip callgate");
        for _ in 0..2 {
            sh("nft flush ruleset");
            until("the table is back", table);
            assert!(!in_force());
        }
        agent.end(Signal::SIGTERM);
        place.cleanup().unwrap();
    });
}
