//! Services with groups flattened: each comes to the leaves it stands for.
use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::Reason;
use callgate_crds::{ServiceRef, ServiceSpec};
use callgate_proto::model::{self, ObjectKey};

use super::leaf::{Leaf, leaf};
use super::{Report, lookup};
use crate::world::{Object, World};

/// Levels of groups in groups; deeper ones are nobody's intention.
const MAX_DEPTH: usize = 8;

type Algs = BTreeMap<ObjectKey, (Option<model::PptpAlg>, Report)>;
type Resolved = BTreeMap<ObjectKey, (Option<Vec<Leaf>>, Report)>;

/// Every Service with the leaves it stands for; they are there only where the report is good.
pub(crate) fn services(world: &World, algs: &Algs) -> Resolved {
    let mut resolved: Resolved = world
        .services
        .iter()
        .filter(|(_, object)| object.spec.members.is_empty())
        .map(|(key, object)| {
            let (leaf, report) = leaf(world, algs, key, &object.spec);
            (key.clone(), (leaf.map(|leaf| vec![leaf]), report))
        })
        .collect();
    let leaves = resolved.clone();
    for (key, object) in world.services.iter().filter(|(_, object)| !object.spec.members.is_empty()) {
        let mut report = Report::default();
        let mut found = Vec::new();
        flatten(world, &leaves, key, object, &mut vec![key.clone()], &mut found, &mut report);
        let mut seen = BTreeSet::new();
        found.retain(|leaf: &Leaf| seen.insert(leaf.key.clone()));
        resolved.insert(key.clone(), (report.is_good().then_some(found), report));
    }
    resolved
}

/// Where a service is looked up when an object of `namespace` names it.
pub(super) fn find(world: &World, namespace: &str, named: &ServiceRef) -> Result<ObjectKey, String> {
    match &named.namespace {
        Some(elsewhere) => {
            let key = ObjectKey::new(elsewhere.as_str(), named.name.as_str());
            if world.services.contains_key(&key) { Ok(key) } else { Err(format!("namespace {elsewhere}")) }
        }
        None => lookup::find(world, &world.services, namespace, &named.name),
    }
}

/// That a service does not exist, with the nearest name that does.
pub(super) fn not_found(world: &World, namespace: &str, named: &ServiceRef, places: &str) -> String {
    let hint = lookup::hint(world, &world.services, namespace, &named.name);
    format!("there is no Service {} in {places}{hint}: create it, or correct the name", named.name)
}

fn flatten(
    world: &World,
    leaves: &Resolved,
    key: &ObjectKey,
    group: &Object<ServiceSpec>,
    path: &mut Vec<ObjectKey>,
    found: &mut Vec<Leaf>,
    report: &mut Report,
) {
    for (index, member) in group.spec.members.iter().enumerate() {
        // Deeper down the field is the outermost group's member that leads there.
        let field = format!("spec.members[{index}].name");
        let at = match find(world, &key.namespace, member) {
            Ok(at) => at,
            Err(places) => {
                report.add(Reason::ServiceNotFound, field, not_found(world, &key.namespace, member, &places));
                continue;
            }
        };
        if path.contains(&at) {
            let circle: Vec<String> = path.iter().chain([&at]).map(ToString::to_string).collect();
            let message =
                format!("the group contains itself: {}; remove the member that closes the circle", circle.join(" > "));
            report.add(Reason::GroupCycle, field, message);
            continue;
        }
        match (leaves.get(&at), world.services.get(&at)) {
            (Some((Some(of), _)), _) => found.extend(of.iter().cloned()),
            (Some((None, _)), _) => {
                let message = format!("Service {at} is not accepted: mend it first, its status says what is wrong");
                report.add(Reason::RefNotAccepted, field, message);
            }
            (None, Some(_)) if path.len() >= MAX_DEPTH => {
                let message =
                    format!("groups are nested more than {MAX_DEPTH} levels deep: name the services directly");
                report.add(Reason::GroupTooDeep, field, message);
            }
            (None, Some(inner)) => {
                path.push(at.clone());
                flatten(world, leaves, &at, inner, path, found, report);
                path.pop();
            }
            (None, None) => {}
        }
    }
}
