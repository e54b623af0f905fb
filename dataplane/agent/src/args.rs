//! What `callgate-dataplane` can be told: flags, and the same as environment variables.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use callgate_proto::Optional;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::fast;
use crate::kernel::{MarkBits, Options, PortRanges, parse_u32};

/// Where systemd mounts the bpf file system.
const BPF_DIR: &str = "/sys/fs/bpf";

/// Callgate's data plane: NAT, filtering and the PPTP ALG of one host.
#[derive(Debug, Parser)]
#[command(name = "callgate-dataplane", version)]
pub struct Args {
    /// What to run.
    #[command(subcommand)]
    pub command: Command,
}

/// What to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One host without a cluster: objects from a directory instead of an API server
    Standalone(Box<Standalone>),
    /// One node of a cluster: configurations from the operator
    Agent(Box<Agent>),
    /// Puts a host back as it was before an agent that has ended: rules, links, routes, sysctls, state
    Cleanup(Box<Cleanup>),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags of `standalone`.
#[derive(Debug, ClapArgs)]
pub struct Standalone {
    /// Directory of manifests (*.yaml, *.yml); read again whenever it changes
    #[arg(long, env = "CALLGATE_MANIFESTS", value_name = "DIR")]
    pub manifests: PathBuf,
    /// Network that belongs to the inside: never looked at; may be repeated
    #[arg(long = "cluster-net", env = "CALLGATE_CLUSTER_NETS", value_name = "CIDR", value_delimiter = ',')]
    pub cluster_nets: Vec<ipnet::Ipv4Net>,
    /// Leave rules, links and state in place at the end, for the next start
    #[arg(long, env = "CALLGATE_KEEP")]
    pub keep: bool,
    /// What `agent` has too
    #[command(flatten)]
    pub common: Common,
}

/// Flags of `agent`.
#[derive(Debug, ClapArgs)]
pub struct Agent {
    /// The operator's gRPC endpoint
    #[arg(long, env = "CALLGATE_OPERATOR", value_name = "HOST:PORT")]
    pub operator: String,
    /// PEM file with every CA that may vouch for the operator; read again at each connect and when it changes
    #[arg(long, env = "CALLGATE_CA_FILE", value_name = "FILE")]
    pub ca_file: PathBuf,
    /// Name the operator's certificate must have; without it, the host of --operator
    #[arg(long, env = "CALLGATE_SERVER_NAME", value_name = "NAME")]
    pub server_name: Option<String>,
    /// File with the service-account token for the operator's audience; read again at each connect
    #[arg(long, env = "CALLGATE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: PathBuf,
    /// Name of the Node this runs on; a configuration for another is refused
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: String,
    /// What `standalone` has too
    #[command(flatten)]
    pub common: Common,
}

/// Flags of `cleanup`.
#[derive(Debug, ClapArgs)]
pub struct Cleanup {
    /// The state directory of the agent that has ended; emptied
    #[arg(long, env = "CALLGATE_STATE_DIR", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Unix socket of the local API; removed
    #[arg(long, env = "CALLGATE_API", value_name = "SOCKET", default_value = callgate_proto::DEFAULT_API_SOCKET)]
    pub api: PathBuf,
    /// File by which the agent told that everything is programmed; removed
    #[arg(long, env = "CALLGATE_READY_FILE", value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Seconds to wait for an agent that still runs, before giving up
    #[arg(long, env = "CALLGATE_CLEANUP_WAIT", value_name = "SECONDS", default_value_t = 0)]
    pub wait: u64,
    /// Where the bpf file system is in which the agent has named its program and map; they are removed
    #[arg(long, env = "CALLGATE_BPF_DIR", value_name = "DIR", default_value = BPF_DIR)]
    pub bpf_dir: PathBuf,
    /// How log lines look; RUST_LOG chooses which
    #[arg(long, env = "CALLGATE_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Marks, numbers and names to remove where the state directory does not know any
    #[command(flatten)]
    pub numbers: Numbers,
}

/// Flags of whatever runs: where things are kept, how packets leave, what may clash with others.
#[derive(Debug, ClapArgs)]
pub struct Common {
    /// Directory for what outlives the process; made if need be
    #[arg(long, env = "CALLGATE_STATE_DIR", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// File that is there while everything is programmed; after a kill it stays until the next start
    #[arg(long, env = "CALLGATE_READY_FILE", value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Address for /healthz and /readyz over HTTP, such as 127.0.0.1:9741; without it there are none
    #[arg(long, env = "CALLGATE_HEALTH_ADDRESS", value_name = "IP:PORT")]
    pub health_address: Option<SocketAddr>,
    /// Unix socket of the local API
    #[arg(long, env = "CALLGATE_API", value_name = "SOCKET", default_value = callgate_proto::DEFAULT_API_SOCKET)]
    pub api: PathBuf,
    /// External device to read packets on; may be repeated. Without it, those that routes to servers lead to
    #[arg(long = "interface", env = "CALLGATE_INTERFACES", value_name = "IFACE", value_delimiter = ',')]
    pub interfaces: Vec<String>,
    /// External address of control connections; without it, the one the kernel would take on the way to the server
    #[arg(long, env = "CALLGATE_EXTERNAL_ADDRESS", value_name = "IP")]
    pub external_address: Option<Ipv4Addr>,
    /// How log lines look; RUST_LOG chooses which
    #[arg(long, env = "CALLGATE_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// External ports that one client may have towards all servers, in use or resting
    #[arg(long, env = "CALLGATE_PORTS_PER_CLIENT", value_name = "N", default_value_t = 1_024)]
    pub ports_per_client: u32,
    /// Translated Call IDs that one client may have towards all servers, in use or resting
    #[arg(long, env = "CALLGATE_CALL_IDS_PER_CLIENT", value_name = "N", default_value_t = 4_096)]
    pub call_ids_per_client: u32,
    /// Connections of one client that may wait for their first message
    #[arg(long, env = "CALLGATE_HALF_OPEN_PER_CLIENT", value_name = "N", default_value_t = 8)]
    pub half_open_per_client: u32,
    /// Connections to one server that may wait for their first message
    #[arg(long, env = "CALLGATE_HALF_OPEN_PER_SERVER", value_name = "N", default_value_t = 256)]
    pub half_open_per_server: u32,
    /// GRE of live calls by eBPF: where possible, by a filter behind clsact also where there is tcx, or not at all
    #[arg(long, env = "CALLGATE_FAST_PATH", value_enum, default_value = "auto")]
    pub fast_path: fast::Mode,
    /// Where the bpf file system is mounted; by names in it packets flow while the agent is replaced
    #[arg(long, env = "CALLGATE_BPF_DIR", value_name = "DIR", default_value = BPF_DIR)]
    pub bpf_dir: PathBuf,
    /// Do without a part of nftables as if this kernel did not have it: connection-limits, logging, sockets, timeouts; may be repeated
    #[arg(long, env = "CALLGATE_WITHOUT", value_name = "PART", value_delimiter = ',')]
    pub without: Vec<Optional>,
    /// Marks, numbers and names used in the kernel
    #[command(flatten)]
    pub numbers: Numbers,
}

/// Flags for what could clash with another tenant of the host.
#[derive(Debug, ClapArgs)]
pub struct Numbers {
    /// Packet mark that steers to the ALG, VALUE/MASK
    #[arg(long, env = "CALLGATE_STEER_MARK", default_value_t = Options::default().steer)]
    pub steer_mark: MarkBits,
    /// Packet mark of what the ALG sends, VALUE/MASK
    #[arg(long, env = "CALLGATE_SENT_MARK", default_value_t = Options::default().sent)]
    pub sent_mark: MarkBits,
    /// Bits of the connection mark that hold the rule tag: 11 in a row
    #[arg(long, env = "CALLGATE_TAG_MASK", default_value = "0xffe00000", value_parser = parse_u32)]
    pub tag_mask: u32,
    /// Routing table with the one route to the ALG
    #[arg(long, env = "CALLGATE_ROUTE_TABLE", default_value_t = Options::default().route_table)]
    pub route_table: u32,
    /// Priority of the policy routing rule
    #[arg(long, env = "CALLGATE_RULE_PRIORITY", default_value_t = Options::default().rule_priority)]
    pub rule_priority: u32,
    /// The end of the veth pair that packets are routed into
    #[arg(long, env = "CALLGATE_STEER_LINK", default_value_t = Options::default().steer_link)]
    pub steer_link: String,
    /// The end of the veth pair that the ALG reads
    #[arg(long, env = "CALLGATE_TAP_LINK", default_value_t = Options::default().tap_link)]
    pub tap_link: String,
    /// Name of the nftables table, family ip
    #[arg(long, env = "CALLGATE_NFT_TABLE", default_value_t = Options::default().nft_table)]
    pub nft_table: String,
    /// External TCP ports of control connections, outside net.ipv4.ip_local_port_range
    #[arg(long, env = "CALLGATE_EXTERNAL_PORTS", value_name = "RANGES", default_value_t = Options::default().external_ports)]
    pub external_ports: PortRanges,
}

impl From<&Numbers> for Options {
    fn from(numbers: &Numbers) -> Self {
        Self {
            steer: numbers.steer_mark,
            sent: numbers.sent_mark,
            tag_mask: numbers.tag_mask,
            route_table: numbers.route_table,
            rule_priority: numbers.rule_priority,
            steer_link: numbers.steer_link.clone(),
            tap_link: numbers.tap_link.clone(),
            nft_table: numbers.nft_table.clone(),
            external_ports: numbers.external_ports.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_are_consistent_and_defaults_are_the_kernels_own() {
        Args::command().debug_assert();
        let args = Args::try_parse_from(["x", "standalone", "--manifests", "m", "--state-dir", "s"]).unwrap();
        let Command::Standalone(standalone) = args.command else { panic!("{args:?}") };
        assert_eq!(Options::from(&standalone.common.numbers), Options::default());
    }
}
