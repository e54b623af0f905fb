//! The objects that a node's configuration is made of, and what each needs of the node's kernel.

use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::Kind;
use callgate_proto::Optional;
use callgate_proto::model::{NodeConfig, ObjectKey};

use crate::status::ObjectRef;

fn object(kind: Kind, key: &ObjectKey) -> ObjectRef {
    ObjectRef { kind, key: key.clone() }
}

/// Rules, then services, then ALGs, each in their order.
pub fn objects(config: &NodeConfig) -> impl Iterator<Item = ObjectRef> + '_ {
    let rules = config.rules.iter().map(|rule| object(Kind::IpRule, &rule.key));
    let services = config.services.iter().map(|service| object(Kind::Service, &service.key));
    let algs = config.algs.iter().map(|alg| object(Kind::PptpAlg, &alg.key));
    rules.chain(services).chain(algs)
}

/// What not every kernel has and they need; objects that need nothing of it are left out.
#[must_use]
pub fn needs(config: &NodeConfig) -> BTreeMap<ObjectRef, BTreeSet<Optional>> {
    let rules = config.rules.iter().map(|rule| config.needs_of(rule));
    let services = config.services.iter().map(|service| service.needs());
    let needs = rules.chain(services).chain(config.algs.iter().map(|alg| alg.needs()));
    objects(config).zip(needs).filter(|(_, needs)| !needs.is_empty()).collect()
}
