//! The status reply: what the report knows, with the counters of the ALG and the kernel.

use std::collections::BTreeMap;

use callgate_crds::Kind;
use callgate_proto::model::ObjectKey;
use callgate_proto::pb;

use super::shared;
use crate::alg::Totals;
use crate::kernel::{Counters, Options};
use crate::run::Report;

/// Everything about this agent.
pub(super) fn reply(report: &Report, totals: Totals, kernel: &Counters) -> pb::StatusReply {
    let mut status = report.status();
    status.connections = totals.connections as u64;
    status.calls = totals.calls as u64;
    status.counters.extend(totals.counters.iter().map(|(name, value)| counter(name, *value)));
    // The kernel's own copies of what the ALG reads on external devices, dropped. Where it grows and `rx_outside` does not, answers come
    // by a link that nobody reads.
    status.counters.push(counter("kernel_copies_dropped", kernel.copies));
    // Packets of others under an address of the ALG that could have harmed its calls, dropped on their way out, since the chain was made.
    status.counters.push(counter("kernel_guarded", kernel.guarded));
    // Packets that were to reach the ALG and were routed elsewhere, dropped: a routing rule of somebody else comes before ours.
    status.counters.push(counter("kernel_steered_dropped", kernel.astray));
    status.counters.sort_by(|a, b| a.name.cmp(&b.name));
    status.tunnels = shared::tunnels(&totals);
    status.learned = shared::learned(&totals, shared::unix_ms());
    let flows = flows(kernel);
    for object in &mut status.objects {
        let key = ObjectKey::new(&object.namespace, &object.name);
        let mut of = |name: &str, value: Option<&u64>| object.counters.extend(value.map(|value| counter(name, *value)));
        if object.kind == Kind::IpRule.name() {
            of("flows", flows.0.get(&key));
        } else if object.kind == Kind::Service.name() {
            of("flows", flows.1.get(&key));
            of("refused", kernel.refused.iter().find(|(service, _)| *service == key).map(|(_, count)| count));
        }
        if object.kind == Kind::PptpAlg.name() {
            let name = format!("{}/{}", object.namespace, object.name);
            let count = totals.tunnels.iter().filter(|(tunnel, _)| tunnel.alg == name).count() as u64;
            of("tunnels", Some(&count).filter(|count| **count != 0));
        }
        object.counters.sort_by(|a, b| a.name.cmp(&b.name));
    }
    status.features = features(&report.options);
    status.features.extend(report.features());
    status.features.sort_by(|a, b| a.name.cmp(&b.name));
    status
}

/// Flows by rule and by service.
fn flows(kernel: &Counters) -> (BTreeMap<ObjectKey, u64>, BTreeMap<ObjectKey, u64>) {
    let (mut rules, mut services) = (BTreeMap::new(), BTreeMap::new());
    for count in &kernel.flows {
        *rules.entry(count.rule.clone()).or_default() += count.flows;
        *services.entry(count.service.clone()).or_default() += count.flows;
    }
    (rules, services)
}

/// The numbers and names in use.
fn features(options: &Options) -> Vec<pb::Feature> {
    let Options { steer, sent, tag_mask, route_table, rule_priority, steer_link, tap_link, nft_table, external_ports } =
        options;
    [
        ("external ports", format!("{external_ports} (--external-ports)")),
        ("links", format!("{steer_link}, {tap_link} (--steer-link, --tap-link)")),
        ("mark: rule tag", format!("{tag_mask:#x} of the connection mark (--tag-mask)")),
        ("mark: sent by the ALG", format!("{sent} (--sent-mark)")),
        ("mark: to the ALG", format!("{steer} (--steer-mark)")),
        ("nftables table", format!("ip {nft_table} (--nft-table)")),
        ("routing table", format!("{route_table}, rule priority {rule_priority} (--route-table, --rule-priority)")),
    ]
    .into_iter()
    .map(|(name, detail)| pb::Feature { name: name.to_owned(), available: true, detail })
    .collect()
}

fn counter(name: &str, value: u64) -> pb::Counter {
    pb::Counter { name: name.to_owned(), value }
}
