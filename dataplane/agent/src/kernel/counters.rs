//! What the chains count: flows a rule has judged, sessions a service was refused, packets that were kept from the ALG's calls.

use std::collections::BTreeMap;

use callgate_proto::model::{NodeConfig, ObjectKey};

use crate::nft::names;

/// Flows one rule has judged for one service; with Drop and Reject every packet counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowCount {
    /// The rule.
    pub rule: ObjectKey,
    /// The service that matched.
    pub service: ObjectKey,
    /// How many.
    pub flows: u64,
}

/// Counts since the chains that count were made; a chain whose rule was edited begins anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// By rule in match order, then by service in the order of the rule.
    pub flows: Vec<FlowCount>,
    /// Packets of sessions over a service's `maxSessions`, by service; only those with a limit.
    pub refused: Vec<(ObjectKey, u64)>,
    /// Packets of others under an address of the ALG that could have harmed its calls.
    pub guarded: u64,
    /// The kernel's own copies of what the ALG reads from the outside, dropped.
    pub copies: u64,
    /// Packets that were to be steered to the ALG and were routed elsewhere, dropped.
    pub astray: u64,
}

/// The chains that count for the ALG, whatever the configuration.
pub(super) const OF_THE_ALG: [&str; 4] = [ASTRAY, "copies", "guard", "input"];

/// The one that ends what is routed past the ALG.
pub(super) const ASTRAY: &str = "astray";

/// Sorts packet counts by chain into what they mean.
pub(super) fn read(counted: &BTreeMap<String, u64>, config: &NodeConfig) -> Counters {
    let of = |chain: &str| counted.get(chain).copied();
    let copies = ["copies", "input"].into_iter().filter_map(of).sum();
    let (guarded, astray) = (of("guard").unwrap_or(0), of(ASTRAY).unwrap_or(0));
    let mut counters = Counters { guarded, copies, astray, ..Counters::default() };
    for rule in &config.rules {
        for service in config.services_of(rule) {
            if let Some(flows) = of(&names::actions(rule, service)) {
                counters.flows.push(FlowCount { rule: rule.key.clone(), service: service.key.clone(), flows });
            }
        }
    }
    for service in &config.services {
        counters.refused.extend(of(&names::limit(service)).map(|count| (service.key.clone(), count)));
    }
    counters
}
