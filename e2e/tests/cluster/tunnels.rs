//! Three pods that hold tunnels, and a judge of what they notice while something happens to the cluster.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use callgate_e2e::cluster::till::Till;
use callgate_e2e::cluster::{Cluster, callgate, cni};
use callgate_e2e::lab::capture::Capture;
use callgate_e2e::lab::packet::{Packet, flags};
use callgate_e2e::lab::ping_gaps::Gaps;
use callgate_e2e::lab::topology::server_address;
use callgate_e2e::wait;
use serde_json::Value;

use super::shared::{POD, Shared};

/// How long a tunnel may take.
const UP: Duration = Duration::from_secs(30);

/// How long an edit may take that is made while parts of the cluster do not answer.
const EDIT: Duration = Duration::from_secs(180);

/// How long tunnels are looked at after everything is over.
const AFTER: Duration = Duration::from_secs(2);

/// Callgate and the classic set-up; `a` and `b` on one node and `c` on another hold tunnels; a rule for `kiosk` is edited again and again.
pub(crate) struct Tunnels {
    pub(crate) shared: Shared,
    pub(crate) tills: Vec<Till>,
    remotes: Vec<Ipv4Addr>,
    kiosk: Till,
    /// What the rule for `kiosk` says now.
    probe: Cell<Probe>,
    table: Vec<String>,
}

/// What becomes of pings from `kiosk` to the server. Without any rule they leave with the pod's address, which the router counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    /// They are answered.
    Nat,
    /// They get nowhere.
    Drop,
}

/// What tunnels have noticed.
#[derive(Debug)]
pub(crate) struct Noticed {
    /// Of each tunnel, in the order of `Tunnels::tills`.
    pub(crate) pings: Vec<Gaps>,
}

pub(crate) fn till(name: &str, node: &str, app: &str) -> Till {
    Till::new("pos", name, node, app)
}

impl Tunnels {
    /// All tunnels are up. `None`: cannot run here.
    pub(crate) fn get(test: &str) -> Option<Self> {
        Self::with(test, &callgate::CLASSIC)
    }

    /// The same with `manifests` in the place of the classic set-up.
    pub(crate) fn with(test: &str, manifests: &str) -> Option<Self> {
        let tills = [("a", "n1"), ("b", "n1"), ("c", "n2")].map(|(name, node)| till(name, node, "till")).to_vec();
        let kiosk = till("kiosk", "n1", "kiosk");
        let shared = Shared::with(test, tills.iter().chain([&kiosk]), manifests)?;
        let probe = Cell::new(Probe::Drop);
        let mut tunnels = Self { shared, tills, remotes: Vec::new(), kiosk, probe, table: Vec::new() };
        tunnels.edit();
        tunnels.proved();
        tunnels.remotes = tunnels.tills.iter().map(|till| tunnels.up(till)).collect();
        Some(tunnels)
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        self.shared.cluster()
    }

    /// kubectl in Callgate's namespace, with words without blanks.
    pub(crate) fn k(&self, words: &str) -> String {
        self.shared.k(&format!("-n {} {words}", callgate::NAMESPACE))
    }

    /// Dials from a pod; the server's address in the tunnel.
    pub(crate) fn up(&self, till: &Till) -> Ipv4Addr {
        till.dial(self.cluster(), server_address(0)).unwrap();
        till.wait_up(self.cluster(), UP).unwrap().remote
    }

    /// Turns the rule for `kiosk` into its opposite, as soon as the API server takes it.
    pub(crate) fn edit(&self) {
        let (probe, action) = match self.probe.get() {
            Probe::Nat => (Probe::Drop, "Drop"),
            Probe::Drop => (Probe::Nat, "NAT"),
        };
        let rule = format!(
            "apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {{name: kiosk, namespace: pos}}
spec:
  order: 200
  action: {action}
  source: {{podSelector: {{matchLabels: {{app: kiosk}}}}}}
  destination: {{cidrs: [0.0.0.0/0]}}
  services: [{{name: all-icmp}}]
"
        );
        let mut last = None;
        let applied = wait::until_true("the API server takes an edit", EDIT, || {
            last = self.shared.kubectl().apply(&rule).err();
            Ok(last.is_none())
        });
        applied.unwrap_or_else(|error| panic!("{error:#}: {last:?}"));
        self.probe.set(probe);
    }

    /// Waits until the last edit is Programmed; then one packet has to agree at once. How long it took.
    pub(crate) fn proved(&self) -> Duration {
        let begun = Instant::now();
        let programmed = wait::until_true("the edit is Programmed", EDIT, || Ok(self.programmed()));
        programmed.unwrap_or_else(|error| panic!("{error:#}: {:#}", self.rule()["status"]));
        let took = begun.elapsed();
        let leaked = self.cluster().outside.leaked().unwrap();
        let pinged = self.kiosk.ping(self.cluster(), server_address(0), Duration::ZERO).unwrap();
        let answered = match self.probe.get() {
            Probe::Nat => 1,
            Probe::Drop => 0,
        };
        assert_eq!(
            (pinged.sent, pinged.received),
            (1, answered),
            "{:?} is Programmed, and a ping says otherwise",
            self.probe.get()
        );
        assert_eq!(self.cluster().outside.leaked().unwrap(), leaked, "a ping has left with the pod's own address");
        took
    }

    /// Whether the rule for `kiosk` is Programmed as it is now. An API server that does not answer has not said so.
    pub(crate) fn programmed(&self) -> bool {
        let rule = self.rule();
        let conditions = rule["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|condition| {
            condition["type"] == "Programmed"
                && condition["status"] == "True"
                && condition["observedGeneration"] == rule["metadata"]["generation"]
        })
    }

    fn rule(&self) -> Value {
        let args = ["-n", "pos", "get", "iprule", "kiosk", "-o", "json", "--request-timeout=5s"];
        let said = self.shared.kubectl().output(&args, "").unwrap();
        serde_json::from_slice(&said.stdout).unwrap_or_default()
    }

    /// Calls of this pod as its node's agent lists them, without what grows: time and traffic.
    pub(crate) fn calls(&self, till: &Till) -> Vec<Value> {
        let machine = self.cluster().machines.iter().find(|machine| machine.node.name == till.node).unwrap();
        let mut calls = callgate::calls(machine).unwrap();
        calls.retain(|call| call["pod"] == format!("pos/{}", till.name));
        for call in &mut calls {
            let fields = call.as_object_mut().unwrap();
            fields.retain(|name, _| !["tx", "rx", "ageMs", "idleMs"].contains(&name.as_str()));
        }
        calls
    }

    /// The call of each tunnel.
    fn all_calls(&self) -> Vec<Value> {
        let calls: Vec<Value> = self.tills.iter().flat_map(|till| self.calls(till)).collect();
        assert_eq!(calls.len(), self.tills.len(), "one call a tunnel: {calls:#?}");
        calls
    }

    /// Lets something happen while packets go through all tunnels, and looks afterwards: the same calls with the same ids, no segment
    /// that ends a control connection on either side of any node, and nothing with a pod's address outside.
    pub(crate) fn through(&mut self, what: &str, happens: impl FnOnce(&mut Self) -> String) -> Noticed {
        let leaked = self.cluster().outside.leaked().unwrap();
        let before = self.all_calls();
        let nodes = self.cluster().machines.iter().map(|machine| (&machine.node, cni::BRIDGE));
        let inside: Vec<Capture> = nodes.map(|(node, link)| Capture::start(node, link).unwrap()).collect();
        let outside = Capture::start(&self.cluster().outside.servers[0], "eth0").unwrap();
        for (till, remote) in self.tills.iter().zip(&self.remotes) {
            till.begin_to_ping(self.cluster(), *remote).unwrap();
        }
        let begun = Instant::now();
        let said = happens(self);
        let took = begun.elapsed();
        wait::let_pass(AFTER);
        let pings: Vec<Gaps> = self.tills.iter().map(|till| till.pinged(self.cluster()).unwrap()).collect();
        let inside: Vec<Packet> = inside.into_iter().flat_map(|capture| capture.stop().unwrap()).collect();
        let outside = outside.stop().unwrap();
        let gre = |packets: &[Packet]| packets.iter().filter(|packet| packet.gre().is_some()).count();
        let counts = [ends(&inside, &before, "client"), ends(&outside, &before, "external")];
        let of_each: Vec<String> = pings.iter().map(|gaps| format!("{}/{}", gaps.lost(), gaps.pinged.sent)).collect();
        self.table.push(format!(
            "{what:<44} {:>6.1} s  lost {:<24} FIN+RST inside {} outside {}  GRE seen {} and {}  {said}",
            took.as_secs_f64(),
            of_each.join(" "),
            counts[0],
            counts[1],
            gre(&inside),
            gre(&outside),
        ));
        println!("{}", self.table[self.table.len() - 1]);
        assert!(gre(&inside) > 0 && gre(&outside) > 0, "captures see nothing");
        assert_eq!(self.all_calls(), before, "{what}: other calls than before");
        assert_eq!(counts, [0, 0], "{what}: FIN and RST inside, outside");
        assert_eq!(self.cluster().outside.leaked().unwrap(), leaked, "{what}: packets have left with pods' addresses");
        // What was under way when the pings ended is not counted, so that the tunnels have to answer once more.
        for (till, remote) in self.tills.iter().zip(&self.remotes) {
            let pinged = till.ping(self.cluster(), *remote, Duration::from_secs(1)).unwrap();
            assert!(pinged.received > 0, "{what}: the tunnel of {} is dead", till.name);
        }
        Noticed { pings }
    }

    /// Hangs up, prints all figures, and takes Callgate away with everything that belongs to it.
    pub(crate) fn end(self) {
        println!("{}", self.table.join("\n"));
        for till in &self.tills {
            till.hang_up(self.cluster()).unwrap();
        }
        self.shared.k(&format!("delete namespace pos --wait=true {POD}"));
        callgate::uninstall(self.cluster()).unwrap();
    }
}

impl Noticed {
    /// How often each tunnel was without answers for a time.
    pub(crate) fn gaps(&self) -> Vec<usize> {
        self.pings.iter().map(|gaps| gaps.gaps.len()).collect()
    }

    /// Pings that each tunnel has lost.
    pub(crate) fn lost(&self) -> Vec<u32> {
        self.pings.iter().map(Gaps::lost).collect()
    }
}

/// Segments that end a control connection of one of these calls; `side`: the field with the gateway's end of it, or the client's.
fn ends(packets: &[Packet], calls: &[Value], side: &str) -> usize {
    let address =
        |call: &Value| format!("{}:{}", call[side]["address"].as_str().unwrap(), call[side]["port"]).parse().unwrap();
    let watched: Vec<SocketAddrV4> = calls.iter().map(address).collect();
    let of_watched = |packet: &&Packet| {
        packet.tcp().is_some_and(|tcp| {
            let both = [(packet.source, tcp.source_port), (packet.destination, tcp.destination_port)];
            both.iter().any(|(address, port)| watched.contains(&SocketAddrV4::new(*address, *port)))
                && tcp.flags & (flags::FIN | flags::RST) != 0
        })
    };
    packets.iter().filter(of_watched).count()
}
