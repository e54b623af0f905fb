//! Who has an address, which networks are the cluster's, and what compile makes of pods that come and go.

use callgate_compile::world::{Meta, Object};
use callgate_crds::{IpRuleSpec, ServiceSpec};
use k8s_openapi::api::core::v1 as core;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;
use crate::facts::{ClusterNet, Holders, NodeFact, PodFact, cluster_key};

fn settings() -> Settings {
    Settings { namespace: "callgate-system".to_owned(), cluster_cidrs: vec!["192.0.2.0/24".parse().unwrap()] }
}

/// Pods of namespace pos, as the API server has them.
fn facts(pods: &[Value]) -> Facts {
    let mut facts = Facts::default();
    for pod in pods {
        let pod: core::Pod = serde_json::from_value(pod.clone()).unwrap();
        let key = |pod: &core::Pod| ObjectKey::new("pos", pod.metadata.name.clone().unwrap());
        facts.pods.absorb(&Event::Apply(pod), key, |pod: &core::Pod| PodFact::from(pod));
    }
    let node = NodeFact {
        uid: "n".to_owned(),
        pod_cidrs: vec!["10.244.0.0/24".parse().unwrap()],
        internal: vec!["172.18.0.2".parse().unwrap()],
    };
    facts.nodes.absorb(&Event::Apply(()), |()| cluster_key("a"), |()| node.clone());
    let cidrs = vec!["10.96.0.0/16".parse().unwrap()];
    facts.service_cidrs.absorb(&Event::Apply(()), |()| cluster_key("kubernetes"), |()| cidrs.clone());
    let service: ServiceSpec = serde_json::from_value(json!({"protocol": "TCP"})).unwrap();
    let service = Object { meta: Meta::default(), spec: service };
    facts.services.absorb(&Event::Apply(()), |()| ObjectKey::new("pos", "tcp"), |()| service.clone());
    let rule: IpRuleSpec = serde_json::from_value(json!({
        "order": 1, "action": "Allow", "services": [{"name": "tcp"}],
        "source": {"podSelector": {"matchLabels": {"app": "till"}}},
    }))
    .unwrap();
    let rule = Object { meta: Meta::default(), spec: rule };
    facts.rules.absorb(&Event::Apply(()), |()| ObjectKey::new("pos", "rule"), |()| rule.clone());
    facts
}

fn pod(name: &str, app: &str, more: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "uid": name, "labels": {"app": app}},
        "spec": {"nodeName": "a", "containers": []},
        "status": {"podIP": "10.244.0.7", "phase": "Running", "startTime": "2026-01-01T00:00:00Z"},
    });
    for (field, values) in more.as_object().unwrap() {
        for (name, value) in values.as_object().unwrap() {
            pod[field][name] = value.clone();
        }
    }
    pod
}

/// Source blocks of node a, and who is told to have them.
fn sources(pods: &[Value]) -> Vec<String> {
    let world = world(&facts(pods), &settings());
    let compiled = callgate_compile::compile(&world, None);
    let config = &compiled.nodes["a"];
    let holders = Holders::of(&world).of_config(config);
    assert_eq!(config.sources.len(), holders.len());
    config.sources.iter().zip(holders).map(|(source, holder)| format!("{} {}", source.net, holder.pod)).collect()
}

#[test]
fn the_live_one_of_two_pods_that_claim_an_address_has_it() {
    let old = pod("old", "till", json!({"metadata": {"deletionTimestamp": "2026-01-01T01:00:00Z"}}));
    let new = pod("new", "other", json!({}));
    assert_eq!(sources(std::slice::from_ref(&old)), ["10.244.0.7/32 pos/old"]);
    assert_eq!(sources(&[old.clone(), new.clone()]), [""; 0]);
    assert_eq!(sources(&[new, old]), [""; 0]);
}

#[test]
fn of_two_alike_the_one_that_started_later_has_the_address() {
    let old = pod("z-old", "till", json!({}));
    let new = pod("a-new", "till", json!({"status": {"startTime": "2026-01-01T00:00:01Z"}}));
    assert_eq!(sources(&[old, new]), ["10.244.0.7/32 pos/a-new"]);
}

#[test]
fn a_finished_pod_has_no_address() {
    let finished = pod("job", "till", json!({"status": {"phase": "Succeeded"}}));
    assert_eq!(sources(std::slice::from_ref(&finished)), [""; 0]);
    assert_eq!(sources(&[finished, pod("next", "till", json!({}))]), ["10.244.0.7/32 pos/next"]);
}

#[test]
fn a_pod_in_its_nodes_network_claims_nothing_and_is_told_about() {
    let host = pod("host", "till", json!({"spec": {"hostNetwork": true}}));
    assert_eq!(sources(&[pod("till", "till", json!({})), host.clone()]), ["10.244.0.7/32 pos/till"]);
    let compiled = callgate_compile::compile(&world(&facts(&[host]), &settings()), None);
    let status = compiled
        .statuses
        .values()
        .find(|status| status.conditions.len() == 2 && !status.conditions[0].findings.is_empty());
    assert_eq!(status.unwrap().conditions[0].reason.name(), "SourcesExcluded");
}

#[test]
fn networks_of_the_cluster_come_from_flags_service_cidrs_and_nodes_and_say_so() {
    let told: Vec<String> = cluster_nets(&facts(&[]), &settings().cluster_cidrs)
        .into_iter()
        .map(|ClusterNet { net, found }| format!("{net} {found}"))
        .collect();
    assert_eq!(
        told,
        [
            "10.96.0.0/16 ServiceCIDR kubernetes",
            "10.244.0.0/24 podCIDR of node a",
            "172.18.0.2/32 InternalIP of node a",
            "192.0.2.0/24 --cluster-cidr",
        ]
    );
}

#[test]
fn a_node_tells_its_networks_and_internal_addresses_of_ipv4() {
    let node: core::Node = serde_json::from_value(json!({
        "metadata": {"name": "a", "uid": "u"},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00::/64"]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": "172.18.0.3"}, {"type": "InternalIP", "address": "fd00::3"},
            {"type": "Hostname", "address": "a"}, {"type": "ExternalIP", "address": "198.51.100.7"}]},
    }))
    .unwrap();
    let expected = NodeFact {
        uid: "u".to_owned(),
        pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        internal: vec!["172.18.0.3".parse().unwrap()],
    };
    assert_eq!(NodeFact::from(&node), expected);
}

#[test]
fn a_world_that_is_brought_up_to_date_is_the_one_that_would_be_made_anew() {
    let address = |address: &str| json!({"status": {"podIP": address}});
    let with = |pods: &[Value], change: &dyn Fn(&mut Facts)| {
        let mut facts = facts(pods);
        change(&mut facts);
        facts
    };
    let same = |_: &mut Facts| ();
    let (one, two) = (pod("one", "till", json!({})), pod("two", "till", address("10.244.0.8")));
    let claims = pod("two", "till", json!({"status": {"startTime": "2026-01-02T00:00:00Z"}}));
    let restarted = json!({"status": {"containerStatuses": [
        {"name": "c", "image": "i", "imageID": "i", "ready": true, "restartCount": 3}]}});
    let worlds = [
        with(std::slice::from_ref(&one), &same),
        with(&[one.clone(), two.clone()], &same),
        with(&[one.clone(), claims.clone()], &same),
        with(&[claims], &same),
        with(&[one.clone(), two.clone()], &|facts| {
            facts.rules = Default::default();
            facts.namespaces.absorb(&Event::Apply(()), |()| cluster_key("pos"), |()| [("a".into(), "b".into())].into());
        }),
        with(&[pod("one", "other", json!({})), pod("two", "till", json!({"spec": {"nodeName": "b"}}))], &same),
        with(&[pod("one", "till", restarted), two], &|facts| {
            facts.nodes.absorb(&Event::Apply(()), |()| cluster_key("b"), |()| NodeFact::default());
        }),
        with(&[pod("one", "till", json!({"spec": {"hostNetwork": true}}))], &|facts| {
            facts.services = Default::default()
        }),
        with(&[], &same),
    ];
    let mut kept = World::cluster();
    for facts in &worlds {
        update_all(&mut kept, facts, &settings());
        assert_eq!(kept, world(facts, &settings()));
    }
}

#[test]
fn who_has_the_addresses_is_compared_as_it_would_be_told() {
    let claims = |name: &str, more: Value| world(&facts(&[pod(name, "till", more)]), &settings());
    let before = claims("one", json!({}));
    let config = callgate_compile::compile(&before, None).nodes["a"].clone();
    let told = Holders::of(&before).of_config(&config);
    assert_eq!(told.len(), 1);
    let restarted = json!({"status": {"containerStatuses": [
        {"name": "c", "image": "i", "imageID": "i", "ready": true, "restartCount": 3}]}});
    let worlds = [
        (before.clone(), true),
        (claims("other", json!({})), false),
        (claims("one", json!({"metadata": {"uid": "2"}})), false),
        (claims("one", restarted), false),
        (World::cluster(), false),
    ];
    for (world, same) in worlds {
        let holders = Holders::of(&world);
        assert_eq!(holders.are(&told, &config), same);
        assert_eq!(holders.of_config(&config) == told, same);
    }
    assert!(!Holders::of(&before).are(&[], &config));
}
