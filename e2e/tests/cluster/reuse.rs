//! A pod that gets the address of one that has gone inherits nothing of it, neither rules nor calls, whether the operator knows or not.
//!
//! Nodes have so few addresses that every pod that comes gets one of those that have just become free, and it sends before its
//! containers run. In every other round the operator stands still from before the old pods go: all that the agent then knows is
//! what its own kernel tells it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use callgate_e2e::cluster::inside::{Inside, Opening, Shot};
use callgate_e2e::cluster::machine::Machine;
use callgate_e2e::cluster::proxy::Proxy;
use callgate_e2e::cluster::sight::Sight;
use callgate_e2e::cluster::till::Till;
use callgate_e2e::cluster::{Cluster, addresses, callgate, image};
use callgate_e2e::figures::percentile;
use callgate_e2e::lab::topology::server_address;
use callgate_e2e::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::ground::Ground;
use super::shared::{POD, SOON};

/// The only hosts of each node's network that pods get.
const HOSTS: (u8, u8) = (200, 205);

/// How often all of them change hands, on two nodes.
const ROUNDS: usize = if cfg!(feature = "long") { 42 } else { 3 };

/// How long a tunnel may take.
const UP: Duration = Duration::from_secs(30);

/// Above what the sequence numbers of a young tunnel reach.
const TOKENS: u32 = 0x4000_0000;

const SERVICES: &str = "
apiVersion: callgate.io/v1alpha1
kind: PptpAlg
metadata: {name: alg, namespace: reuse}
spec: {echoTimeout: 180s, idleTimeout: 0s}
---
apiVersion: callgate.io/v1alpha1
kind: Service
metadata: {name: pptp, namespace: reuse}
spec: {protocol: TCP, destinationPorts: '1723', algRef: {kind: PptpAlg, name: alg}}
---
apiVersion: callgate.io/v1alpha1
kind: Service
metadata: {name: names, namespace: reuse}
spec: {protocol: UDP, destinationPorts: '53'}
";

const RULE: &str = "
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: tills, namespace: reuse}
spec:
  order: 100
  action: NAT
  source: {podSelector: {matchLabels: {app: till}}}
  services: [{name: pptp}, {name: names}]
";

/// Operators that stand still until this is dropped.
struct Still(Vec<Pid>);

impl Still {
    fn all(ground: &Ground) -> Self {
        let cluster = ground.shared.cluster();
        let names = "get pods -l app.kubernetes.io/component=operator -o jsonpath={.items[*].metadata.name}";
        let names = ground.shared.k(&format!("-n {} {names}", callgate::NAMESPACE));
        let of = |name: &str| cluster.pids(callgate::NAMESPACE, name, "callgate-operator").unwrap();
        let pids: Vec<Pid> = names.split_whitespace().flat_map(of).collect();
        assert_eq!(pids.len(), 2, "{names}");
        pids.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).unwrap());
        Self(pids)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}

/// One address that changes hands.
#[derive(Debug)]
struct Place {
    /// Index of its node.
    node: usize,
    address: Ipv4Addr,
    /// Sandbox that has it, or had it before.
    old: Option<String>,
}

impl Place {
    /// All of them, as they are now.
    fn all(cluster: &Cluster) -> Vec<Self> {
        let all = (0..cluster.machines.len()).flat_map(|node| (HOSTS.0..=HOSTS.1).map(move |host| (node, host)));
        let places = all.map(|(node, host)| {
            let address = addresses::pod(node, host);
            Self { node, address, old: cluster.machines[node].holder(address).unwrap() }
        });
        places.collect()
    }

    fn holder(&self, cluster: &Cluster) -> Option<String> {
        cluster.machines[self.node].holder(self.address).unwrap()
    }

    /// The network of the pod that has it after the old one; `None` as long as there is none.
    fn heir(&self, cluster: &Cluster) -> Option<Inside> {
        let holder = self.holder(cluster);
        let anew = holder.is_some() && holder != self.old;
        anew.then(|| Inside::of(&cluster.machines[self.node], self.address).ok()).flatten()
    }
}

/// A pod that no rule selects.
fn kiosk(place: &Place) -> Value {
    let name = format!("new-{}", place.address.to_string().replace('.', "-"));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "reuse", "labels": {"app": "kiosk"}},
        "spec": {
            "nodeName": addresses::node_name(place.node),
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image::BUSYBOX, "imagePullPolicy": "Never"}],
        },
    })
}

/// Live calls of a node, as its agent has them.
fn calls(machine: &Machine) -> usize {
    callgate::calls(machine).unwrap().len()
}

/// Nodes that give pods few addresses, until this is dropped.
struct Narrow<'a>(&'a Cluster);

impl<'a> Narrow<'a> {
    fn all(cluster: &'a Cluster) -> Self {
        let narrow = Self(cluster);
        cluster.machines.iter().for_each(|machine| machine.give_only(Some(HOSTS)).unwrap());
        narrow
    }
}

impl Drop for Narrow<'_> {
    fn drop(&mut self) {
        for machine in &self.0.machines {
            let _ = machine.give_only(None);
        }
    }
}

/// What has happened.
#[derive(Debug, Default)]
struct Tally {
    reused: usize,
    packets: usize,
    token: u32,
    /// From an address being free to the first packet of its next pod.
    gaps: Vec<Duration>,
}

struct Race<'a> {
    ground: &'a Ground,
    cluster: &'a Cluster,
    proxy: Proxy<'a>,
    tally: Tally,
}

impl<'a> Race<'a> {
    fn new(ground: &'a Ground) -> Self {
        let cluster = ground.shared.cluster();
        Self { ground, cluster, proxy: Proxy::start(cluster).unwrap(), tally: Tally::default() }
    }

    /// Pods that the rule selects, on all addresses there are, and ready.
    fn fill(&self) -> Vec<Till> {
        let hosts = HOSTS.0..=HOSTS.1;
        let tills: Vec<Till> = (self.cluster.machines.iter())
            .flat_map(|machine| hosts.clone().map(move |host| (machine.node.name.clone(), host)))
            .map(|(node, host)| Till::new("reuse", &format!("old-{node}-{host}"), &node, "till"))
            .collect();
        // With a moment to end in, or the API server would forget the pod before its node has begun to end it.
        let objects: String = tills.iter().map(Till::object).collect();
        self.ground.apply(&objects.replace("terminationGracePeriodSeconds: 0", "terminationGracePeriodSeconds: 1"));
        self.ground.k(&format!("wait --for=condition=Ready pod --all {POD}"));
        tills
    }

    /// Takes all pods of the test away, and waits until their addresses are free.
    fn empty(&self) {
        self.ground.k(&format!("delete pods --all --wait {POD}"));
        wait::until_true("all addresses are free", SOON, || {
            Ok(Place::all(self.cluster).iter().all(|place| place.old.is_none()))
        })
        .unwrap();
    }

    /// The only addresses pods get, until what is returned is dropped.
    fn narrow(&self) -> Narrow<'a> {
        let narrow = Narrow::all(self.cluster);
        wait::until_true("pods get the few addresses", SOON, || {
            self.fill();
            let all = Place::all(self.cluster).iter().all(|place| place.old.is_some());
            self.empty();
            Ok(all)
        })
        .unwrap();
        narrow
    }

    /// All addresses change hands once.
    fn round(&mut self, still: bool) {
        let tills = self.fill();
        self.ground.apply(RULE);
        self.ground.k(&format!("wait --for=condition=Programmed iprule/tills {POD}"));
        let sight = Sight::start(self.cluster).unwrap();
        self.dial(&tills);
        let ids: Vec<BTreeSet<u16>> =
            (self.cluster.machines.iter()).map(|machine| sight.call_ids(addresses::node(machine.index))).collect();
        let live: Vec<usize> = self.cluster.machines.iter().map(calls).collect();
        assert_eq!(live, ids.iter().map(BTreeSet::len).collect::<Vec<_>>(), "{ids:?}");
        assert_eq!(live, [tills.len() / 2; 2]);

        let frozen = still.then(|| Still::all(self.ground));
        let leaving = Place::all(self.cluster);
        assert!(leaving.iter().all(|place| place.old.is_some()), "{leaving:?}");
        self.ground.k("delete pods --all --wait=false");
        let (shots, gaps) = self.heirs(leaving, &ids);
        let asked: Vec<(Shot, bool)> = shots.iter().map(|(_, shot)| (*shot, true)).collect();
        let sources = sight.sources(&asked);
        let wrong: Vec<String> = (shots.iter().zip(&sources))
            .filter(|((address, _), source)| **source != Some(*address))
            .map(|((address, shot), source)| format!("{:?} of {address} came from {source:?}", shot.opening))
            .collect();
        if !wrong.is_empty() {
            let logs = "logs -l app.kubernetes.io/component=dataplane --tail=200 --prefix";
            eprintln!("{}", self.ground.shared.k(&format!("-n {} {logs}", callgate::NAMESPACE)));
            for machine in &self.cluster.machines {
                eprintln!("{}", machine.node.run("cat", &["/var/lib/callgate/tenants.json"]).unwrap());
            }
        }
        assert!(wrong.is_empty(), "operator still: {still}, {} of {}:\n{}", wrong.len(), shots.len(), wrong.join("\n"));
        wait::until_true("calls of pods that have gone have ended", SOON, || {
            Ok(self.cluster.machines.iter().all(|machine| calls(machine) == 0))
        })
        .unwrap();
        drop(frozen);

        self.ground.k(&format!("wait --for=condition=Ready pod -l app=kiosk {POD}"));
        let given = self.ground.k("get pods -l app=kiosk -o jsonpath={.items[*].status.podIP}");
        let given: BTreeSet<Ipv4Addr> = given.split_whitespace().map(|address| address.parse().unwrap()).collect();
        let old: BTreeSet<Ipv4Addr> = Place::all(self.cluster).iter().map(|place| place.address).collect();
        assert_eq!(given, old, "every address has changed hands");
        wait::until_true("the rule has no clients and no calls", SOON, || {
            let status = &self.ground.object("iprule/tills")["status"];
            Ok((&status["clients"], &status["liveCalls"]) == (&json!(0), &json!(0)))
        })
        .unwrap();
        self.tally.reused += given.len();
        self.tally.packets += shots.len();
        self.tally.gaps.extend(gaps);
        self.ground.k("delete iprule tills");
        self.empty();
    }

    fn dial(&self, tills: &[Till]) {
        let cluster = self.cluster;
        std::thread::scope(|scope| {
            for till in tills {
                scope.spawn(move || {
                    till.dial(cluster, server_address(0)).unwrap();
                    till.wait_up(cluster, UP).unwrap();
                });
            }
        });
    }

    /// As each address becomes free, a pod that no rule selects is made; as soon as that has the address, it sends what the old one might
    /// have, with all Call IDs of its node. What was sent from which address, and how long each address was nobody's.
    fn heirs(&mut self, leaving: Vec<Place>, ids: &[BTreeSet<u16>]) -> (Vec<(Ipv4Addr, Shot)>, Vec<Duration>) {
        let cluster = self.cluster;
        let (mut waiting, mut free, mut shots, mut gaps) = (leaving, Vec::new(), Vec::new(), Vec::new());
        let begun = Instant::now();
        while !waiting.is_empty() || !free.is_empty() {
            assert!(begun.elapsed() < SOON, "these do not go: {waiting:?}; nobody comes to these: {free:?}");
            let (gone, stay): (Vec<Place>, Vec<Place>) =
                waiting.into_iter().partition(|place| place.holder(cluster) != place.old);
            waiting = stay;
            for place in gone {
                let since = Instant::now();
                let pod = kiosk(&place);
                let path = format!("/api/v1/namespaces/reuse/pods/{}", pod["metadata"]["name"].as_str().unwrap());
                self.proxy.apply(&path, &pod).unwrap();
                free.push((place, since));
            }
            let (mut come, mut nobodys) = (Vec::new(), Vec::new());
            for (place, since) in free {
                match place.heir(cluster) {
                    Some(inside) => come.push((inside, place, since)),
                    None => nobodys.push((place, since)),
                }
            }
            free = nobodys;
            for (inside, place, since) in come {
                shots.extend(self.send(&inside, &ids[place.node]).into_iter().map(|shot| (place.address, shot)));
                gaps.push(since.elapsed());
            }
        }
        (shots, gaps)
    }

    /// What the old pod might have sent.
    fn send(&mut self, inside: &Inside, ids: &BTreeSet<u16>) -> Vec<Shot> {
        let mut openings = vec![(Opening::Tcp, 1723), (Opening::Udp, 53)];
        openings.extend(ids.iter().map(|id| (Opening::Gre(*id), 0)));
        let mut sent = Vec::new();
        for (opening, port) in openings {
            self.tally.token += 1;
            let to = SocketAddrV4::new(server_address(0), port);
            let shot = Shot { opening, to, token: TOKENS + self.tally.token };
            // Its routes come a moment after its address.
            wait::until_true("the pod can send", SOON, || Ok(inside.send(shot).is_ok())).unwrap();
            sent.push(shot);
        }
        sent
    }
}

#[test]
fn a_pod_that_gets_the_address_of_one_that_has_gone_inherits_neither_rules_nor_calls() {
    let test = "a_pod_that_gets_the_address_of_one_that_has_gone_inherits_neither_rules_nor_calls";
    let Some(ground) = Ground::get(test, "reuse") else { return };
    ground.apply(SERVICES);
    let mut race = Race::new(&ground);
    let narrow = race.narrow();
    for round in 0..ROUNDS {
        race.round(round % 2 == 0);
    }
    let Tally { reused, packets, mut gaps, .. } = race.tally;
    gaps.sort();
    let at = |percent| percentile(&gaps, percent);
    println!(
        "{reused} addresses reused by unselected pods, {packets} packets of theirs, none under the node's address; from an address being \
         free to its next pod's packets {:?} to {:?}, median {:?}",
        at(0),
        at(100),
        at(50)
    );
    assert_eq!(reused, ROUNDS * 12);
    drop(narrow);
    ground.end();
}
