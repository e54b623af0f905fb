//! From nothing to two tunnels, step by step with times; and back to nothing, by the book, with calls live and an agent dead.

use std::time::{Duration, Instant};

use callgate_e2e::cluster::till::Till;
use callgate_e2e::cluster::traces::{self, Traces};
use callgate_e2e::cluster::{Cluster, Plan, callgate};
use callgate_e2e::lab::ping::Pinged;
use callgate_e2e::lab::topology::server_address;
use callgate_e2e::wait;

use super::shared::{POD, SOON, run_unless};
use super::tunnels::till;

/// How long a tunnel may take.
const UP: Duration = Duration::from_secs(30);

/// Directories that the kubelet makes for a hostPath (DirectoryOrCreate) and never removes; docs/uninstall.md says so. Empty.
const OF_THE_KUBELET: [&str; 2] = ["/var/lib/callgate dir ", "/run/callgate dir "];

/// Steps and their times.
#[derive(Default)]
struct Table(Vec<String>);

impl Table {
    fn step<T>(&mut self, what: &str, act: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = act();
        self.0.push(format!("{what:<64} {:6.1} s", begun.elapsed().as_secs_f64()));
        done
    }
}

fn k(cluster: &Cluster, words: &str) -> String {
    cluster.kubectl().run(&words.split_whitespace().collect::<Vec<_>>()).unwrap()
}

/// What is on the nodes now, without the kubelet's two directories, which must be empty.
fn nodes(cluster: &Cluster) -> Vec<Traces> {
    let of = |machine| {
        let mut traces = traces::of(machine).unwrap();
        let files = traces.get_mut("files").unwrap();
        files.retain(|line| !OF_THE_KUBELET.iter().any(|dir| line.starts_with(dir)));
        traces
    };
    cluster.machines.iter().map(of).collect()
}

/// The nodes are as they were. kube-proxy and the kubelet take a moment to follow.
fn as_they_were(cluster: &Cluster, before: &[Traces]) {
    let differences = || -> Vec<String> {
        let now = nodes(cluster);
        before.iter().zip(&now).flat_map(|(before, now)| traces::difference(before, now)).collect()
    };
    let same = wait::until_true("the nodes are as they were", SOON, || Ok(differences().is_empty()));
    assert!(same.is_ok(), "{:#?}", differences());
}

fn classic(cluster: &Cluster, table: &mut Table) {
    table.step("helm install --wait", || callgate::install(cluster, &[]).unwrap());
    table.step("kubectl apply of the classic set-up", || cluster.kubectl().apply(&callgate::CLASSIC).unwrap());
    let wait = format!("-n pos wait --for=condition=Programmed iprule/tills-to-head-office {POD}");
    table.step("kubectl wait --for=condition=Programmed", || k(cluster, &wait));
}

fn both_up(cluster: &Cluster, tills: &[Till; 2]) {
    for till in tills {
        till.dial(cluster, server_address(0)).unwrap();
    }
    for till in tills {
        let remote = till.wait_up(cluster, UP).unwrap().remote;
        assert_eq!(till.ping(cluster, remote, Duration::ZERO).unwrap(), Pinged { sent: 1, received: 1 });
    }
}

#[test]
fn from_nothing_to_two_tunnels_and_back_to_nodes_as_they_were_with_calls_live_and_an_agent_dead() {
    let test = "from_nothing_to_two_tunnels_and_back_to_nodes_as_they_were_with_calls_live_and_an_agent_dead";
    if !run_unless(callgate::missing(), test) {
        return;
    }
    let mut table = Table::default();
    let plan = Plan { nodes: 2, servers: 1, masquerade: false };
    // A cluster of its own, in which Callgate has never been.
    let cluster = table.step("a cluster up, pods can be made", || Cluster::up(&plan, &mut |_| ()).unwrap());
    table.step("images loaded into both nodes", || callgate::import_images(&cluster).unwrap());
    let tills = [till("a", "n1", "till"), till("b", "n1", "till")];
    let idle = till("idle", "n2", "till");
    table.step("three pods Ready", || {
        k(&cluster, "create namespace pos");
        wait::until_true("the namespace takes pods", SOON, || {
            Ok(cluster.kubectl().output(&["-n", "pos", "get", "serviceaccount", "default"], "")?.status.success())
        })
        .unwrap();
        cluster.kubectl().apply(&tills.iter().chain([&idle]).map(Till::object).collect::<String>()).unwrap();
        k(&cluster, &format!("-n pos wait --for=condition=Ready pod --all {POD}"));
    });
    let before = nodes(&cluster);
    let lines: usize = before.iter().flat_map(Traces::values).map(Vec::len).sum();
    assert!(lines > 1000, "the search finds little: {lines} lines");

    classic(&cluster, &mut table);
    table.step("two pods of one node dial, both tunnels up", || both_up(&cluster, &tills));
    let during: Vec<String> =
        before.iter().zip(&nodes(&cluster)).flat_map(|(before, now)| traces::difference(before, now)).collect();
    // Of the fast path: names in the bpf file system.
    let pins = (!callgate::without_fast_path()).then_some("callgate@");
    let always = ["table ip callgate", "7411", "callgate0", "/var/lib/callgate/", "/run/callgate/api.sock"];
    for ours in always.into_iter().chain(pins) {
        assert!(
            during.iter().any(|line| line.contains(ours)),
            "the search does not find {ours} while Callgate runs: {during:#?}"
        );
    }
    // As dead as it can be: killed until the kubelet pauses before it starts the next one.
    let agent = callgate::agent(&cluster, "n2").unwrap();
    let waiting = format!(
        "-n {} get pod {agent} -o jsonpath={{.status.containerStatuses[0].state.waiting.reason}}",
        callgate::NAMESPACE
    );
    wait::until_true("the agent of n2 stays dead", SOON, || {
        let pids = cluster.pids(callgate::NAMESPACE, &agent, "callgate-dataplane")?;
        if !pids.is_empty() {
            cluster.kill9(callgate::NAMESPACE, &agent, "callgate-dataplane")?;
        }
        Ok(pids.is_empty() && k(&cluster, &waiting) == "CrashLoopBackOff")
    })
    .unwrap();
    table.step("uninstall by the book: two calls live, the agent of n2 killed", || {
        callgate::uninstall(&cluster).unwrap()
    });
    table.step("  until the nodes are as they were", || as_they_were(&cluster, &before));
    // Both were told, or they would hold on to their dead calls for minutes.
    tills.iter().for_each(|till| till.wait_down(&cluster, SOON).unwrap());

    classic(&cluster, &mut table);
    table.step("two pods of one node dial again, both tunnels up", || both_up(&cluster, &tills));
    tills.iter().for_each(|till| till.hang_up(&cluster).unwrap());
    table.step("uninstall by the book, nothing live", || callgate::uninstall(&cluster).unwrap());
    table.step("  until the nodes are as they were", || as_they_were(&cluster, &before));
    println!("{lines} lines of traces on two nodes are the same\n{}", table.0.join("\n"));
}
