//! model → pb: cannot fail, keeps every order.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::{model, pb};

fn all<'a, M, P: From<&'a M>>(list: &'a [M]) -> Vec<P> {
    list.iter().map(P::from).collect()
}

fn bits(address: Ipv4Addr) -> u32 {
    address.to_bits()
}

impl From<&Ipv4Net> for pb::Ipv4Net {
    fn from(net: &Ipv4Net) -> Self {
        Self { address: bits(net.addr()), prefix_length: net.prefix_len().into() }
    }
}

impl From<&model::ObjectKey> for pb::ObjectKey {
    fn from(key: &model::ObjectKey) -> Self {
        Self { namespace: key.namespace.clone(), name: key.name.clone() }
    }
}

impl From<&model::NodeConfig> for pb::NodeConfig {
    fn from(config: &model::NodeConfig) -> Self {
        let model::NodeConfig { node, cluster_nets, rules, services, algs, chains, sources } = config;
        Self {
            node: node.clone(),
            cluster_nets: all(cluster_nets),
            rules: all(rules),
            services: all(services),
            algs: all(algs),
            chains: chains.iter().map(|rules| pb::Chain { rules: rules.clone() }).collect(),
            sources: all(sources),
        }
    }
}

impl From<&model::Source> for pb::Source {
    fn from(source: &model::Source) -> Self {
        Self { net: Some((&source.net).into()), chain: source.chain }
    }
}

impl From<&model::Rule> for pb::Rule {
    fn from(rule: &model::Rule) -> Self {
        let model::Rule { key, action, destinations, services, external, log } = rule;
        Self {
            key: Some(key.into()),
            action: pb::Action::from(*action).into(),
            destinations: all(destinations),
            services: services.clone(),
            external: Some((*external).into()),
            log: *log,
        }
    }
}

impl From<model::Action> for pb::Action {
    fn from(action: model::Action) -> Self {
        match action {
            model::Action::Nat => Self::Nat,
            model::Action::Allow => Self::Allow,
            model::Action::Drop => Self::Drop,
            model::Action::Reject => Self::Reject,
        }
    }
}

impl From<model::External> for pb::External {
    fn from(external: model::External) -> Self {
        let kind = match external {
            model::External::NodeAddress => pb::external::Kind::NodeAddress(pb::NodeAddress {}),
            model::External::Address(address) => pb::external::Kind::Address(bits(address)),
        };
        Self { kind: Some(kind) }
    }
}

impl From<&model::Service> for pb::Service {
    fn from(service: &model::Service) -> Self {
        let model::Service { key, matches, alg, max_sessions, forward_icmp_errors, timeouts } = service;
        Self {
            key: Some(key.into()),
            matches: all(matches),
            alg: *alg,
            max_sessions: *max_sessions,
            forward_icmp_errors: *forward_icmp_errors,
            timeouts: timeouts.as_ref().map(pb::Timeouts::from),
        }
    }
}

impl From<&model::Match> for pb::Match {
    fn from(entry: &model::Match) -> Self {
        let model::Match { protocol, source_ports, destination_ports } = entry;
        Self {
            protocol: protocol.map(u32::from),
            source_ports: all(source_ports),
            destination_ports: all(destination_ports),
        }
    }
}

impl From<&model::PortRange> for pb::PortRange {
    fn from(range: &model::PortRange) -> Self {
        Self { first: range.first.into(), last: range.last.into() }
    }
}

impl From<&model::Timeouts> for pb::Timeouts {
    fn from(timeouts: &model::Timeouts) -> Self {
        let model::Timeouts { initial, established, closing } = *timeouts;
        Self { initial, established, closing }
    }
}

impl From<&model::PptpAlg> for pb::PptpAlg {
    fn from(alg: &model::PptpAlg) -> Self {
        let model::PptpAlg { key, echo_timeout_ms, idle_timeout_ms, max_calls, control_connection, validation } = alg;
        let control_connection = match control_connection {
            model::ControlConnection::PerClient => pb::ControlConnection::PerClient,
            model::ControlConnection::Shared => pb::ControlConnection::Shared,
            model::ControlConnection::Auto => pb::ControlConnection::Auto,
        };
        let validation = match validation {
            model::Validation::Strict => pb::Validation::Strict,
            model::Validation::Permissive => pb::Validation::Permissive,
        };
        Self {
            key: Some(key.into()),
            echo_timeout_ms: *echo_timeout_ms,
            idle_timeout_ms: *idle_timeout_ms,
            max_calls: *max_calls,
            control_connection: control_connection.into(),
            validation: validation.into(),
        }
    }
}
