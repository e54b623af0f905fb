//! What happens to a packet, by the configuration that runs.

use std::net::Ipv4Addr;

use callgate_compile::explain::{self, Explanation, Packet};
use callgate_proto::model::{External, NodeConfig, ObjectKey};
use callgate_proto::{ASSUMED_SOURCE_PORT, pb};
use tonic::Status;

use crate::netlink::Routes;
use crate::run::Report;

/// Where packets would leave: asked of the kernel, or of a test.
pub(super) trait Ways {
    /// The source address towards `destination` for packets with `mark`, or why there is none.
    fn source(&mut self, destination: Ipv4Addr, mark: u32) -> Result<Ipv4Addr, String>;
}

/// This host's routing tables.
pub(super) struct Kernel;

impl Ways for Kernel {
    fn source(&mut self, destination: Ipv4Addr, mark: u32) -> Result<Ipv4Addr, String> {
        let route = Routes::open().and_then(|routes| routes.route_to(destination, mark));
        match route {
            Ok(Some(route)) => Ok(route.source),
            Ok(None) => Err(format!("there is no route to {destination} now")),
            Err(error) => Err(format!("the kernel does not tell the route to {destination}: {error}")),
        }
    }
}

/// Answers a question, or says what is wrong with it.
pub(super) fn answer(
    report: &Report,
    request: &pb::ExplainRequest,
    ways: &mut dyn Ways,
) -> Result<pb::ExplainReply, Status> {
    let config = report.config();
    let (src, pod) = origin(report, &request.from)?;
    let protocol = u8::try_from(request.protocol)
        .map_err(|_| Status::invalid_argument(format!("protocol {} is not one: write 0 to 255", request.protocol)))?;
    let packet = Packet {
        src,
        src_port: port(request.from_port, "from_port", ASSUMED_SOURCE_PORT)?,
        dst: request.to.parse().map_err(|_| {
            Status::invalid_argument(format!("--to {:?} is not an IPv4 address: write one", request.to))
        })?,
        dst_port: port(request.to_port, "to_port", 0)?,
        protocol,
    };
    let told = explain::explain(&config, &packet);
    let (external, mut note) = external(report, &told, ways);
    if request.from_port.is_none() && note.is_empty() && by_source_port(&config, &told) {
        note = format!("the service asks for certain source ports; {ASSUMED_SOURCE_PORT} was assumed");
    }
    Ok(pb::ExplainReply {
        external_address: external.map(|address| address.to_string()).unwrap_or_default(),
        from_pod: pod.map(|pod| pod.to_string()).unwrap_or_default(),
        note,
        ..pb::ExplainReply::from(&told)
    })
}

/// The address of an address or a pod, and the pod that has it.
fn origin(report: &Report, from: &str) -> Result<(Ipv4Addr, Option<ObjectKey>), Status> {
    if let Ok(address) = from.parse::<Ipv4Addr>() {
        return Ok((address, report.holders().get(&address).cloned()));
    }
    let Some((namespace, name)) = from.split_once('/') else {
        return Err(Status::invalid_argument(format!(
            "--from {from:?} is neither an IPv4 address nor NAMESPACE/POD: write one of them"
        )));
    };
    let pod = ObjectKey::new(namespace, name);
    let address = report.holders().iter().find(|(_, holder)| **holder == pod).map(|(address, _)| *address);
    address.map(|address| (address, Some(pod))).ok_or_else(|| {
        Status::not_found(format!(
            "--from {from}: no manifest of a running pod of that name with an address in status.podIP; pass its IP"
        ))
    })
}

fn port(port: Option<u32>, field: &str, absent: u16) -> Result<u16, Status> {
    port.map_or(Ok(absent), |port| {
        u16::try_from(port)
            .map_err(|_| Status::invalid_argument(format!("{field} {port} is not a port: write 0 to 65535")))
    })
}

/// The address NAT gives, or why it cannot be told.
fn external(report: &Report, told: &Explanation, ways: &mut dyn Ways) -> (Option<Ipv4Addr>, String) {
    match (told.external, report.external) {
        (None, _) => (None, String::new()),
        (Some(External::Address(address)), _) => (Some(address), String::new()),
        // The flag is for control connections; the kernel masquerades the rest.
        (Some(External::NodeAddress), Some(address)) if told.alg.is_some() => (Some(address), String::new()),
        (Some(External::NodeAddress), _) => match ways.source(told.packet.dst, report.options.sent.value) {
            Ok(address) => (Some(address), String::new()),
            Err(note) => (None, note),
        },
    }
}

/// Whether the service that matched looks at source ports.
fn by_source_port(config: &NodeConfig, told: &Explanation) -> bool {
    let service = config.services.iter().find(|service| Some(&service.key) == told.service.as_ref());
    service.is_some_and(|service| service.matches.iter().any(|entry| !entry.source_ports.is_empty()))
}
