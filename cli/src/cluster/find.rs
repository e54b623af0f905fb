//! Which pod leads: the holder of the operator's Lease.

use std::time::Duration;

use callgate_crds::SYSTEM_NAMESPACE;
use callgate_proto::OPERATOR_LEASE;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::ClusterError;

/// What the chart puts on the Lease and on the operator's pods.
const LABELS: &str = "app.kubernetes.io/name=callgate,app.kubernetes.io/component=operator";
/// How long one answer of the API server may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The pod that leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leader {
    /// Namespace of the operator.
    pub(super) namespace: String,
    /// Name of its pod.
    pub(super) pod: String,
}

/// Who leads in `namespace`. Without one: in the chart's usual namespace, else wherever a Lease has the chart's labels.
pub(super) async fn leader(client: &Client, namespace: Option<&str>) -> Result<Leader, ClusterError> {
    let (namespace, lease) = match namespace {
        Some(namespace) => {
            let lease = lease(client, namespace).await?;
            let none = || ClusterError::NotInstalled { namespace: namespace.to_owned(), everywhere: false };
            (namespace.to_owned(), lease.ok_or_else(none)?)
        }
        None => search(client).await?,
    };
    let holder = lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
    match holder {
        Some(pod) => Ok(Leader { namespace, pod }),
        None => {
            let pods = pods(client, &namespace).await;
            Err(ClusterError::NoLeader { namespace, pods })
        }
    }
}

async fn search(client: &Client) -> Result<(String, Lease), ClusterError> {
    let usual = SYSTEM_NAMESPACE.to_owned();
    let here = lease(client, &usual).await;
    match here {
        Ok(Some(lease)) => return Ok((usual, lease)),
        Ok(None) | Err(ClusterError::Forbidden { .. }) => {}
        Err(error) => return Err(error),
    }
    let all = Api::<Lease>::all(client.clone());
    let found = in_time(all.list(&ListParams::default().labels(LABELS))).await;
    let mut leases: Vec<Lease> = match (found, here) {
        (Ok(list), _) => list.items.into_iter().filter(|lease| lease.name_any() == OPERATOR_LEASE).collect(),
        // One may not even look where it usually is: that is what to ask for.
        (Err(Asked::Forbidden(_)), Err(error)) => return Err(error),
        (Err(Asked::Forbidden(cause)), Ok(_)) => return Err(ClusterError::MayNotSearch { namespace: usual, cause }),
        (Err(other), _) => return Err(other.about("Leases of all namespaces")),
    };
    match leases.len() {
        0 => Err(ClusterError::NotInstalled { namespace: usual, everywhere: true }),
        1 => {
            let lease = leases.remove(0);
            Ok((lease.namespace().unwrap_or_default(), lease))
        }
        _ => {
            let mut namespaces: Vec<String> = leases.iter().filter_map(ResourceExt::namespace).collect();
            namespaces.sort();
            Err(ClusterError::Several(namespaces))
        }
    }
}

async fn lease(client: &Client, namespace: &str) -> Result<Option<Lease>, ClusterError> {
    let api = Api::<Lease>::namespaced(client.clone(), namespace);
    in_time(api.get_opt(OPERATOR_LEASE)).await.map_err(|asked| match asked {
        Asked::Forbidden(cause) => {
            ClusterError::Forbidden { what: "read Leases", namespace: namespace.to_owned(), cause }
        }
        other => other.about(&format!("Lease {namespace}/{OPERATOR_LEASE}")),
    })
}

/// `NAME (PHASE)` of the operator's pods, sorted; `None` where one may not see them.
pub(super) async fn pods(client: &Client, namespace: &str) -> Option<Vec<String>> {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let list = in_time(api.list(&ListParams::default().labels(LABELS))).await.ok()?;
    let told = |pod: &Pod| {
        let phase = match &pod.metadata.deletion_timestamp {
            Some(_) => Some("Terminating".to_owned()),
            None => pod.status.as_ref().and_then(|status| status.phase.clone()),
        };
        format!("{} ({})", pod.name_any(), phase.unwrap_or_else(|| "Unknown".to_owned()))
    };
    let mut pods: Vec<String> = list.items.iter().map(told).collect();
    pods.sort();
    Some(pods)
}

/// What the API server makes of a question.
#[derive(Debug)]
pub(super) enum Asked {
    /// 401.
    Unauthorized(String),
    /// 403.
    Forbidden(String),
    /// 404.
    NotFound,
    /// Any other answer.
    Refused(String),
    /// No answer, and why.
    Silent(String),
}

impl Asked {
    /// As an error about something one need not have a right to.
    pub(super) fn about(self, what: &str) -> ClusterError {
        match self {
            Self::Unauthorized(cause) => ClusterError::Unauthorized(cause),
            Self::Forbidden(cause) | Self::Refused(cause) => ClusterError::Api { what: what.to_owned(), cause },
            Self::NotFound => ClusterError::Api { what: what.to_owned(), cause: "it is not there".to_owned() },
            Self::Silent(cause) => ClusterError::Unreachable { server: String::new(), cause },
        }
    }
}

/// Waits for an answer, but not for ever.
pub(super) async fn in_time<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Asked> {
    match tokio::time::timeout(ANSWER_WITHIN, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(match status.code {
            401 => Asked::Unauthorized(status.message),
            403 => Asked::Forbidden(status.message),
            404 => Asked::NotFound,
            _ => Asked::Refused(status.message),
        }),
        Ok(Err(error)) => Err(Asked::Silent(innermost(&error))),
        Err(_) => Err(Asked::Silent(format!("no answer within {} seconds", ANSWER_WITHIN.as_secs()))),
    }
}

/// The innermost cause: the outer ones only say that something failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
