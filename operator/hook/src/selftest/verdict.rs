//! What a rule's status says about a generation.

use callgate_crds::ObjectStatus;
use callgate_crds::conditions::ConditionType;

/// Where the rule stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// In force, on "N of M nodes".
    Programmed(String),
    /// Never will be, and why.
    Refused(String),
    /// Not yet, and what was last said.
    Waiting(String),
}

/// A condition of another generation says nothing.
pub(super) fn of(status: Option<&ObjectStatus>, generation: i64) -> Verdict {
    let condition = |of: ConditionType| {
        let mut all = status.into_iter().flat_map(|status| &status.conditions);
        all.find(|condition| condition.type_ == of.name() && condition.observed_generation == Some(generation))
    };
    if let Some(accepted) = condition(ConditionType::Accepted).filter(|accepted| accepted.status == "False") {
        return Verdict::Refused(format!("{}: {}", accepted.reason, accepted.message));
    }
    match condition(ConditionType::Programmed) {
        Some(programmed) if programmed.status == "True" => {
            let count = |number: Option<u32>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
            let nodes = status.map(|status| (count(status.nodes_programmed), count(status.nodes_total)));
            let (done, total) = nodes.unwrap_or_default();
            Verdict::Programmed(format!("{done} of {total} nodes"))
        }
        Some(programmed) => Verdict::Waiting(format!("{}: {}", programmed.reason, programmed.message)),
        None => Verdict::Waiting("nobody has looked at this generation yet; is the operator running?".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(type_: &str, status: &str, generation: i64) -> ObjectStatus {
        serde_json::from_value(json!({
            "nodesProgrammed": 1,
            "nodesTotal": 2,
            "conditions": [{ "type": type_, "status": status, "reason": "R", "message": "m", "observedGeneration": generation,
                             "lastTransitionTime": "2026-01-01T00:00:00Z" }],
        }))
        .expect("a status")
    }

    #[test]
    fn only_conditions_of_this_generation_count() {
        let said = |type_, value, generation| of(Some(&status(type_, value, generation)), 7);
        let nobody =
            || Verdict::Waiting("nobody has looked at this generation yet; is the operator running?".to_owned());
        let found = [
            of(None, 7),
            said("Programmed", "True", 6),
            said("Programmed", "True", 7),
            said("Programmed", "False", 7),
            said("Accepted", "False", 6),
            said("Accepted", "False", 7),
            said("Accepted", "True", 7),
        ];
        let expected = [
            nobody(),
            nobody(),
            Verdict::Programmed("1 of 2 nodes".to_owned()),
            Verdict::Waiting("R: m".to_owned()),
            nobody(),
            Verdict::Refused("R: m".to_owned()),
            nobody(),
        ];
        assert_eq!(found, expected);
    }
}
