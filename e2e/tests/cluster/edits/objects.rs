//! An edit of the model, made in the cluster.

use callgate_e2e::cluster::proxy::Proxy;
use serde_json::{Value, json};

use super::dice::Edit;
use super::model::{Action, Key, Model, SERVER, SYSTEM, Where};

/// Where an object of ours is.
pub(super) fn path(plural: &str, (namespace, name): Key) -> String {
    format!("/apis/callgate.io/v1alpha1/namespaces/{namespace}/{plural}/{name}")
}

fn object(kind: &str, (namespace, name): Key, spec: &Value) -> Value {
    json!({
        "apiVersion": "callgate.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {"edits": "random"}},
        "spec": spec,
    })
}

fn rule(model: &Model, key: Key) -> Value {
    let rule = &model.rules[&key];
    let server = format!("203.0.113.{SERVER}/32");
    let destination = match rule.to {
        Where::Everywhere => json!({"cidrs": ["0.0.0.0/0"]}),
        Where::Only => json!({"cidrs": [server]}),
        Where::AllBut => json!({"cidrs": ["203.0.113.0/24"], "except": [server]}),
    };
    let mut source = json!({"podSelector": {"matchLabels": {"app": rule.app}}});
    if key.0 == SYSTEM {
        source["namespaceSelector"] = json!({"matchLabels": {"tier": "gold"}});
    }
    let action = match rule.action {
        Action::Nat => "NAT",
        Action::Allow => "Allow",
        Action::Drop => "Drop",
        Action::Reject => "Reject",
    };
    let services: Vec<Value> = rule.services.iter().map(|name| json!({"name": name})).collect();
    let order = rule.order;
    json!({"order": order, "action": action, "source": source, "destination": destination, "services": services})
}

fn service(model: &Model, key: Key) -> Value {
    let service = &model.services[&key];
    let protocol = match (service.tcp, service.udp) {
        (true, true) => "TCPUDP",
        (true, false) => "TCP",
        (false, _) => "UDP",
    };
    // Without a limit: hundreds of edits mean hundreds of flows that nobody closes.
    let ports = service.port.to_string();
    let mut spec = json!({"protocol": protocol, "destinationPorts": ports, "maxSessions": 0});
    if let Some(name) = service.alg {
        spec["algRef"] = json!({"kind": "PptpAlg", "name": name});
    }
    spec
}

/// What the object of an edit says now, for people.
pub(super) fn describe(model: &Model, edit: Edit) -> String {
    match edit {
        Edit::PutRule(key) => rule(model, key).to_string(),
        Edit::PutService(key) => service(model, key).to_string(),
        Edit::LabelPod(pod) => model.pods[pod].app.to_owned(),
        Edit::LabelNamespace(namespace) => model.tiers[namespace].to_owned(),
        Edit::PutAlg(_) | Edit::DeleteRule(_) | Edit::DeleteService(_) | Edit::DeleteAlg(_) => String::new(),
    }
}

/// Makes it; the object as the API server has it then, or as it was before it was deleted.
pub(super) fn make(proxy: &Proxy<'_>, model: &Model, edit: Edit) -> Value {
    let put = |kind, plural, key, spec| proxy.apply(&path(plural, key), &object(kind, key, &spec)).unwrap();
    let delete = |plural, key| {
        let before = proxy.get(&path(plural, key)).unwrap();
        proxy.delete(&path(plural, key)).unwrap();
        before
    };
    match edit {
        Edit::PutRule(key) => put("IpRule", "iprules", key, rule(model, key)),
        Edit::PutService(key) => put("Service", "ipservices", key, service(model, key)),
        Edit::PutAlg(key) => put("PptpAlg", "pptpalgs", key, json!({"echoTimeout": format!("{}s", model.algs[&key])})),
        Edit::DeleteRule(key) => delete("iprules", key),
        Edit::DeleteService(key) => delete("ipservices", key),
        Edit::DeleteAlg(key) => delete("pptpalgs", key),
        Edit::LabelPod(name) => {
            let pod = &model.pods[name];
            let patch = json!({"metadata": {"labels": {"app": pod.app}}});
            proxy.merge(&format!("/api/v1/namespaces/{}/pods/{name}", pod.namespace), &patch).unwrap()
        }
        Edit::LabelNamespace(name) => {
            let patch = json!({"metadata": {"labels": {"tier": model.tiers[name]}}});
            proxy.merge(&format!("/api/v1/namespaces/{name}"), &patch).unwrap()
        }
    }
}
