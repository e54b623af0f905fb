//! The one topology of all labs: clients, a gateway, a router outside, servers behind it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, ensure};

use super::names::{self, Files, LabId};
use super::node::Node;
use super::process::tail;
use super::signals;

/// The gateway's inner address.
pub const LAN: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
/// The network of all clients.
pub const CLIENTS: &str = "10.10.0.0/16";
/// The gateway's outer address: the one all clients share.
pub const EXTERNAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The router outside.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Inner interface of the gateway: a bridge.
pub const LAN_IF: &str = "lan0";
/// Outer interface of the gateway.
pub const OUT_IF: &str = "out0";

/// How many of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Clients behind the gateway, at most 400.
    pub clients: usize,
    /// Servers outside, at most 200.
    pub servers: usize,
    /// For UML, whose raw transport cannot take super-packets or empty checksums: offloads off on client and server links,
    /// and no address in the namespace, because the guest has it.
    pub guests: bool,
}

/// One lab. Only one exists at a time in a process.
#[derive(Debug)]
pub struct Lab {
    /// The gateway.
    pub gw: Node,
    /// The router outside.
    pub inet: Node,
    /// Clients, `client_address` tells where.
    pub clients: Vec<Node>,
    /// Servers, `server_address` tells where.
    pub servers: Vec<Node>,
    /// Where everything the lab writes is.
    pub dir: PathBuf,
    // Dropped in this order: what writes there is gone before the files, and they before the next lab begins.
    _files: Files,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

/// Address of the client with this index, from 0.
pub fn client_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 10, 1 + (index / 200) as u8, 1 + (index % 200) as u8)
}

/// Address of the server with this index, from 0.
pub fn server_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, 11 + index as u8)
}

impl Lab {
    /// Builds a lab with plain clients and servers.
    ///
    /// # Errors
    /// Without root or iproute2, with what failed.
    pub fn new(clients: usize, servers: usize) -> anyhow::Result<Self> {
        Self::build(Plan { clients, servers, guests: false })
    }

    /// Builds a lab.
    ///
    /// # Errors
    /// Without root or iproute2, with what failed.
    pub fn build(plan: Plan) -> anyhow::Result<Self> {
        ensure!(plan.clients <= 400 && plan.servers <= 200, "a lab has at most 400 clients and 200 servers");
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        signals::install();
        names::sweep_dead();
        let id = LabId::next();
        let files = Files::of(id);
        let node = |name: &str| Node::create(id, name).with_context(|| format!("node {name}"));
        let many = |letter: char, count: usize| -> anyhow::Result<Vec<Node>> {
            (1..=count).map(|index| node(&format!("{letter}{index}"))).collect()
        };
        let lab = Self {
            gw: node("gw")?,
            inet: node("inet")?,
            clients: many('c', plan.clients)?,
            servers: many('s', plan.servers)?,
            dir: id.dir(),
            _files: files,
            _alone: alone,
        };
        lab.wire(plan)?;
        Ok(lab)
    }

    fn wire(&self, plan: Plan) -> anyhow::Result<()> {
        let bridge = |name: &str, address: Ipv4Addr, bits: u8| {
            format!(
                "link add {name} type bridge stp_state 0 mcast_snooping 0\naddr add {address}/{bits} dev {name}\nlink set {name} up\n"
            )
        };
        let mut gw = bridge(LAN_IF, LAN, 16);
        gw += &format!("link add {OUT_IF} type veth peer name gw0 netns {}\n", self.inet.netns());
        gw += &format!("addr add {EXTERNAL}/24 dev {OUT_IF}\nlink set {OUT_IF} up\nroute add default via {ROUTER}\n");
        let mut inet = bridge("srv0", Ipv4Addr::new(203, 0, 113, 1), 24);
        inet += &format!("addr add {ROUTER}/24 dev gw0\nlink set gw0 up\n");
        for (hub, lines, letter, nodes) in
            [(LAN_IF, &mut gw, 'c', &self.clients), ("srv0", &mut inet, 's', &self.servers)]
        {
            for (index, node) in nodes.iter().enumerate() {
                let port = format!("{letter}{}", index + 1);
                *lines += &format!("link add {port} type veth peer name eth0 netns {}\n", node.netns());
                *lines += &format!("link set {port} master {hub} up\n");
            }
        }
        self.gw.ip(&gw)?;
        self.inet.ip(&inet)?;
        for node in [&self.gw, &self.inet] {
            node.sysctl("net/ipv4/ip_forward", "1")?;
        }
        let clients = self.clients.iter().enumerate().map(|(index, node)| (node, client_address(index), 16, LAN));
        let router = Ipv4Addr::new(203, 0, 113, 1);
        let servers = self.servers.iter().enumerate().map(|(index, node)| (node, server_address(index), 24, router));
        for (node, address, bits, via) in clients.chain(servers) {
            if plan.guests {
                node.ip("link set eth0 up")?;
                node.run(
                    "ethtool",
                    &["-K", "eth0", "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"],
                )?;
            } else {
                node.ip(&format!("addr add {address}/{bits} dev eth0\nlink set eth0 up\nroute add default via {via}"))?;
            }
        }
        if !plan.guests {
            self.keep_peers_quiet()?;
        }
        Ok(())
    }

    /// A kernel (6.18) whose raw socket has a full buffer answers ICMP protocol-unreachable, and one of those ends every
    /// pptpd call of the address: peers that do not want to send one must not.
    fn keep_peers_quiet(&self) -> anyhow::Result<()> {
        for node in self.clients.iter().chain(&self.servers) {
            node.nft(
                "table ip quiet { chain output { type filter hook output priority 0; icmp type destination-unreachable icmp code prot-unreachable drop; }; }",
            )?;
        }
        Ok(())
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        [&self.gw, &self.inet].into_iter().chain(&self.clients).chain(&self.servers)
    }

    /// Prints the ends of all logs to stderr.
    pub fn tell(&self) {
        for node in self.nodes() {
            let files = fs::read_dir(&node.dir).into_iter().flatten().flatten().map(|entry| entry.path());
            let mut logs: Vec<PathBuf> = files.filter(|path| is_log(path)).collect();
            logs.sort();
            for log in logs.iter().filter(|log| fs::metadata(log).is_ok_and(|meta| meta.len() > 0)) {
                eprintln!("{}", tail(log, 12));
            }
        }
    }
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log") || path.ends_with("syslog")
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        for node in self.nodes() {
            names::remove_netns(node.netns());
        }
    }
}
