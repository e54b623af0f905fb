//! What is outside the cluster: a router that knows no pods and counts what comes from one, and real pptpd behind it.

use anyhow::Context as _;

use super::addresses;
use super::wiring::LAN;
use crate::lab::node::Node;
use crate::peers::pptpd::Pptpd;

/// The world outside.
#[derive(Debug)]
pub struct Outside {
    // Programs are dropped before the namespaces they are in.
    /// A pptpd on each server.
    pub pptpds: Vec<Pptpd>,
    /// The router.
    pub router: Node,
    /// Servers; `lab::topology::server_address` tells where.
    pub servers: Vec<Node>,
}

impl Outside {
    /// Starts the router's count and the servers.
    pub(super) fn start(router: Node, servers: Vec<Node>) -> anyhow::Result<Self> {
        router
            .nft(&format!(
                "table ip outside {{
                    counter leaked {{ }}
                    chain prerouting {{
                        type filter hook prerouting priority -300;
                        iifname {LAN} ip saddr {} counter name leaked drop;
                    }}
                }}",
                addresses::PODS
            ))
            .context("the router's count")?;
        for server in &servers {
            // A full buffer of a raw socket makes the kernel say protocol-unreachable, which ends all calls of the address.
            server.nft("table ip quiet { chain output { type filter hook output priority 0; icmp type destination-unreachable icmp code prot-unreachable drop; }; }")?;
        }
        let pptpds =
            servers.iter().enumerate().map(|(index, node)| Pptpd::start(node, index)).collect::<anyhow::Result<_>>()?;
        Ok(Self { pptpds, router, servers })
    }

    /// Packets that have left the cluster with a pod's address as their source.
    ///
    /// # Errors
    /// If nft does not answer as expected.
    pub fn leaked(&self) -> anyhow::Result<u64> {
        let text = self.router.run("nft", &["-j", "list", "counter", "ip", "outside", "leaked"])?;
        let json: serde_json::Value = serde_json::from_str(&text).context("what nft says")?;
        let counters = json["nftables"].as_array().into_iter().flatten();
        counters.filter_map(|item| item["counter"]["packets"].as_u64()).next().with_context(|| text.clone())
    }
}
