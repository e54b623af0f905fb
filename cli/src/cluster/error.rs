//! What can be in the way of an answer from a cluster, each with its remedy.

use callgate_proto::{OPERATOR_API_PORT, OPERATOR_LEASE};

/// Name of the chart's role for people who may ask.
const ROLE: &str = "callgate-observer";

/// Why a cluster's operator cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Neither a socket on this host nor a kubeconfig.
    #[error(
        "nobody to ask: no kubeconfig ({cause}), and on this host there is no agent's socket {socket}; for a cluster pass \
         --kubeconfig FILE or set KUBECONFIG, for an agent on this host pass --api SOCKET"
    )]
    NoKubeconfig {
        /// What was looked for.
        cause: String,
        /// The socket that would have been asked.
        socket: &'static str,
    },
    /// A kubeconfig that leads nowhere.
    #[error("the kubeconfig cannot be used: {0}; `kubectl config get-contexts` lists what it has")]
    Kubeconfig(String),
    /// No answer from the API server.
    #[error(
        "the API server {server} does not answer: {cause}; does `kubectl get --raw /readyz` work with this kubeconfig?"
    )]
    Unreachable {
        /// Its URL.
        server: String,
        /// What went wrong.
        cause: String,
    },
    /// The API server does not know the user.
    #[error("the API server does not accept your credentials: {0}; log in again, or choose another --context")]
    Unauthorized(String),
    /// The user may not do what is needed.
    #[error(
        "you may not {what} in namespace {namespace}: {cause}; ask for Role {ROLE} there (the chart makes it, and binds it to \
         whoever `rbac.observers` names)"
    )]
    Forbidden {
        /// "port-forward to pods".
        what: &'static str,
        /// Where.
        namespace: String,
        /// What the API server said.
        cause: String,
    },
    /// No Lease anywhere one may look.
    #[error("{}", not_installed(namespace, *everywhere))]
    NotInstalled {
        /// Where it was looked for.
        namespace: String,
        /// Whether all namespaces were looked at.
        everywhere: bool,
    },
    /// Other namespaces may not be searched.
    #[error(
        "there is no Lease {OPERATOR_LEASE} in namespace {namespace}, and you may not look for it in others: name the \
         operator's with --operator-namespace ({cause})"
    )]
    MayNotSearch {
        /// Where it was looked for.
        namespace: String,
        /// What the API server said.
        cause: String,
    },
    /// More than one operator.
    #[error("there are operators in several namespaces: choose one with --operator-namespace: {}", .0.join(", "))]
    Several(Vec<String>),
    /// Nobody holds the Lease.
    #[error("no operator leads in namespace {namespace}: {}", remedy(namespace, pods.as_deref()))]
    NoLeader {
        /// Where.
        namespace: String,
        /// The operator's pods with their phases; `None` where one may not see them.
        pods: Option<Vec<String>>,
    },
    /// Who holds the Lease is not there any more.
    #[error("the operator that led, pod {namespace}/{pod}, is gone: {}", remedy(namespace, pods.as_deref()))]
    LeaderGone {
        /// Where.
        namespace: String,
        /// Holder of the Lease.
        pod: String,
        /// As in `NoLeader`.
        pods: Option<Vec<String>>,
    },
    /// The pod is there, its port cannot be reached.
    #[error(
        "cannot forward to port {OPERATOR_API_PORT} of pod {namespace}/{pod}: {cause}; look at it with `kubectl -n {namespace} \
         describe pod {pod}`"
    )]
    Forward {
        /// Where.
        namespace: String,
        /// The leader.
        pod: String,
        /// What the API server or the node said.
        cause: String,
    },
    /// Anything else the API server answers.
    #[error("the API server answers, about {what}: {cause}")]
    Api {
        /// "Lease callgate-operator".
        what: String,
        /// What it said.
        cause: String,
    },
}

impl ClusterError {
    /// The same, with the API server's URL where that is part of it.
    #[must_use]
    pub(super) fn of(self, server: &str) -> Self {
        match self {
            Self::Unreachable { cause, .. } => Self::Unreachable { server: server.to_owned(), cause },
            other => other,
        }
    }

    /// Whether it may pass by itself, such as while another operator takes over.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::NoLeader { .. }
            | Self::LeaderGone { .. }
            | Self::Forward { .. }
            | Self::Api { .. } => true,
            Self::NoKubeconfig { .. }
            | Self::Kubeconfig(_)
            | Self::Unauthorized(_)
            | Self::Forbidden { .. }
            | Self::NotInstalled { .. }
            | Self::MayNotSearch { .. }
            | Self::Several(_) => false,
        }
    }
}

fn not_installed(namespace: &str, everywhere: bool) -> String {
    let place = if everywhere { "any namespace".to_owned() } else { format!("namespace {namespace}") };
    let other = if everywhere { "" } else { ", or name another with --operator-namespace" };
    format!(
        "no operator is installed: there is no Lease {OPERATOR_LEASE} in {place}; install it with `helm install callgate \
         charts/callgate --namespace callgate-system --create-namespace`{other}"
    )
}

fn remedy(namespace: &str, pods: Option<&[String]>) -> String {
    match pods {
        None => {
            format!("another takes over within 15 seconds if there is one; look at `kubectl -n {namespace} get pods`")
        }
        Some([]) => format!(
            "it has no pods; `kubectl -n {namespace} scale deployment/callgate-operator --replicas=2` starts them \
             (agents go on with what they have)"
        ),
        Some(pods) => format!(
            "one of its pods takes over within 15 seconds of the end of the last, if it can run: {}; try again, or look at \
             `kubectl -n {namespace} get pods`",
            pods.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_without_pods_is_told_from_one_that_is_taking_over() {
        let error = |pods| ClusterError::NoLeader { namespace: "cg".to_owned(), pods }.to_string();
        assert_eq!(
            error(Some(vec![])),
            "no operator leads in namespace cg: it has no pods; `kubectl -n cg scale deployment/callgate-operator \
             --replicas=2` starts them (agents go on with what they have)"
        );
        assert_eq!(
            error(Some(vec!["a (Pending)".to_owned()])),
            "no operator leads in namespace cg: one of its pods takes over within 15 seconds of the end of the last, if it can \
             run: a (Pending); try again, or look at `kubectl -n cg get pods`"
        );
    }

    #[test]
    fn what_rights_are_missing_is_not_waited_for_and_a_leader_is() {
        let forbidden = ClusterError::Forbidden {
            what: "port-forward to pods",
            namespace: "cg".to_owned(),
            cause: "no".to_owned(),
        };
        assert!(!forbidden.may_pass());
        assert!(ClusterError::NoLeader { namespace: "cg".to_owned(), pods: None }.may_pass());
    }
}
