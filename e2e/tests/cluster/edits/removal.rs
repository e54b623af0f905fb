//! Taking the set-up away piece by piece: what a rule names may go and tunnels live on, the rule itself ends them and cleans up.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use callgate_e2e::cluster::callgate;
use callgate_e2e::cluster::machine::Machine;
use callgate_e2e::cluster::till::Till;
use callgate_e2e::lab::node::Node;
use callgate_e2e::lab::ping::Pinged;
use callgate_e2e::lab::topology::server_address;
use callgate_e2e::wait;
use serde_json::Value;

use super::super::ground::Ground;
use super::super::shared::{POD, SOON};

const ALG: &str = "
apiVersion: callgate.io/v1alpha1
kind: PptpAlg
metadata: {name: head-office-alg, namespace: removal}
spec: {echoTimeout: 180s, idleTimeout: 0s}
---
";
const SERVICE: &str = "
apiVersion: callgate.io/v1alpha1
kind: Service
metadata: {name: head-office-pptp, namespace: removal}
spec: {protocol: TCP, destinationPorts: '1723', algRef: {kind: PptpAlg, name: head-office-alg}}
---
";
const RULE: &str = "
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: tills, namespace: removal}
spec: {order: 100, action: NAT, source: {podSelector: {matchLabels: {app: till}}}, services: [{name: head-office-pptp}]}
---
";

/// How long tunnels are looked at.
const LOOK: Duration = Duration::from_secs(12);

const VALID: &str = "Accepted=True(Accepted) 1: Valid.";
const IN_FORCE: &str = "Programmed=True(Programmed) 1: In force on every node that must run it.";
const RESOLVED: &str = "ResolvedRefs=True(ResolvedRefs) 1: Everything it names exists.";

/// What an agent has and what of it is in the kernel.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    /// Our table, in parts, without what is counted.
    nft: BTreeSet<String>,
    /// Live calls: both ends, ours, and Call IDs.
    calls: Vec<String>,
    /// Connections that the journal says are alive.
    journal: BTreeSet<u64>,
}

impl Traces {
    fn of(machine: &Machine) -> Self {
        let node = &machine.node;
        Self {
            nft: parts(&node.run("nft", &["-s", "list", "table", "ip", "callgate"]).unwrap()),
            calls: callgate::calls(machine).unwrap().iter().map(call).collect(),
            journal: node.within(journal).unwrap(),
        }
    }
}

/// Sets and chains by their names, without the ALG's addresses: one that it has used stays its own, since what a server still sends it must
/// not be answered by the kernel.
fn parts(table: &str) -> BTreeSet<String> {
    let inner = table.strip_prefix("table ip callgate {\n").unwrap().strip_suffix("}\n").unwrap();
    let parts = inner.split("\n\n").map(|part| part.trim().to_owned());
    parts.filter(|part| !part.starts_with("set own_addresses {")).collect()
}

/// What of a call does not count up.
fn call(call: &Value) -> String {
    ["client", "server", "external", "pnsCallId", "pnsCallIdOutside", "pacCallId", "state"]
        .map(|field| format!("{field} {}", call[field]))
        .join(", ")
}

/// Connections in the journal of the node this runs in: snapshot, then logs in their order.
fn journal() -> BTreeSet<u64> {
    let dir = "/var/lib/callgate";
    let number = |name: &str| name.strip_prefix("calls.log.").and_then(|number| number.parse::<u64>().ok());
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut logs: Vec<u64> = names.filter_map(|name| number(&name)).collect();
    logs.sort_unstable();
    let mut text = fs::read_to_string(format!("{dir}/calls.snapshot")).unwrap_or_default();
    for log in logs {
        text += &fs::read_to_string(format!("{dir}/calls.log.{log}")).unwrap();
    }
    let mut alive = BTreeSet::new();
    for change in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        if let Some(id) = change["update"]["id"].as_u64() {
            alive.insert(id);
        } else if let Some(id) = change["remove"].as_u64() {
            alive.remove(&id);
        }
    }
    alive
}

struct Scene {
    ground: Ground,
    tills: [Till; 3],
}

impl Scene {
    fn traces(&self) -> Vec<Traces> {
        self.ground.shared.cluster().machines.iter().map(Traces::of).collect()
    }

    fn dial(&self) -> [Ipv4Addr; 3] {
        let cluster = self.ground.shared.cluster();
        self.tills.iter().for_each(|till| till.dial(cluster, server_address(0)).unwrap());
        self.tills.each_ref().map(|till| till.wait_up(cluster, Duration::from_secs(30)).unwrap().remote)
    }

    /// Pings for `LOOK` through all tunnels, while `meanwhile` happens: nothing may be lost.
    fn live_through(&self, remotes: [Ipv4Addr; 3], what: &str, meanwhile: impl FnOnce()) {
        let cluster = self.ground.shared.cluster();
        let begun = Instant::now();
        let pinged: Vec<Pinged> = std::thread::scope(|scope| {
            let looks = self.tills.iter().zip(remotes);
            let looks: Vec<_> =
                looks.map(|(till, remote)| scope.spawn(move || till.ping(cluster, remote, LOOK).unwrap())).collect();
            meanwhile();
            assert!(begun.elapsed() < LOOK, "{:?} is longer than anybody looked", begun.elapsed());
            looks.into_iter().map(|look| look.join().unwrap()).collect()
        });
        println!("{what}: {pinged:?}");
        assert!(pinged.iter().all(|pinged| pinged.sent == pinged.received), "{what}: {pinged:?}");
    }
}

#[test]
fn what_a_rule_names_may_go_and_tunnels_live_on_and_the_rule_that_goes_ends_them_and_leaves_nothing() {
    let test = "what_a_rule_names_may_go_and_tunnels_live_on_and_the_rule_that_goes_ends_them_and_leaves_nothing";
    let Some(ground) = Ground::get(test, "removal") else { return };
    let till = |name: &str, node: &str| Till::new("removal", name, node, "till");
    let scene = Scene { ground, tills: [till("a", "n1"), till("b", "n1"), till("c", "n2")] };
    let ground = &scene.ground;
    ground.apply(&scene.tills.iter().map(Till::object).collect::<String>());
    ground.k(&format!("wait --for=condition=Ready pod --all {POD}"));
    let before = scene.traces();

    ground.apply(&[ALG, SERVICE, RULE].concat());
    ground.becomes("iprule/tills", &[VALID, IN_FORCE, RESOLVED]);
    let remotes = scene.dial();
    let running = scene.traces();
    assert_eq!(running.iter().map(|node| node.journal.len()).collect::<Vec<_>>(), [2, 1]);

    scene.live_through(remotes, "without the ALG, then without the service", || {
        ground.k("delete pptpalg head-office-alg");
        let alg_gone = "spec.algRef.name: there is no PptpAlg head-office-alg in namespace removal or callgate-system: create it, or correct the name. What ran before goes on running.";
        let service_gone = format!("ResolvedRefs=False(LastGoodKept) 1: {alg_gone}");
        let told = ground.becomes("ipservice/head-office-pptp", &[VALID, IN_FORCE, &service_gone]);
        let not_good = "ResolvedRefs=False(LastGoodKept) 1: spec.services[0].name: Service removal/head-office-pptp is not accepted: mend it first, its status says what is wrong. What ran before goes on running.";
        ground.becomes("iprule/tills", &[VALID, IN_FORCE, not_good]);
        println!("the service says that its ALG is gone after {told:?}");
        ground.k("delete ipservice head-office-pptp");
        let gone = "ResolvedRefs=False(LastGoodKept) 1: spec.services[0].name: there is no Service head-office-pptp in namespace removal or callgate-system: create it, or correct the name. What ran before goes on running.";
        let told = ground.becomes("iprule/tills", &[VALID, IN_FORCE, gone]);
        println!("the rule says that its service is gone after {told:?}");
    });
    assert_eq!(scene.traces(), running, "nothing of what runs has changed");

    let begun = Instant::now();
    ground.k("delete iprule tills");
    let cluster = ground.shared.cluster();
    let mut now = Vec::new();
    let cleaned = wait::until_true("nothing is left", SOON, || {
        now = scene.traces();
        Ok(now == before)
    });
    assert!(cleaned.is_ok(), "is {now:#?}\nwas {before:#?}");
    println!("nothing is left on the nodes {:?} after the rule", begun.elapsed());
    for till in &scene.tills {
        till.wait_gone(cluster).unwrap();
    }
    let server = &cluster.outside.servers[0];
    wait::until_true("the server's calls have ended", SOON, || Ok(calls_of(server) == 0)).unwrap();
    println!("pods and server have heard it {:?} after the rule", begun.elapsed());

    ground.apply(&[ALG, SERVICE, RULE].concat());
    ground.becomes("iprule/tills", &[VALID, IN_FORCE, RESOLVED]);
    scene.live_through(scene.dial(), "set up again", || ());
    scene.tills.iter().for_each(|till| till.hang_up(cluster).unwrap());
    scene.ground.end();
}

/// Ends of tunnels that run on a server.
fn calls_of(server: &Node) -> usize {
    let name = |pid: &nix::unistd::Pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    server.pids().iter().filter(|pid| name(pid).trim() == "callgate-ppp").count()
}
