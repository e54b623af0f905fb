//! The one table of condition types and reasons: what status may say, and what it means.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The type of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The object is valid and takes part.
    Accepted,
    /// Everything it names exists.
    ResolvedRefs,
    /// Every node that must run it has acknowledged this generation.
    Programmed,
    /// Of an EgressNode: its agent is there and runs what it should.
    Ready,
}

impl ConditionType {
    /// Every type, in the order a reader wants them.
    pub const ALL: [Self; 4] = [Self::Accepted, Self::ResolvedRefs, Self::Programmed, Self::Ready];

    /// The `type` field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Programmed => "Programmed",
            Self::Ready => "Ready",
        }
    }

    /// What the condition is about.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Accepted => "The object is valid and takes part.",
            Self::ResolvedRefs => "Every object it names exists and can be used.",
            Self::Programmed => {
                "Every node that must run it has acknowledged this generation; never set from intent alone."
            }
            Self::Ready => "Of an EgressNode only: its agent is there and runs what it should.",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Declares the reasons: the enum and the table come from the same lines, so that neither can lack one.
macro_rules! reasons {
    ($($type_:ident $status:literal $reason:ident: $meaning:literal, $remedy:literal;)*) => {
        /// Why a condition is what it is. A reason belongs to one type and one status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $reason,)*
        }

        /// Every reason, in the order of the documentation.
        pub const TABLE: &[Entry] = &[
            $(Entry {
                condition: ConditionType::$type_,
                status: $status,
                reason: Reason::$reason,
                meaning: $meaning,
                remedy: $remedy,
            },)*
        ];

        impl Reason {
            /// The `reason` field.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$reason => stringify!($reason),)* }
            }

            /// The type of condition it belongs to.
            pub const fn condition(self) -> ConditionType {
                match self { $(Self::$reason => ConditionType::$type_,)* }
            }

            /// Whether the condition is then `True`.
            pub const fn holds(self) -> bool {
                match self { $(Self::$reason => $status,)* }
            }
        }
    };
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Type of the condition.
    pub condition: ConditionType,
    /// Status of the condition: true is `True`, false is `False`.
    pub status: bool,
    /// The reason.
    pub reason: Reason,
    /// What it means.
    pub meaning: &'static str,
    /// What to do about it; empty where there is nothing to do.
    pub remedy: &'static str,
}

reasons! {
    Accepted true Accepted: "Valid, and in use where a rule uses it.", "";
    Accepted true Shadowed: "Valid, but an earlier rule matches everything it could match, so it never decides.", "Give it a lower order than the rule named in the message, make that rule narrower, or delete this one.";
    Accepted true NoSources: "Valid, but no running pod and no network is selected at present.", "Compare the selectors with the labels of the pods; pods without an address, finished ones and those with hostNetwork do not count.";
    Accepted true SourcesExcluded: "Valid, but some of the selected pods cannot be treated; the message counts them.", "Pods with hostNetwork have their node's address: run them without hostNetwork, or leave them to the node's own network.";
    Accepted false Invalid: "A field's value means nothing, or fields contradict each other.", "Change the field named in the message as it says.";
    Accepted false Unsupported: "A field asks for what this version does not have.", "Change or remove the field named in the message.";
    Accepted false Conflicted: "Another rule of the same order matches exactly the same, and won.", "Give the rules different orders, or delete one of the two.";
    Accepted false Duplicate: "The same object stands twice in the manifests.", "Delete one of the two; the message names both places.";
    Accepted false UnresolvedRefs: "Something it names cannot be used, and there is no last good configuration to keep.", "See the condition ResolvedRefs of the same object.";
    Accepted false AlgNotAllowed: "A rule that does not NAT names a service with an ALG.", "Write action: NAT, or name a service without ALG.";
    Accepted false SourceNotAllowed: "The source uses namespaceSelector or cidrs outside the operator's namespace.", "Move the rule to the operator's namespace, or select pods of the rule's own namespace.";
    Accepted false NoDestination: "Nothing is left of the destination: all of it is excepted or inside the cluster.", "Widen destination.cidrs or narrow destination.except.";
    Accepted false GroupCycle: "A group of services contains itself.", "Remove the member that closes the circle named in the message.";
    Accepted false GroupTooDeep: "Groups of services are nested too deeply.", "Name the services directly in fewer levels of groups.";
    Accepted false TooMany: "The rules or the groups of services of its namespace, or the rules of a node, come to more than there is room for.", "Join rules that differ only in source, destination or service, or name fewer services and networks; docs/limits.md says what is counted.";
    ResolvedRefs true ResolvedRefs: "Every object it names exists and is accepted.", "";
    ResolvedRefs false ServiceNotFound: "A service it names does not exist.", "Create the service, or correct the name; it is looked up in the object's namespace, then in the operator's.";
    ResolvedRefs false RefNotPermitted: "It names a service of another namespace, whose limits it would use up.", "Name a service of the object's own namespace or of the operator's, or copy it; only the operator's namespace names services anywhere.";
    ResolvedRefs false AlgNotFound: "The ALG it names does not exist.", "Create the ALG, or correct algRef; it is looked up in the object's namespace, then in the operator's.";
    ResolvedRefs false GatewayNotFound: "The gateway it names does not exist.", "Create the gateway, or remove gatewayRef to use the node's own address.";
    ResolvedRefs false RefNotAccepted: "An object it names exists, but is itself not accepted or not resolved.", "Mend the object named in the message first.";
    ResolvedRefs false LastGoodKept: "An object it names has gone or is no longer valid; what ran before goes on running.", "Create the object again or correct the name; until then changes of the missing object are not followed.";
    Programmed true Programmed: "Every node that must run it has acknowledged this generation.", "";
    Programmed true NothingToProgram: "No node has to run it: no rule uses it, or no pod is selected.", "";
    Programmed false Pending: "Not every node has acknowledged this generation yet.", "Wait; nodesProgrammed and nodesTotal tell how far it is.";
    Programmed false NotAccepted: "It is not accepted, so no node runs this generation; what ran before may go on running.", "See the condition Accepted of the same object; its message says whether something runs.";
    Programmed false LastGoodRuns: "What runs is its last good version, not this generation; of a service also where that is so for one rule only.", "See the conditions Accepted and ResolvedRefs of the same object, and of the rules that name it.";
    Programmed false ApplyFailed: "A node could not put it into effect, or not all of it.", "The message has the node and the kernel's error, or what the kernel lacks.";
    Programmed false NodeUnreachable: "A node that must run it has not answered.", "See the agent on the node named in the message.";
    Ready true AgentReady: "Its agent is attached and runs what it should.", "";
    Ready true Degraded: "Its agent is attached and runs what it should, but the kernel lacks something.", "The message says what is missing and what that costs.";
    Ready false AgentMissing: "No agent of this node is attached to the operator.", "See the agent's pod on that node, and its log; where none is meant to be, delete the EgressNode.";
    Ready false Converging: "Its agent has not yet put the last snapshot into effect.", "Wait; where it lasts, see the agent's log.";
    Ready false SnapshotRefused: "Its agent could not put the last snapshot into effect, or cannot keep in effect what runs.", "The message has the object and the kernel's error, and says whether what ran before goes on.";
}

impl Reason {
    /// The status of the condition, as Kubernetes writes it.
    pub const fn status(self) -> &'static str {
        if self.holds() { "True" } else { "False" }
    }

    /// The condition, ready for a status list. `generation` is that of the spec it is about; `at` becomes
    /// `lastTransitionTime` unless [`crate::set_condition`] finds that nothing has changed.
    pub fn condition_with(self, message: impl Into<String>, generation: Option<i64>, at: Time) -> Condition {
        Condition {
            type_: self.condition().name().to_owned(),
            status: self.status().to_owned(),
            reason: self.name().to_owned(),
            message: message.into(),
            observed_generation: generation,
            last_transition_time: at,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_false_reason_has_a_remedy_and_every_type_a_reason_of_either_status() {
        for entry in TABLE {
            assert!(entry.status || !entry.remedy.is_empty(), "{} has no remedy", entry.reason);
            assert_eq!((entry.reason.condition(), entry.reason.holds()), (entry.condition, entry.status));
        }
        for condition in ConditionType::ALL {
            for status in [true, false] {
                assert!(
                    TABLE.iter().any(|entry| entry.condition == condition && entry.status == status),
                    "{condition} {status}"
                );
            }
        }
    }

    #[test]
    fn reasons_and_types_fulfil_the_pattern_of_metav1_condition() {
        // `^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$`, at most 1024 characters.
        let names = TABLE.iter().map(|entry| entry.reason.name()).chain(ConditionType::ALL.map(ConditionType::name));
        for name in names {
            assert!(name.bytes().all(|byte| byte.is_ascii_alphabetic()) && !name.is_empty(), "{name}");
        }
    }
}
