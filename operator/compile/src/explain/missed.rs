//! Why rules do not reach a source at all: what their selectors ask for and it has not, or what keeps them from running.
//!
//! A node's configuration has only rules that select somebody there; these answers are made of the objects themselves.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use callgate_crds::IpRuleSpec;
use callgate_crds::fields::selects;
use callgate_proto::model::ObjectKey;
use callgate_proto::pb;
use ipnet::Ipv4Net;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::Why;
use crate::status::{Condition, Kind, ObjectRef, Status, Statuses};
use crate::world::{Labels, World};

/// A rule that could be meant for a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    /// The rule.
    pub rule: ObjectKey,
    /// What it does.
    pub action: pb::Action,
    /// What keeps it from the source; `None` where nothing does, or where another version of it runs than the one that is there.
    pub missing: Option<String>,
}

/// Rules that could be meant for a source, in the order in which they are taken: those of the pod's namespace and of the operator's, on a
/// host all. `pod`: the one whose address `source` is.
pub fn meant(world: &World, statuses: &Statuses, pod: Option<&ObjectKey>, source: Ipv4Addr) -> Vec<Meant> {
    let near = |rule: &ObjectKey| {
        let own = pod.is_some_and(|pod| pod.namespace == rule.namespace);
        own || world.is_trusted(&rule.namespace)
    };
    let mut rules: Vec<_> = world.rules.iter().filter(|(key, _)| near(key)).collect();
    rules.sort_by_key(|(key, object)| (object.spec.order, object.meta.created, *key));
    let told = rules.into_iter().map(|(key, object)| {
        let status = statuses.get(&ObjectRef { kind: Kind::IpRule, key: key.clone() });
        let missing = match status.filter(|status| !status.is_good()) {
            Some(status) if status.last_good => None,
            Some(status) => Some(not_accepted(status)),
            None => Asked { world, key, spec: &object.spec, pod, source }.missing(),
        };
        Meant { rule: key.clone(), action: action(&object.spec), missing }
    });
    // Of what is refused as a manifest nobody knows the order.
    let refused = world.refused.iter().filter(|object| object.kind == Kind::IpRule && near(&object.key));
    let refused = refused.map(|object| Meant {
        rule: object.key.clone(),
        action: pb::Action::Unspecified,
        missing: Some("not accepted: its manifest is wrong, `kubectl-callgate check` says where".to_owned()),
    });
    told.chain(refused).collect()
}

/// Completes an answer that was made of a node's configuration alone. One about the cluster's own networks stays as it is: no rule was asked.
pub fn tell_missing(reply: &mut pb::ExplainReply, meant: Vec<Meant>) {
    if reply.verdict() == pb::Verdict::Cluster {
        return;
    }
    let does_not_select = Why::Source.to_string();
    let there: HashMap<String, usize> = reply.considered.iter().map(|one| one.rule.clone()).zip(0..).collect();
    // Of each that is there its rank among those that are meant, and those that are not there, by rank.
    let mut ranks: Vec<Option<usize>> = vec![None; reply.considered.len()];
    let mut missed: Vec<(usize, pb::Considered)> = Vec::new();
    let mut seen: HashSet<String> = HashSet::new();
    for (rank, Meant { rule, action, missing }) in meant.into_iter().enumerate() {
        let rule = rule.to_string();
        let at = there.get(&rule).and_then(|&at| Some((ranks.get_mut(at)?, reply.considered.get_mut(at)?)));
        match (at, missing) {
            (Some((of, considered)), missing) => {
                of.get_or_insert(rank);
                if let Some(reason) = missing.filter(|_| considered.reason == does_not_select) {
                    considered.reason = reason;
                }
            }
            (None, Some(reason)) if seen.insert(rule.clone()) => {
                missed.push((rank, pb::Considered { rule, action: action.into(), matched: false, reason }));
            }
            (None, Some(_) | None) => {}
        }
    }
    let mut missed = missed.into_iter().peekable();
    let mut all = Vec::with_capacity(ranks.len() + missed.len());
    for (considered, rank) in std::mem::take(&mut reply.considered).into_iter().zip(ranks) {
        // Each stands before the first that comes after it.
        while let Some((_, before)) = missed.next_if(|(of, _)| rank.is_some_and(|rank| *of < rank)) {
            all.push(before);
        }
        all.push(considered);
    }
    all.extend(missed.map(|(_, last)| last));
    reply.considered = all;
}

fn not_accepted(status: &Status) -> String {
    let bad = status.conditions.iter().find(|condition| !condition.holds());
    let message = bad.map(|Condition { message, .. }| message.trim_end_matches('.')).unwrap_or_default();
    format!("not accepted: {message}")
}

fn action(spec: &IpRuleSpec) -> pb::Action {
    use callgate_crds::Action;
    match spec.action {
        Action::Nat => pb::Action::Nat,
        Action::Allow => pb::Action::Allow,
        Action::Drop => pb::Action::Drop,
        Action::Reject => pb::Action::Reject,
    }
}

/// One rule and one source.
struct Asked<'a> {
    world: &'a World,
    key: &'a ObjectKey,
    spec: &'a IpRuleSpec,
    pod: Option<&'a ObjectKey>,
    source: Ipv4Addr,
}

impl Asked<'_> {
    /// What of the rule's `source` does not hold; `None` where all of it does.
    fn missing(&self) -> Option<String> {
        let of = &self.spec.source;
        let by_labels = of.pod_selector.is_some() || of.namespace_selector.is_some();
        // Either may select it.
        let asked = [by_labels.then(|| self.pods()), (!of.cidrs.is_empty()).then(|| self.networks())];
        let reasons: Option<Vec<String>> = asked.into_iter().flatten().collect();
        Some(reasons?.join("; "))
    }

    fn networks(&self) -> Option<String> {
        let blocks = self.spec.source.cidrs.iter().filter_map(|cidr| cidr.parse().ok());
        let nets: Vec<Ipv4Net> = blocks.filter_map(|block| Ipv4Net::new(block.address, block.prefix).ok()).collect();
        let texts: Vec<String> = nets.iter().map(ToString::to_string).collect();
        let inside = nets.iter().any(|net| net.contains(&self.source));
        (!inside).then(|| format!("{} is not in {}", self.source, texts.join(", ")))
    }

    fn pods(&self) -> Option<String> {
        let Some((key, pod)) = self.pod.and_then(|key| self.world.pods.get_key_value(key)) else {
            return Some(format!("selects pods, and {} is the address of none", self.source));
        };
        if pod.host_network {
            return Some("the pod uses its node's network, and no rule selects such pods".to_owned());
        }
        match &self.spec.source.namespace_selector {
            None if key.namespace != self.key.namespace => {
                return Some(format!("selects pods of namespace {} only", self.key.namespace));
            }
            Some(selector) => {
                let labels = self.world.labels_of(&key.namespace);
                if !selects(selector, &labels) {
                    return Some(format!("namespace {}: {}", key.namespace, differ(selector, &labels)));
                }
            }
            None => {}
        }
        let selector = self.spec.source.pod_selector.as_ref()?;
        (!selects(selector, &pod.labels)).then(|| differ(selector, &pod.labels))
    }
}

/// `labels {app: x} do not match {app: till}`, with those labels that the selector looks at.
fn differ(selector: &LabelSelector, labels: &Labels) -> String {
    let by_expressions = selector.match_expressions.iter().flatten().map(|expression| &expression.key);
    let keys: Vec<&String> = selector.match_labels.iter().flat_map(BTreeMap::keys).chain(by_expressions).collect();
    let asked: Vec<String> =
        labels.iter().filter(|(key, _)| keys.contains(key)).map(|(key, value)| format!("{key}: {value}")).collect();
    let wanted = wanted(selector);
    match asked.is_empty() {
        true => format!("none of the labels that {wanted} asks for is there"),
        false => format!("labels {{{}}} do not match {wanted}", asked.join(", ")),
    }
}

/// A selector as people read it: `{app: till, zone In [a, b]}`.
fn wanted(selector: &LabelSelector) -> String {
    let mut parts: Vec<String> =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value}")).collect();
    for expression in selector.match_expressions.iter().flatten() {
        let mut text = format!("{} {}", expression.key, expression.operator);
        let values = expression.values.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(", ");
        if !values.is_empty() {
            let _ = write!(text, " [{values}]");
        }
        parts.push(text);
    }
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
#[path = "missed_tests.rs"]
mod tests;
