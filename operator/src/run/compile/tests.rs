//! A compile that does not end, and what becomes of the Lease and of the rest meanwhile.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use clap::Parser as _;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::Instant;

use super::super::{End, reign};
use super::*;
use crate::args::Args;
use crate::facts::{NodeFact, cluster_key};
use crate::http::Health;
use crate::lease::{DURATION, Holder, RETRY};
use crate::metrics::Metrics;
use crate::mock::{Asked, api_server};
use crate::tls::Lifetimes;

/// A leader that knows of one node, and of whose Lease `holds` says who holds it; when it was written, by whom.
struct Case {
    leader: Leader,
    holder: Holder,
    writes: UnboundedReceiver<(Instant, Value)>,
}

impl Case {
    async fn new(mut holds: impl FnMut() -> &'static str + Send + 'static) -> Self {
        let (wrote, writes) = unbounded_channel();
        let (client, _) = api_server(move |asked: &Asked| {
            if asked.what.starts_with("PUT") {
                wrote.send((Instant::now(), asked.body["spec"]["holderIdentity"].clone())).unwrap();
                return (200, asked.body.clone());
            }
            let spec = json!({"holderIdentity": holds(), "leaseDurationSeconds": 15});
            (200, json!({"metadata": {"name": "lease", "resourceVersion": "7"}, "spec": spec}))
        });
        let watched = Watched::empty();
        watched.absorb(&Event::Apply(()), |facts, event| {
            facts.nodes.absorb(event, |()| cluster_key("a"), |()| NodeFact::default())
        });
        let mut holder = Holder::new(client.clone(), "callgate-system", "lease", "me");
        assert!(holder.look().await.unwrap());
        let metrics = Arc::new(Metrics::default());
        let leader = Leader {
            args: Args::try_parse_from(["x"]).unwrap(),
            lifetimes: Lifetimes::default(),
            client,
            watched,
            health: Health::default(),
            metrics: Arc::clone(&metrics),
            hub: Arc::new(Hub::new(metrics)),
            settings: Settings { namespace: "callgate-system".to_owned(), cluster_cidrs: Vec::new() },
        };
        Self { leader, holder, writes }
    }

    fn compiler(&self) -> (Compiler, watch::Receiver<Latest>) {
        let (published, latest) = watch::channel(None);
        (Compiler::new(&self.leader, None, watch::channel(Arc::default()).0, published), latest)
    }

    /// Whoever compiles waits for the facts, until the sender is dropped.
    fn hold_up(&self) -> (Sender<()>, JoinHandle<()>) {
        let ((go_on, wait), (held, is_held)) = (channel::<()>(), channel());
        let watched = self.leader.watched.clone();
        let thread = std::thread::spawn(move || {
            let facts = watched.facts();
            held.send(()).unwrap();
            let _ = wait.recv();
            drop(facts);
        });
        is_held.recv().unwrap();
        (go_on, thread)
    }

    fn nodes_told(&self) -> Vec<String> {
        self.leader.hub.board.latest().into_keys().collect()
    }
}

/// Time passes; it does not by itself while a thread is busy.
async fn time() -> Infallible {
    loop {
        tokio::time::advance(RETRY / 20).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_through_a_compile_of_any_length() {
    let mut case = Case::new(|| "me").await;
    let (mut compiler, mut latest) = case.compiler();
    let (go_on, thread) = case.hold_up();
    let lead = async move {
        compiler.publish().await;
        Ok(())
    };
    let far = Instant::now() + 4 * DURATION;
    let reigning = reign(&mut case.holder, lead);
    let writes = &mut case.writes;
    let seen = async {
        while writes.recv().await.unwrap().0 < far {}
        assert!(!latest.has_changed().unwrap(), "it compiles still");
        drop(go_on);
        latest.changed().await.unwrap();
    };
    let (end, ()) = tokio::select! {
        both = async { tokio::join!(reigning, seen) } => both,
        never = time() => match never {},
    };
    assert_eq!((end.unwrap(), case.nodes_told()), (End::Told, vec!["a".to_owned()]));
    thread.join().unwrap();
    let mut last = Value::Null;
    while let Ok((_, holder)) = case.writes.try_recv() {
        last = holder;
    }
    assert_eq!(last, json!(""), "given up");
}

#[tokio::test(start_paused = true)]
async fn once_the_lease_is_lost_a_compile_is_not_waited_for_and_what_it_comes_to_goes_nowhere() {
    let mut holders = ["me"].into_iter();
    let mut case = Case::new(move || holders.next().unwrap_or("other")).await;
    let (mut compiler, mut latest) = case.compiler();
    let work = Arc::clone(&compiler.work);
    let (go_on, thread) = case.hold_up();
    let lead = async move {
        compiler.publish().await;
        Ok(())
    };
    let end = tokio::select! {
        end = reign(&mut case.holder, lead) => end,
        never = time() => match never {},
    };
    assert_eq!(end.unwrap(), End::LeaseLost);
    assert!(latest.changed().await.is_err(), "whoever led is gone");
    while work.try_lock().is_ok() {
        tokio::task::yield_now().await;
    }
    drop(go_on);
    thread.join().unwrap();
    // Ends with the compile.
    drop(lock(&work));
    assert_eq!(case.nodes_told(), Vec::<String>::new());
}
