//! What agents have reported, for Prometheus: by node, and by rule over all nodes. Pure: of one look into the fleet.
//!
//! A node that has had no PPTP yet has none of the counters: in a large cluster most nodes are such.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use callgate_crds::Kind;
use callgate_proto::pb;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::fleet::{Agent, Fleet};
use crate::snapshot::Snapshot;

/// Labels of a line, in the order in which they are shown.
type Labels = Vec<(&'static str, String)>;

/// A line: its labels and its value.
type Line = (Labels, u64);

/// What a family counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// A state: it goes up and down.
    Gauge,
    /// A total since the agent was started.
    Counter,
}

/// Lines of one name.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Unit,
    lines: Vec<Line>,
}

impl Collector for Family {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if self.lines.is_empty() {
            return Ok(());
        }
        let kind = match self.unit {
            Unit::Gauge => ConstGauge::<u64>::new(0).metric_type(),
            Unit::Counter => ConstCounter::<u64>::new(0).metric_type(),
        };
        let mut family = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for (labels, value) in &self.lines {
            let line = family.encode_family(labels)?;
            match self.unit {
                Unit::Gauge => ConstGauge::new(*value).encode(line)?,
                Unit::Counter => ConstCounter::new(*value).encode(line)?,
            }
        }
        Ok(())
    }
}

/// A step in the life of a call or of a control connection, and the agents' counters that count it: of the ALG in the path and of
/// the mode that ends control connections.
type Step = (&'static str, &'static [&'static str]);

const CALL_EVENTS: [Step; 4] = [
    ("up", &["calls_up", "shared_calls_up"]),
    ("ended", &["calls_ended", "shared_calls_ended"]),
    ("refused", &["calls_refused", "shared_calls_refused"]),
    ("timed_out", &["calls_timed_out"]),
];
const CONNECTION_EVENTS: [Step; 3] = [
    ("opened", &["connections_opened", "shared_sessions_opened"]),
    ("closed", &["connections_closed", "shared_sessions_closed"]),
    ("refused", &["connections_refused", "shared_sessions_refused"]),
];

/// Agents' counters of packets that went nowhere, beside all that begin with `drop_`.
const DROPS: [&str; 7] = [
    "kernel_steered_dropped",
    "rx_outside_overflow",
    "rx_pods_overflow",
    "tx_errors",
    "tx_filtered",
    "tx_no_buffers",
    "tx_no_route",
];

/// Beginnings of counters that stand at 0 where there has been no PPTP.
const OF_PPTP: [&str; 6] = ["calls_", "connections_", "drop_", "gre_", "kernel_steered_", "shared_"];

/// All of it, to be encoded when nobody waits for the fleet any more.
pub fn of_nodes(fleet: &Fleet, wanted: &BTreeMap<String, Arc<Snapshot>>, now: Instant) -> Registry {
    let mut registry = Registry::with_prefix("callgate");
    for family in families(fleet, wanted, now) {
        registry.register_collector(Box::new(family));
    }
    registry
}

fn families(fleet: &Fleet, wanted: &BTreeMap<String, Arc<Snapshot>>, now: Instant) -> [Family; 12] {
    let all = || fleet.agents().iter().map(|(node, agent)| (node.as_str(), agent));
    let attached = || all().filter(|(_, agent)| agent.stream.is_some());
    let of = |state: fn(&Agent) -> u64| attached().map(|(node, agent)| (vec![at(node)], state(agent))).collect();
    let busy: Vec<_> = attached().filter(|(_, agent)| busy(agent)).collect();
    let counted =
        |lines: &dyn Fn(&str, &Agent) -> Vec<Line>| busy.iter().flat_map(|(node, agent)| lines(node, agent)).collect();
    let nodes: BTreeSet<&String> = fleet.agents().keys().chain(wanted.keys()).collect();
    let expected = nodes.into_iter().filter(|node| fleet.is_expected(node, wanted.get(*node).map(Arc::as_ref), now));
    let is_there = |node: &str| fleet.get(node).is_some_and(|agent| agent.stream.is_some());
    let there: Vec<Line> = expected.map(|node| (vec![at(node)], is_there(node).into())).collect();
    let sent = attached().filter_map(|(node, agent)| Some((node, agent, wanted.get(node)?)));
    let programmed: Vec<Line> =
        sent.map(|(node, agent, wanted)| (vec![at(node)], agent.runs(&wanted.hash).into())).collect();
    let rules = fleet.calls_by(Kind::IpRule).map(|(rule, calls)| {
        let (namespace, name) = rule.split_once('/').unwrap_or(("", rule));
        (vec![("namespace", namespace.to_owned()), ("rule", name.to_owned())], calls)
    });
    let gauge = |name, help, lines| Family { name, help, unit: Unit::Gauge, lines };
    let counter = |name, help, lines| Family { name, help, unit: Unit::Counter, lines };
    [
        gauge("node_attached", "1 while the agent of the node is attached to this operator", there),
        gauge("node_programmed", "1 while what the agent of the node runs is whole and what it should run", programmed),
        gauge("node_info", "What runs on the node", attached().map(|(node, agent)| (info(node, agent), 1)).collect()),
        gauge("node_live_calls", "PPTP calls that are up", of(|agent| agent.report.calls)),
        gauge("node_control_connections", "PPTP control connections", of(|agent| agent.report.connections)),
        counter(
            "node_gre_packets",
            "GRE packets of live calls passed on, up is client to server",
            counted(&|node, agent| gre(node, agent, "packets")),
        ),
        counter(
            "node_gre_bytes",
            "Bytes of GRE of live calls passed on, IPv4 headers included",
            counted(&|node, agent| gre(node, agent, "bytes")),
        ),
        counter(
            "node_call_events",
            "Calls that came up, ended, were refused, timed out",
            counted(&|node, agent| steps(node, agent, &CALL_EVENTS)),
        ),
        counter(
            "node_connection_events",
            "Control connections opened, closed, refused",
            counted(&|node, agent| steps(node, agent, &CONNECTION_EVENTS)),
        ),
        counter("node_dropped_packets", "Packets of the ALG that were dropped, by reason", counted(&drops)),
        counter(
            "node_fast_path_left_packets",
            "GRE that the fast path left to user space, by reason",
            counted(&|node, agent| reasons(node, agent, "fast_left_", "").collect()),
        ),
        gauge("rule_live_calls", "PPTP calls that are up by a rule, over all nodes", rules.collect()),
    ]
}

/// Whether the ALG has had anything to do there.
fn busy(agent: &Agent) -> bool {
    let counts = |counter: &pb::Counter| {
        counter.value > 0 && OF_PPTP.iter().any(|beginning| counter.name.starts_with(beginning))
    };
    agent.report.connections + agent.report.calls > 0 || agent.report.counters.iter().any(counts)
}

/// Of a counter; 0 where the agent has none of that name. They are sorted by name.
fn value(agent: &Agent, name: &str) -> u64 {
    let counters = &agent.report.counters;
    let found = counters.binary_search_by(|counter| counter.name.as_str().cmp(name));
    found.ok().and_then(|at| counters.get(at)).map_or(0, |counter| counter.value)
}

fn at(node: &str) -> (&'static str, String) {
    ("node", node.to_owned())
}

fn labels(node: &str, label: &'static str, value: &str) -> Labels {
    vec![at(node), (label, value.to_owned())]
}

fn info(node: &str, agent: &Agent) -> Labels {
    // What follows names calls and reasons, which change all the time.
    let path = agent.report.path.split(';').next().unwrap_or_default();
    let (version, kernel) = (agent.hello.version.clone(), agent.hello.kernel.clone());
    vec![at(node), ("version", version), ("kernel", kernel), ("path", path.to_owned())]
}

/// By direction and by the way it took. `gre_` has both ways, `shared_gre_` only what passed user space.
fn gre(node: &str, agent: &Agent, what: &str) -> Vec<Line> {
    let by = |direction: &str| {
        let of = |prefix: &str| value(agent, &format!("{prefix}_{direction}_{what}"));
        let fast = of("fast");
        [("af_packet", of("gre").saturating_sub(fast) + of("shared_gre")), ("ebpf", fast)].map(|(path, value)| {
            ([labels(node, "direction", direction), vec![("path", path.to_owned())]].concat(), value)
        })
    };
    [by("down"), by("up")].concat()
}

fn steps(node: &str, agent: &Agent, steps: &[Step]) -> Vec<Line> {
    let sum = |counters: &[&str]| counters.iter().map(|name| value(agent, name)).sum();
    steps.iter().map(|(step, counters)| (labels(node, "event", step), sum(counters))).collect()
}

fn drops(node: &str, agent: &Agent) -> Vec<Line> {
    let plain = DROPS.iter().map(|name| (labels(node, "reason", name), value(agent, name)));
    reasons(node, agent, "drop_", "").chain(plain).chain(reasons(node, agent, "shared_drop_", "shared_")).collect()
}

/// Counters with this beginning, by the rest of their names behind another beginning.
fn reasons<'a>(node: &'a str, agent: &'a Agent, old: &'a str, new: &'a str) -> impl Iterator<Item = Line> + 'a {
    let named = move |counter: &'a pb::Counter| Some((counter.name.strip_prefix(old)?, counter.value));
    let counters = agent.report.counters.iter().filter_map(named);
    counters.map(move |(reason, value)| (labels(node, "reason", &format!("{new}{reason}")), value))
}

#[cfg(test)]
mod tests;
