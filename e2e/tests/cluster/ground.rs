//! Callgate in the cluster, a namespace of the test's own, and what status says there.

use std::net::Ipv4Addr;
use std::time::Duration;

use callgate_e2e::cluster::callgate;
use callgate_e2e::cluster::image;
use callgate_e2e::cluster::inside::Inside;
use callgate_e2e::wait;
use serde_json::Value;

use super::shared::{POD, SOON, Shared};

/// Where a test stands.
pub(crate) struct Ground {
    pub(crate) shared: Shared,
    pub(crate) namespace: &'static str,
}

impl Ground {
    /// Callgate is ready and `namespace` is empty. `None`: cannot run here.
    pub(crate) fn get(test: &str, namespace: &'static str) -> Option<Self> {
        let shared = Shared::get_for_callgate(test)?;
        callgate::ensure(shared.cluster()).unwrap();
        shared.namespace(namespace);
        Some(Self { shared, namespace })
    }

    /// kubectl in the namespace.
    pub(crate) fn k(&self, words: &str) -> String {
        self.shared.k(&format!("-n {} {words}", self.namespace))
    }

    pub(crate) fn apply(&self, objects: &str) {
        self.shared.kubectl().apply(objects).unwrap();
    }

    /// An object; `Null` where it is not there.
    pub(crate) fn object(&self, name: &str) -> Value {
        let said = self.k(&format!("get {name} --ignore-not-found -o json"));
        if said.is_empty() { Value::Null } else { serde_json::from_str(&said).unwrap() }
    }

    /// `Type=Status(Reason) generation: message` of each condition of an object.
    pub(crate) fn conditions(&self, name: &str) -> Vec<String> {
        conditions(&self.object(name))
    }

    /// Waits until the conditions of an object are exactly these; how long that took.
    pub(crate) fn becomes(&self, name: &str, expected: &[&str]) -> Duration {
        let begun = std::time::Instant::now();
        let mut now = Vec::new();
        let became = wait::until_true(name, SOON, || {
            now = self.conditions(name);
            Ok(now == expected)
        });
        assert!(became.is_ok(), "{name}:\n  is {now:#?}\n  not {expected:#?}");
        begun.elapsed()
    }

    /// A pod that only sleeps, ready.
    pub(crate) fn pod(&self, name: &str, node: &str, app: &str) -> Inside {
        self.apply(&sleeper(self.namespace, name, node, app));
        self.k(&format!("wait --for=condition=Ready pod/{name} {POD}"));
        self.inside(name, node)
    }

    /// The network of a pod that is ready.
    pub(crate) fn inside(&self, name: &str, node: &str) -> Inside {
        let address: Ipv4Addr = self.k(&format!("get pod {name} -o jsonpath={{.status.podIP}}")).parse().unwrap();
        let machines = &self.shared.cluster().machines;
        Inside::of(machines.iter().find(|machine| machine.node.name == node).unwrap(), address).unwrap()
    }

    /// Takes away what the test has made.
    pub(crate) fn end(self) {
        self.shared.k(&format!("delete namespace {} --wait {POD}", self.namespace));
    }
}

pub(crate) fn conditions(object: &Value) -> Vec<String> {
    let list = object["status"]["conditions"].as_array().into_iter().flatten();
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    list.map(|condition| {
        let [kind, status, reason, message] = ["type", "status", "reason", "message"].map(|name| text(condition, name));
        format!("{kind}={status}({reason}) {}: {message}", condition["observedGeneration"])
    })
    .collect()
}

/// A pod of busybox that sleeps, with label `app`.
pub(crate) fn sleeper(namespace: &str, name: &str, node: &str, app: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: {app}}}}}\nspec:\n  nodeName: {node}\n  terminationGracePeriodSeconds: 0\n  containers:\n  - {{name: main, image: '{}', imagePullPolicy: Never}}\n",
        image::BUSYBOX
    )
}

#[test]
fn what_a_failed_test_has_left_otherwise_is_put_right_for_the_next() {
    let test = "what_a_failed_test_has_left_otherwise_is_put_right_for_the_next";
    let Some(ground) = Ground::get(test, "failed") else { return };
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let k = |words: &str| ground.shared.k(&format!("-n {} {words}", callgate::NAMESPACE));
        k("scale deployment/callgate-operator --replicas=0");
        k(
            "patch daemonset callgate-dataplane --type=merge -p {\"spec\":{\"template\":{\"spec\":{\"nodeSelector\":{\"no\":\"where\"}}}}}",
        );
        k(&format!("wait --for=delete pod -l app.kubernetes.io/instance=callgate {POD}"));
        panic!("as a test that fails here");
    }));
    assert!(failed.is_err());
    let Some(ground) = Ground::get(test, "failed") else { return };
    let ready = |workload: &str, field: &str| {
        let words = format!("-n {} get {workload} -o jsonpath={{.status.{field}}}", callgate::NAMESPACE);
        ground.shared.k(&words).trim().to_owned()
    };
    let ready =
        [ready("deployment/callgate-operator", "readyReplicas"), ready("daemonset/callgate-dataplane", "numberReady")];
    assert_eq!(ready, ["2", "2"]);
    ground.end();
}
