//! Whose packet a question is about, and an answer for when its agent is away.

use std::net::Ipv4Addr;

use callgate_compile::explain::{Packet, explain};
use callgate_compile::world::World;
use callgate_proto::model::{NodeConfig, ObjectKey};
use callgate_proto::{ASSUMED_SOURCE_PORT, pb};
use tonic::Status;

use crate::facts::Holders;

/// Where a packet comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) address: Ipv4Addr,
    pub(super) pod: ObjectKey,
    pub(super) node: String,
}

/// The pod called `from`, or that has this address.
pub(super) fn origin(world: &World, from: &str) -> Result<Origin, Status> {
    let (address, key, pod) = match from.parse::<Ipv4Addr>() {
        Ok(address) => {
            let holders = Holders::of(world);
            let found = holders.get(address).and_then(|(key, _)| world.pods.get_key_value(key));
            let (key, pod) = found.ok_or_else(|| {
                Status::not_found(format!("--from {from}: no pod has this address: name a pod as NAMESPACE/POD"))
            })?;
            (address, key.clone(), &**pod)
        }
        Err(_) => {
            let Some((namespace, name)) = from.split_once('/') else {
                return Err(Status::invalid_argument(format!(
                    "--from {from:?} is neither an IPv4 address nor NAMESPACE/POD: write one of them"
                )));
            };
            let key = ObjectKey::new(namespace, name);
            let pod = world.pods.get(&key).map(|pod| &**pod);
            let pod =
                pod.ok_or_else(|| Status::not_found(format!("--from {from}: there is no running pod of that name")))?;
            if pod.host_network {
                return Err(Status::failed_precondition(format!(
                    "--from {from}: the pod uses its node's network, and no rule selects such pods"
                )));
            }
            let address = pod.addresses.first().copied();
            let why = || Status::failed_precondition(format!("--from {from}: the pod has no IPv4 address yet"));
            (address.ok_or_else(why)?, key, pod)
        }
    };
    let node = pod.node.clone();
    let node = node.ok_or_else(|| Status::failed_precondition(format!("--from {from}: the pod is on no node yet")))?;
    Ok(Origin { address, pod: key, node })
}

/// What the node's configuration says, without its agent, and `why` without: the external address is not known then.
pub(super) fn from_wanted(
    config: &NodeConfig,
    request: &pb::ExplainRequest,
    why: &str,
) -> Result<pb::ExplainReply, Status> {
    let address = |field: &str, text: &str| {
        text.parse()
            .map_err(|_| Status::invalid_argument(format!("{field} {text:?} is not an IPv4 address: write one")))
    };
    let port = |field: &str, port: Option<u32>, absent: u16| {
        let wrong = |_| Status::invalid_argument(format!("{field} is not a port: write 0 to 65535"));
        port.map_or(Ok(absent), |port| u16::try_from(port).map_err(wrong))
    };
    let packet = Packet {
        src: address("--from", &request.from)?,
        src_port: port("from_port", request.from_port, ASSUMED_SOURCE_PORT)?,
        dst: address("--to", &request.to)?,
        dst_port: port("to_port", request.to_port, 0)?,
        protocol: u8::try_from(request.protocol)
            .map_err(|_| Status::invalid_argument(format!("protocol {}: write 0 to 255", request.protocol)))?,
    };
    Ok(pb::ExplainReply {
        note: format!("{why}; this is what it should do, not what it says it does"),
        ..pb::ExplainReply::from(&explain(config, &packet))
    })
}
