//! What `callgate-operator` can be told: flags, and the same as environment variables.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use clap::{Parser, ValueEnum};
use ipnet::Ipv4Net;
use jiff::SignedDuration;

use crate::endpoint::Place;
use crate::tls::Lifetimes;

/// Where kubectl-callgate's port-forward leads, unless told otherwise.
const LOCAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, callgate_proto::OPERATOR_API_PORT));

/// Callgate's operator: compiles objects, gives every node its configuration, writes status.
#[derive(Debug, Clone, Parser)]
#[command(name = "callgate-operator", version)]
pub struct Args {
    /// Namespace of the operator, of the predefined objects, and of everything it keeps
    #[arg(long, env = "CALLGATE_NAMESPACE", value_name = "NAMESPACE", default_value = callgate_crds::SYSTEM_NAMESPACE)]
    pub namespace: String,
    /// Name of this pod: it stands in the Lease and in events
    #[arg(long, env = "CALLGATE_POD_NAME", value_name = "NAME", default_value = "callgate-operator")]
    pub pod_name: String,
    /// Address of this pod: where the Service leads while this operator leads. Left out: nobody is told
    #[arg(long, env = "CALLGATE_POD_IP", value_name = "IP")]
    pub pod_ip: Option<IpAddr>,
    /// Where agents connect (gRPC over TLS)
    #[arg(long, env = "CALLGATE_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:9443")]
    pub listen: SocketAddr,
    /// Where probes and Prometheus connect (plain HTTP)
    #[arg(long, env = "CALLGATE_HTTP", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub http: SocketAddr,
    /// Where kubectl-callgate connects (gRPC, plain): only through a port-forward, so only on loopback
    #[arg(long, env = "CALLGATE_LOCAL", value_name = "ADDRESS", default_value_t = LOCAL, value_parser = loopback)]
    pub local: SocketAddr,
    /// Name of the Service that agents dial; its DNS names stand in the certificate
    #[arg(long, env = "CALLGATE_SERVICE", value_name = "NAME", default_value = "callgate-operator")]
    pub service: String,
    /// Further name or address in the certificate; may be repeated
    #[arg(long = "server-name", env = "CALLGATE_SERVER_NAMES", value_name = "NAME", value_delimiter = ',')]
    pub server_names: Vec<String>,
    /// Service account of the agents, in the operator's namespace
    #[arg(long, env = "CALLGATE_AGENT_ACCOUNT", value_name = "NAME", default_value = "callgate-dataplane")]
    pub agent_account: String,
    /// Audience that agents' tokens must be for
    #[arg(long, env = "CALLGATE_AUDIENCE", value_name = "AUDIENCE", default_value = "callgate-operator")]
    pub audience: String,
    /// Network of the cluster beside those that are found (podCIDRs, ServiceCIDRs, node addresses); may be repeated
    #[arg(long = "cluster-cidr", env = "CALLGATE_CLUSTER_CIDRS", value_name = "CIDR", value_delimiter = ',')]
    pub cluster_cidrs: Vec<Ipv4Net>,
    /// Name of the Lease by which one of several operators leads
    #[arg(long, env = "CALLGATE_LEASE", value_name = "NAME", default_value = callgate_proto::OPERATOR_LEASE)]
    pub lease: String,
    /// Name of the Secret with the authority, and of the ConfigMap with its certificates for agents
    #[arg(long, env = "CALLGATE_CA", value_name = "NAME", default_value = "callgate-ca")]
    pub ca: String,
    /// How long an authority lasts; its successor is made when a third is left
    #[arg(long, env = "CALLGATE_CA_LIFETIME", value_name = "DURATION", default_value = "8760h", value_parser = duration)]
    pub ca_lifetime: SignedDuration,
    /// From publishing a new authority to signing with it: agents must have read it by then; below a third of --ca-lifetime
    #[arg(long, env = "CALLGATE_CA_OVERLAP", value_name = "DURATION", default_value = "24h", value_parser = duration)]
    pub ca_overlap: SignedDuration,
    /// How long the served certificate lasts; it is renewed when a third is left
    #[arg(long, env = "CALLGATE_CERT_LIFETIME", value_name = "DURATION", default_value = "168h", value_parser = duration)]
    pub cert_lifetime: SignedDuration,
    /// How log lines look; RUST_LOG chooses which
    #[arg(long, env = "CALLGATE_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Args {
    /// How long certificates last.
    ///
    /// # Errors
    /// Where one does not go with another, for people.
    pub fn lifetimes(&self) -> Result<Lifetimes, String> {
        Lifetimes { authority: self.ca_lifetime, overlap: self.ca_overlap, leaf: self.cert_lifetime }.check()
    }

    /// Where the Service is to lead.
    pub fn place(&self) -> Option<Place> {
        Some(Place {
            namespace: self.namespace.clone(),
            service: self.service.clone(),
            pod: self.pod_name.clone(),
            address: SocketAddr::new(self.pod_ip?, self.listen.port()),
        })
    }

    /// Every name the server is dialled by.
    pub fn names(&self) -> Vec<String> {
        let (service, namespace) = (&self.service, &self.namespace);
        let own = [
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
            service.clone(),
        ];
        own.into_iter().chain(self.server_names.iter().cloned()).collect()
    }
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    let duration: SignedDuration = text.parse().map_err(|_| "write a duration such as 24h or 90m".to_owned())?;
    if duration.is_positive() { Ok(duration) } else { Err("write a duration above zero".to_owned()) }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "write ADDRESS:PORT".to_owned())?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err("it asks nobody who he is: only 127.0.0.1 (or ::1) is allowed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags_are_consistent_and_defaults_can_be_read() {
        Args::command().debug_assert();
        let args = Args::try_parse_from(["x"]).unwrap();
        assert_eq!(args.lifetimes(), Ok(Lifetimes::default()));
        assert_eq!(args.names()[0], "callgate-operator.callgate-system.svc");
    }

    #[test]
    fn what_asks_nobody_who_he_is_stays_on_loopback() {
        assert!(Args::try_parse_from(["x", "--local", "0.0.0.0:7443"]).is_err());
    }
}
