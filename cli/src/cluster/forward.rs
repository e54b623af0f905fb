//! A port of the leader's pod as a stream: the API server's port-forward, over a websocket.

use callgate_proto::OPERATOR_API_PORT;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Portforwarder};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::ClusterError;
use super::find::{Asked, Leader, in_time};

/// An open forward; it ends when this is dropped.
pub(crate) struct Forward {
    /// Namespace of the operator.
    pub(crate) namespace: String,
    /// The pod that is forwarded to.
    pub(crate) pod: String,
    stream: Option<DuplexStream>,
    failure: Option<JoinHandle<Option<String>>>,
    forwarder: Portforwarder,
}

/// Opens a forward to the leader.
pub(super) async fn open(client: &Client, leader: &Leader) -> Result<Forward, ClusterError> {
    let Leader { namespace, pod } = leader.clone();
    let api = Api::<Pod>::namespaced(client.clone(), &namespace);
    let mut forwarder = match in_time(api.portforward(&pod, &[OPERATOR_API_PORT])).await {
        Ok(forwarder) => forwarder,
        Err(Asked::NotFound) => return Err(ClusterError::LeaderGone { namespace, pod, pods: None }),
        Err(Asked::Forbidden(cause)) => {
            return Err(ClusterError::Forbidden { what: "port-forward to pods", namespace, cause });
        }
        Err(Asked::Refused(cause)) => return Err(ClusterError::Forward { namespace, pod, cause }),
        Err(other @ (Asked::Unauthorized(_) | Asked::Silent(_))) => {
            return Err(other.about(&format!("Pod {namespace}/{pod}")));
        }
    };
    let stream = forwarder.take_stream(OPERATOR_API_PORT);
    let failure = forwarder.take_error(OPERATOR_API_PORT).map(|told| tokio::spawn(told));
    Ok(Forward { namespace, pod, stream, failure, forwarder })
}

impl Forward {
    /// The stream; `None` when it was taken before.
    pub(crate) fn take_stream(&mut self) -> Option<DuplexStream> {
        self.stream.take()
    }

    /// What the node said when the stream broke, such as that nothing listens on the port. Waits a moment for it.
    pub(crate) async fn failure(&mut self) -> Option<String> {
        let told = self.failure.take()?;
        tokio::time::timeout(std::time::Duration::from_millis(200), told).await.ok()?.ok()?
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.forwarder.abort();
    }
}
