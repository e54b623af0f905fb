//! Random rule sets as manifests, with an evaluation of their own that neither compile nor the kernel had a hand in.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use callgate_compile::explain::Packet;
use callgate_proto::model::Action;
use ipnet::Ipv4Net;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// Networks of the inside, never looked at.
pub(crate) const CLUSTER: [&str; 2] = ["10.96.0.0/12", "10.244.0.0/16"];

/// Where packets come from: all of it is behind pod A.
const SOURCES: [&str; 8] = [
    "10.244.8.0/22",
    "10.244.8.0/24",
    "10.244.9.0/25",
    "10.244.9.64/26",
    "10.244.10.7/32",
    "10.244.10.8/32",
    "10.244.10.0/28",
    "10.244.11.1/32",
];

/// Where they go: nested, so that exceptions cut and first matches differ. Two are inside the cluster.
const DESTINATIONS: [&str; 10] = [
    "0.0.0.0/0",
    "198.18.0.0/15",
    "198.18.0.0/16",
    "198.18.4.0/22",
    "198.18.4.0/24",
    "198.18.5.128/25",
    "198.18.7.9/32",
    "198.19.0.0/16",
    "10.96.0.0/16",
    "10.0.0.0/8",
];

const PORTS: [u16; 14] = [1, 22, 53, 79, 80, 81, 443, 1023, 1024, 1723, 8000, 8050, 8100, 65535];

/// What a service matches.
#[derive(Debug, Clone)]
enum Kind {
    Leaf { protocol: &'static str, source: Vec<(u16, u16)>, destination: Vec<(u16, u16)>, alg: bool },
    Group(Vec<usize>),
}

#[derive(Debug, Clone)]
struct Rule {
    order: u32,
    action: Action,
    from: Vec<&'static str>,
    to: Vec<&'static str>,
    except: Vec<&'static str>,
    services: Vec<usize>,
}

/// What happens to a packet: the action, and names of rule and (leaf) service, and whether it goes through the ALG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) action: Option<Action>,
    pub(crate) rule: String,
    pub(crate) service: String,
    pub(crate) alg: bool,
}

/// A rule set.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    services: Vec<Kind>,
    rules: Vec<Rule>,
}

fn some<T: Copy>(rng: &mut StdRng, from: &[T], most: usize) -> Vec<T> {
    let count = rng.random_range(1..=most);
    from.choose_multiple(rng, count).copied().collect()
}

fn ranges(rng: &mut StdRng) -> Vec<(u16, u16)> {
    let mut ports: Vec<u16> = some(rng, &PORTS, 6);
    ports.sort_unstable();
    let range = |pair: &[u16]| (pair[0], *pair.last().unwrap_or(&pair[0]));
    if rng.random_bool(0.3) {
        return Vec::new();
    }
    match rng.random_bool(0.5) {
        true => ports.chunks(2).map(range).collect(),
        false => ports.chunks(1).map(range).collect(),
    }
}

/// The first, the last or any address of a block.
fn inside(net: &str, rng: &mut StdRng) -> Ipv4Addr {
    let net: Ipv4Net = net.parse().unwrap();
    let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
    Ipv4Addr::from(*[first, last, rng.random_range(first..=last)].choose(rng).unwrap())
}

fn leaf(rng: &mut StdRng) -> Kind {
    let protocol = *["TCP", "TCP", "UDP", "UDP", "TCPUDP", "ICMP", "ANY", "50", "51", "17"].choose(rng).unwrap();
    let with_ports = protocol.contains('P') && protocol != "ICMP";
    let alg = protocol == "TCP" && rng.random_bool(0.5);
    let mut ports = |likely| if with_ports && rng.random_bool(likely) { ranges(rng) } else { Vec::new() };
    let (source, mut destination) = (ports(0.3), ports(0.9));
    if alg {
        destination = vec![(1723, 1723)];
    }
    Kind::Leaf { protocol, source, destination, alg }
}

impl Scene {
    pub(crate) fn random(rng: &mut StdRng) -> Self {
        let mut services: Vec<Kind> = (0..rng.random_range(3..10)).map(|_| leaf(rng)).collect();
        let control = vec![(1723, 1723)];
        services.push(Kind::Leaf { protocol: "TCP", source: Vec::new(), destination: control, alg: true });
        let plain = |services: &[Kind]| -> Vec<usize> {
            let plain = |kind: &Kind| matches!(kind, Kind::Leaf { alg: false, .. } | Kind::Group(_));
            (0..services.len()).filter(|index| plain(&services[*index])).collect()
        };
        for _ in 0..rng.random_range(0..3) {
            let members = plain(&services);
            if !members.is_empty() {
                services.push(Kind::Group(some(rng, &members, 3)));
            }
        }
        let all: Vec<usize> = (0..services.len()).collect();
        let without_alg = plain(&services);
        let mut rules = Vec::new();
        for number in 0..rng.random_range(2..14) {
            let action = *[Action::Nat, Action::Nat, Action::Allow, Action::Drop, Action::Reject].choose(rng).unwrap();
            let usable = if action == Action::Nat { &all } else { &without_alg };
            if usable.is_empty() {
                continue;
            }
            rules.push(Rule {
                // Orders that differ, but not in the order of the names.
                order: number * 7 % 15 * 10,
                action,
                from: some(rng, &SOURCES, 3),
                to: some(rng, &DESTINATIONS, 3),
                except: if rng.random_bool(0.4) { some(rng, &DESTINATIONS[1..], 2) } else { Vec::new() },
                services: some(rng, usable, 3),
            });
        }
        Self { services, rules }
    }

    /// The same as manifests.
    pub(crate) fn manifests(&self) -> String {
        let mut text = String::from(
            "apiVersion: callgate.io/v1alpha1\nkind: PptpAlg\nmetadata: {name: alg, namespace: pos}\nspec: {}\n",
        );
        let ports = |ranges: &[(u16, u16)]| {
            let one =
                |(first, last): &(u16, u16)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
            ranges.iter().map(one).collect::<Vec<_>>().join(",")
        };
        let names =
            |indices: &[usize]| indices.iter().map(|i| format!("{{name: s{i}}}")).collect::<Vec<_>>().join(", ");
        for (index, kind) in self.services.iter().enumerate() {
            let spec = match kind {
                Kind::Group(members) => format!("{{members: [{}]}}", names(members)),
                Kind::Leaf { protocol, source, destination, alg } => {
                    let mut spec = format!("{{protocol: {protocol}, maxSessions: 0");
                    for (field, ranges) in [("sourcePorts", source), ("destinationPorts", destination)] {
                        if !ranges.is_empty() {
                            write!(spec, ", {field}: \"{}\"", ports(ranges)).unwrap();
                        }
                    }
                    spec + if *alg { ", algRef: {kind: PptpAlg, name: alg}}" } else { "}" }
                }
            };
            text += &object("Service", &format!("s{index}"), &spec);
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let action = match rule.action {
                Action::Nat => "NAT",
                Action::Allow => "Allow",
                Action::Drop => "Drop",
                Action::Reject => "Reject",
            };
            let Rule { order, from, to, except, services, .. } = rule;
            let spec = format!(
                "{{order: {order}, action: {action}, source: {{cidrs: [{}]}}, destination: {{cidrs: [{}], except: [{}]}}, services: [{}]}}",
                from.join(", "),
                to.join(", "),
                except.join(", "),
                names(services)
            );
            text += &object("IpRule", &format!("r{index}"), &spec);
        }
        text
    }

    /// A packet near the edges of some rule, or anywhere.
    pub(crate) fn packet(&self, rng: &mut StdRng) -> Packet {
        let rule = self.rules.choose(rng).filter(|_| rng.random_bool(0.7));
        let leaf = rule.and_then(|rule| rule.services.choose(rng)).map(|service| &self.services[*service]);
        let port = |ranges: Option<&Vec<(u16, u16)>>, rng: &mut StdRng| {
            let near = match ranges.and_then(|ranges| ranges.choose(rng)) {
                Some((first, last)) => *[*first, *last].choose(rng).unwrap(),
                None => *PORTS.choose(rng).unwrap(),
            };
            let beyond = u16::from(rng.random_bool(0.15));
            near.saturating_add(beyond)
        };
        let (protocol, source, destination) = match leaf {
            Some(Kind::Leaf { protocol, source, destination, .. }) => (*protocol, Some(source), Some(destination)),
            Some(Kind::Group(_)) | None => ("ANY", None, None),
        };
        let (src_port, dst_port) = (port(source, rng), port(destination, rng));
        let any = *[1, 6, 6, 17, 17, 50, 51].choose(rng).unwrap();
        let protocol = match protocol {
            "TCP" => 6,
            "UDP" | "TCPUDP" => 17,
            "ICMP" => 1,
            number => number.parse().unwrap_or(any),
        };
        let from = rule.map_or(&SOURCES[..], |rule| &rule.from).choose(rng).unwrap();
        // The widest blocks stand for addresses that no packet can go to.
        let to = rule.map_or(&DESTINATIONS[..], |rule| &rule.to).choose(rng).unwrap();
        let to = if matches!(*to, "0.0.0.0/0" | "10.0.0.0/8") { DESTINATIONS[1..9].choose(rng).unwrap() } else { to };
        let beyond = u32::from(rng.random_bool(0.15));
        let dst = u32::from(inside(to, rng)).wrapping_add(beyond).into();
        Packet { src: inside(from, rng), src_port, dst, dst_port, protocol }
    }

    /// What the manifests say about a packet, evaluated from the text of docs/objects.md.
    pub(crate) fn decide(&self, packet: &Packet) -> Decision {
        let within = |address: &Ipv4Addr, nets: &[&str]| {
            nets.iter().any(|net| net.parse::<Ipv4Net>().unwrap().contains(address))
        };
        let mut order: Vec<usize> = (0..self.rules.len()).collect();
        order.sort_by_key(|index| self.rules[*index].order);
        if !within(&packet.dst, &CLUSTER) {
            for index in order {
                let rule = &self.rules[index];
                let selected = within(&packet.src, &rule.from) && within(&packet.dst, &rule.to);
                if !selected || within(&packet.dst, &rule.except) {
                    continue;
                }
                if let Some((service, alg)) = rule.services.iter().find_map(|service| self.leaf(*service, packet)) {
                    let (rule, service) = (format!("r{index}"), format!("s{service}"));
                    return Decision { action: Some(self.rules[index].action), rule, service, alg };
                }
            }
        }
        Decision { action: None, rule: String::new(), service: String::new(), alg: false }
    }

    fn leaf(&self, index: usize, packet: &Packet) -> Option<(usize, bool)> {
        match &self.services[index] {
            Kind::Group(members) => members.iter().find_map(|member| self.leaf(*member, packet)),
            Kind::Leaf { protocol, source, destination, alg } => {
                let among = |ranges: &[(u16, u16)], port| {
                    ranges.is_empty() || ranges.iter().any(|(first, last)| (*first..=*last).contains(&port))
                };
                let right = match *protocol {
                    "ANY" => true,
                    "TCP" => packet.protocol == 6,
                    "UDP" => packet.protocol == 17,
                    "TCPUDP" => matches!(packet.protocol, 6 | 17),
                    "ICMP" => packet.protocol == 1,
                    number => number.parse() == Ok(packet.protocol),
                };
                let matches = right && among(source, packet.src_port) && among(destination, packet.dst_port);
                matches.then_some((index, *alg))
            }
        }
    }
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: callgate.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: pos}}\nspec: {spec}\n"
    )
}
