//! What explain says, what the kernel does, and what the manifests mean: the same, for a thousand random packets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use callgate_compile::compile;
use callgate_compile::explain::{Packet, Verdict, explain};
use callgate_compile::manifests::parse;
use callgate_crds::conditions::Reason;
use callgate_proto::model::{Action, NodeConfig};
use rand::rngs::{OsRng, StdRng};
use rand::{SeedableRng as _, TryRngCore as _};

use super::lab::{Lab, root, sh};
use super::random::{CLUSTER, Decision, Scene};
use super::witness::{Answer, Fate, Witness};
use callgate_agent::kernel::Kernel;

const SCENES: u64 = 25;
const PACKETS: usize = 40;

fn compiled(scene: &Scene) -> NodeConfig {
    let parsed = parse(&[("scene.yaml".to_owned(), scene.manifests())], callgate_crds::predefined());
    assert_eq!(parsed.problems, []);
    let mut world = parsed.world;
    world.cluster_nets = CLUSTER.iter().map(|net| net.parse().unwrap()).collect();
    let compiled = compile(&world, None);
    for (object, status) in &compiled.statuses {
        for condition in status.conditions.iter().filter(|condition| !condition.holds()) {
            assert_eq!(condition.reason, Reason::NoDestination, "{object}: {}", condition.message);
        }
    }
    NodeConfig::clone(&compiled.nodes["standalone"])
}

/// What explain says, as a decision.
fn told(config: &NodeConfig, packet: &Packet) -> Decision {
    let told = explain(config, packet);
    let name = |key: Option<callgate_proto::model::ObjectKey>| key.map(|key| key.name).unwrap_or_default();
    let action = match told.verdict {
        Verdict::Rule(action) => Some(action),
        Verdict::Cluster | Verdict::NotSelected | Verdict::NoRule => None,
    };
    Decision { action, rule: name(told.rule), service: name(told.service), alg: told.alg.is_some() }
}

/// What a packet has to meet.
fn fate(decision: &Decision, packet: &Packet) -> Fate {
    match decision.action {
        Some(Action::Nat) if decision.alg => Fate { steered_from: Some(packet.src), ..Fate::default() },
        Some(Action::Nat) => Fate { arrived_from: Some(Ipv4Addr::new(192, 0, 2, 1)), ..Fate::default() },
        Some(Action::Allow) | None => Fate { arrived_from: Some(packet.src), ..Fate::default() },
        Some(Action::Drop) => Fate::default(),
        Some(Action::Reject) => {
            let answer = match packet.protocol {
                6 => Answer::Reset,
                17 => Answer::Icmp(3, 3),
                _ => Answer::Icmp(3, 13),
            };
            Fate { answer: Some(answer), ..Fate::default() }
        }
    }
}

/// Flows counted so far, by rule and service.
fn counted(kernel: &mut Kernel) -> Vec<(String, String, u64)> {
    let counters = kernel.counters().unwrap();
    counters.flows.into_iter().map(|flow| (flow.rule.name, flow.service.name, flow.flows)).collect()
}

/// A packet that no earlier one of the scene has anything to do with.
fn fresh(scene: &Scene, rng: &mut StdRng, flows: &mut BTreeSet<(u8, Ipv4Addr, u16, Ipv4Addr, u16)>) -> Packet {
    loop {
        let packet = scene.packet(rng);
        let flow = match packet.protocol {
            6 | 17 => (packet.protocol, packet.src, packet.src_port, packet.dst, packet.dst_port),
            // The serial number tells echo requests apart; of the rest behind one address only the destination does.
            1 => return packet,
            protocol => (protocol, Ipv4Addr::UNSPECIFIED, 0, packet.dst, 0),
        };
        if flows.insert(flow) {
            return packet;
        }
    }
}

#[test]
fn explain_and_the_kernel_and_the_manifests_agree_on_a_thousand_random_packets() {
    if !root() {
        return;
    }
    let seed =
        std::env::var("CALLGATE_SEED").map_or_else(|_| OsRng.try_next_u64().unwrap(), |seed| seed.parse().unwrap());
    println!("CALLGATE_SEED={seed} runs the same again");
    let mut rng = StdRng::seed_from_u64(seed);
    let lab = Lab::new();
    let mut kernel = lab.start();
    let mut witness = Witness::start(&lab);
    let mut seen = std::collections::BTreeMap::<String, u32>::new();
    for number in 0..SCENES {
        let scene = Scene::random(&mut rng);
        let config = compiled(&scene);
        kernel.apply(&config, &[]).unwrap();
        sh("conntrack -F 2>/dev/null");
        let mut flows = BTreeSet::new();
        for _ in 0..PACKETS {
            let packet = fresh(&scene, &mut rng, &mut flows);
            let meant = scene.decide(&packet);
            let context = || format!("seed {seed}, scene {number}: {packet:?}\n{}", scene.manifests());
            assert_eq!(told(&config, &packet), meant, "explain: {}", context());
            let before = counted(&mut kernel);
            assert_eq!(witness.send(&packet), fate(&meant, &packet), "kernel, {meant:?}: {}", context());
            let after = counted(&mut kernel);
            let steps = before.iter().zip(&after).filter(|(before, after)| before != after);
            let counted: Vec<_> = steps.map(|(before, after)| (&after.0, &after.1, after.2 - before.2)).collect();
            let expected = meant.action.map(|_| (&meant.rule, &meant.service, 1));
            assert_eq!(counted, Vec::from_iter(expected), "counters, {meant:?}: {}", context());
            *seen.entry(format!("{:?}{}", meant.action, if meant.alg { " by ALG" } else { "" })).or_default() += 1;
        }
    }
    kernel.stop().unwrap();
    println!("{seen:?}");
    assert_eq!(seen.len(), 6, "every outcome has to occur: {seen:?}");
}
