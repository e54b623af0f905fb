//! Short ways to a compiled world.

use callgate_compile::manifests::{Parsed, parse};
use callgate_compile::status::{ObjectRef, Status};
use callgate_compile::{Compiled, compile};
use callgate_crds::Kind;
use callgate_proto::model::{NodeConfig, ObjectKey};

/// The set-up of the design, with networks in place of pods.
pub(crate) const CLASSIC: &str = "
apiVersion: callgate.io/v1alpha1
kind: PptpAlg
metadata: {name: pptp, namespace: pos}
spec: {echoTimeout: 180s, idleTimeout: 0s}
---
apiVersion: callgate.io/v1alpha1
kind: Service
metadata: {name: pptp-service, namespace: pos}
spec: {protocol: TCP, sourcePorts: \"0-65535\", destinationPorts: \"1723\", algRef: {kind: PptpAlg, name: pptp}}
---
apiVersion: callgate.io/v1alpha1
kind: IpRule
metadata: {name: tills-to-head-office, namespace: pos}
spec:
  order: 100
  action: NAT
  source: {cidrs: [10.20.0.0/16]}
  destination: {cidrs: [0.0.0.0/0]}
  services: [{name: pptp-service}]
";

pub(crate) fn read(text: &str) -> Parsed {
    parse(&[("objects.yaml".to_owned(), text.to_owned())], callgate_crds::predefined())
}

/// Compiles manifests that have no problem.
pub(crate) fn compiled(text: &str) -> Compiled {
    let parsed = read(text);
    assert_eq!(parsed.problems, []);
    compile(&parsed.world, None)
}

pub(crate) fn config(compiled: &Compiled) -> &NodeConfig {
    &compiled.nodes["standalone"]
}

pub(crate) fn status<'a>(compiled: &'a Compiled, kind: Kind, namespace: &str, name: &str) -> &'a Status {
    &compiled.statuses[&ObjectRef { kind, key: ObjectKey::new(namespace, name) }]
}

/// `Accepted=True(Accepted)` for each condition.
pub(crate) fn told(status: &Status) -> Vec<String> {
    let conditions = status.conditions.iter();
    conditions.map(|c| format!("{}={}({})", c.type_(), if c.holds() { "True" } else { "False" }, c.reason)).collect()
}

/// A rule with these lines in its spec.
pub(crate) fn rule(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: callgate.io/v1alpha1\nkind: IpRule\nmetadata: {{name: {name}, namespace: pos}}\nspec: {spec}\n"
    )
}
