//! Of a pod: what compile needs, and what tells whether an address is still its own.

use std::sync::Arc;

use callgate_compile::world::Pod;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;

/// The condition that says whether a pod's sandbox has its network (Kubernetes 1.29 on).
const SANDBOX: &str = "PodReadyToStartContainers";

/// A pod that has not finished.
#[derive(Debug, Clone, PartialEq)]
pub struct PodFact {
    /// What compile looks at; without addresses once they are no longer the pod's.
    pub pod: Arc<Pod>,
    /// It is being deleted.
    pub deleting: bool,
    /// `status.startTime`, or when it was made.
    pub started: Option<Timestamp>,
}

impl From<&core::Pod> for PodFact {
    fn from(object: &core::Pod) -> Self {
        let mut pod = Pod::from(object);
        let deleting = object.metadata.deletion_timestamp.is_some();
        if deleting && has_left(object) {
            // The sandbox goes before the object does, and the address may be another pod's before we hear of that one.
            pod.addresses.clear();
        }
        let started = object.status.as_ref().and_then(|status| status.start_time.as_ref());
        let started = started.or(object.metadata.creation_timestamp.as_ref()).map(|time| time.0);
        Self { pod: Arc::new(pod), deleting, started }
    }
}

impl PodFact {
    /// Whether rules can do anything about it: it has an address, or something to be told of in its place.
    pub fn matters(&self) -> bool {
        !self.pod.addresses.is_empty() || self.pod.only_ipv6 || self.pod.host_network
    }
}

/// Whether nothing of the pod runs any more: every container has ended, or its sandbox is gone. Sidecars (init containers that go on)
/// and ephemeral containers may outlive all others; init containers of the ordinary kind have ended before these began.
fn has_left(pod: &core::Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let conditions = status.conditions.iter().flatten();
    let no_sandbox = conditions.into_iter().any(|condition| condition.type_ == SANDBOX && condition.status == "False");
    let mut containers = status.container_statuses.iter().flatten().peekable();
    let beside = status.init_container_statuses.iter().chain(&status.ephemeral_container_statuses).flatten();
    let has_ended =
        |container: &core::ContainerStatus| container.state.as_ref().is_some_and(|state| state.terminated.is_some());
    let all_ended = containers.peek().is_some() && containers.chain(beside).all(has_ended);
    no_sandbox || all_ended
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: serde_json::Value) -> PodFact {
        PodFact::from(&serde_json::from_value::<core::Pod>(value).unwrap())
    }

    #[test]
    fn a_pod_that_is_being_deleted_keeps_its_address_while_it_runs() {
        let running = pod(json!({
            "metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"podIP": "10.0.0.1", "containerStatuses": [
                {"name": "c", "image": "i", "imageID": "i", "ready": true, "restartCount": 0, "state": {"running": {}}}]},
        }));
        assert_eq!((running.pod.addresses.len(), running.deleting), (1, true));
    }

    #[test]
    fn a_pod_that_is_being_deleted_loses_its_address_with_its_last_container_or_its_sandbox() {
        let ended = pod(json!({
            "metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"podIP": "10.0.0.1", "containerStatuses": [
                {"name": "c", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                 "state": {"terminated": {"exitCode": 0}}}]},
        }));
        let gone = pod(json!({
            "metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "PodReadyToStartContainers", "status": "False"}]},
        }));
        assert_eq!((ended.pod.addresses.len(), gone.pod.addresses.len()), (0, 0));
    }

    #[test]
    fn a_pod_that_is_being_deleted_keeps_its_address_while_a_sidecar_or_an_ephemeral_container_runs() {
        let container = |state: &str| {
            json!([{"name": "c", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                    "state": if state == "terminated" { json!({state: {"exitCode": 0}}) } else { json!({state: {}}) }}])
        };
        let addresses = |init: &str, ephemeral: &str| {
            let of = pod(json!({
                "metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "status": {"podIP": "10.0.0.1", "containerStatuses": container("terminated"),
                           "initContainerStatuses": container(init), "ephemeralContainerStatuses": container(ephemeral)},
            }));
            of.pod.addresses.len()
        };
        let told = [("running", "terminated"), ("terminated", "running"), ("terminated", "terminated")]
            .map(|(init, ephemeral)| addresses(init, ephemeral));
        assert_eq!(told, [1, 1, 0]);
    }

    #[test]
    fn a_pod_that_gets_another_sandbox_has_more_restarts_also_while_it_still_initialises() {
        let of = |init: u32, main: u32| {
            let container = |count: u32| json!([{"name": "c", "image": "i", "imageID": "i", "ready": false, "restartCount": count}]);
            let status = json!({"initContainerStatuses": container(init), "containerStatuses": container(main)});
            pod(json!({"metadata": {"name": "a"}, "status": status})).pod.restarts
        };
        assert_eq!([of(0, 0), of(1, 0), of(1, 1)], [0, 1, 2]);
    }

    #[test]
    fn a_pod_that_restarts_its_only_container_keeps_its_address() {
        let restarting = pod(json!({
            "metadata": {"name": "a"},
            "status": {"podIP": "10.0.0.1", "containerStatuses": [
                {"name": "c", "image": "i", "imageID": "i", "ready": false, "restartCount": 3,
                 "state": {"terminated": {"exitCode": 1}}}]},
        }));
        assert_eq!(restarting.pod.addresses.len(), 1);
    }
}
