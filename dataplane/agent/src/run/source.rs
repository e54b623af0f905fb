//! Where configurations come from: the seam between what runs a node and who says what it shall run.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use callgate_compile::manifests::Problem;
use callgate_compile::status::Statuses;
use callgate_proto::model::NodeConfig;

use super::report::{Holders, Report};
use super::tenants::Tenant;
use crate::api::Answers;

/// A configuration to carry out, and what is to be told beside it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) config: Arc<NodeConfig>,
    /// Which pod has which address.
    pub(crate) holders: Arc<Holders>,
    /// Who has which of its single source addresses, where that is known: what somebody else had there ends.
    pub(crate) tenants: BTreeMap<Ipv4Addr, Tenant>,
    /// What is told about objects.
    pub(crate) statuses: Statuses,
    /// What is wrong with what they were read from.
    pub(crate) problems: Vec<Problem>,
}

/// A directory of manifests, or the operator.
pub(crate) trait Source {
    /// The ALG runs: from now on questions can be answered, and outcomes mean that packets take the new way.
    fn attached(&mut self, answers: Answers, report: &Arc<Report>);

    /// Waits until something else may be wanted. Cancel-safe.
    async fn news(&mut self);

    /// Whether something else is wanted than last time, for changes that nobody tells of.
    fn changed(&mut self) -> bool;

    /// What is wanted now, read anew; `None` while that is not known: what runs goes on.
    async fn wanted(&mut self) -> Option<Wanted>;

    /// Makes durable what is about to take effect.
    ///
    /// # Errors
    /// When it cannot be written; then nothing takes effect.
    fn before(&mut self, wanted: &Wanted) -> io::Result<()>;

    /// What became of it: in force and whole, or not, with the object at fault (empty where it is not known) and the reason.
    fn outcome(&mut self, wanted: &Wanted, result: Result<(), Refused>);
}

/// Why a configuration is not in force, or not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// `Kind namespace/name`; empty where it is not known.
    pub(crate) object: String,
    /// For people, with the remedy.
    pub(crate) message: String,
    /// What runs is not whole.
    pub(crate) broken: bool,
    /// It is in force all the same: what went wrong came behind.
    pub(crate) in_force: bool,
}
