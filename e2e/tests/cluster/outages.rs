//! Operator killed or absent, API server restarted, etcd slow: tunnels notice nothing, and everything goes on by itself afterwards.

use std::time::{Duration, Instant};

use callgate_e2e::cluster::callgate;
use callgate_e2e::cluster::outages::Stall;
use callgate_e2e::cluster::till::Till;
use callgate_e2e::wait;
use nix::sys::signal::Signal;

use super::shared::{POD, SOON};
use super::tunnels::{Tunnels, till};

/// How long there is no operator.
const ABSENT: Duration = Duration::from_secs(if cfg!(feature = "long") { 600 } else { 20 });

/// How the API server ends and how long it is away: restarted; for longer than a leader can go without the Lease. A graceful end
/// takes it a minute, in which it takes no new connections.
const AWAY: &[(Signal, u64)] = if cfg!(feature = "long") {
    &[(Signal::SIGKILL, 0), (Signal::SIGKILL, 15), (Signal::SIGTERM, 0), (Signal::SIGKILL, 180)]
} else {
    &[(Signal::SIGKILL, 0), (Signal::SIGKILL, 15)]
};

/// How often the leader is killed at most, until another leads. It comes back under the same name and leads on, each time later.
const KILLS: u32 = 6;

/// A disk that is slow, one that hangs now and then, one that hangs for longer than a leader can go without the Lease.
const STALLS: [Stall; 3] = [
    Stall { still: Duration::from_millis(400), runs: Duration::from_millis(100), times: 16 },
    Stall { still: Duration::from_millis(3000), runs: Duration::from_millis(500), times: 3 },
    Stall { still: Duration::from_millis(14_000), runs: Duration::from_millis(500), times: 1 },
];

impl Tunnels {
    fn leader(&self) -> String {
        callgate::leader(self.cluster()).unwrap()
    }

    /// `edit`, then `proved`, in words.
    fn goes_on(&self) -> String {
        let begun = Instant::now();
        self.edit();
        let taken = begun.elapsed();
        format!(
            "an edit is taken after {:.1} s and Programmed {:.1} s later",
            taken.as_secs_f64(),
            self.proved().as_secs_f64()
        )
    }
}

#[test]
fn a_leader_that_is_killed_again_and_again_is_not_missed_by_any_tunnel() {
    let test = "a_leader_that_is_killed_again_and_again_is_not_missed_by_any_tunnel";
    let Some(mut tunnels) = Tunnels::get(test) else { return };
    let first = tunnels.leader();
    for round in 1..=KILLS {
        let noticed = tunnels.through(&format!("leader killed, round {round}"), |tunnels| {
            tunnels.cluster().kill9(callgate::NAMESPACE, &tunnels.leader(), "callgate-operator").unwrap();
            let said = tunnels.goes_on();
            format!("{said}; leader {}", if tunnels.leader() == first { "the same" } else { "another" })
        });
        assert_eq!(noticed.gaps(), [0; 3]);
        if tunnels.leader() != first {
            break;
        }
    }
    assert_ne!(tunnels.leader(), first, "the standby never took over");
    tunnels.end();
}

#[test]
fn without_api_server_or_with_slow_etcd_tunnels_stay_and_edits_take_effect_afterwards() {
    let test = "without_api_server_or_with_slow_etcd_tunnels_stay_and_edits_take_effect_afterwards";
    let Some(mut tunnels) = Tunnels::get(test) else { return };
    for (signal, away) in AWAY {
        let noticed = tunnels.through(&format!("API server {signal}, {away} s away"), |tunnels| {
            tunnels.shared.cluster_mut().end_api_server(*signal).unwrap();
            wait::let_pass(Duration::from_secs(*away));
            tunnels.shared.cluster_mut().start_api_server().unwrap();
            tunnels.goes_on()
        });
        assert_eq!(noticed.gaps(), [0; 3]);
    }
    for stall in STALLS {
        let what = format!("etcd still for {} ms, {} times", stall.still.as_millis(), stall.times);
        let noticed = tunnels.through(&what, |tunnels| {
            let etcd = tunnels.cluster().etcd();
            std::thread::scope(|scope| {
                let stalled = scope.spawn(move || stall.of(etcd));
                // Made during, as soon as the API server takes it.
                tunnels.edit();
                stalled.join().unwrap().unwrap();
            });
            let during = tunnels.proved();
            format!("the edit made during: {:.1} s; {}", during.as_secs_f64(), tunnels.goes_on())
        });
        assert_eq!(noticed.gaps(), [0; 3]);
    }
    // Nobody has ended because the API server did not answer: the kubelet would start the next one later each time.
    let restarts = "-o jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    assert_eq!(tunnels.k(&format!("get pods -l app.kubernetes.io/name=callgate {restarts}")), "0 0 0 0");
    tunnels.end();
}

#[test]
fn without_operator_agents_go_on_also_after_their_own_restart_and_catch_up_when_it_is_back() {
    let test = "without_operator_agents_go_on_also_after_their_own_restart_and_catch_up_when_it_is_back";
    let Some(mut tunnels) = Tunnels::get(test) else { return };
    // Holds a call of its own, and goes while nobody can tell the agent.
    let gone = till("gone", "n2", "till");
    tunnels.add(&gone);
    tunnels.clients(4);
    tunnels.up(&gone);
    assert_eq!(tunnels.calls(&gone).len(), 1);
    let late = till("late", "n2", "till");
    let noticed = tunnels.through(&format!("no operator for {} s, an agent killed", ABSENT.as_secs()), |tunnels| {
        tunnels.k("scale deployment/callgate-operator --replicas=0");
        tunnels.k(&format!("wait --for=delete pod -l app.kubernetes.io/component=operator {POD}"));
        let begun = Instant::now();
        tunnels.edit();
        tunnels.shared.k(&format!("-n pos delete pod gone --wait=true {POD}"));
        tunnels.add(&late);
        let restarted = tunnels.restarted_agent("n1");
        wait::let_pass(ABSENT.saturating_sub(begun.elapsed()));
        assert!(!tunnels.programmed(), "an edit is Programmed, and there is nobody who could have told the agents");
        tunnels.k("scale deployment/callgate-operator --replicas=2");
        let proved = tunnels.proved().as_secs_f64();
        format!("the agent of n1 ready again after {restarted:.1?}; the edit Programmed {proved:.1} s after the return")
    });
    // The agent of n1 was away for a moment, once; that of n2 never.
    assert!(noticed.gaps()[..2].iter().all(|gaps| *gaps <= 1), "{noticed:?}");
    assert_eq!(noticed.gaps()[2], 0, "{noticed:?}");
    tunnels.clients(4);
    tunnels.up(&late);
    wait::until_true("the call of a pod that is gone has ended", SOON, || Ok(tunnels.calls(&gone).is_empty())).unwrap();
    tunnels.tills.push(late);
    tunnels.end();
}

impl Tunnels {
    /// A pod more, running.
    fn add(&self, till: &Till) {
        self.shared.kubectl().apply(&till.object()).unwrap();
        self.shared.k(&format!("-n pos wait --for=condition=Ready pod/{} {POD}", till.name));
    }

    /// Waits until the classic rule has this many clients, and all of them are Programmed.
    fn clients(&self, count: u32) {
        let status = "-n pos get iprule tills-to-head-office -o jsonpath={.status.clients}";
        wait::until_true("all clients are known", SOON, || Ok(self.shared.k(status) == count.to_string())).unwrap();
        self.shared.k(&format!("-n pos wait --for=condition=Programmed iprule/tills-to-head-office {POD}"));
    }

    /// `kill -9` of this node's agent; how long it took until the next one was ready in its place.
    fn restarted_agent(&self, node: &str) -> Duration {
        let agent = callgate::agent(self.cluster(), node).unwrap();
        let count = |pod: &str| {
            self.k(&format!("get pod {pod} -o jsonpath={{.status.containerStatuses[0]['restartCount','ready']}}"))
        };
        assert_eq!(count(&agent), "0 true");
        let begun = Instant::now();
        self.cluster().kill9(callgate::NAMESPACE, &agent, "callgate-dataplane").unwrap();
        wait::until_true("the next agent is ready", SOON, || Ok(count(&agent) == "1 true")).unwrap();
        begun.elapsed()
    }
}
