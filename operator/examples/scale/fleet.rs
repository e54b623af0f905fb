//! An agent for each node, each with a token bound to the node's own pod of the DaemonSet, as the kubelet would ask for it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use callgate_proto::model::NodeConfig;
use callgate_proto::pb;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use prost::Message as _;
use serde_json::json;
use tokio::sync::mpsc;

use crate::agent::{self, Dial};

const NAMESPACE: &str = "callgate-system";
const ACCOUNT: &str = "callgate-dataplane";
/// How long nodes may take to have their agents.
const PATIENCE: Duration = Duration::from_secs(300);

/// A snapshot that came to an agent.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    pub(crate) node: String,
    pub(crate) bytes: usize,
    /// Each pod's address with the rules that can match it.
    pub(crate) sources: BTreeMap<Ipv4Addr, Vec<String>>,
}

/// All agents are attached and have answered their first snapshot; how long that took, how many bytes they were sent.
pub(crate) struct Fleet {
    pub(crate) received: mpsc::UnboundedReceiver<Received>,
    pub(crate) attached: Duration,
    pub(crate) first: Vec<usize>,
}

/// Attaches them all.
pub(crate) async fn attach(client: &Client, dial: Dial, nodes: usize) -> Fleet {
    let tokens = tokens(client, nodes).await;
    let (say, mut received) = mpsc::unbounded_channel();
    let start = Instant::now();
    for (node, token) in tokens {
        tokio::spawn(run(dial.clone(), node, token, say.clone()));
    }
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    while first.len() < nodes {
        let one: Received = tokio::time::timeout(PATIENCE, received.recv()).await.expect("agents are let in").unwrap();
        first.entry(one.node).or_insert(one.bytes);
    }
    Fleet { received, attached: start.elapsed(), first: first.into_values().collect() }
}

/// A token for each node's agent, once the DaemonSet has a pod there.
async fn tokens(client: &Client, nodes: usize) -> BTreeMap<String, String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let params = ListParams::default().labels("app.kubernetes.io/component=dataplane");
    let start = Instant::now();
    let agents = loop {
        let list = pods.list(&params).await.unwrap();
        let placed = list.items.into_iter().filter(|pod| node_of(pod).is_some());
        let placed: Vec<Pod> = placed.collect();
        if placed.len() >= nodes {
            break placed;
        }
        assert!(start.elapsed() < PATIENCE, "the DaemonSet has {} pods on {nodes} nodes", placed.len());
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let asked = agents.iter().map(|pod| {
        let accounts = accounts.clone();
        async move {
            let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": pod.metadata.name, "uid": pod.metadata.uid});
            let spec = json!({"audiences": ["callgate-operator"], "boundObjectRef": bound, "expirationSeconds": 7200});
            let request: TokenRequest = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            let answer = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await?;
            Ok::<_, kube::Error>((node_of(pod).unwrap(), answer.status.unwrap().token))
        }
    });
    futures::stream::iter(asked).buffer_unordered(16).try_collect().await.unwrap()
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

async fn run(dial: Dial, node: String, token: String, say: mpsc::UnboundedSender<Received>) {
    let mut runs = String::new();
    loop {
        let heard = |at: Instant, snapshot: &pb::Snapshot| {
            let bytes = snapshot.encoded_len();
            // As a real agent: content and hash must agree.
            let config = NodeConfig::try_from(snapshot.config.clone().unwrap()).unwrap();
            assert_eq!((config.content_hash(), &config.node), (snapshot.hash.clone(), &node));
            let rules =
                |chain: u32| config.chains[chain as usize].iter().map(|&at| config.rules[at as usize].key.to_string());
            let sources = config.sources.iter().filter(|source| source.net.prefix_len() == 32);
            let sources = sources.map(|source| (source.net.addr(), rules(source.chain).collect())).collect();
            let _ = say.send(Received { at, node: node.clone(), bytes, sources });
        };
        if let Err(error) = agent::attached(&dial, &node, &token, &mut runs, heard).await {
            eprintln!("{node}: {error}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
