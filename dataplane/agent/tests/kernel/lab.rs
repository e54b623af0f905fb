//! Namespaces, links and commands of a test.

use std::sync::{Arc, Mutex};

use callgate_agent::kernel::{Kernel, Options, Record};
use nix::sched::{CloneFlags, unshare};

pub(crate) use super::namespace::{Namespace, index, root, sh, skipped};

/// Whether this test can run: as root, and where bridges can call the hooks of IPv4. Says so loudly when it cannot.
pub(crate) fn root_and_br_netfilter() -> bool {
    let there = std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists();
    if !there {
        skipped(
            "needs the module br_netfilter in the kernel: modprobe br_netfilter; bridges of this machine then pass netfilter \
             unless sysctl net.bridge.bridge-nf-call-iptables=0 says no",
        );
    }
    there && root()
}

/// An empty namespace for the calling thread, with nothing but a loopback.
pub(crate) fn empty() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    sh("ip link set lo up");
}

/// No address of its own accord: it would appear some seconds later, and be a change of the host that nobody made.
pub(crate) fn without_ipv6(link: &str) {
    sh(&format!("ip link set {link} addrgenmode none 2>/dev/null || true"));
}

/// Two pods, the gateway and the servers.
pub(crate) struct Lab {
    pub(crate) a: Namespace,
    pub(crate) b: Namespace,
    pub(crate) server: Namespace,
    saved: Arc<Mutex<Option<Record>>>,
}

impl Lab {
    /// Moves the calling thread into a fresh gateway namespace with everything around it.
    pub(crate) fn new() -> Self {
        empty();
        let lab =
            Self { a: Namespace::fresh(), b: Namespace::fresh(), server: Namespace::fresh(), saved: Arc::default() };
        for (name, net, pod) in [("cg-a", "10.244.1", &lab.a), ("cg-b", "10.244.2", &lab.b)] {
            sh(&format!("ip link add {name} type veth peer name eth0 netns {}", pod.path()));
            without_ipv6(name);
            sh(&format!("ip addr add {net}.1/24 dev {name} && ip link set {name} up"));
            pod.sh("ip link set lo up");
            pod.sh(&format!(
                "ip addr add {net}.2/24 dev eth0 && ip link set eth0 up && ip route add default via {net}.1"
            ));
        }
        sh(&format!("ip link add cg-out type veth peer name eth0 netns {}", lab.server.path()));
        without_ipv6("cg-out");
        sh("ip addr add 192.0.2.1/24 dev cg-out && ip addr add 192.0.2.2/24 dev cg-out && ip link set cg-out up");
        lab.server.sh("ip link set lo up && ip addr add 192.0.2.10/24 dev eth0 && ip link set eth0 up");
        lab.server.sh("ip addr add 198.51.100.10/32 dev lo && ip addr add 198.51.100.11/32 dev lo");
        lab.server.sh("ip route add default via 192.0.2.1");
        sh("ip route add default via 192.0.2.10");
        // The kernel tells of a new carrier a little later; a look at the host before that is another one after it.
        sh("timeout 10 sh -c 'while ip route show table all | grep -q linkdown; do :; done'");
        lab
    }

    /// Starts the kernel side, with what an earlier start of this lab saved.
    pub(crate) fn start(&self) -> Kernel {
        self.start_with(Options::default())
    }

    /// The same with other options.
    pub(crate) fn start_with(&self, options: Options) -> Kernel {
        let saved = self.saved.clone();
        let record = saved.lock().unwrap().clone();
        // What is saved is what a file would hold.
        let keep = move |record: &Record| {
            let text = serde_json::to_string(record).unwrap();
            *saved.lock().unwrap() = Some(serde_json::from_str(&text).unwrap());
            Ok(())
        };
        Kernel::start(options, record, Box::new(keep)).unwrap()
    }

    /// What is saved.
    pub(crate) fn record(&self) -> Option<Record> {
        self.saved.lock().unwrap().clone()
    }
}

/// Everything the agent may change on a host, as the tools show it.
pub(crate) fn surface() -> String {
    let sysctls = "cd /proc/sys/net/ipv4 && grep -H . ip_forward conf/*/* ip_local_port_range | sort";
    ["nft list ruleset", "ip rule", "ip route show table all", "ip -d link", sysctls].map(sh).join("\n")
}
