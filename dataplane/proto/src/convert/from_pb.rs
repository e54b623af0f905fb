//! pb → model: every field present and in range, or an error with its path.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{ConvertError, check};
use crate::{model, pb};

type Result<T> = std::result::Result<T, ConvertError>;

/// Converts a list; an error says which element.
fn each<P, M: TryFrom<P, Error = ConvertError>>(field: &str, list: Vec<P>) -> Result<Vec<M>> {
    let convert = |(i, value)| M::try_from(value).map_err(|e: ConvertError| e.within(&format!("{field}[{i}]")));
    list.into_iter().enumerate().map(convert).collect()
}

/// Converts a message that has to be there.
fn required<P, M: TryFrom<P, Error = ConvertError>>(field: &str, value: Option<P>) -> Result<M> {
    let value = value.ok_or_else(|| ConvertError::field(field, "is missing"))?;
    M::try_from(value).map_err(|e: ConvertError| e.within(field))
}

/// An enum value this version knows, which may still be the unspecified one.
fn known<E: TryFrom<i32>>(field: &str, value: i32) -> Result<E> {
    let unknown =
        |_| ConvertError::field(field, format!("{value} is not known here; the sender may be newer than this"));
    E::try_from(value).map_err(unknown)
}

fn unspecified(field: &str) -> ConvertError {
    ConvertError::field(field, "is not set")
}

fn nets(field: &str, list: Vec<pb::Ipv4Net>) -> Result<Vec<Ipv4Net>> {
    let convert = |(i, value)| net(value).map_err(|e| e.within(&format!("{field}[{i}]")));
    list.into_iter().enumerate().map(convert).collect()
}

fn net(net: pb::Ipv4Net) -> Result<Ipv4Net> {
    let address = Ipv4Addr::from_bits(net.address);
    let bad_length = || ConvertError::field("prefix_length", format!("{} is above 32", net.prefix_length));
    let length = u8::try_from(net.prefix_length).map_err(|_| bad_length())?;
    let net = Ipv4Net::new(address, length).map_err(|_| bad_length())?;
    if net.addr() != net.network() {
        return Err(ConvertError::field("address", format!("{net} has host bits; {} is the network", net.trunc())));
    }
    Ok(net)
}

impl TryFrom<pb::NodeConfig> for model::NodeConfig {
    type Error = ConvertError;

    fn try_from(config: pb::NodeConfig) -> Result<Self> {
        let pb::NodeConfig { node, cluster_nets, rules, services, algs, chains, sources } = config;
        let config = Self {
            node,
            cluster_nets: nets("cluster_nets", cluster_nets)?,
            rules: each("rules", rules)?,
            services: each("services", services)?,
            algs: each("algs", algs)?,
            chains: chains.into_iter().map(|chain| chain.rules).collect(),
            sources: each("sources", sources)?,
        };
        check::node_config(&config)?;
        Ok(config)
    }
}

impl TryFrom<pb::ObjectKey> for model::ObjectKey {
    type Error = ConvertError;

    fn try_from(key: pb::ObjectKey) -> Result<Self> {
        if key.name.is_empty() {
            return Err(ConvertError::field("name", "is empty"));
        }
        Ok(Self { namespace: key.namespace, name: key.name })
    }
}

impl TryFrom<pb::Source> for model::Source {
    type Error = ConvertError;

    fn try_from(source: pb::Source) -> Result<Self> {
        let block = source.net.ok_or_else(|| ConvertError::field("net", "is missing"))?;
        Ok(Self { net: net(block).map_err(|e| e.within("net"))?, chain: source.chain })
    }
}

impl TryFrom<pb::Rule> for model::Rule {
    type Error = ConvertError;

    fn try_from(rule: pb::Rule) -> Result<Self> {
        let pb::Rule { key, action, destinations, services, external, log } = rule;
        let action = match known("action", action)? {
            pb::Action::Unspecified => return Err(unspecified("action")),
            pb::Action::Nat => model::Action::Nat,
            pb::Action::Allow => model::Action::Allow,
            pb::Action::Drop => model::Action::Drop,
            pb::Action::Reject => model::Action::Reject,
        };
        Ok(Self {
            key: required("key", key)?,
            action,
            destinations: nets("destinations", destinations)?,
            services,
            external: required("external", external)?,
            log,
        })
    }
}

impl TryFrom<pb::External> for model::External {
    type Error = ConvertError;

    fn try_from(external: pb::External) -> Result<Self> {
        match external.kind {
            None => Err(unspecified("kind")),
            Some(pb::external::Kind::NodeAddress(pb::NodeAddress {})) => Ok(Self::NodeAddress),
            Some(pb::external::Kind::Address(bits)) => Ok(Self::Address(Ipv4Addr::from_bits(bits))),
        }
    }
}

impl TryFrom<pb::Service> for model::Service {
    type Error = ConvertError;

    fn try_from(service: pb::Service) -> Result<Self> {
        let pb::Service { key, matches, alg, max_sessions, forward_icmp_errors, timeouts } = service;
        Ok(Self {
            key: required("key", key)?,
            matches: each("matches", matches)?,
            alg,
            max_sessions,
            forward_icmp_errors,
            timeouts: timeouts.map(|t| model::Timeouts {
                initial: t.initial,
                established: t.established,
                closing: t.closing,
            }),
        })
    }
}

impl TryFrom<pb::Match> for model::Match {
    type Error = ConvertError;

    fn try_from(entry: pb::Match) -> Result<Self> {
        let number = |p: u32| {
            u8::try_from(p)
                .map_err(|_| ConvertError::field("protocol", format!("{p} is above 255, the last IP protocol")))
        };
        Ok(Self {
            protocol: entry.protocol.map(number).transpose()?,
            source_ports: each("source_ports", entry.source_ports)?,
            destination_ports: each("destination_ports", entry.destination_ports)?,
        })
    }
}

impl TryFrom<pb::PortRange> for model::PortRange {
    type Error = ConvertError;

    fn try_from(range: pb::PortRange) -> Result<Self> {
        let port = |field: &str, value: u32| {
            u16::try_from(value)
                .map_err(|_| ConvertError::field(field, format!("{value} is above 65535, the last port")))
        };
        Ok(Self { first: port("first", range.first)?, last: port("last", range.last)? })
    }
}

impl TryFrom<pb::PptpAlg> for model::PptpAlg {
    type Error = ConvertError;

    fn try_from(alg: pb::PptpAlg) -> Result<Self> {
        let pb::PptpAlg { key, echo_timeout_ms, idle_timeout_ms, max_calls, control_connection, validation } = alg;
        let control_connection = match known("control_connection", control_connection)? {
            pb::ControlConnection::Unspecified => return Err(unspecified("control_connection")),
            pb::ControlConnection::PerClient => model::ControlConnection::PerClient,
            pb::ControlConnection::Shared => model::ControlConnection::Shared,
            pb::ControlConnection::Auto => model::ControlConnection::Auto,
        };
        let validation = match known("validation", validation)? {
            pb::Validation::Unspecified => return Err(unspecified("validation")),
            pb::Validation::Strict => model::Validation::Strict,
            pb::Validation::Permissive => model::Validation::Permissive,
        };
        let key = required("key", key)?;
        Ok(Self { key, echo_timeout_ms, idle_timeout_ms, max_calls, control_connection, validation })
    }
}
