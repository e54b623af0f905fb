//! The requests that write status: server-side apply, ours alone.

use std::time::Duration;

use callgate_compile::status::ObjectRef;
use callgate_crds::{API_VERSION, EgressNode, EgressNodeStatus, GROUP, ObjectStatus, VERSION};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Client, Error};
use serde_json::{Value, json};

use super::due::{Rank, Target, Trouble};
use super::{node, object};
use crate::FIELD_MANAGER;

/// One write.
#[derive(Debug)]
pub enum Write {
    /// Of an object.
    Object {
        /// Whose status it is.
        object: ObjectRef,
        /// Of the object.
        uid: String,
        /// What stands there.
        before: ObjectStatus,
        /// What is to.
        after: ObjectStatus,
    },
    /// Of an EgressNode.
    Node {
        /// Its name.
        node: String,
        /// Of the Node it goes with.
        uid: String,
        /// Whether it was there when it was written last, by us.
        known: bool,
        /// Whether it is made where it is not there.
        wanted: bool,
        /// What was written last; nothing, where it is not known.
        before: EgressNodeStatus,
        /// What is to stand there.
        after: EgressNodeStatus,
    },
}

impl Write {
    /// Whose status it is.
    pub fn target(&self) -> Target {
        match self {
            Self::Object { object, .. } => Target::Object(object.clone()),
            Self::Node { node, .. } => Target::Node(node.clone()),
        }
    }

    /// Who goes before whom.
    pub fn rank(&self) -> Rank {
        match self {
            Self::Object { before, after, .. } if before.observed_generation != after.observed_generation => {
                Rank::Unobserved
            }
            Self::Object { before, after, .. } if object::differs_in_substance(before, after) => Rank::Object,
            Self::Node { before, after, .. } if node::differs_in_substance(before, after) => Rank::Node,
            Self::Object { .. } | Self::Node { .. } => Rank::Counters,
        }
    }

    /// Asks for it; what is written may go on with times that stand there.
    ///
    /// # Errors
    /// Those of the API server.
    pub async fn carry_out(&mut self, client: &Client) -> Result<(), Error> {
        match self {
            Self::Object { object, uid, after, .. } => write_object(client, object, uid, after).await,
            Self::Node { node, uid, known, wanted, after, .. } => {
                if !*known {
                    // What stands there was written by the leader before: its times go on.
                    let stored = match wanted {
                        true => make_node(client, node, uid).await?,
                        false => match absent(read_node(client, node).await)? {
                            Some(stored) => stored,
                            None => return Ok(()),
                        },
                    };
                    node::follow(after, &stored);
                    if *after == stored {
                        return Ok(());
                    }
                }
                let missing = absent(write_node(client, node, after).await)?.is_none();
                if missing && *wanted {
                    // It has been deleted.
                    make_node(client, node, uid).await?;
                    write_node(client, node, after).await?;
                }
                Ok(())
            }
        }
    }
}

/// What to do about an error.
pub fn trouble(error: &Error) -> Trouble {
    match error {
        Error::Api(status) if matches!(status.code, 429 | 503) => {
            // The header Retry-After does not come as far as here; where it is the API server's own, it says one second.
            let told = status.details.as_ref().map(|details| details.retry_after_seconds).filter(|&told| told > 0);
            Trouble::Busy(told.map(|seconds| Duration::from_secs(seconds.into())))
        }
        _ => Trouble::Failed,
    }
}

/// What makes two errors about objects of a kind one for whoever reads the log.
pub fn kind(target: &Target, error: &Error) -> String {
    let of = match target {
        Target::Object(object) => object.kind.name(),
        Target::Node(_) => "EgressNode",
    };
    match error {
        Error::Api(status) => format!("{of} {} {}", status.code, status.reason),
        error => format!("{of} {error}"),
    }
}

/// `None` for what is not there.
fn absent<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(there) => Ok(Some(there)),
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ours alone: whatever another manager holds in the same fields is taken over.
fn params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// With its uid, so that the API server refuses it (409) where the object was made anew meanwhile.
async fn write_object(client: &Client, object: &ObjectRef, uid: &str, status: &ObjectStatus) -> Result<(), Error> {
    let gvk = GroupVersionKind::gvk(GROUP, VERSION, object.kind.name());
    let resource = ApiResource::from_gvk_with_plural(&gvk, object.kind.plural());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &object.key.namespace, &resource);
    let patch = json!({
        "apiVersion": API_VERSION,
        "kind": object.kind.name(),
        "metadata": {"name": object.key.name, "namespace": object.key.namespace, "uid": uid},
        "status": status,
    });
    api.patch_status(&object.key.name, &params(), &Patch::Apply(patch)).await?;
    Ok(())
}

/// Makes the object where it is not there yet; it goes with its node. The status that stands there.
async fn make_node(client: &Client, node: &str, uid: &str) -> Result<EgressNodeStatus, Error> {
    let api: Api<EgressNode> = Api::all(client.clone());
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    let head = json!({
        "apiVersion": API_VERSION,
        "kind": "EgressNode",
        "metadata": {"name": node, "ownerReferences": [owner]},
        "spec": {},
    });
    Ok(api.patch(node, &params(), &Patch::Apply(&head)).await?.status.unwrap_or_default())
}

/// The status that stands there, by a patch of nothing: the operator has no right to read EgressNodes, and needs none.
async fn read_node(client: &Client, node: &str) -> Result<EgressNodeStatus, Error> {
    let api: Api<EgressNode> = Api::all(client.clone());
    let nothing: Patch<Value> = Patch::Merge(json!({}));
    Ok(api.patch_status(node, &PatchParams::default(), &nothing).await?.status.unwrap_or_default())
}

async fn write_node(client: &Client, node: &str, status: &EgressNodeStatus) -> Result<(), Error> {
    let api: Api<EgressNode> = Api::all(client.clone());
    let body = json!({"apiVersion": API_VERSION, "kind": "EgressNode", "metadata": {"name": node}, "status": status});
    api.patch_status(node, &params(), &Patch::Apply(&body)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use callgate_crds::Kind;
    use callgate_proto::model::ObjectKey;
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_generation_that_is_not_observed_yet_goes_before_others_and_what_only_counts_comes_last() {
        let status = |generation, calls| ObjectStatus {
            observed_generation: generation,
            live_calls: Some(calls),
            ..ObjectStatus::default()
        };
        let rank = |before, after| {
            let object = ObjectRef { kind: Kind::IpRule, key: ObjectKey::new("pos", "a") };
            Write::Object { object, uid: String::new(), before, after }.rank()
        };
        let failed = ObjectStatus { reason: Some("ApplyFailed".to_owned()), ..status(Some(2), 1) };
        let ranks = [
            rank(status(None, 0), status(Some(1), 0)),
            rank(status(Some(1), 0), status(Some(2), 0)),
            rank(status(Some(2), 0), failed),
            rank(status(Some(2), 0), status(Some(2), 1)),
        ];
        assert_eq!(ranks, [Rank::Unobserved, Rank::Unobserved, Rank::Object, Rank::Counters]);
    }

    #[test]
    fn an_egress_node_that_only_counts_comes_last_and_one_that_says_more_does_not() {
        let status = |hash: &str, calls| EgressNodeStatus {
            config_hash: Some(hash.to_owned()),
            live_calls: Some(calls),
            ..EgressNodeStatus::default()
        };
        let rank = |before, after| {
            let (node, uid) = ("a".to_owned(), String::new());
            Write::Node { node, uid, known: true, wanted: true, before, after }.rank()
        };
        let ranks = [rank(status("1", 0), status("2", 0)), rank(status("1", 0), status("1", 1))];
        assert_eq!(ranks, [Rank::Node, Rank::Counters]);
    }

    #[test]
    fn an_api_server_with_too_much_to_do_is_left_in_peace_for_as_long_as_it_says() {
        let told = |code: u16, seconds: u32| {
            let status: Status =
                serde_json::from_value(json!({"code": code, "details": {"retryAfterSeconds": seconds}})).unwrap();
            trouble(&Error::Api(Box::new(status)))
        };
        let busy = |seconds| Trouble::Busy(Some(Duration::from_secs(seconds)));
        assert_eq!(
            [told(429, 7), told(429, 0), told(503, 2), told(403, 7)],
            [busy(7), Trouble::Busy(None), busy(2), Trouble::Failed]
        );
    }
}
