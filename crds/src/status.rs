//! Status: conditions, and what can be counted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known about an object. Every kind has the same, but for `shared_servers`, which the schema of a PptpAlg alone has
/// ([`crate::Kind::definition`]).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Accepted, ResolvedRefs, Programmed; docs/conditions.md lists every reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,

    /// Nodes that have acknowledged this generation; none while its last good version runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int64"))]
    pub nodes_programmed: Option<u32>,

    /// Nodes that have to run this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int64"))]
    pub nodes_total: Option<u32>,

    /// Pods and networks for which it is in force, as nodes have acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int64"))]
    pub clients: Option<u32>,

    /// The reason that matters most: of the first condition that is not True, or of Programmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,

    /// nodesProgrammed and nodesTotal as one text for people, such as "2/3".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,

    /// Live PPTP calls that use the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int64"))]
    pub live_calls: Option<u32>,

    /// With controlConnection Auto: servers that were seen to take one control connection from an address only,
    /// whose clients share one. Forgotten a day after it was last seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["server"])
    )]
    pub shared_servers: Vec<SharedServer>,
}

/// A server that takes one control connection from an address only.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SharedServer {
    /// Address and TCP port.
    #[schemars(length(max = 64))]
    pub server: String,

    /// What it has done to a second connection: second-refused (it answered result 3) or second-reset.
    #[schemars(length(max = 64))]
    pub reason: String,

    /// When it was first seen.
    pub since: Time,

    /// Nodes that know of it.
    #[schemars(extend("format" = "int64"))]
    pub nodes: u32,
}

/// Puts a condition into the list, which stays sorted by type. `lastTransitionTime` is the new one's only where the
/// condition's status changes, as the API conventions demand; otherwise the old time stays.
pub fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition) {
    if let Some(old) = conditions.iter().find(|old| old.type_ == new.type_ && old.status == new.status) {
        new.last_transition_time = old.last_transition_time.clone();
    }
    conditions.retain(|old| old.type_ != new.type_);
    let place = conditions.partition_point(|old| old.type_ < new.type_);
    conditions.insert(place, new);
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::conditions::Reason;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn conditions_stay_sorted_and_one_of_a_type() {
        let mut conditions = Vec::new();
        set_condition(&mut conditions, Reason::ResolvedRefs.condition_with("", Some(1), at(1)));
        set_condition(&mut conditions, Reason::Accepted.condition_with("", Some(1), at(1)));
        set_condition(&mut conditions, Reason::Invalid.condition_with("spec.order: …", Some(2), at(2)));
        let expected = vec![
            Reason::Invalid.condition_with("spec.order: …", Some(2), at(2)),
            Reason::ResolvedRefs.condition_with("", Some(1), at(1)),
        ];
        assert_eq!(conditions, expected);
    }

    #[test]
    fn the_transition_time_changes_only_with_the_status() {
        let mut conditions = vec![Reason::Accepted.condition_with("", Some(1), at(1))];
        set_condition(&mut conditions, Reason::Shadowed.condition_with("by pos/first", Some(2), at(2)));
        assert_eq!(conditions, vec![Reason::Shadowed.condition_with("by pos/first", Some(2), at(1))]);
        set_condition(&mut conditions, Reason::Conflicted.condition_with("", Some(3), at(3)));
        assert_eq!(conditions, vec![Reason::Conflicted.condition_with("", Some(3), at(3))]);
    }
}
