//! Nodes, namespaces, pods, services and rules, made many at a time.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Client, Error};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Size;

/// Requests under way.
const AT_ONCE: usize = 24;
/// Values of the label `app` in a namespace, and of `tier`.
const APPS: usize = 10;
const TIERS: usize = 3;

pub(crate) fn node_name(index: usize) -> String {
    format!("kwok-{index:03}")
}

pub(crate) fn namespace(index: usize) -> String {
    format!("shop-{index:03}")
}

/// A pod of the kind that deployments make; it asks for node and namespace by its number.
pub(crate) fn pod(size: Size, index: usize, name: &str) -> Pod {
    let labels = json!({
        "app": format!("a{}", index / size.namespaces % APPS),
        "tier": format!("t{}", index % TIERS),
        "pod-template-hash": format!("{:08x}", index % 997),
        "app.kubernetes.io/managed-by": "scale",
    });
    object(json!({
        "metadata": {"name": name, "namespace": namespace(index % size.namespaces), "labels": labels},
        "spec": {
            // Coprime to the number of namespaces: a node has pods of many of them.
            "nodeName": node_name(index * 7 % size.nodes),
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": "localhost/nothing:1"}],
        },
    }))
}

/// In each namespace three services, and of ten rules six for an app, three for a tier and one for all its pods.
fn rule(size: Size, index: usize) -> Value {
    let (place, namespace) = (index / size.namespaces, namespace(index % size.namespaces));
    let labels = match place % 10 {
        at @ 0..6 => json!({"app": format!("a{at}")}),
        at @ 6..9 => json!({"tier": format!("t{}", at - 6)}),
        _ => json!({}),
    };
    let network = format!("198.{}.{}.0/24", 18 + index / 256 % 2, index % 256);
    json!({
        "apiVersion": "callgate.io/v1alpha1", "kind": "IpRule",
        "metadata": {"name": format!("rule-{place:03}"), "namespace": namespace},
        "spec": {
            "order": 100 + place, "action": "NAT",
            "source": {"podSelector": {"matchLabels": labels}},
            "destination": {"cidrs": [network, "203.0.113.0/24"], "except": ["203.0.113.128/25"]},
            "services": [{"name": "pptp"}, {"name": if place.is_multiple_of(2) { "web" } else { "dns" }}],
        },
    })
}

fn services(namespace: &str) -> Vec<Value> {
    let of = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "callgate.io/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    vec![
        of("PptpAlg", "pptp", json!({"echoTimeout": "180s"})),
        of(
            "Service",
            "pptp",
            json!({"protocol": "TCP", "destinationPorts": "1723", "algRef": {"kind": "PptpAlg", "name": "pptp"}}),
        ),
        of("Service", "web", json!({"protocol": "TCP", "destinationPorts": "80,443"})),
        of("Service", "dns", json!({"protocol": "UDP", "destinationPorts": "53"})),
    ]
}

/// Makes all of it; returns when the API server has it.
pub(crate) async fn fill(client: &Client, size: Size) {
    let nodes: Api<Node> = Api::all(client.clone());
    each(0..size.nodes, |index| {
        let nodes = nodes.clone();
        async move {
            let cidr = format!("10.{}.{}.0/24", 128 + index / 256, index % 256);
            let labels = json!({"kubernetes.io/os": "linux", "kubernetes.io/hostname": node_name(index)});
            make(
                &nodes,
                &object(json!({
                    "metadata": {"name": node_name(index), "labels": labels},
                    "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
                })),
            )
            .await?;
            let address = format!("10.64.{}.{}", index / 250, 1 + index % 250);
            let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
            nodes.patch_status(&node_name(index), &PatchParams::default(), &Patch::Merge(status)).await.map(drop)
        }
    })
    .await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    each(0..size.namespaces, |index| {
        let namespaces = namespaces.clone();
        async move { make(&namespaces, &object(json!({"metadata": {"name": namespace(index)}}))).await }
    })
    .await;
    let ours = (0..size.namespaces).flat_map(|index| services(&namespace(index)));
    each(ours.chain((0..size.rules).map(|index| rule(size, index))), |value| {
        let client = client.clone();
        async move { make_ours(client, value).await }
    })
    .await;
    each(0..size.pods, |index| {
        let pod = pod(size, index, &format!("pod-{index:05}"));
        let pods: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap());
        async move { make(&pods, &pod).await }
    })
    .await;
}

async fn each<T, F: Future<Output = Result<(), Error>>>(items: impl Iterator<Item = T>, work: impl FnMut(T) -> F) {
    futures::stream::iter(items.map(work)).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await.unwrap();
}

async fn make_ours(client: Client, value: Value) -> Result<(), Error> {
    let kind = value["kind"].as_str().unwrap();
    let plural = match kind {
        "PptpAlg" => "pptpalgs",
        "Service" => "ipservices",
        _ => "iprules",
    };
    let gvk = kube::core::GroupVersionKind::gvk("callgate.io", "v1alpha1", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let namespace = value["metadata"]["namespace"].as_str().unwrap().to_owned();
    let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource);
    make(&api, &object(value)).await
}

/// Makes an object; what its namespace lacks for a moment (its service account) is waited for.
pub(crate) async fn make<K>(api: &Api<K>, object: &K) -> Result<(), Error>
where
    K: Serialize + DeserializeOwned + Clone + std::fmt::Debug,
{
    let mut tries = 0;
    loop {
        match api.create(&PostParams::default(), object).await {
            Ok(_) => return Ok(()),
            Err(Error::Api(status)) if status.code == 409 => return Ok(()),
            Err(Error::Api(status)) if tries < 100 && [403, 429].contains(&status.code) => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}
