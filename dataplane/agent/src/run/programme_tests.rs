//! What is told of a configuration when something around it has failed.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use callgate_proto::model::{Action, External, Rule, Source as From};

use super::*;
use crate::alg::scripted;
use crate::kernel::{Kernel, Options, Record};
use crate::own_network::in_a_network_of_its_own;
use crate::run::tenants::Tenant;
use crate::state::StateDir;

/// The only pod there is.
const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

/// What is wanted now, and what became of it.
#[derive(Clone, Default)]
struct Said {
    wanted: Arc<Mutex<Wanted>>,
    outcomes: Arc<Mutex<Vec<Result<(), Refused>>>>,
}

impl Source for Said {
    fn attached(&mut self, _: Answers, _: &Arc<Report>) {}
    async fn news(&mut self) {}
    fn changed(&mut self) -> bool {
        false
    }
    async fn wanted(&mut self) -> Option<Wanted> {
        Some(self.wanted.lock().unwrap().clone())
    }
    fn before(&mut self, _: &Wanted) -> std::io::Result<()> {
        Ok(())
    }
    fn outcome(&mut self, _: &Wanted, result: Result<(), Refused>) {
        self.outcomes.lock().unwrap().push(result);
    }
}

/// A programme with a kernel of its own.
struct Lab {
    said: Said,
    programme: Programme<Said>,
    guests: Arc<Guests>,
    kernel: SharedKernel,
    /// So often the record can still be written.
    room: Arc<AtomicUsize>,
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let room = Arc::new(AtomicUsize::new(usize::MAX));
        let left = Arc::clone(&room);
        let keep = move |_: &Record| {
            let taken = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            taken.map(drop).map_err(|_| std::io::Error::from_raw_os_error(28))
        };
        let kernel = Kernel::start(Options::default(), None, Box::new(keep)).unwrap();
        let kernel: SharedKernel = Arc::new(Mutex::new(Some(Shared { kernel, own: Vec::new() })));
        let guests = Guests::open(&Arc::new(StateDir::open(dir.path(), "boot").unwrap()));
        let report = Arc::new(Report::new(Options::default(), None, Vec::new()));
        let (said, places) = (Said::default(), (Arc::clone(&guests), Doors::open().unwrap()));
        let programme = Programme::new(said.clone(), places, Ready::not_yet(None), Arc::clone(&kernel), report);
        Self { said, programme, guests, kernel, room, dir }
    }

    /// Carries out what this pod wants; what is told of it.
    async fn carry_out(&mut self, config: NodeConfig, uid: &str) -> Option<Result<(), Refused>> {
        let tenants = [(POD, Tenant { uid: uid.into(), restarts: 0 })].into();
        *self.said.wanted.lock().unwrap() = Wanted { config: Arc::new(config), tenants, ..Wanted::default() };
        self.programme.reload().await;
        self.said.outcomes.lock().unwrap().pop()
    }

    fn retired(&self) -> usize {
        self.kernel.lock().unwrap().as_ref().unwrap().kernel.record().tags.retired().count()
    }
}

/// So many rules, for the pod.
fn rules(name: &str, number: u32) -> NodeConfig {
    let mut config = crate::alg::policy::tests::config();
    config.services[0].alg = None;
    let rule = |n| Rule {
        key: callgate_proto::model::ObjectKey::new("pos", format!("{name}{n}")),
        action: Action::Nat,
        destinations: vec!["0.0.0.0/0".parse().unwrap()],
        services: vec![0],
        external: External::NodeAddress,
        log: false,
    };
    config.rules = (0..number).map(rule).collect();
    config.chains = vec![(0..number).collect()];
    config.sources = vec![From { net: POD.into(), chain: 0 }];
    config
}

/// More of them than there are tags.
const TOO_MANY: u32 = 2047;

fn run(test: impl AsyncFnOnce(Lab) + Send + 'static) {
    in_a_network_of_its_own(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(Lab::new()).await });
    });
}

/// Whether what is told says that it is in force, and that what runs is not whole.
fn told(result: Option<Result<(), Refused>>) -> (bool, bool) {
    match result.expect("something is told") {
        Ok(()) => (true, false),
        Err(refused) => (refused.in_force, refused.broken),
    }
}

#[test]
fn what_could_not_be_settled_is_told_and_tried_again_also_while_the_next_configuration_is_refused() {
    run(async |mut lab| {
        assert_eq!(lab.carry_out(rules("a", 1), "u1").await, Some(Ok(())));
        // Enough for the tags, and not for the flows of those that are gone.
        lab.room.store(1, Ordering::SeqCst);
        assert_eq!(told(lab.carry_out(rules("b", 1), "u1").await), (true, true));
        assert_eq!(told(lab.carry_out(rules("c", TOO_MANY), "u1").await), (false, true));
        assert_eq!(lab.retired(), 1);
        lab.room.store(usize::MAX, Ordering::SeqCst);
        assert_eq!(told(lab.carry_out(rules("c", TOO_MANY), "u1").await), (false, false));
        assert_eq!(lab.retired(), 0);
    });
}

#[test]
fn nothing_is_told_of_a_configuration_when_the_alg_has_ended() {
    run(async |mut lab| {
        lab.programme.attach(scripted::ended()).await;
        assert_eq!(lab.carry_out(rules("a", 1), "u1").await, None);
        assert!(!lab.programme.report.is_programmed());
    });
}

#[test]
fn calls_of_the_pod_before_end_once_though_what_runs_is_not_whole_or_the_next_is_refused() {
    run(async |mut lab| {
        lab.programme.attach(scripted::handle()).await;
        lab.carry_out(rules("a", 1), "u1").await;
        let calls = |lab: &Lab, uid: &str| {
            let tenants = [(POD, Tenant { uid: uid.into(), restarts: 0 })].into();
            lab.guests.settle(&Wanted { tenants, ..Wanted::default() }, &lab.programme.doors).calls
        };
        lab.room.store(1, Ordering::SeqCst);
        assert_eq!(calls(&lab, "u2"), [POD].into());
        assert_eq!(told(lab.carry_out(rules("b", 1), "u2").await), (true, true));
        assert_eq!((calls(&lab, "u2"), calls(&lab, "u3")), ([].into(), [POD].into()));
        assert_eq!(told(lab.carry_out(rules("c", TOO_MANY), "u3").await), (false, true));
        assert_eq!((calls(&lab, "u3"), calls(&lab, "u4")), ([].into(), [].into()), "u3 never was in force");
    });
}

#[test]
fn the_next_agent_knows_whose_flows_have_to_end() {
    run(async |mut lab| {
        lab.programme.attach(scripted::handle()).await;
        lab.carry_out(rules("a", 1), "u1").await;
        let tenants = [(POD, Tenant { uid: "u2".into(), restarts: 0 })].into();
        let wanted = Wanted { tenants, ..Wanted::default() };
        let known = lab.guests.settle(&wanted, &lab.programme.doors);
        let text = std::fs::read_to_string(lab.dir.path().join("tenants.json")).unwrap();
        let next = |text: &str| {
            let dir = tempfile::tempdir().unwrap();
            let state = Arc::new(StateDir::open(dir.path(), "boot").unwrap());
            std::fs::write(dir.path().join("tenants.json"), text).unwrap();
            Guests::open(&state).settle(&wanted, &lab.programme.doors)
        };
        assert_eq!((next(&text), known.calls.clone()), (known, [POD].into()));
        let before = r#"{"10.1.0.2":{"tenant":{"uid":"u1","restarts":0},"door":null,"left":false}}"#;
        assert_eq!(next(before), Gone::default(), "one of before has not kept it");
    });
}
