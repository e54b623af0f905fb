//! Where the Service leads: to the operator that leads, and to no other.
//!
//! The Service has no selector; the leader writes its EndpointSlice. So every replica can be ready (a roll-out ends, and
//! `helm --wait` with it), and yet no agent is ever led to one that does not serve.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::{Client, Error};

use crate::FIELD_MANAGER;

/// The leader's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service, and of the EndpointSlice.
    pub service: String,
    /// Name of the leader's pod.
    pub pod: String,
    /// Address of the leader's pod, and the port agents dial.
    pub address: SocketAddr,
}

/// Leads the Service to this place. Where it leads there already, the API server writes nothing.
pub async fn announce(client: &Client, place: &Place) -> Result<(), Error> {
    apply(client, place, true).await
}

/// Leads it nowhere: to be done before somebody else leads.
pub async fn withdraw(client: &Client, place: &Place) -> Result<(), Error> {
    apply(client, place, false).await
}

async fn apply(client: &Client, place: &Place, here: bool) -> Result<(), Error> {
    let services: Api<Service> = Api::namespaced(client.clone(), &place.namespace);
    let service = services.get_opt(&place.service).await?;
    let uid = service.and_then(|service| service.metadata.uid);
    if uid.is_none() {
        tracing::warn!("there is no Service {}/{}: agents cannot dial it", place.namespace, place.service);
    }
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &place.namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    slices.patch(&place.service, &params, &Patch::Apply(slice(place, uid, here))).await.map(drop)
}

fn slice(place: &Place, service: Option<String>, here: bool) -> EndpointSlice {
    let labels = [
        ("kubernetes.io/service-name", place.service.as_str()),
        ("endpointslice.kubernetes.io/managed-by", FIELD_MANAGER),
    ];
    let endpoint = Endpoint {
        addresses: vec![place.address.ip().to_string()],
        conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(place.namespace.clone()),
            name: Some(place.pod.clone()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    };
    let owner = service.map(|uid| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        name: place.service.clone(),
        uid,
        ..OwnerReference::default()
    });
    let family = match place.address.ip() {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(place.service.clone()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: if here { vec![endpoint] } else { Vec::new() },
        ports: Some(vec![EndpointPort {
            name: Some("grpc".to_owned()),
            port: Some(place.address.port().into()),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::mock::api_server;

    fn place() -> Place {
        Place {
            namespace: "callgate-system".to_owned(),
            service: "callgate-operator".to_owned(),
            pod: "callgate-operator-1".to_owned(),
            address: "10.244.0.5:9443".parse().unwrap(),
        }
    }

    /// What is applied.
    async fn applied(here: bool) -> Value {
        let (client, log) = api_server(|asked| match asked.what.starts_with("GET") {
            true => (200, json!({"metadata": {"name": "callgate-operator", "uid": "u"}})),
            false => (200, asked.body.clone()),
        });
        match here {
            true => announce(&client, &place()).await.unwrap(),
            false => withdraw(&client, &place()).await.unwrap(),
        }
        let log = log.lock().unwrap();
        let path = "/apis/discovery.k8s.io/v1/namespaces/callgate-system/endpointslices/callgate-operator";
        assert_eq!(log[1].what, format!("PATCH {path}?&force=true&fieldManager=callgate-operator"));
        log[1].body.clone()
    }

    #[tokio::test]
    async fn the_service_leads_to_the_leader_and_goes_with_its_service() {
        let slice = applied(true).await;
        let told = (&slice["endpoints"][0]["addresses"], &slice["ports"][0]["port"], &slice["addressType"]);
        assert_eq!(told, (&json!(["10.244.0.5"]), &json!(9443), &json!("IPv4")));
        assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], json!("callgate-operator"));
        assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], json!("u"));
    }

    #[tokio::test]
    async fn a_leader_that_ends_leads_it_nowhere() {
        assert_eq!(applied(false).await["endpoints"], json!([]));
    }
}
