//! The objects of the test: a service nobody else uses, and a rule for this pod alone.

use std::net::SocketAddrV4;

use serde_json::{Value, json};

/// Name of both.
pub(super) const NAME: &str = "callgate-selftest";

/// Label that only the test's pod has.
const LABEL: (&str, &str) = ("app.kubernetes.io/component", "selftest");

/// TCP to the port that is probed.
pub(super) fn service(target: SocketAddrV4, pod: &str, uid: &str) -> Value {
    json!({
        "apiVersion": callgate_crds::API_VERSION,
        "kind": "Service",
        "metadata": metadata(pod, uid),
        "spec": { "protocol": "TCP", "destinationPorts": target.port().to_string() },
    })
}

/// Refuses it, before every other rule.
pub(super) fn rule(target: SocketAddrV4, pod: &str, uid: &str) -> Value {
    json!({
        "apiVersion": callgate_crds::API_VERSION,
        "kind": "IpRule",
        "metadata": metadata(pod, uid),
        "spec": {
            "order": 0,
            "action": "Reject",
            "source": { "podSelector": { "matchLabels": { LABEL.0: LABEL.1 } } },
            "destination": { "cidrs": [format!("{}/32", target.ip())] },
            "services": [{ "name": NAME }],
        },
    })
}

/// Owned by the pod: if it is killed, the garbage collector takes its objects away.
fn metadata(pod: &str, uid: &str) -> Value {
    json!({
        "name": NAME,
        "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid }],
    })
}

#[cfg(test)]
mod tests {
    use callgate_crds::{Kind, schema};

    use super::super::probe::NOBODY;
    use super::*;

    #[test]
    fn both_objects_are_what_the_api_server_takes() {
        assert_eq!(schema::validate(Kind::Service, &mut service(NOBODY, "p", "u")), []);
        assert_eq!(schema::validate(Kind::IpRule, &mut rule(NOBODY, "p", "u")), []);
    }
}
