//! One cluster for all tests of the run: built by the first that asks, removed when the process ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use callgate_e2e::cluster::kubectl::Kubectl;
use callgate_e2e::cluster::till::Till;
use callgate_e2e::cluster::{Cluster, Plan, callgate, tools};
use callgate_e2e::lab::{names, root};

/// How long a pod may take to run or to go, on a busy machine.
pub(crate) const POD: &str = "--timeout=90s";

/// How long what the cluster does by itself may take.
pub(crate) const SOON: Duration = Duration::from_secs(60);

static SHARED: Mutex<Option<Cluster>> = Mutex::new(None);

/// A test has ended in between, and may have left Callgate otherwise than it found it.
static FAILED: AtomicBool = AtomicBool::new(false);

/// The cluster, for one test alone; its logs are shown when that fails.
pub(crate) struct Shared(MutexGuard<'static, Option<Cluster>>);

extern "C" fn at_exit() {
    names::sweep_own();
}

impl Shared {
    /// `None`: cannot run here, which is said loudly.
    pub(crate) fn get(test: &str) -> Option<Self> {
        can_run(test).then(Self::build)
    }

    /// Callgate is installed, `pods` are ready in namespace `pos`, the classic set-up is Programmed. `None`: cannot run here.
    pub(crate) fn classic<'a>(test: &str, pods: impl IntoIterator<Item = &'a Till>) -> Option<Self> {
        Self::with(test, pods, &callgate::CLASSIC)
    }

    /// The same with `manifests` in the place of the classic set-up.
    pub(crate) fn with<'a>(test: &str, pods: impl IntoIterator<Item = &'a Till>, manifests: &str) -> Option<Self> {
        let shared = Self::get_for_callgate(test)?;
        callgate::import_images(shared.cluster()).unwrap();
        callgate::install(shared.cluster(), &[]).unwrap();
        shared.namespace("pos");
        shared.kubectl().apply(&pods.into_iter().map(Till::object).collect::<String>()).unwrap();
        shared.k(&format!("-n pos wait --for=condition=Ready pod --all {POD}"));
        shared.kubectl().apply(manifests).unwrap();
        shared.k(&format!("-n pos wait --for=condition=Programmed iprule/tills-to-head-office {POD}"));
        Some(shared)
    }

    /// As `get`, for tests that install Callgate.
    pub(crate) fn get_for_callgate(test: &str) -> Option<Self> {
        let shared = run_unless(callgate::missing(), test).then(Self::build)?;
        if FAILED.swap(false, Ordering::SeqCst) {
            callgate::mend(shared.cluster()).unwrap();
        }
        Some(shared)
    }

    fn build() -> Self {
        let mut guard = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            // SAFETY: the handler takes nothing and does not unwind. Rust drops no statics at the end of a process.
            assert_eq!(unsafe { libc::atexit(at_exit) }, 0);
            let plan = Plan { nodes: 2, servers: 1, masquerade: false };
            *guard = Some(Cluster::up(&plan, &mut |line| println!("{line}")).unwrap());
        }
        Self(guard)
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        self.0.as_ref().unwrap()
    }

    /// To do something to it.
    pub(crate) fn cluster_mut(&mut self) -> &mut Cluster {
        self.0.as_mut().unwrap()
    }

    pub(crate) fn kubectl(&self) -> Kubectl<'_> {
        self.cluster().kubectl()
    }

    /// Runs kubectl with these words, which have no blanks in them.
    pub(crate) fn k(&self, words: &str) -> String {
        self.kubectl().run(&words.split_whitespace().collect::<Vec<_>>()).unwrap()
    }

    /// A namespace of the test's own, without anything that was in it.
    pub(crate) fn namespace(&self, name: &str) {
        self.k(&format!("delete namespace {name} --ignore-not-found --wait {POD}"));
        self.k(&format!("create namespace {name}"));
        callgate_e2e::wait::until_true("the namespace takes pods", SOON, || {
            Ok(self.kubectl().output(&["-n", name, "get", "serviceaccount", "default"], "")?.status.success())
        })
        .unwrap();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(cluster) = self.0.as_ref()
        {
            FAILED.store(true, Ordering::SeqCst);
            cluster.tell();
            for what in ["get pods -A -o wide", "get events -A --sort-by=.lastTimestamp"] {
                let words: Vec<&str> = what.split(' ').collect();
                eprintln!("--- kubectl {what}\n{}", cluster.kubectl().run(&words).unwrap_or_default());
            }
        }
    }
}

/// Whether a cluster can be built here; says so loudly if not.
pub(crate) fn can_run(test: &str) -> bool {
    run_unless(tools::missing(), test)
}

pub(crate) fn run_unless(missing: Option<String>, test: &str) -> bool {
    if let Some(why) = &missing {
        root::skip(test, why);
    }
    missing.is_none()
}
