//! What a kernel that lacks a part of nftables leaves out of a configuration, and which objects come short by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use callgate_compile::objects::needs;
use callgate_compile::status::ObjectRef;
use callgate_proto::Optional;
use callgate_proto::model::NodeConfig;

/// What can be carried out.
pub(super) struct Spared {
    /// The wanted configuration without what is missing.
    pub(super) config: Arc<NodeConfig>,
    /// Objects that are in force by it, but not whole, and what people are told of each.
    pub(super) short: BTreeMap<ObjectRef, String>,
}

/// Leaves out what needs something of `missing`.
pub(super) fn spare(wanted: &Arc<NodeConfig>, missing: &BTreeSet<Optional>) -> Spared {
    // Most kernels have everything.
    let needs = if missing.is_empty() { BTreeMap::new() } else { needs(wanted) };
    let short = needs.into_iter().filter_map(|(object, needs)| Some((object, Optional::shortfall(&needs, missing)?)));
    let short: BTreeMap<ObjectRef, String> = short.collect();
    let config = if short.is_empty() { Arc::clone(wanted) } else { Arc::new(wanted.without(missing)) };
    Spared { config, short }
}

#[cfg(test)]
mod tests {
    use callgate_crds::Kind;
    use callgate_proto::model::{Action, External, ObjectKey, Rule, Service};

    use super::*;

    /// A rule that is logged, with a service that has a limit, and one with neither.
    fn wanted() -> Arc<NodeConfig> {
        let service = |name: &str, max_sessions| Service {
            key: ObjectKey::new("pos", name),
            matches: Vec::new(),
            alg: None,
            max_sessions,
            forward_icmp_errors: false,
            timeouts: None,
        };
        let rule = |name: &str, services: Vec<u32>, log| Rule {
            key: ObjectKey::new("pos", name),
            action: Action::Nat,
            destinations: Vec::new(),
            services,
            external: External::NodeAddress,
            log,
        };
        Arc::new(NodeConfig {
            rules: vec![rule("logged", vec![1], true), rule("limited", vec![0], false), rule("plain", vec![1], false)],
            services: vec![service("limited", 5), service("plain", 0)],
            ..NodeConfig::default()
        })
    }

    #[test]
    fn objects_that_need_what_is_missing_come_short_and_no_others() {
        let missing = BTreeSet::from([Optional::ConnectionLimits, Optional::Timeouts]);
        let Spared { config, short } = spare(&wanted(), &missing);
        let told = Optional::shortfall(&BTreeSet::from([Optional::ConnectionLimits]), &missing).unwrap();
        let limited = |kind| (ObjectRef { kind, key: ObjectKey::new("pos", "limited") }, told.clone());
        assert_eq!(short, BTreeMap::from([limited(Kind::IpRule), limited(Kind::Service)]));
        assert_eq!((config.services[0].max_sessions, config.rules[0].log), (0, true));
    }

    #[test]
    fn where_nothing_that_is_needed_is_missing_the_configuration_is_the_very_same() {
        for missing in [BTreeSet::new(), BTreeSet::from([Optional::Sockets])] {
            let wanted = wanted();
            let spared = spare(&wanted, &missing);
            assert!(Arc::ptr_eq(&spared.config, &wanted) && spared.short.is_empty(), "{missing:?}");
        }
    }
}
