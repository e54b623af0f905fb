//! What the chart can bring beside the programs, on the real API server; and `helm test`, which passes when it should and fails when it should.

use std::collections::BTreeSet;
use std::time::Instant;

use callgate_e2e::cluster::callgate;
use callgate_e2e::wait;
use serde_json::{Value, json};

use super::ground::Ground;
use super::prometheus;
use super::shared::{POD, SOON};

/// The Prometheus operator's kinds, with the schema of `spec` as far as the chart uses it. What they do not know, the API server would
/// take away.
const MONITORING: [(&str, &str); 2] = [
    (
        "PodMonitor",
        "
type: object
required: [selector]
properties:
  selector: {type: object, properties: {matchLabels: {type: object, additionalProperties: {type: string}}}}
  podMetricsEndpoints:
    type: array
    items: {type: object, properties: {port: {type: string}, path: {type: string}, interval: {type: string}, honorLabels: {type: boolean}}}
",
    ),
    (
        "PrometheusRule",
        "
type: object
properties:
  groups:
    type: array
    items:
      type: object
      required: [name]
      properties:
        name: {type: string, minLength: 1}
        rules:
          type: array
          items:
            type: object
            required: [expr]
            properties:
              alert: {type: string}
              expr: {type: string}
              for: {type: string, pattern: '^[0-9]+[smh]$'}
              labels: {type: object, additionalProperties: {type: string}}
              annotations: {type: object, additionalProperties: {type: string}}
",
    ),
];

/// Its name at the API server, and its definition.
fn kind((kind, spec): (&str, &str)) -> (String, String) {
    let singular = kind.to_lowercase();
    let name = format!("{singular}s.monitoring.coreos.com");
    let spec = spec.replace('\n', "\n            ");
    let definition = format!(
        "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {name}}}
spec:
  group: monitoring.coreos.com
  names: {{kind: {kind}, plural: {singular}s, singular: {singular}, listKind: {kind}List}}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:{spec}
"
    );
    (name, definition)
}

/// Everything that can be had, and so little patience that a `helm test` that has to fail does so soon.
const VALUES: &[&str] = &[
    "metrics.podMonitor.enabled=true",
    "metrics.podMonitor.interval=15s",
    "metrics.podMonitor.labels.release=prometheus",
    "metrics.prometheusRule.enabled=true",
    "metrics.dashboard.enabled=true",
    "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.team=monitoring",
    "test.timeoutSeconds=20",
];

struct Scene(Ground);

impl Scene {
    fn k(&self, words: &str) -> String {
        self.0.shared.k(&format!("-n {} {words}", callgate::NAMESPACE))
    }

    fn get(&self, name: &str) -> Value {
        serde_json::from_str(&self.k(&format!("get {name} -o json"))).unwrap()
    }

    /// The chart with exactly these values.
    fn values(&self, values: &[&str]) {
        let (chart, cluster) = (callgate::chart(), self.0.shared.cluster());
        let mut args =
            vec!["upgrade", "callgate", chart.to_str().unwrap(), "-n", callgate::NAMESPACE, "--reset-values"];
        args.extend(["--wait", "--timeout", "3m"]);
        args.extend(values.iter().flat_map(|value| ["--set", value]));
        callgate::helm(cluster, &args).unwrap();
    }

    fn test(&self) -> anyhow::Result<()> {
        callgate::helm(self.0.shared.cluster(), &["test", "callgate", "-n", callgate::NAMESPACE, "--timeout", "2m"])
    }

    /// Pods of a component.
    fn pods(&self, component: &str) -> Vec<Value> {
        let list = self.get(&format!("pods -l app.kubernetes.io/component={component}"));
        list["items"].as_array().unwrap().clone()
    }

    fn monitor_and_dashboard(&self) {
        let monitor = self.get("podmonitor callgate-operator");
        let selector = json!({"app.kubernetes.io/component": "operator", "app.kubernetes.io/instance": "callgate", "app.kubernetes.io/name": "callgate"});
        let endpoint = json!({"port": "http", "path": "/metrics", "interval": "15s", "honorLabels": true});
        assert_eq!(monitor["spec"], json!({"selector": {"matchLabels": selector}, "podMetricsEndpoints": [endpoint]}));
        assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
        let selected = selector
            .as_object()
            .unwrap()
            .iter()
            .all(|(name, value)| self.pods("operator").iter().all(|pod| pod["metadata"]["labels"][name] == *value));
        assert!(selected, "the monitor selects the operators");

        // Something that is only told once it has happened: somebody without a token.
        let port = self.0.shared.cluster().machines[0]
            .node
            .command("curl")
            .args(["-sk", "--http2", "-o", "/dev/null"])
            .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-X", "POST", "--max-time", "8"])
            .arg(format!(
                "https://{}:9443/callgate.v1.Control/Attach",
                callgate::leader_address(self.0.shared.cluster()).unwrap()
            ))
            .status()
            .unwrap();
        println!("a caller without token: curl {port}");
        let ports = &self.pods("operator")[0]["spec"]["containers"][0]["ports"];
        let http = ports.as_array().unwrap().iter().find(|port| port["name"] == "http").unwrap();
        assert_eq!(http["containerPort"], 8080, "where the leader is asked below");
        let cluster = self.0.shared.cluster();
        let operators = self.pods("operator");
        let all = operators.iter().map(|pod| prometheus::told_by(cluster, pod["status"]["podIP"].as_str().unwrap()));
        assert_eq!(all.filter(|told| !told.is_empty()).count(), 2, "also who stands by answers");
        let told = prometheus::told(cluster);
        let map = self.get("configmap callgate-dashboard");
        assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
        let dashboard: Value = serde_json::from_str(map["data"]["callgate.json"].as_str().unwrap()).unwrap();
        assert_eq!(dashboard, prometheus::dashboard());
        // What it asks of nodes is looked for where nodes have calls (classic.rs).
        let wanted = prometheus::asked_and_told(&prometheus::of_dashboard(&dashboard), "callgate_operator_", &told);
        println!("{} panels, {} metrics: {wanted:?}", dashboard["panels"].as_array().unwrap().len(), wanted.len());
        assert!(wanted.len() >= 9, "{wanted:?}");
        let alerts = prometheus::of_alerts(&self.get("prometheusrule callgate"));
        let wanted = prometheus::asked_and_told(&alerts, "callgate_operator_", &told);
        assert_eq!(wanted, ["callgate_operator_leader".to_owned()].into());
        println!("{} alerts", alerts.len());
    }

    fn policy_budget_and_priorities(&self) {
        let ingress = json!([
            {"ports": [{"port": "grpc", "protocol": "TCP"}]},
            {"ports": [{"port": "http", "protocol": "TCP"}],
             "from": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}]},
        ]);
        let policy = self.get("networkpolicy callgate-operator");
        assert_eq!((&policy["spec"]["ingress"], &policy["spec"]["policyTypes"]), (&ingress, &json!(["Ingress"])));
        wait::until_true("the budget protects one of two operators", SOON, || {
            let status = &self.get("poddisruptionbudget callgate-operator")["status"];
            Ok((&status["expectedPods"], &status["desiredHealthy"], &status["disruptionsAllowed"])
                == (&json!(2), &json!(1), &json!(1)))
        })
        .unwrap();
        let priorities = |component: &str| -> BTreeSet<i64> {
            self.pods(component).iter().map(|pod| pod["spec"]["priority"].as_i64().unwrap()).collect()
        };
        assert_eq!(priorities("dataplane"), [2_000_001_000].into());
        assert_eq!(priorities("operator"), [2_000_000_000].into());
    }

    /// A node that nobody else may be on has an agent.
    fn tolerations(&self) {
        self.0.shared.k("taint node n2 callgate-test=yes:NoSchedule");
        let pod = self.k("get pod -l app.kubernetes.io/component=dataplane --field-selector spec.nodeName=n2 -o jsonpath={.items[0].metadata.name}");
        self.k(&format!("delete pod {} {POD}", pod.trim()));
        self.k(&format!("rollout status daemonset/callgate-dataplane {POD}"));
        let nodes: BTreeSet<String> =
            self.pods("dataplane").iter().map(|pod| pod["spec"]["nodeName"].as_str().unwrap().to_owned()).collect();
        self.0.shared.k("taint node n2 callgate-test-");
        assert_eq!(nodes, ["n1".to_owned(), "n2".to_owned()].into());
    }
}

#[test]
fn every_option_of_the_chart_is_taken_by_the_api_server_and_helm_test_tells_right_from_wrong() {
    let test = "every_option_of_the_chart_is_taken_by_the_api_server_and_helm_test_tells_right_from_wrong";
    let Some(ground) = Ground::get(test, "options") else { return };
    let scene = Scene(ground);
    let kinds = MONITORING.map(kind);
    for (name, definition) in &kinds {
        scene.0.apply(definition);
        scene.0.shared.k(&format!("wait --for=condition=Established crd/{name} {POD}"));
    }
    scene.values(VALUES);
    scene.monitor_and_dashboard();
    scene.policy_budget_and_priorities();
    scene.tolerations();

    let begun = Instant::now();
    scene.test().unwrap();
    println!("helm test passes after {:?}", begun.elapsed());
    // Rules stay in the kernel, but nobody puts in another.
    scene.k("patch daemonset callgate-dataplane --type=merge -p {\"spec\":{\"template\":{\"spec\":{\"nodeSelector\":{\"no\":\"where\"}}}}}");
    scene.k(&format!("wait --for=delete pod -l app.kubernetes.io/component=dataplane {POD}"));
    let begun = Instant::now();
    let failed = scene.test().unwrap_err();
    let log = scene.k("logs callgate-selftest");
    println!("without agents helm test fails after {:?}: {failed:#}\n{log}", begun.elapsed());
    assert!(failed.to_string().contains("callgate-selftest failed"), "{failed:#}");
    scene.k("patch daemonset callgate-dataplane --type=json -p [{\"op\":\"remove\",\"path\":\"/spec/template/spec/nodeSelector/no\"}]");
    scene.values(&[]);
    scene.k(&format!("rollout status daemonset/callgate-dataplane {POD}"));
    scene.test().unwrap();
    scene.0.shared.k(&format!("delete crd {} {}", kinds[0].0, kinds[1].0));
    scene.0.end();
}
