//! Every object with the ones it names: what it comes to, or what is wrong with it.
//!
//! ```text
//!   PptpAlg ─► alg ──┐
//!   Service ─► leaf ─┴─► services (groups flattened) ──┐
//!   IpRule  ─► rule (source, destination) ─────────────┴─► GoodRule    each with a Report
//! ```
mod alg;
mod group;
mod leaf;
mod lookup;
mod report;
mod rule;

use std::collections::BTreeMap;

use callgate_proto::model::{self, ObjectKey};

pub(crate) use alg::algs;
pub(crate) use group::services;
pub(crate) use leaf::Leaf;
pub(crate) use report::{Issue, Report};
pub(crate) use rule::{GoodRule, GoodSource, Pods, rules};

/// Every PptpAlg as the data plane needs it, where it is good.
pub(crate) type Algs = BTreeMap<ObjectKey, (Option<model::PptpAlg>, Report)>;
/// Every Service with the leaves it stands for, where it is good.
pub(crate) type Services = BTreeMap<ObjectKey, (Option<Vec<Leaf>>, Report)>;
/// Every IpRule, where it is good.
pub(crate) type Rules = BTreeMap<ObjectKey, (Option<GoodRule>, Report)>;
