//! The demo on a real Kubernetes cluster: what a CNI's masquerade does to PPTP, and what Callgate does after `helm install`.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::cluster::till::Till;
use crate::cluster::{Cluster, Plan, callgate};
use crate::lab::ping::Pinged;
use crate::lab::topology::server_address;

/// How long a tunnel may take that comes up, and how long one is waited for that does not.
const UP: Duration = Duration::from_secs(30);
const NEVER: Duration = Duration::from_secs(8);
/// Pings of each look: five a second.
const LOOK: Duration = Duration::from_secs(4);

/// Tells the story; whether it went as it should.
///
/// # Errors
/// If the cluster cannot be built, or a step of the installation fails.
pub fn run() -> anyhow::Result<bool> {
    println!("Callgate on Kubernetes: pods behind their node's one address call the same PPTP server\n");
    println!("1. A cluster: a control plane and two nodes, each a set of namespaces of this machine\n");
    let plan = Plan { nodes: 2, servers: 1, masquerade: true };
    let cluster = Cluster::up(&plan, &mut |line| println!("   {line}")).context("building the cluster")?;
    let tills = [("a", "n1"), ("b", "n1"), ("c", "n2")].map(|(name, node)| Till::new("pos", name, node, "till"));
    callgate::import_images(&cluster)?;
    cluster.kubectl().run(&["create", "namespace", "pos"])?;
    let objects: String = tills.iter().map(Till::object).collect();
    cluster.kubectl().apply(&objects)?;
    cluster.kubectl().run(&["-n", "pos", "wait", "--for=condition=Ready", "pod", "--all", "--timeout=90s"])?;
    println!("\n2. Two pods dial through the cluster's ordinary masquerade (no Callgate yet)\n");
    let mut failed = true;
    for till in &tills[..2] {
        till.dial(&cluster, server_address(0))?;
    }
    for till in &tills[..2] {
        let up = till.wait_up(&cluster, NEVER).is_ok();
        println!("   {} on {}: {}", till.name, till.node, if up { "a tunnel" } else { "no tunnel" });
        failed &= !up;
        till.hang_up(&cluster)?;
    }
    println!("\n   The kernel has no place for the server's GRE packets: they end at the node.");
    println!("\n3. Callgate, with these three objects\n");
    for line in callgate::CLASSIC.trim().lines() {
        println!("   {line}");
    }
    println!();
    step("helm install", || callgate::install(&cluster, &[]))?;
    step("kubectl apply -f classic.yaml", || cluster.kubectl().apply(&callgate::CLASSIC).map(drop))?;
    let wait = ["-n", "pos", "wait", "--for=condition=Programmed", "iprule", "--all", "--timeout=60s"];
    step("kubectl wait --for=condition=Programmed iprule --all", || cluster.kubectl().run(&wait).map(drop))?;
    println!();
    for till in &tills {
        till.dial(&cluster, server_address(0))?;
    }
    let mut live = true;
    for till in &tills {
        let remote = till.wait_up(&cluster, UP)?.remote;
        let Pinged { sent, received } = till.ping(&cluster, remote, LOOK)?;
        println!("   {} on {} pings through its tunnel: {received:>2} of {sent} came back", till.name, till.node);
        live &= sent == received;
    }
    println!("\n   $ kubectl get iprules -n pos");
    for line in cluster.kubectl().run(&["-n", "pos", "get", "iprules"])?.lines() {
        println!("   {line}");
    }
    drop(cluster);
    println!();
    match (failed, live) {
        (true, true) => println!(
            "Without Callgate no pod had a tunnel. With Callgate three have one, two of them from one address. All is removed again."
        ),
        (false, _) => println!("Unexpected: a tunnel came up without Callgate; see above."),
        (true, false) => println!("Unexpected: a tunnel through Callgate lost packets; see above."),
    }
    Ok(failed && live)
}

fn step(what: &str, act: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let begun = Instant::now();
    act().with_context(|| what.to_owned())?;
    println!("   $ {what:<55} {:5.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}
