//! What a configuration means for the ALG: the policy of a new connection, the new policy of a live one, the ports to listen for. Pure.

use std::net::Ipv4Addr;

use callgate_compile::explain::{self, Packet};
use callgate_pptp::{Flow, Policy};
use callgate_proto::model::{
    Action, ControlConnection, External, NodeConfig, PortRange, PptpAlg, Rule, Service, Source, Validation,
};
use ipnet::Ipv4Net;

use crate::kernel::Peers;

/// IP protocol number of TCP.
const TCP: u8 = 6;

/// The rule's decision about a new control connection: its policy and which address it takes; `None` where the first rule that
/// matches has no PPTP ALG, or none matches.
#[must_use]
pub fn decide(config: &NodeConfig, flow: Flow) -> Option<(Policy, External)> {
    treated(config, flow).map(|(rule, service, alg)| (policy(rule, service, alg), rule.external))
}

/// What `decide` goes by.
fn treated(config: &NodeConfig, flow: Flow) -> Option<(&Rule, &Service, &PptpAlg)> {
    let packet = Packet {
        src: flow.client,
        src_port: flow.client_port,
        dst: flow.server,
        dst_port: flow.server_port,
        protocol: TCP,
    };
    let found = explain::first_match(config, &packet)?;
    let rule = config.rules.get(found.rule as usize)?;
    let service = config.services.get(found.service as usize)?;
    let alg = config.algs.get(found.alg? as usize)?;
    match rule.action {
        Action::Nat => Some((rule, service, alg)),
        Action::Allow | Action::Drop | Action::Reject => None,
    }
}

/// What becomes of a live connection's policy: `None` when its rule is gone (then it ends). A rule that still exists keeps its
/// established flows whatever else it says now; new limits and time-outs of its service and ALG apply at once, also where the rule
/// has that service no more, or the service that ALG.
#[must_use]
pub fn renew(config: &NodeConfig, old: &Policy) -> Option<Policy> {
    let rule = config.rules.iter().find(|rule| rule.key.is(&old.rule))?;
    let renewed = config
        .services_of(rule)
        .filter(|service| service.key.is(&old.service))
        .find_map(|service| Some(policy(rule, service, config.algs.get(service.alg? as usize)?)));
    Some(renewed.unwrap_or_else(|| {
        let mut new = old.clone();
        if let Some(service) = config.services.iter().find(|service| service.key.is(&old.service)) {
            new.max_sessions = service.max_sessions;
        }
        if let Some(alg) = config.algs.iter().find(|alg| alg.key.is(&old.alg)) {
            apply(alg, &mut new);
        }
        new
    }))
}

/// How the PptpAlg of a policy wants control connections to reach the server.
#[must_use]
pub fn control_connection(config: &NodeConfig, policy: &Policy) -> ControlConnection {
    let alg = config.algs.iter().find(|alg| alg.key.is(&policy.alg));
    alg.map_or(ControlConnection::PerClient, |alg| alg.control_connection)
}

/// TCP ports of servers whose connections go through the ALG: sorted, disjoint.
#[must_use]
pub fn server_ports(config: &NodeConfig) -> Vec<PortRange> {
    let mut ranges = Vec::new();
    for service in config.rules.iter().flat_map(|rule| config.alg_services_of(rule)) {
        for entry in service.matches.iter().filter(|m| m.protocol.is_none_or(|p| p == TCP)) {
            match entry.destination_ports.as_slice() {
                [] => ranges.push(PortRange::ALL),
                some => ranges.extend_from_slice(some),
            }
        }
    }
    PortRange::merged(ranges)
}

/// Of live connections the clients whose next segment no rule would bring to the ALG, if it were the first that the kernel sees of it;
/// of their other ends (`live`) those that no rule with an ALG knows any more.
#[must_use]
pub fn beyond(config: &NodeConfig, flows: &[Flow], mut live: Peers) -> Peers {
    let with_alg = |rule: &&Rule| config.alg_services_of(rule).next().is_some();
    let servers = config.rules.iter().filter(with_alg).flat_map(|rule| rule.destinations.iter().copied());
    let servers = Nets::new(servers);
    live.servers.retain(|server| !servers.contain(server));
    live.clients.extend(flows.iter().filter(|flow| treated(config, **flow).is_none()).map(|flow| flow.client));
    let ports = server_ports(config);
    live.ports.retain(|port| !ports.iter().any(|range| (range.first..=range.last).contains(port)));
    live
}

/// Nets, found by halving: servers and the destinations of rules may be many.
struct Nets(Vec<Ipv4Net>);

impl Nets {
    fn new(nets: impl Iterator<Item = Ipv4Net>) -> Self {
        // Sorted, and none within another.
        Self(Ipv4Net::aggregate(&nets.collect()))
    }

    fn contain(&self, address: &Ipv4Addr) -> bool {
        let before = self.0.partition_point(|net| net.network() <= *address);
        self.0.get(..before).and_then(<[Ipv4Net]>::last).is_some_and(|net| net.contains(address))
    }
}

/// One destination for each way the ALG's traffic is likely to take, at most `limit`: asked for before the first connection, so that
/// its SYN need not wait for sockets and sets.
#[must_use]
pub fn likely_servers(config: &NodeConfig, limit: usize) -> Vec<(Ipv4Addr, External)> {
    let mut servers = Vec::new();
    for rule in config.rules.iter().flat_map(|rule| config.alg_services_of(rule).map(move |_| rule)) {
        // Large blocks first: they are the default route's, small ones are single servers.
        let mut blocks = rule.destinations.clone();
        blocks.sort_by_key(Ipv4Net::prefix_len);
        let likely = blocks.iter().copied().filter_map(host_of);
        servers.extend(likely.filter(|a| !a.is_loopback() && !a.is_multicast()).take(4).map(|a| (a, rule.external)));
    }
    servers.dedup();
    servers.truncate(limit);
    servers
}

/// One client for each block of sources whose rules have an ALG, at most `limit`: their links are made ready before their first calls.
#[must_use]
pub fn likely_clients(config: &NodeConfig, limit: usize) -> Vec<Ipv4Addr> {
    let with_alg: Vec<bool> = config.rules.iter().map(|rule| config.alg_services_of(rule).next().is_some()).collect();
    let has_alg = |rule: &u32| with_alg.get(*rule as usize).copied().unwrap_or(false);
    let meets =
        |source: &&Source| config.chains.get(source.chain as usize).is_some_and(|chain| chain.iter().any(has_alg));
    config.sources.iter().filter(meets).filter_map(|source| host_of(source.net)).take(limit).collect()
}

/// A host of a block, and not the first one, which is often the router.
fn host_of(block: Ipv4Net) -> Option<Ipv4Addr> {
    block.hosts().nth(usize::from(block.prefix_len() < 31))
}

fn policy(rule: &Rule, service: &Service, alg: &PptpAlg) -> Policy {
    let mut policy = Policy {
        rule: rule.key.to_string(),
        service: service.key.to_string(),
        alg: alg.key.to_string(),
        echo_timeout_ms: 0,
        idle_timeout_ms: 0,
        max_calls: 0,
        max_sessions: service.max_sessions,
        strict: true,
    };
    apply(alg, &mut policy);
    policy
}

/// What an ALG says, into a policy that has it.
fn apply(alg: &PptpAlg, policy: &mut Policy) {
    policy.echo_timeout_ms = alg.echo_timeout_ms;
    policy.idle_timeout_ms = alg.idle_timeout_ms;
    policy.max_calls = alg.max_calls;
    policy.strict = match alg.validation {
        Validation::Strict => true,
        Validation::Permissive => false,
    };
}

#[cfg(test)]
pub(crate) mod tests {
    use callgate_proto::model::{Match, ObjectKey};

    use std::collections::BTreeSet;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("pos", name)
    }

    /// Rule `tills` for 10.0.0.0/24 to anywhere but 198.51.100.0/24, service `pptp` (port 1723) with ALG `alg`, behind it a rule
    /// `web` without ALG for port 80.
    pub(crate) fn config() -> NodeConfig {
        let service = |name: &str, port, alg| Service {
            key: key(name),
            matches: vec![Match {
                protocol: Some(6),
                source_ports: vec![],
                destination_ports: vec![PortRange { first: port, last: port }],
            }],
            alg,
            max_sessions: 200,
            forward_icmp_errors: true,
            timeouts: None,
        };
        let rule = |name: &str, service| Rule {
            key: key(name),
            action: Action::Nat,
            destinations: vec!["0.0.0.0/1".parse().unwrap(), "203.0.113.0/24".parse().unwrap()],
            services: vec![service],
            external: External::NodeAddress,
            log: false,
        };
        NodeConfig {
            node: "standalone".into(),
            cluster_nets: vec![],
            rules: vec![rule("tills", 0), rule("web", 1)],
            services: vec![service("pptp", 1723, Some(0)), service("web", 80, None)],
            algs: vec![PptpAlg {
                key: key("alg"),
                echo_timeout_ms: 180_000,
                idle_timeout_ms: 0,
                max_calls: 9,
                control_connection: ControlConnection::PerClient,
                validation: Validation::Strict,
            }],
            chains: vec![vec![0, 1]],
            sources: vec![Source { net: "10.0.0.0/24".parse().unwrap(), chain: 0 }],
        }
    }

    pub(crate) fn flow(client: [u8; 4], server: [u8; 4], server_port: u16) -> Flow {
        Flow { client: client.into(), client_port: 40_000, server: server.into(), server_port }
    }

    pub(crate) fn expected() -> Policy {
        Policy {
            rule: "pos/tills".into(),
            service: "pos/pptp".into(),
            alg: "pos/alg".into(),
            echo_timeout_ms: 180_000,
            idle_timeout_ms: 0,
            max_calls: 9,
            max_sessions: 200,
            strict: true,
        }
    }

    #[test]
    fn only_the_first_match_with_an_alg_admits() {
        let config = config();
        let decided = |client, server, port| decide(&config, flow(client, server, port));
        assert_eq!(decided([10, 0, 0, 2], [203, 0, 113, 7], 1723), Some((expected(), External::NodeAddress)));
        assert_eq!(decided([10, 0, 0, 2], [203, 0, 113, 7], 80), None, "a service without ALG");
        assert_eq!(decided([10, 0, 0, 2], [203, 0, 114, 7], 1723), None, "another destination");
        assert_eq!(decided([10, 0, 1, 2], [203, 0, 113, 7], 1723), None, "another source");
    }

    #[test]
    fn a_rule_that_does_not_nat_admits_nothing() {
        let mut config = config();
        config.rules[0].action = Action::Allow;
        assert_eq!(decide(&config, flow([10, 0, 0, 2], [203, 0, 113, 7], 1723)), None);
    }

    #[test]
    fn a_live_connection_ends_only_when_its_rule_is_gone() {
        let mut changed = config();
        changed.algs[0].echo_timeout_ms = 5_000;
        assert_eq!(renew(&changed, &expected()), Some(Policy { echo_timeout_ms: 5_000, ..expected() }));
        let mut without_service = config();
        without_service.rules[0].services = vec![1];
        assert_eq!(renew(&without_service, &expected()), Some(expected()));
        let mut without_alg = config();
        without_alg.services[0].alg = None;
        assert_eq!(renew(&without_alg, &expected()), Some(expected()));
        // What the ALG says goes on holding for it, as for all others that have it.
        for mut config in [without_service, without_alg] {
            (config.algs[0].echo_timeout_ms, config.services[0].max_sessions) = (5_000, 7);
            let renewed = Policy { echo_timeout_ms: 5_000, max_sessions: 7, ..expected() };
            assert_eq!(renew(&config, &expected()), Some(renewed));
        }
        let mut without_rule = config();
        without_rule.rules.remove(0);
        assert_eq!(renew(&without_rule, &expected()), None);
    }

    #[test]
    fn ports_of_services_with_an_alg_are_joined() {
        let mut config = config();
        config.services[0].matches[0].destination_ports =
            vec![PortRange { first: 2000, last: 2001 }, PortRange { first: 1723, last: 1723 }];
        config.services[1].alg = Some(0);
        config.services[1].matches[0].destination_ports = vec![PortRange { first: 1724, last: 1800 }];
        let joined = [PortRange { first: 1723, last: 1800 }, PortRange { first: 2000, last: 2001 }];
        assert_eq!(server_ports(&config), joined);
        config.services[1].matches[0].destination_ports = vec![];
        assert_eq!(server_ports(&config), [PortRange { first: 0, last: 65_535 }]);
    }

    #[test]
    fn ends_of_live_connections_are_beyond_the_rules_where_none_with_an_alg_knows_them() {
        let mut config = config();
        let flows = [
            flow([10, 0, 0, 2], [203, 0, 113, 7], 1723),
            flow([10, 0, 0, 3], [203, 0, 113, 7], 80),
            flow([10, 0, 0, 4], [203, 0, 114, 7], 1723),
            flow([10, 0, 1, 2], [203, 0, 113, 7], 1723),
        ];
        let clients = |last: &[[u8; 4]]| last.iter().copied().map(Ipv4Addr::from).collect();
        let live = Peers {
            clients: BTreeSet::new(),
            servers: flows.iter().map(|flow| flow.server).collect(),
            ports: [80, 1723].into(),
        };
        let found = Peers {
            clients: clients(&[[10, 0, 0, 3], [10, 0, 0, 4], [10, 0, 1, 2]]),
            servers: [[203, 0, 114, 7].into()].into(),
            ports: [80].into(),
        };
        assert_eq!(beyond(&config, &flows, live.clone()), found);
        config.services[0].alg = None;
        let all = clients(&[[10, 0, 0, 2], [10, 0, 0, 3], [10, 0, 0, 4], [10, 0, 1, 2]]);
        assert_eq!(beyond(&config, &flows, live.clone()), Peers { clients: all, ..live });
    }

    #[test]
    fn an_address_is_in_nets_when_it_is_in_one_of_them_however_they_overlap() {
        let nets = ["10.0.1.0/24", "10.0.0.0/24", "10.0.1.128/25", "10.0.4.7/32", "192.0.2.0/31", "192.0.2.2/31"];
        let nets: Vec<Ipv4Net> = nets.iter().map(|net| net.parse().unwrap()).collect();
        let found = Nets::new(nets.iter().copied());
        for address in ["9.255.255.255", "10.0.0.0", "10.0.1.200", "10.0.2.0", "10.0.4.6", "10.0.4.7", "10.0.4.8"]
            .iter()
            .chain(&["192.0.1.255", "192.0.2.0", "192.0.2.3", "192.0.2.4", "255.255.255.255", "0.0.0.0"])
        {
            let address: Ipv4Addr = address.parse().unwrap();
            assert_eq!(found.contain(&address), nets.iter().any(|net| net.contains(&address)), "{address}");
        }
        assert!(!Nets::new([].into_iter()).contain(&Ipv4Addr::UNSPECIFIED));
    }

    #[test]
    fn likely_servers_are_hosts_of_the_largest_blocks_of_rules_with_an_alg() {
        let expected: [(Ipv4Addr, External); 2] = [
            ("0.0.0.2".parse().unwrap(), External::NodeAddress),
            ("203.0.113.2".parse().unwrap(), External::NodeAddress),
        ];
        assert_eq!(likely_servers(&config(), 10), expected);
        assert_eq!(likely_servers(&config(), 1), expected[..1]);
    }

    #[test]
    fn likely_clients_are_those_whose_rules_have_an_alg() {
        let mut config = config();
        let [with, without] = [0, 1].map(|rule| config.alg_services_of(&config.rules[rule]).next().is_some());
        assert_eq!((with, without), (true, false));
        config.chains = vec![vec![0, 1], vec![1]];
        let source = |net: &str, chain| Source { net: net.parse().unwrap(), chain };
        config.sources = vec![source("10.0.0.2/32", 0), source("10.0.0.3/32", 1), source("10.0.1.0/24", 0)];
        let expected: [Ipv4Addr; 2] = [[10, 0, 0, 2].into(), [10, 0, 1, 2].into()];
        assert_eq!(likely_clients(&config, 10), expected);
        assert_eq!(likely_clients(&config, 1), expected[..1]);
    }
}
