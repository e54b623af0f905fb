//! Pods that come, are labelled anew and go, one after the other: how long until the agent of their node has been told.

use std::net::Ipv4Addr;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};

use crate::Size;
use crate::fill;
use crate::fleet::{Fleet, Received};

/// How long one change may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Without a snapshot for so long, all that a change brings has come.
const QUIET: Duration = Duration::from_millis(150);

/// What changes of one kind took, and what was sent for them.
#[derive(Default)]
struct Took {
    times: Vec<Duration>,
    bytes: Vec<usize>,
    snapshots: Vec<usize>,
}

/// Changes `count` pods three times each and prints what that took.
pub(crate) async fn measure(client: &Client, size: Size, mut fleet: Fleet, count: usize) {
    let config = watcher::Config::default().labels("probe=yes");
    let mut seen = pin!(kube::runtime::watcher(Api::<Pod>::all(client.clone()), config));
    // The fleet's first snapshots, and what the operator still had to say about them.
    quiet(&mut fleet, Duration::from_secs(3)).await;
    let (mut comes, mut labelled, mut goes) = (Took::default(), Took::default(), Took::default());
    for index in 0..count {
        let name = format!("probe-{index:04}");
        let mut pod = fill::pod(size, size.pods + index, &name);
        pod.metadata.labels.as_mut().unwrap().insert("probe".to_owned(), "yes".to_owned());
        let node = pod.spec.as_ref().unwrap().node_name.clone().unwrap();
        let api: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap());
        fill::make(&api, &pod).await.unwrap();
        let (address, since) = address_of(&mut seen, &name).await;
        let mut before = Vec::new();
        comes
            .add(&mut fleet, since, |received| {
                before = received.sources.get(&address).cloned().unwrap_or_default();
                received.node == node && !before.is_empty()
            })
            .await;

        let app = pod.metadata.labels.as_ref().unwrap()["app"].clone();
        let other = if app == "a0" { "a1" } else { "a0" };
        let patch = Patch::Merge(json!({"metadata": {"labels": {"app": other, "tier": "none"}}}));
        let since = Instant::now();
        api.patch(&name, &PatchParams::default(), &patch).await.unwrap();
        labelled
            .add(&mut fleet, since, |received| {
                received.node == node && received.sources.get(&address).is_some_and(|rules| *rules != before)
            })
            .await;

        let since = Instant::now();
        api.delete(&name, &DeleteParams::default()).await.unwrap();
        goes.add(&mut fleet, since, |received| received.node == node && !received.sources.contains_key(&address)).await;
    }
    let result = json!({
        "attached_s": fleet.attached.as_secs_f64(),
        "first_snapshots": {"total_bytes": fleet.first.iter().sum::<usize>(), "median_bytes": at(&mut fleet.first, 50)},
        "comes": comes.told(), "labelled": labelled.told(), "goes": goes.told(),
    });
    println!("{result}");
}

/// Waits until the API server says which address a pod has; and when it said so.
async fn address_of(
    seen: &mut (impl Stream<Item = Result<Event<Pod>, watcher::Error>> + Unpin),
    name: &str,
) -> (Ipv4Addr, Instant) {
    let found = async {
        loop {
            let event = seen.next().await.unwrap().unwrap();
            let at = Instant::now();
            let (Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
            let address = pod.status.and_then(|status| status.pod_ip);
            if pod.metadata.name.as_deref() == Some(name)
                && let Some(address) = address
            {
                return (address.parse().unwrap(), at);
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("kwok gives the pod an address")
}

async fn quiet(fleet: &mut Fleet, pause: Duration) -> Vec<Received> {
    let mut all = Vec::new();
    while let Ok(Some(received)) = tokio::time::timeout(pause, fleet.received.recv()).await {
        all.push(received);
    }
    all
}

impl Took {
    /// Waits for the snapshot by which the change has arrived, and then for silence.
    async fn add(&mut self, fleet: &mut Fleet, since: Instant, mut arrived: impl FnMut(&Received) -> bool) {
        let mut all = Vec::new();
        loop {
            let received = tokio::time::timeout(PATIENCE, fleet.received.recv()).await.expect("a snapshot").unwrap();
            let here = arrived(&received);
            all.push(received);
            if here {
                break;
            }
        }
        // The operator's watch may have been faster than ours.
        self.times.push(all.last().unwrap().at.saturating_duration_since(since));
        all.extend(quiet(fleet, QUIET).await);
        self.bytes.push(all.iter().map(|received| received.bytes).sum());
        self.snapshots.push(all.len());
    }

    fn told(mut self) -> Value {
        let mut times: Vec<f64> =
            self.times.iter().map(|time| (time.as_secs_f64() * 10_000.0).round() / 10.0).collect();
        times.sort_by(f64::total_cmp);
        let of = |percent: usize| times[(times.len() - 1) * percent / 100];
        json!({
            "changes": times.len(),
            "ms": {"median": of(50), "p99": of(99), "max": of(100)},
            "bytes": {"median": at(&mut self.bytes, 50), "max": at(&mut self.bytes, 100)},
            "snapshots": {"median": at(&mut self.snapshots, 50), "max": at(&mut self.snapshots, 100)},
        })
    }
}

/// A percentile.
fn at(values: &mut [usize], percent: usize) -> usize {
    values.sort_unstable();
    values[(values.len() - 1) * percent / 100]
}
