//! Node configurations for tests, written short.

use callgate_proto::model::{
    Action, ControlConnection, External, Match, NodeConfig, ObjectKey, PortRange, PptpAlg, Rule, Service, Source,
    Validation,
};

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("pos", name)
}

fn range(text: &str) -> PortRange {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    PortRange { first: first.parse().unwrap(), last: last.parse().unwrap() }
}

/// A match: protocol, destination ports (`"80,443,1000-2000"`, empty is any).
pub(crate) fn ports(protocol: u8, destination: &str) -> Match {
    let destination_ports = destination.split(',').filter(|part| !part.is_empty()).map(range).collect();
    Match { protocol: Some(protocol), source_ports: Vec::new(), destination_ports }
}

/// A service without limits.
pub(crate) fn service(name: &str, matches: &[Match]) -> Service {
    Service {
        key: key(name),
        matches: matches.to_vec(),
        alg: None,
        max_sessions: 0,
        forward_icmp_errors: true,
        timeouts: None,
    }
}

pub(crate) fn tcp(name: &str, destination: &str) -> Service {
    service(name, &[ports(6, destination)])
}

pub(crate) fn udp(name: &str, destination: &str) -> Service {
    service(name, &[ports(17, destination)])
}

pub(crate) fn anything(name: &str) -> Service {
    service(name, &[Match { protocol: None, source_ports: Vec::new(), destination_ports: Vec::new() }])
}

/// PPTP's control connection, with its ALG.
pub(crate) fn pptp() -> Service {
    Service { alg: Some(0), ..tcp("pptp-ctl", "1723") }
}

/// Builds a configuration rule by rule; services are shared by name, every source gets the rules given for it.
#[derive(Default)]
pub(crate) struct Config {
    config: NodeConfig,
    sources: Vec<(ipnet::Ipv4Net, Vec<u32>)>,
}

pub(crate) const POD_A: &str = "10.244.1.2/32";
pub(crate) const POD_B: &str = "10.244.2.2/32";
pub(crate) const ANYWHERE: &[&str] = &["0.0.0.0/0"];

impl Config {
    pub(crate) fn new() -> Self {
        let alg = PptpAlg {
            key: key("pptp"),
            echo_timeout_ms: 0,
            idle_timeout_ms: 0,
            max_calls: 0,
            control_connection: ControlConnection::PerClient,
            validation: Validation::Strict,
        };
        let config = NodeConfig {
            node: "standalone".into(),
            cluster_nets: vec!["10.96.0.0/12".parse().unwrap(), "10.244.0.0/16".parse().unwrap()],
            algs: vec![alg],
            ..NodeConfig::default()
        };
        Self { config, sources: Vec::new() }
    }

    /// Adds a rule at the end, for these sources.
    pub(crate) fn rule(self, name: &str, action: Action, from: &[&str], to: &[&str], services: &[Service]) -> Self {
        self.full(name, action, External::NodeAddress, false, from, to, services)
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn full(
        mut self,
        name: &str,
        action: Action,
        external: External,
        log: bool,
        from: &[&str],
        to: &[&str],
        services: &[Service],
    ) -> Self {
        let index = self.config.rules.len() as u32;
        let services = services.iter().map(|service| self.service_index(service)).collect();
        let destinations = to.iter().map(|net| net.parse().unwrap()).collect();
        self.config.rules.push(Rule { key: key(name), action, destinations, services, external, log });
        for source in from {
            let net = source.parse().unwrap();
            match self.sources.iter_mut().find(|(known, _)| *known == net) {
                Some((_, list)) => list.push(index),
                None => self.sources.push((net, vec![index])),
            }
        }
        self
    }

    fn service_index(&mut self, service: &Service) -> u32 {
        let services = &mut self.config.services;
        let index = services.iter().position(|known| known == service).unwrap_or_else(|| {
            services.push(service.clone());
            services.len() - 1
        });
        index as u32
    }

    pub(crate) fn build(self) -> NodeConfig {
        let mut config = self.config;
        config.chains = self.sources.iter().map(|(_, list)| list.clone()).collect();
        config.chains.sort();
        config.chains.dedup();
        let chain = |list| config.chains.iter().position(|known| known == list).unwrap() as u32;
        config.sources = self.sources.iter().map(|(net, list)| Source { net: *net, chain: chain(list) }).collect();
        config.sources.sort();
        config
    }
}
