//! Explanations without an agent: what the manifests would make of a packet.

use std::net::Ipv4Addr;
use std::path::Path;

use callgate_compile::explain::{Explanation, Packet, explain as explain_packet, meant, tell_missing};
use callgate_compile::world::{STANDALONE_NODE, World};
use callgate_crds::DEFAULT_NAMESPACE;
use callgate_proto::model::{External, NodeConfig, ObjectKey};
use callgate_proto::{ASSUMED_SOURCE_PORT, pb};

use crate::args::ExplainArgs;
use crate::error::Error;
use crate::manifests::{self, Manifests};
use crate::target::Origin;

/// Of a pod whose manifest has none: one for documentation (RFC 5737).
const ASSUMED_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// What an agent that runs the manifests at `path` on a host of its own would answer. Where some have problems the answer holds for what
/// is left of them, and its note says so.
///
/// # Errors
/// Files that cannot be read, or a pod that is not among them.
pub(super) fn explain(path: &Path, args: &ExplainArgs) -> Result<pb::ExplainReply, Error> {
    let mut manifests = manifests::load(path, true)?;
    let left_out = left_out(&manifests, path);
    let Source { address: source, port, pod, assumed } = origin(&mut manifests, path, args)?;
    let packet = Packet {
        src: source,
        src_port: port.unwrap_or(ASSUMED_SOURCE_PORT),
        dst: args.to.address,
        dst_port: args.to.port.unwrap_or(0),
        protocol: args.to.protocol,
    };
    let empty = NodeConfig::default();
    let config = manifests.compiled.nodes.get(STANDALONE_NODE).map_or(&empty, AsRef::as_ref);
    let explanation = explain_packet(config, &packet);
    let (external_address, note) = external(&explanation);
    let of_a_host = explanation.rule.as_ref().and_then(|rule| of_a_host(&manifests.world, rule));
    let notes = [left_out, assumed, Some(note), of_a_host];
    let notes: Vec<String> = notes.into_iter().flatten().filter(|note| !note.is_empty()).collect();
    let mut reply = pb::ExplainReply {
        external_address,
        from_pod: pod.as_ref().map(ToString::to_string).unwrap_or_default(),
        note: notes.join("; "),
        ..pb::ExplainReply::from(&explanation)
    };
    tell_missing(&mut reply, meant(&manifests.world, &manifests.compiled.statuses, pod.as_ref(), source));
    Ok(reply)
}

/// That the answer is not that of all manifests.
fn left_out(manifests: &Manifests, path: &Path) -> Option<String> {
    let number = manifests.problems.len() as u64;
    let (number, path) = (crate::human::count(number, "problem"), path.display());
    (!manifests.problems.is_empty()).then(|| {
        format!("{number} in these manifests, left out of the answer: `kubectl callgate check -f {path}` says which")
    })
}

/// Where the packet comes from.
struct Source {
    address: Ipv4Addr,
    /// The port, if one was given.
    port: Option<u16>,
    /// The pod that has the address, if there is one.
    pod: Option<ObjectKey>,
    /// That the address is not the manifests'.
    assumed: Option<String>,
}

/// The pod or the address that was asked about.
fn origin(manifests: &mut Manifests, path: &Path, args: &ExplainArgs) -> Result<Source, Error> {
    let pods = &manifests.world.pods;
    match &args.from {
        Origin::Address(address, port) => {
            let holder = pods.iter().find(|(_, pod)| !pod.finished && pod.addresses.contains(address));
            let pod = holder.map(|(key, _)| key.clone());
            Ok(Source { address: *address, port: *port, pod, assumed: None })
        }
        Origin::Pod(namespace, name) => {
            let key = ObjectKey::new(args.namespace_of(namespace.as_deref(), DEFAULT_NAMESPACE), name);
            let path = path.display();
            let pod = pods.get(&key).ok_or_else(|| {
                Error::Usage(format!(
                    "--from: there is no Pod {key} in {path}; pass its IP, or -n NAMESPACE if it is in another"
                ))
            })?;
            let address = pod.addresses.first().copied();
            let assumed = address.is_none().then(|| {
                // Written by hand, a Pod has no status.
                manifests.assume_address(&key, ASSUMED_ADDRESS);
                format!("Pod {key} has no IPv4 address in status.podIP; {ASSUMED_ADDRESS} is assumed")
            });
            Ok(Source { address: address.unwrap_or(ASSUMED_ADDRESS), port: None, pod: Some(key), assumed })
        }
    }
}

/// That `rule` decides on a host only: a cluster does not take it.
fn of_a_host(world: &World, rule: &ObjectKey) -> Option<String> {
    let source = &world.rules.get(rule).filter(|_| rule.namespace != world.operator_namespace)?.spec.source;
    let field = match source.namespace_selector {
        Some(_) => "source.namespaceSelector",
        None if !source.cidrs.is_empty() => "source.cidrs",
        None => return None,
    };
    let system = &world.operator_namespace;
    Some(format!("this is the answer of a single host: a cluster takes {field} only from rules in namespace {system}"))
}

/// The address NAT gives, and what to say where only a running node knows it.
fn external(explanation: &Explanation) -> (String, String) {
    match explanation.external {
        Some(External::Address(address)) => (address.to_string(), String::new()),
        Some(External::NodeAddress) => (
            String::new(),
            "NAT gives the node's own address on its way to the destination; a running agent tells which".into(),
        ),
        None => Default::default(),
    }
}
