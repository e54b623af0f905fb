//! Objects that have been deleted: when no node runs them any more, which nothing else could tell. Pure.

use std::collections::BTreeMap;

use callgate_compile::status::ObjectRef;

use crate::fleet::Fleet;

/// Objects that are there, and objects that are gone and still in force somewhere; each with its uid.
#[derive(Debug, Default)]
pub struct Leaving {
    known: BTreeMap<ObjectRef, String>,
    leaving: BTreeMap<ObjectRef, String>,
}

impl Leaving {
    /// Takes note of which objects are there (`uids`) and gives those that have left since the last time: they are gone, and
    /// no agent has them in force. A service that goes on running because a rule names it has not left. One that was made anew under the same name is not told of: its own status says what runs.
    pub fn take(&mut self, uids: &BTreeMap<ObjectRef, String>, fleet: &Fleet) -> Vec<(ObjectRef, String)> {
        for (object, uid) in &self.known {
            if !uids.contains_key(object) {
                self.leaving.insert(object.clone(), uid.clone());
            }
        }
        self.leaving.retain(|object, _| !uids.contains_key(object));
        if self.known != *uids {
            self.known.clone_from(uids);
        }
        if self.leaving.is_empty() {
            return Vec::new();
        }
        let left: Vec<ObjectRef> =
            self.leaving.keys().filter(|object| fleet.carriers(object).next().is_none()).cloned().collect();
        left.into_iter().filter_map(|object| self.leaving.remove_entry(&object)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::moment::Moment;
    use callgate_crds::Kind;
    use callgate_proto::model::{Action, External, NodeConfig, ObjectKey, Rule, Source};
    use callgate_proto::pb;

    use super::*;
    use crate::snapshot::Snapshot;

    fn rule(name: &str) -> ObjectRef {
        ObjectRef { kind: Kind::IpRule, key: ObjectKey::new("pos", name) }
    }

    /// What a node is sent that runs these rules.
    fn snapshot(rules: &[&str]) -> Snapshot {
        let of = |name: &&str| Rule {
            key: ObjectKey::new("pos", *name),
            action: Action::Drop,
            destinations: vec![],
            services: vec![],
            external: External::NodeAddress,
            log: false,
        };
        let config = NodeConfig {
            rules: rules.iter().map(of).collect(),
            chains: vec![(0..rules.len() as u32).collect()],
            sources: vec![Source { net: "10.0.0.1/32".parse().unwrap(), chain: 0 }],
            ..NodeConfig::default()
        };
        Snapshot::new(config, vec![])
    }

    fn uids(rules: &[(&str, &str)]) -> BTreeMap<ObjectRef, String> {
        rules.iter().map(|(name, uid)| (rule(name), (*uid).to_owned())).collect()
    }

    /// The agent of node `a` puts it into effect.
    fn run(fleet: &mut Fleet, rules: &[&str]) {
        let snapshot = snapshot(rules);
        fleet.sent("a", 1, &snapshot);
        assert!(fleet.outcome("a", 1, pb::Outcome { hash: snapshot.hash, failure: None, sequence: 0 }));
    }

    #[test]
    fn a_rule_that_is_deleted_has_left_when_its_node_has_let_go_of_it_and_is_told_of_once() {
        let (mut leaving, mut fleet) = (Leaving::default(), Fleet::default());
        fleet.attach("a", 1, pb::Hello::default(), Moment::at(0));
        run(&mut fleet, &["x", "y"]);
        assert_eq!(leaving.take(&uids(&[("x", "1"), ("y", "2")]), &fleet), []);
        assert_eq!(leaving.take(&uids(&[("y", "2")]), &fleet), [], "the node still runs it");
        run(&mut fleet, &["y"]);
        assert_eq!(leaving.take(&uids(&[("y", "2")]), &fleet), [(rule("x"), "1".to_owned())]);
        assert_eq!(leaving.take(&uids(&[("y", "2")]), &fleet), []);
    }

    #[test]
    fn a_rule_that_an_agent_names_whose_configuration_nobody_knows_has_not_left() {
        let (mut leaving, mut fleet) = (Leaving::default(), Fleet::default());
        let in_force = vec!["IpRule pos/x".to_owned()];
        fleet.attach("a", 1, pb::Hello { in_force, ..pb::Hello::default() }, Moment::at(0));
        leaving.take(&uids(&[("x", "1")]), &fleet);
        assert_eq!(leaving.take(&uids(&[]), &fleet), []);
        run(&mut fleet, &[]);
        assert_eq!(leaving.take(&uids(&[]), &fleet), [(rule("x"), "1".to_owned())]);
    }

    #[test]
    fn a_rule_that_is_made_anew_before_it_has_left_is_not_told_of() {
        let (mut leaving, mut fleet) = (Leaving::default(), Fleet::default());
        fleet.attach("a", 1, pb::Hello::default(), Moment::at(0));
        run(&mut fleet, &["x"]);
        leaving.take(&uids(&[("x", "1")]), &fleet);
        leaving.take(&uids(&[]), &fleet);
        assert_eq!(leaving.take(&uids(&[("x", "2")]), &fleet), []);
        run(&mut fleet, &[]);
        assert_eq!(leaving.take(&uids(&[]), &fleet), [(rule("x"), "2".to_owned())]);
    }
}
