//! What compile says about each object: conditions, and the findings they are made of.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub use callgate_crds::Kind;
use callgate_crds::conditions::{ConditionType, Reason};
use callgate_proto::model::ObjectKey;
use serde::{Serialize, Serializer, ser::SerializeStruct};

/// One object of ours; ordered by kind, namespace, name; printed as `IpRule pos/tills`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectRef {
    /// Its kind.
    #[serde(serialize_with = "kind_name")]
    pub kind: Kind,
    /// Its namespace and name.
    pub key: ObjectKey,
}

fn kind_name<S: Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

/// One thing that is wrong (or worth knowing), at one field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Path of the field: `spec.services[0].name`.
    pub field: String,
    /// What is wrong with it and what to do.
    pub message: String,
}

impl Finding {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// A condition without its clock: whoever applies it adds lastTransitionTime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Why; it implies type (`Accepted` or `ResolvedRefs`, `Programmed` is for whoever applies) and status.
    pub reason: Reason,
    /// One sentence for each finding, each naming field and remedy.
    pub message: String,
    /// What the message is made of, for those who print field by field. Empty where all is well.
    pub findings: Vec<Finding>,
}

impl Condition {
    /// Its type.
    pub fn type_(&self) -> ConditionType {
        self.reason.condition()
    }

    /// Whether it is True; compile never says Unknown.
    pub fn holds(&self) -> bool {
        self.reason.holds()
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("Condition", 4)?;
        map.serialize_field("type", self.type_().name())?;
        map.serialize_field("status", if self.holds() { "True" } else { "False" })?;
        map.serialize_field("reason", self.reason.name())?;
        map.serialize_field("message", &self.message)?;
        map.end()
    }
}

/// What compile says about one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// `metadata.generation` of the object as read; 0 where it has none (files).
    pub observed_generation: i64,
    /// `Accepted` first, then `ResolvedRefs` for kinds that refer to others.
    pub conditions: Vec<Condition>,
    /// Nodes whose configuration carries the object; it is programmed when all of them say so.
    #[serde(serialize_with = "shared")]
    pub nodes: Arc<BTreeSet<String>>,
    /// Pods (and, in standalone, pods and CIDRs) an `IpRule` selects; 0 for other kinds.
    pub clients: u32,
    /// Something about the object is wrong now, and what runs is its last good version.
    pub last_good: bool,
    /// Generation of what runs then, where that is known.
    #[serde(skip)]
    pub last_good_generation: Option<i64>,
}

fn shared<S: Serializer>(nodes: &Arc<BTreeSet<String>>, serializer: S) -> Result<S::Ok, S::Error> {
    nodes.as_ref().serialize(serializer)
}

impl Status {
    /// Whether every condition is True.
    pub fn is_good(&self) -> bool {
        self.conditions.iter().all(Condition::holds)
    }
}

/// Statuses of all objects, by kind, namespace and name.
pub type Statuses = BTreeMap<ObjectRef, Status>;
