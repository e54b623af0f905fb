//! Applies the predefined objects: after an install, because helm cannot make objects of kinds that it makes itself.

use anyhow::{Context, Result, bail};
use callgate_crds::{GROUP, Kind, VERSION, predefined};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::LOOK_AGAIN;

/// Field manager, and value of the label by which objects of an older version are found again.
const MANAGER: &str = "callgate-hook";
/// The label.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Whose they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// ServiceAccount of the release that owns the objects: they go when helm takes it away
    #[arg(long, default_value = "callgate-operator")]
    owner: String,
}

/// Applies all, then deletes what an older version had and this one has not.
pub(crate) async fn run(client: Client, namespace: &str, args: &Args) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let read = format!("read ServiceAccount {namespace}/{}", args.owner);
    let owner = insist(&read, None, || accounts.get_metadata(&args.owner)).await?;
    let owner = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "name": args.owner,
        "uid": owner.metadata.uid.context("the owner has no uid")?,
    });
    let wanted = wanted(&owner)?;
    for kind in [Kind::PptpAlg, Kind::Service] {
        let api = api(client.clone(), namespace, kind);
        let ours: Vec<&Value> = wanted.iter().filter(|object| object["kind"] == kind.name()).collect();
        let params = PatchParams::apply(MANAGER).force();
        for object in &ours {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let (what, patch) = (format!("apply {kind} {name}"), Patch::Apply(object));
            insist(&what, Some(kind), || api.patch(name, &params, &patch)).await?;
        }
        let managed = ListParams::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
        for object in insist(&format!("list {}", kind.plural()), Some(kind), || api.list(&managed)).await? {
            let name = object.metadata.name.unwrap_or_default();
            if !ours.iter().any(|ours| ours["metadata"]["name"] == name.as_str()) {
                let params = DeleteParams::default();
                insist(&format!("delete {kind} {name}"), None, || api.delete(&name, &params)).await?;
                println!("deleted {kind} {namespace}/{name}: this version has none of this name");
            }
        }
        println!("applied {} {} in {namespace}", ours.len(), kind.plural());
    }
    Ok(())
}

/// Tries until it is done, for as long as there is something to wait for. Whoever makes the roles where the chart does not may do so
/// after the Job has begun.
async fn insist<T, F: Future<Output = kube::Result<T>>>(
    what: &str,
    kind: Option<Kind>,
    mut request: impl FnMut() -> F,
) -> Result<T> {
    let mut said = None;
    loop {
        let error = match request().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(waiting) = awaited(what, kind, &error) else { return Err(error).with_context(|| what.to_owned()) };
        if said.as_ref() != Some(&waiting) {
            println!("{waiting}");
            said = Some(waiting);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What is waited for after such an answer: a definition takes a moment from made to established. `None` where waiting is of no use.
fn awaited(what: &str, kind: Option<Kind>, error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    match (status.code, kind) {
        (404, Some(kind)) => {
            let plural = kind.plural();
            Some(format!("waiting for the API server to serve {plural} (crds.install, or crds/generated/all.yaml)"))
        }
        (403, _) => Some(format!(
            "waiting for the right to {what}: make Role and RoleBinding callgate-predefined, which helm template with \
             rbac.create=true shows ({})",
            status.message
        )),
        _ => None,
    }
}

fn api(client: Client, namespace: &str, kind: Kind) -> Api<DynamicObject> {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind.name()), kind.plural());
    Api::namespaced_with(client, namespace, &resource)
}

/// The objects as they are applied: without namespace, which the request has, with label and owner.
fn wanted(owner: &Value) -> Result<Vec<Value>> {
    let mut wanted = Vec::new();
    for (file, text) in predefined() {
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(text).with_context(|| format!("crds/predefined/{file}"))?;
        for mut object in objects {
            let Some(metadata) = object["metadata"].as_object_mut() else {
                bail!("crds/predefined/{file}: an object without metadata")
            };
            metadata.remove("namespace");
            metadata.insert("labels".to_owned(), json!({ MANAGED_BY: MANAGER, "app.kubernetes.io/name": "callgate" }));
            metadata.insert("ownerReferences".to_owned(), json!([owner]));
            wanted.push(object);
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use tower_test::mock::{Handle, pair};

    use super::*;

    type Server = Handle<Request<Body>, Response<Body>>;

    /// Answers the next request; gives what was asked.
    async fn answer(server: &mut Server, code: u16, body: Value) -> (String, Value) {
        let (request, send) = server.next_request().await.expect("a request");
        let line = format!("{} {}", request.method(), request.uri()).trim_end_matches('?').to_owned();
        let sent = request.into_body().collect_bytes().await.expect("body");
        let response = Response::builder().status(code).header("content-type", "application/json");
        send.send_response(response.body(Body::from(body.to_string().into_bytes())).expect("response"));
        (line, serde_json::from_slice(&sent).unwrap_or(Value::Null))
    }

    /// As the API server writes it.
    fn failure(code: u16, reason: &str, message: &str) -> Value {
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code })
    }

    #[test]
    fn a_kind_and_a_right_are_waited_for_and_nothing_else() {
        let error = |code, message: &str| {
            let status = serde_json::from_value(failure(code, "x", message)).expect("a status");
            kube::Error::Api(Box::new(status))
        };
        let told = |kind, code| awaited("apply PptpAlg pptp", kind, &error(code, "it says no"));
        let kind = Some(Kind::PptpAlg);
        let served = "waiting for the API server to serve pptpalgs (crds.install, or crds/generated/all.yaml)";
        let right = "waiting for the right to apply PptpAlg pptp: make Role and RoleBinding callgate-predefined, which helm template \
                     with rbac.create=true shows (it says no)";
        let expected = [Some(served), Some(right), None, None, Some(right), None];
        let cases = [(kind, 404), (kind, 403), (kind, 422), (None, 404), (None, 403), (None, 500)];
        assert_eq!(cases.map(|(kind, code)| told(kind, code)), expected.map(|text| text.map(str::to_owned)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_is_not_served_yet_and_rights_are_waited_for_and_objects_of_an_older_version_go() {
        let (service, mut server) = pair::<Request<Body>, Response<Body>>();
        let client = Client::new(service, "callgate-system");
        let args = Args { owner: "callgate-operator".to_owned() };
        let work = tokio::spawn(async move { run(client, "callgate-system", &args).await });

        let account = json!({ "apiVersion": "v1", "kind": "PartialObjectMetadata", "metadata": { "name": "callgate-operator", "uid": "u" } });
        for (code, body) in [(403, failure(403, "Forbidden", "no")), (200, account)] {
            let (line, _) = answer(&mut server, code, body).await;
            assert_eq!(line, "GET /api/v1/namespaces/callgate-system/serviceaccounts/callgate-operator");
        }

        let alg = "/apis/callgate.io/v1alpha1/namespaces/callgate-system/pptpalgs";
        let apply = format!("PATCH {alg}/pptp?&force=true&fieldManager=callgate-hook");
        for (code, reason) in [(404, "NotFound"), (403, "Forbidden")] {
            assert_eq!(answer(&mut server, code, failure(code, reason, "no")).await.0, apply);
        }
        let (line, sent) = answer(&mut server, 200, json!({ "metadata": { "name": "pptp" } })).await;
        assert_eq!(line, apply);
        let owner = json!([{ "apiVersion": "v1", "kind": "ServiceAccount", "name": "callgate-operator", "uid": "u" }]);
        let labels = json!({ "app.kubernetes.io/managed-by": "callgate-hook", "app.kubernetes.io/name": "callgate" });
        let expected = json!({ "apiVersion": "callgate.io/v1alpha1", "kind": "PptpAlg", "spec": { "echoTimeout": "180s", "idleTimeout": "0s" },
                               "metadata": { "name": "pptp", "labels": labels, "ownerReferences": owner } });
        assert_eq!(sent, expected);

        let list = json!({ "metadata": {}, "items": [{ "metadata": { "name": "pptp" } }, { "metadata": { "name": "gone" } }] });
        answer(&mut server, 200, list).await;
        let (line, _) = answer(&mut server, 200, json!({ "kind": "Status", "status": "Success" })).await;
        assert_eq!(line, format!("DELETE {alg}/gone"));

        let services =
            wanted(&Value::Null).expect("predefined").iter().filter(|object| object["kind"] == "Service").count();
        for _ in 0..services {
            answer(&mut server, 200, json!({ "metadata": { "name": "x" } })).await;
        }
        answer(&mut server, 200, json!({ "metadata": {}, "items": [] })).await;
        work.await.expect("no panic").expect("done");
    }
}
