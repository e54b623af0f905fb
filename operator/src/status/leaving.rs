//! Objects that have been deleted: when no node runs them any more, which nothing else could tell. Pure.
//!
//! A group of services is in no configuration by its name: it is in force for as long as a node has not yet put into effect what was
//! compiled without it, and for as long as a rule that named it goes on as it ran.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use callgate_compile::Compiled;
use callgate_compile::status::ObjectRef;
use callgate_compile::world::World;
use callgate_crds::{Kind, ServiceRef};
use callgate_proto::model::ObjectKey;

use crate::fleet::Fleet;
use crate::publish::Published;
use crate::snapshot::Snapshot;

/// Objects that are there, and objects that are gone and still in force somewhere; each with its uid.
#[derive(Debug, Default)]
pub struct Leaving {
    known: BTreeMap<ObjectRef, String>,
    /// What they were compiled to.
    compiled: Option<Arc<Compiled>>,
    /// Groups of services with what they name, and those that are gone with what they named.
    groups: BTreeMap<ObjectKey, Vec<ServiceRef>>,
    leaving: BTreeMap<ObjectRef, Left>,
    /// Groups that are gone, and a rule that may have named them goes on as it ran.
    kept: BTreeSet<ObjectKey>,
}

/// One that is gone.
#[derive(Debug)]
struct Left {
    uid: String,
    /// Nodes that had to run it, as long as they may; empty where agents tell of it by its name.
    nodes: BTreeSet<String>,
    /// Nobody has looked yet whether they do.
    is_new: bool,
}

impl Leaving {
    /// Takes note of which objects are there.
    pub fn note(&mut self, published: &Published) {
        let Published { uids, compiled, world } = published;
        for (object, uid) in &self.known {
            if !uids.contains_key(object) {
                let said = self.compiled.as_ref().and_then(|compiled| compiled.statuses.get(object));
                let nodes = said.map(|said| BTreeSet::clone(&said.nodes)).unwrap_or_default();
                let left = Left { uid: uid.clone(), nodes, is_new: true };
                self.leaving.insert(object.clone(), left);
            }
        }
        self.leaving.retain(|object, _| !uids.contains_key(object));
        if self.known != **uids {
            self.known.clone_from(uids);
        }
        if self.compiled.as_ref().is_some_and(|before| Arc::ptr_eq(before, compiled)) {
            return;
        }
        self.compiled = Some(Arc::clone(compiled));
        let world = world.read();
        // The world may be newer than what was compiled of it: a group that it lacks may be there still.
        let is_of_use = |key: &ObjectKey| {
            let object = ObjectRef { kind: Kind::Service, key: key.clone() };
            !world.services.contains_key(key) && (uids.contains_key(&object) || self.leaving.contains_key(&object))
        };
        self.groups.retain(|key, _| is_of_use(key));
        let there = world.services.iter().filter(|(_, object)| !object.spec.members.is_empty());
        self.groups.extend(there.map(|(key, object)| (key.clone(), object.spec.members.clone())));
        let gone = self.leaving.keys().filter(|object| object.kind == Kind::Service).map(|object| &object.key);
        let gone = gone.filter(|key| self.groups.contains_key(key));
        self.kept = gone.filter(|group| is_kept(group, &self.groups, &world, compiled)).cloned().collect();
    }

    /// Gives those that have left since the last time: they are gone, and no agent has them in force. A service that goes on running
    /// because a rule names it has not left. One that was made anew under the same name is not told of: its own status says what runs.
    pub fn take(&mut self, wanted: &BTreeMap<String, Arc<Snapshot>>, fleet: &Fleet) -> Vec<(ObjectRef, String)> {
        let may_run = |node: &String| {
            fleet.get(node).is_some_and(|agent| !wanted.get(node).is_some_and(|wanted| agent.runs(&wanted.hash)))
        };
        let mut left = Vec::new();
        self.leaving.retain(|object, gone| {
            let is_told_of = fleet.carriers(object).next().is_some();
            if std::mem::take(&mut gone.is_new) && is_told_of {
                gone.nodes.clear();
            }
            gone.nodes.retain(may_run);
            let is_kept = object.kind == Kind::Service && self.kept.contains(&object.key);
            let stays = is_told_of || is_kept || !gone.nodes.is_empty();
            if !stays {
                left.push((object.clone(), gone.uid.clone()));
            }
            stays
        });
        left
    }
}

/// Whether a rule that may name this group, or one that does, goes on as it ran; groups that are gone still name what they named.
fn is_kept(
    group: &ObjectKey,
    groups: &BTreeMap<ObjectKey, Vec<ServiceRef>>,
    world: &World,
    compiled: &Compiled,
) -> bool {
    let may_be = |group: &ObjectKey, namespace: &str, named: &ServiceRef| {
        let place = group.namespace.as_str();
        let here = || place == namespace || place == world.operator_namespace;
        group.name == named.name && named.namespace.as_deref().map_or_else(here, |elsewhere| place == elsewhere)
    };
    let names_one = |found: &BTreeSet<&ObjectKey>, of: &ObjectKey, named: &[ServiceRef]| {
        named.iter().any(|named| found.iter().any(|group| may_be(group, &of.namespace, named)))
    };
    let mut found = BTreeSet::from([group]);
    loop {
        let others = groups.iter().filter(|(key, _)| !found.contains(key));
        let more: Vec<&ObjectKey> =
            others.filter(|(key, members)| names_one(&found, key, members)).map(|(key, _)| key).collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    let kept = |key: &ObjectKey| {
        let status = compiled.statuses.get(&ObjectRef { kind: Kind::IpRule, key: key.clone() });
        status.is_some_and(|status| status.last_good)
    };
    world.rules.iter().any(|(key, object)| kept(key) && names_one(&found, key, &object.spec.services))
}

#[cfg(test)]
mod tests {
    use crate::moment::Moment;
    use callgate_compile::world::{Meta, Object, Pod};
    use callgate_compile::{LastGood, Since, compile};
    use callgate_proto::model::{Action, External, NodeConfig, Rule, Source};
    use callgate_proto::pb;

    use super::*;
    use crate::publish::{Board, SharedWorld};

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

    /// What is there, by name and uid.
    fn there(rules: &[(&str, &str)]) -> Published {
        let uids = rules.iter().map(|(name, uid)| (rule(name), (*uid).to_owned())).collect();
        let compiled = Compiled { nodes: BTreeMap::new(), statuses: BTreeMap::new(), last_good: LastGood::default() };
        let (world, compiled) = (SharedWorld::new(World::cluster()), Arc::new(compiled));
        Published { world, compiled, uids: Arc::new(uids) }
    }

    /// Who has left when this is there.
    fn take(leaving: &mut Leaving, fleet: &Fleet, rules: &[(&str, &str)]) -> Vec<(ObjectRef, String)> {
        leaving.note(&there(rules));
        leaving.take(&BTreeMap::new(), fleet)
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
        assert_eq!(take(&mut leaving, &fleet, &[("x", "1"), ("y", "2")]), []);
        assert_eq!(take(&mut leaving, &fleet, &[("y", "2")]), [], "the node still runs it");
        run(&mut fleet, &["y"]);
        assert_eq!(take(&mut leaving, &fleet, &[("y", "2")]), [(rule("x"), "1".to_owned())]);
        assert_eq!(take(&mut leaving, &fleet, &[("y", "2")]), []);
    }

    #[test]
    fn a_rule_that_an_agent_names_whose_configuration_nobody_knows_has_not_left() {
        let (mut leaving, mut fleet) = (Leaving::default(), Fleet::default());
        let in_force = vec!["IpRule pos/x".to_owned()];
        fleet.attach("a", 1, pb::Hello { in_force, ..pb::Hello::default() }, Moment::at(0));
        take(&mut leaving, &fleet, &[("x", "1")]);
        assert_eq!(take(&mut leaving, &fleet, &[]), []);
        run(&mut fleet, &[]);
        assert_eq!(take(&mut leaving, &fleet, &[]), [(rule("x"), "1".to_owned())]);
    }

    #[test]
    fn a_rule_that_is_made_anew_before_it_has_left_is_not_told_of() {
        let (mut leaving, mut fleet) = (Leaving::default(), Fleet::default());
        fleet.attach("a", 1, pb::Hello::default(), Moment::at(0));
        run(&mut fleet, &["x"]);
        take(&mut leaving, &fleet, &[("x", "1")]);
        take(&mut leaving, &fleet, &[]);
        assert_eq!(take(&mut leaving, &fleet, &[("x", "2")]), []);
        run(&mut fleet, &[]);
        assert_eq!(take(&mut leaving, &fleet, &[]), [(rule("x"), "2".to_owned())]);
    }
    fn service(name: &str) -> ObjectRef {
        ObjectRef { kind: Kind::Service, ..rule(name) }
    }

    fn object<S: serde::de::DeserializeOwned>(spec: serde_json::Value) -> Object<S> {
        Object { meta: Meta::default(), spec: serde_json::from_value(spec).unwrap() }
    }

    /// A pod on node `a`, and a rule for it that names a group `outer` of a group `inner` of service `web`.
    fn grouped() -> World {
        let mut world = World::cluster();
        world.nodes.insert("a".to_owned());
        let (addresses, node) = (vec!["10.0.0.1".parse().unwrap()], Some("a".to_owned()));
        world.pods.insert(rule("pod").key, Pod { uid: "1".to_owned(), addresses, node, ..Pod::default() }.into());
        for (name, spec) in [
            ("web", serde_json::json!({"protocol": "TCP"})),
            ("inner", serde_json::json!({"members": [{"name": "web"}]})),
            ("outer", serde_json::json!({"members": [{"name": "inner"}]})),
        ] {
            world.services.insert(rule(name).key, object(spec));
        }
        let source = serde_json::json!({"podSelector": {}});
        let spec = serde_json::json!({"order": 1, "action": "NAT", "services": [{"name": "outer"}], "source": source});
        world.rules.insert(rule("x").key, object(spec));
        world
    }

    #[test]
    fn a_group_that_is_deleted_has_left_when_its_nodes_do_without_it_and_no_rule_goes_on_with_it() {
        let (mut leaving, mut fleet, board) = (Leaving::default(), Fleet::default(), Board::default());
        let mut last_good = None;
        let mut published = |world: &World| {
            let compiled = compile(world, last_good.as_ref());
            last_good = Some(compiled.last_good.clone());
            board.publish(world, &compiled.nodes, &Since::Everything);
            let uids = compiled.statuses.keys().map(|object| (object.clone(), "1".to_owned())).collect();
            let (world, compiled) = (SharedWorld::new(world.clone()), Arc::new(compiled));
            (Published { world, compiled, uids: Arc::new(uids) }, board.latest())
        };
        let answer = |fleet: &mut Fleet, wanted: &BTreeMap<String, Arc<Snapshot>>| {
            fleet.sent("a", 1, &wanted["a"]);
            assert!(fleet.outcome("a", 1, pb::Outcome { hash: wanted["a"].hash.clone(), failure: None, sequence: 0 }));
        };
        let mut take = |fleet: &Fleet, (published, wanted): &(Published, BTreeMap<String, Arc<Snapshot>>)| {
            leaving.note(published);
            leaving.take(wanted, fleet).into_iter().map(|(object, _)| object).collect::<Vec<_>>()
        };
        fleet.attach("a", 1, pb::Hello::default(), Moment::at(0));
        let mut world = grouped();
        let unnamed = world.services[&rule("inner").key].clone();
        world.services.insert(rule("unnamed").key, unnamed);
        let all = published(&world);
        answer(&mut fleet, &all.1);
        assert_eq!(take(&fleet, &all), []);
        // The rule goes on with what the groups stood for. The next change is in the world already when this one is looked at.
        world.services.remove(&rule("inner").key);
        let mut kept = published(&world);
        answer(&mut fleet, &kept.1);
        world.services.remove(&rule("outer").key);
        kept.0.world = SharedWorld::new(world.clone());
        assert_eq!(take(&fleet, &kept), []);
        let kept = published(&world);
        answer(&mut fleet, &kept.1);
        assert_eq!(take(&fleet, &kept), []);
        // Nobody has named this one.
        world.services.remove(&rule("unnamed").key);
        let kept = published(&world);
        answer(&mut fleet, &kept.1);
        assert_eq!(take(&fleet, &kept), [service("unnamed")]);
        // It names something else, which the node does not do yet.
        let without = serde_json::json!([{"name": "web"}]);
        let spec = &mut world.rules.get_mut(&rule("x").key).unwrap().spec;
        (spec.services, spec.log) = (serde_json::from_value(without).unwrap(), true);
        let edited = published(&world);
        answer(&mut fleet, &edited.1);
        assert_eq!(take(&fleet, &edited), [service("inner"), service("outer")]);
        assert_eq!(take(&fleet, &edited), []);
    }

    #[test]
    fn a_group_that_is_deleted_has_not_left_while_its_node_has_not_answered() {
        let (mut leaving, mut fleet, board) = (Leaving::default(), Fleet::default(), Board::default());
        let published = |world: &World| {
            let compiled = compile(world, None);
            board.publish(world, &compiled.nodes, &Since::Everything);
            let uids = compiled.statuses.keys().map(|object| (object.clone(), "1".to_owned())).collect();
            let (world, compiled) = (SharedWorld::new(world.clone()), Arc::new(compiled));
            Published { world, compiled, uids: Arc::new(uids) }
        };
        let answer = |fleet: &mut Fleet| {
            let wanted = Arc::clone(&board.latest()["a"]);
            fleet.sent("a", 1, &wanted);
            assert!(fleet.outcome("a", 1, pb::Outcome { hash: wanted.hash.clone(), failure: None, sequence: 0 }));
        };
        fleet.attach("a", 1, pb::Hello::default(), Moment::at(0));
        let mut world = grouped();
        leaving.note(&published(&world));
        answer(&mut fleet);
        world.rules.clear();
        world.services.retain(|key, _| key.name == "web");
        leaving.note(&published(&world));
        assert_eq!(leaving.take(&board.latest(), &fleet), []);
        answer(&mut fleet);
        let left: Vec<ObjectRef> =
            leaving.take(&board.latest(), &fleet).into_iter().map(|(object, _)| object).collect();
        assert_eq!(left, [service("inner"), service("outer"), rule("x")]);
    }
}
