//! Random edits: Programmed is never True before packets take the new way.
//!
//! After each edit the test waits for what a person would wait for, and then sends one packet of every kind from every pod.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use callgate_e2e::cluster::inside::{Inside, Opening, Shot};
use callgate_e2e::cluster::proxy::Proxy;
use callgate_e2e::cluster::sight::Sight;
use callgate_e2e::cluster::{addresses, callgate};
use callgate_e2e::figures::percentile;
use callgate_e2e::lab::node::Node;
use callgate_e2e::wait;

use super::super::ground::sleeper;
use super::super::shared::{POD, Shared};
use super::await_edit::await_edit;
use super::dice::{Dice, Edit, NAMESPACES, PORTS};
use super::model::{Fate, Model, NOBODY, Pod, SERVER, SYSTEM};
use super::objects;

const EDITS: usize = if cfg!(feature = "long") { 200 } else { 30 };

const PODS: [(&str, &str, usize); 4] = [("e1", "east", 0), ("e2", "east", 1), ("w1", "west", 0), ("w2", "west", 1)];

/// Pods, and a look at what leaves the cluster.
struct Range {
    inside: BTreeMap<&'static str, Inside>,
    sight: Sight,
    token: u32,
}

impl Range {
    /// One packet of every kind from every pod; what was otherwise than the model says.
    fn disagreements(&mut self, model: &Model) -> Vec<String> {
        let mut shots = Vec::new();
        for (name, inside) in &self.inside {
            for (opening, to, port) in kinds() {
                let fate = model.fate(name, opening, to, port);
                // A handshake that nobody answers takes one of the client's few places for half a minute.
                if fate == (Fate::Node { alg: true }) && to == NOBODY {
                    continue;
                }
                self.token += 1;
                let to = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, to), port);
                let shot = Shot { opening, to, token: self.token };
                inside.send(shot).unwrap();
                shots.push((name, shot, fate));
            }
        }
        let asked: Vec<(Shot, bool)> = shots.iter().map(|(_, shot, fate)| (*shot, *fate != Fate::Nowhere)).collect();
        let sources = self.sight.sources(&asked);
        let judged = shots.iter().zip(sources).filter_map(|((name, shot, fate), source)| {
            let expected = match fate {
                Fate::Node { .. } => Some(addresses::node(model.pods[**name].node)),
                Fate::Pod => Some(self.inside[**name].address),
                Fate::Nowhere => None,
            };
            (source != expected)
                .then(|| format!("{name} {:?} {}: {source:?}, not {expected:?} ({fate:?})", shot.opening, shot.to))
        });
        judged.collect()
    }
}

fn kinds() -> impl Iterator<Item = (Opening, u8, u16)> {
    let to = |opening| PORTS.into_iter().flat_map(move |port| [SERVER, NOBODY].map(|to| (opening, to, port)));
    [Opening::Tcp, Opening::Udp].into_iter().flat_map(to)
}

fn table(node: &Node) -> String {
    let table = node.run("nft", &["list", "table", "ip", "callgate"]);
    format!("{}: {}\n", node.name, table.unwrap_or_else(|error| error.to_string()))
}

/// Of this run: given, else by the clock where there is time for hundreds of edits, else always the same.
fn seed() -> u64 {
    let given = std::env::var("CALLGATE_SEED").ok().map(|seed| seed.parse().unwrap());
    let chance = || std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    given.unwrap_or_else(|| if cfg!(feature = "long") { chance() } else { 1_795_634_440_162 })
}

#[test]
fn after_every_random_edit_packets_go_the_way_that_status_says() {
    let Some(shared) = Shared::get_for_callgate("after_every_random_edit_packets_go_the_way_that_status_says") else {
        return;
    };
    callgate::ensure(shared.cluster()).unwrap();
    let mut model = Model::default();
    NAMESPACES.iter().for_each(|namespace| shared.namespace(namespace));
    let mut pods = String::new();
    for (name, namespace, node) in PODS {
        pods += &sleeper(namespace, name, &addresses::node_name(node), "a");
        model.pods.insert(name, Pod { namespace, node, app: "a" });
        model.tiers.insert(namespace, "grey");
    }
    shared.kubectl().apply(&pods).unwrap();
    let inside = PODS.map(|(name, namespace, node)| {
        shared.k(&format!("-n {namespace} wait --for=condition=Ready pod/{name} {POD}"));
        let address = shared.k(&format!("-n {namespace} get pod {name} -o jsonpath={{.status.podIP}}"));
        (name, Inside::of(&shared.cluster().machines[node], address.parse().unwrap()).unwrap())
    });
    let sight = Sight::start(shared.cluster()).unwrap();
    let mut range = Range { inside: BTreeMap::from(inside), sight, token: 0 };
    let proxy = Proxy::start(shared.cluster()).unwrap();

    let seed = seed();
    println!("CALLGATE_SEED={seed}");
    let mut dice = Dice(seed);
    let mut times: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
    let mut wrong = range.disagreements(&model);
    let mut history = Vec::new();
    let mut fates = BTreeMap::new();
    for edit in Dice::opening(&mut model) {
        objects::make(&proxy, &model, edit);
    }
    model.settle();
    for key in model.rules.keys() {
        await_edit(&proxy, &model, Edit::PutRule(*key), &serde_json::Value::Null).unwrap();
    }
    for number in 0..EDITS {
        let edit = dice.edit(&mut model);
        model.settle();
        history.push(format!("{number}: {edit:?} {}", objects::describe(&model, edit)));
        let begun = Instant::now();
        let made = objects::make(&proxy, &model, edit);
        let what =
            await_edit(&proxy, &model, edit, &made).unwrap_or_else(|error| panic!("{error:#}\n{}", history.join("\n")));
        times.entry(what).or_default().push(begun.elapsed());
        wrong.extend(range.disagreements(&model).into_iter().map(|told| format!("after {number}: {told}")));
        if !wrong.is_empty() {
            // Whether it passes by itself tells a late node from a wrong one.
            wait::let_pass(Duration::from_secs(2));
            let later = range.disagreements(&model);
            let rules = shared.k("get iprules -A -o wide");
            let tables: String = shared.cluster().machines.iter().map(|machine| table(&machine.node)).collect();
            panic!(
                "seed {seed}\n{}\n{}\ntwo seconds later: {later:#?}\n{rules}\n{tables}",
                history.join("\n"),
                wrong.join("\n")
            );
        }
        for name in range.inside.keys() {
            kinds().for_each(|(opening, to, port)| {
                *fates.entry(format!("{:?}", model.fate(name, opening, to, port))).or_insert(0) += 1;
            });
        }
    }
    let mut all: Vec<Duration> = times.values().flatten().copied().collect();
    tell("all", &mut all);
    times.iter_mut().for_each(|(what, times)| tell(what, times));
    println!("{} packets, judged {fates:?}", range.token);
    // The numbers of those that a run of chance does not reach prove nothing.
    assert!(fates.len() >= 3, "{fates:?}");

    shared.k(&format!("-n {SYSTEM} delete iprules -l edits=random --ignore-not-found"));
    shared.k(&format!("-n {SYSTEM} delete ipservices,pptpalgs -l edits=random --ignore-not-found"));
    NAMESPACES.iter().for_each(|namespace| drop(shared.k(&format!("delete namespace {namespace} --wait {POD}"))));
}

fn tell(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |percent| percentile(times, percent);
    println!("{what}: {} edits, median {:?}, p99 {:?}, max {:?}", times.len(), at(50), at(99), at(100));
}
