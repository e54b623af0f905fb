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

pub(crate) use alg::algs;
pub(crate) use group::services;
pub(crate) use leaf::Leaf;
pub(crate) use report::{Issue, Report};
pub(crate) use rule::{GoodRule, GoodSource, PodScope, Pods, rules};
