//! Services with groups flattened: each comes to the leaves it stands for.
use std::collections::{BTreeMap, BTreeSet};

use callgate_crds::conditions::Reason;
use callgate_crds::{ServiceRef, ServiceSpec};
use callgate_proto::model::ObjectKey;

use super::leaf::leaf;
use super::lookup::Hints;
use super::{Algs, Collected, Leaves, Report, Services, group_room, lookup};
use crate::status::Kind;
use crate::world::World;

/// Levels of groups in groups; deeper ones are nobody's intention.
const MAX_DEPTH: usize = 8;

/// Leaves of one group, or of one rule: each is a chain in the kernel.
pub(super) const MAX_LEAVES: usize = 1024;

/// Every Service with the leaves it stands for; they are there only where the report is good. The groups of a namespace come to
/// `most` leaves together.
///
/// Each group is put together once, of members that are put together before: nesting costs no more than its size.
pub(crate) fn services(world: &World, most: usize, algs: &Algs, hints: &mut Hints) -> Services {
    let leaves = world.services.iter().filter(|(_, object)| !is_group(&object.spec));
    let mut services: Services = leaves
        .map(|(key, object)| {
            let (leaf, report) = leaf(world, algs, hints, key, object);
            (key.clone(), (leaf.map(|leaf| vec![leaf.into()]), report))
        })
        .collect();
    let mut depths = BTreeMap::new();
    let Order { inner_first, circles } = order(world);
    let mut refused = group_room::refuse(world, most, &inner_first);
    for key in inner_first {
        let Some(object) = world.services.get(&key) else { continue };
        if let Some(message) = refused.remove(&key) {
            let mut report = Report::default();
            report.add(Reason::TooMany, "spec.members", message);
            services.insert(key, (None, report));
            continue;
        }
        let group = Group { world, key: &key, spec: &object.spec, circles: &circles };
        let flat = group.flatten(&services, hints, &mut depths);
        services.insert(key, flat);
    }
    services
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
pub(super) fn not_found(world: &World, hints: &mut Hints, namespace: &str, named: &ServiceRef, places: &str) -> String {
    let name = &named.name;
    let looked_in = match &named.namespace {
        None => [namespace, &world.operator_namespace],
        Some(elsewhere) => {
            if let Ok(found) = lookup::find(world, &world.services, namespace, name) {
                return format!("there is no Service {name} in {places}: leave out namespace to name Service {found}");
            }
            [elsewhere.as_str(), elsewhere.as_str()]
        }
    };
    if let Some(refused) = lookup::refused(world, Kind::Service, looked_in, name) {
        return refused;
    }
    let hint = hints.nearest(&world.services, namespace, looked_in, name);
    format!("there is no Service {name} in {places}{hint}: create it, or correct the name")
}

pub(super) fn is_group(spec: &ServiceSpec) -> bool {
    !spec.members.is_empty()
}

/// One group on its way to its leaves.
struct Group<'a> {
    world: &'a World,
    key: &'a ObjectKey,
    spec: &'a ServiceSpec,
    circles: &'a Circles,
}

impl Group<'_> {
    fn flatten(
        &self,
        done: &Services,
        hints: &mut Hints,
        depths: &mut BTreeMap<ObjectKey, usize>,
    ) -> (Option<Leaves>, Report) {
        let mut report = Report::default();
        let mut found = Collected::default();
        let mut depth = 1;
        for (index, member) in self.spec.members.iter().enumerate() {
            let field = format!("spec.members[{index}].name");
            if let Some(message) = lookup::not_permitted(self.world, &self.key.namespace, member) {
                report.add(Reason::RefNotPermitted, field, message);
                continue;
            }
            let at = match find(self.world, &self.key.namespace, member) {
                Ok(at) => at,
                Err(places) => {
                    let message = not_found(self.world, hints, &self.key.namespace, member, &places);
                    report.add(Reason::ServiceNotFound, field, message);
                    continue;
                }
            };
            if let Some(circle) = self.circles.get(&(self.key.clone(), at.clone())) {
                let message = format!("the group contains itself: {circle}; remove the member that closes the circle");
                report.add(Reason::GroupCycle, field, message);
                continue;
            }
            let inner = depths.get(&at).copied().unwrap_or_default();
            match done.get(&at) {
                Some((Some(_), _)) if inner >= MAX_DEPTH => {
                    let message =
                        format!("groups are nested more than {MAX_DEPTH} levels deep: name the services directly");
                    report.add(Reason::GroupTooDeep, field, message);
                }
                Some((Some(of), _)) => {
                    depth = depth.max(inner + 1);
                    found.add(of);
                }
                Some((None, _)) | None => {
                    let message = format!("Service {at} is not accepted: mend it first, its status says what is wrong");
                    report.add(Reason::RefNotAccepted, field, message);
                }
            }
        }
        let found = found.leaves;
        if found.len() > MAX_LEAVES {
            let message = format!("the group comes to more than {MAX_LEAVES} services: split it");
            report.add(Reason::Invalid, "spec.members", message);
        }
        depths.insert(self.key.clone(), depth);
        (report.is_good().then_some(found), report)
    }
}

/// For a group and a member of it that leads back to it: the circle, in words. Without these members there is none.
type Circles = BTreeMap<(ObjectKey, ObjectKey), String>;

/// Groups in the order in which they can be put together.
#[derive(Default)]
struct Order {
    inner_first: Vec<ObjectKey>,
    circles: Circles,
}

/// Walks the groups depth first, with a stack of its own: people may nest as deep as they like.
fn order(world: &World) -> Order {
    let mut order = Order::default();
    let mut seen: BTreeSet<ObjectKey> = BTreeSet::new();
    for (root, _) in world.services.iter().filter(|(_, object)| is_group(&object.spec)) {
        if !seen.insert(root.clone()) {
            continue;
        }
        let mut path = vec![(root.clone(), inner_groups(world, root))];
        let mut places = BTreeMap::from([(root.clone(), 0)]);
        while let Some((key, rest)) = path.last_mut() {
            let Some(next) = rest.pop() else {
                places.remove(key);
                order.inner_first.push(key.clone());
                path.pop();
                continue;
            };
            if let Some(&place) = places.get(&next) {
                let closing = (key.clone(), next);
                order.circles.entry(closing).or_insert_with(|| circle(path.get(place..).unwrap_or_default()));
            } else if seen.insert(next.clone()) {
                places.insert(next.clone(), path.len());
                let inner = inner_groups(world, &next);
                path.push((next, inner));
            }
        }
    }
    order
}

/// The members of a group that are groups; the first is last.
fn inner_groups(world: &World, key: &ObjectKey) -> Vec<ObjectKey> {
    let members = world.services.get(key).map(|object| &object.spec.members[..]).unwrap_or_default();
    let found = members.iter().rev().filter_map(|member| find(world, &key.namespace, member).ok());
    found.filter(|at| world.services.get(at).is_some_and(|object| is_group(&object.spec))).collect()
}

/// `a > b > a`; a long one with its first groups and its last.
fn circle(path: &[(ObjectKey, Vec<ObjectKey>)]) -> String {
    let mut words: Vec<String> = path.iter().take(MAX_DEPTH).map(|(key, _)| key.to_string()).collect();
    if let Some((last, _)) = path.get(MAX_DEPTH..).and_then(<[_]>::last) {
        words.extend(["…".to_owned(), last.to_string()]);
    }
    words.extend(path.first().map(|(key, _)| key.to_string()));
    words.join(" > ")
}
