//! Label selectors in a form that can be compared: what one selects, and whether another selects all of that.
use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Serialize};

use crate::status::Finding;
use crate::steps::Steps;
use crate::world::Labels;

/// A label selector: every requirement must hold; without any it selects everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub(crate) struct Selector(BTreeSet<Requirement>);

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Requirement {
    key: String,
    test: Test,
}

/// What is asked of a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => !value.is_some_and(|value| values.contains(value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
        }
    }

    /// Values that are looked at.
    fn len(&self) -> usize {
        match &self.test {
            Test::In(values) | Test::NotIn(values) => values.len(),
            Test::Exists | Test::DoesNotExist => 0,
        }
    }

    /// Whether whatever fulfils this fulfils `other`.
    fn implies(&self, other: &Self) -> bool {
        self.key == other.key
            && match (&self.test, &other.test) {
                (Test::In(mine), Test::In(theirs)) => mine.is_subset(theirs),
                (Test::In(mine), Test::NotIn(theirs)) => mine.is_disjoint(theirs),
                (Test::In(mine), Test::Exists) => !mine.is_empty(),
                (Test::NotIn(mine), Test::NotIn(theirs)) => theirs.is_subset(mine),
                (Test::Exists, Test::Exists) | (Test::DoesNotExist, Test::DoesNotExist | Test::NotIn(_)) => true,
                (Test::In(_), Test::DoesNotExist)
                | (Test::NotIn(_), Test::In(_) | Test::Exists | Test::DoesNotExist)
                | (Test::Exists, Test::In(_) | Test::NotIn(_) | Test::DoesNotExist)
                | (Test::DoesNotExist, Test::In(_) | Test::Exists) => false,
            }
    }
}

impl Selector {
    /// The selector at `field`. Operators that do not exist and value lists that do not fit theirs are findings.
    pub(crate) fn read(selector: &LabelSelector, field: &str, findings: &mut Vec<Finding>) -> Self {
        let labels = selector.match_labels.iter().flatten();
        let mut all: BTreeSet<Requirement> = labels
            .map(|(key, value)| Requirement { key: key.clone(), test: Test::In(BTreeSet::from([value.clone()])) })
            .collect();
        for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
            let field = format!("{field}.matchExpressions[{index}]");
            let values: BTreeSet<String> = expression.values.iter().flatten().cloned().collect();
            let operator = expression.operator.as_str();
            let test = match (operator, values.is_empty()) {
                ("In", false) => Test::In(values),
                ("NotIn", false) => Test::NotIn(values),
                ("Exists", true) => Test::Exists,
                ("DoesNotExist", true) => Test::DoesNotExist,
                ("In" | "NotIn", true) => {
                    let message = format!("{operator} compares with nothing: list the label's values");
                    findings.push(Finding::new(format!("{field}.values"), message));
                    continue;
                }
                ("Exists" | "DoesNotExist", false) => {
                    let message = format!("{operator} takes no values: remove them, or use In or NotIn");
                    findings.push(Finding::new(format!("{field}.values"), message));
                    continue;
                }
                (unknown, _) => {
                    let message = format!("{unknown:?} is no operator: use In, NotIn, Exists or DoesNotExist");
                    findings.push(Finding::new(format!("{field}.operator"), message));
                    continue;
                }
            };
            all.insert(Requirement { key: expression.key.clone(), test });
        }
        Self(all)
    }

    /// Whether it selects something with these labels.
    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }

    /// The labels it looks at.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|requirement| requirement.key.as_str())
    }

    /// A label and the only value that is selected, where it asks for one.
    pub(crate) fn must_have(&self) -> Option<(&str, &str)> {
        self.single_values().next()
    }

    /// Every label of which it asks for one value.
    pub(crate) fn single_values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|requirement| match &requirement.test {
            Test::In(values) if values.len() == 1 => Some((requirement.key.as_str(), values.first()?.as_str())),
            Test::In(_) | Test::NotIn(_) | Test::Exists | Test::DoesNotExist => None,
        })
    }

    /// How many values it asks for, what is asked without one counted as one.
    pub(crate) fn size(&self) -> usize {
        self.0.iter().map(|requirement| requirement.len().max(1)).sum()
    }

    /// Whether it selects everything, because it demands nothing.
    pub(crate) fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it surely selects whatever `other` selects. `false` may also mean that this cannot be told from the
    /// selectors alone.
    pub(crate) fn covers(&self, other: &Self, steps: &mut Steps) -> bool {
        // Both are sorted by label: a selector may ask for thousands.
        let mut rest = other.0.iter().peekable();
        self.0.iter().all(|mine| {
            while rest.next_if(|theirs| theirs.key < mine.key).is_some() {
                steps.take(1);
            }
            rest.clone().take_while(|theirs| theirs.key == mine.key).any(|theirs| {
                steps.take(1 + mine.len() + theirs.len());
                theirs.implies(mine)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selector(yaml: &str) -> Selector {
        let mut findings = Vec::new();
        let read = Selector::read(&serde_saphyr::from_str(yaml).unwrap(), "spec.source.podSelector", &mut findings);
        assert_eq!(findings, Vec::new());
        read
    }

    #[test]
    fn a_selector_with_fewer_demands_covers_one_with_more() {
        let covers = |a: &Selector, b: &Selector| a.covers(b, &mut Steps::endless());
        let till = selector("matchLabels: {app: till}");
        let old_till = selector("matchLabels: {app: till, old: 'yes'}");
        let both = selector("matchExpressions: [{key: app, operator: In, values: [till, scale]}]");
        let any = selector("{}");
        assert!(covers(&till, &old_till) && !covers(&old_till, &till));
        assert!(covers(&both, &till) && !covers(&till, &both));
        assert!(covers(&any, &till) && !covers(&till, &any));
    }

    #[test]
    fn wrong_operators_and_values_are_findings_at_their_field() {
        let yaml = "matchExpressions: [{key: a, operator: Like, values: [x]}, {key: a, operator: In}, \
                    {key: a, operator: Exists, values: [x]}]";
        let mut findings = Vec::new();
        let read = Selector::read(&serde_saphyr::from_str(yaml).unwrap(), "s", &mut findings);
        assert_eq!(read, Selector::default());
        assert_eq!(
            findings,
            vec![
                Finding::new(
                    "s.matchExpressions[0].operator",
                    "\"Like\" is no operator: use In, NotIn, Exists or DoesNotExist"
                ),
                Finding::new("s.matchExpressions[1].values", "In compares with nothing: list the label's values"),
                Finding::new("s.matchExpressions[2].values", "Exists takes no values: remove them, or use In or NotIn"),
            ]
        );
    }

    fn values() -> impl Strategy<Value = BTreeSet<String>> {
        proptest::collection::btree_set("[xyz]", 1..3)
    }

    fn some_selector() -> impl Strategy<Value = Selector> {
        let test = prop_oneof![
            values().prop_map(Test::In),
            values().prop_map(Test::NotIn),
            Just(Test::Exists),
            Just(Test::DoesNotExist)
        ];
        let requirement = ("[ab]", test).prop_map(|(key, test)| Requirement { key, test });
        proptest::collection::btree_set(requirement, 0..4).prop_map(Selector)
    }

    proptest! {
        #[test]
        fn what_a_covered_selector_selects_the_covering_one_selects(
            a in some_selector(), b in some_selector(), labels in proptest::collection::btree_map("[ab]", "[xyz]", 0..3)
        ) {
            if a.covers(&b, &mut Steps::endless()) && b.selects(&labels) {
                prop_assert!(a.selects(&labels));
            }
        }
    }
}
