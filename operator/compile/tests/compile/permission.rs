//! Who may name whose services in a cluster.

use callgate_compile::compile;
use callgate_compile::manifests::parse_of_cluster;
use callgate_crds::Kind;

use super::support::{status, told};

/// What the conditions of a rule of `namespace` say that names the service of a shop, and those of a group of it.
fn said(namespace: &str) -> [Vec<String>; 2] {
    let text = format!(
        "apiVersion: callgate.io/v1alpha1
kind: Service
metadata: {{name: terminal, namespace: shop}}
spec: {{protocol: TCP, destinationPorts: \"443\", maxSessions: 50}}
---
apiVersion: callgate.io/v1alpha1
kind: Service
metadata: {{name: group, namespace: {namespace}}}
spec: {{members: [{{name: terminal, namespace: shop}}]}}
---
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {{name: rule, namespace: {namespace}}}
spec: {{order: 1, action: NAT, source: {{podSelector: {{}}}}, services: [{{name: terminal, namespace: shop}}]}}
"
    );
    let parsed = parse_of_cluster(&[("objects.yaml".to_owned(), text)], callgate_crds::predefined());
    assert_eq!(parsed.problems, []);
    let compiled = compile(&parsed.world, None);
    let of = |kind, name| told(status(&compiled, kind, namespace, name));
    [of(Kind::IpRule, "rule"), of(Kind::Service, "group")]
}

#[test]
fn a_service_with_its_limits_is_for_its_own_namespace_and_for_the_operators() {
    let good = ["Accepted=True(Accepted)", "ResolvedRefs=True(ResolvedRefs)"].map(str::to_owned).to_vec();
    assert_eq!(said("shop"), [good.clone(), good.clone()]);
    assert_eq!(said("callgate-system"), [good.clone(), good]);
    let bad = |accepted: &str| vec![accepted.to_owned(), "ResolvedRefs=False(RefNotPermitted)".to_owned()];
    assert_eq!(said("other"), [bad("Accepted=False(UnresolvedRefs)"), bad("Accepted=True(Accepted)")]);
}
