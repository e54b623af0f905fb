//! The way to the operator of a cluster, with the user's own rights and nothing else.
//!
//! ```text
//!   kubeconfig ── config ── API server ── Lease ──► leader's pod      (find)
//!                               │
//!                               └── port-forward (a websocket) ──► 127.0.0.1:7443 in that pod      (forward)
//! ```
//! Nothing is listened on here: the forwarded stream goes straight into the gRPC channel.

mod config;
mod error;
mod find;
mod forward;

use kube::Client;

pub use error::ClusterError;
pub(crate) use forward::Forward;

use crate::args::ClusterArgs;
use find::Leader;

/// A cluster, and how to find its operator.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// URL of its API server.
    server: String,
    /// Namespace of the kubeconfig's context.
    pub namespace: String,
    /// Where the operator is; `None`: looked for.
    operator_namespace: Option<String>,
}

impl Cluster {
    /// The cluster that the arguments or the environment name. Nothing is asked yet.
    ///
    /// # Errors
    /// Without a kubeconfig, or with one that cannot be used.
    pub async fn open(args: &ClusterArgs) -> Result<Self, ClusterError> {
        let (client, server, namespace) = config::client(args).await?;
        Ok(Self { client, server, namespace, operator_namespace: args.operator_namespace.clone() })
    }

    /// Forwards to the operator that leads.
    pub(crate) async fn forward(&self) -> Result<Forward, ClusterError> {
        let leader = find::leader(&self.client, self.operator_namespace.as_deref()).await;
        let leader = leader.map_err(|error| error.of(&self.server))?;
        self.forward_to(leader).await
    }

    /// Forwards to another pod of the same operator.
    pub(crate) async fn follow(&self, before: &Forward, pod: &str) -> Result<Forward, ClusterError> {
        self.forward_to(Leader { namespace: before.namespace.clone(), pod: pod.to_owned() }).await
    }

    async fn forward_to(&self, leader: Leader) -> Result<Forward, ClusterError> {
        match forward::open(&self.client, &leader).await {
            // The Lease outlives its holder: say whether another can take over.
            Err(ClusterError::LeaderGone { namespace, pod, .. }) => {
                let pods = find::pods(&self.client, &namespace).await;
                Err(ClusterError::LeaderGone { namespace, pod, pods })
            }
            other => other.map_err(|error| error.of(&self.server)),
        }
    }
}
