//! Makes a rule that rejects, and proves by a packet that it is in force when its status says so.
//!
//! ```text
//!  this pod ── connect 198.51.100.1:9 ──► not refused      (before)
//!  IpRule (Reject, this pod only) ──► operator ──► agent ──► Programmed=True
//!  this pod ── connect 198.51.100.1:9 ──► refused at once  (the node's own answer)
//!  rule deleted ──► not refused                         (after)
//! ```
//! Nothing leaves for a real server: 198.51.100.0/24 is for documentation (RFC 5737) and routed nowhere.

mod objects;
mod probe;
mod verdict;

use std::fmt::Debug;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use callgate_crds::{IpRule, Service};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde::de::DeserializeOwned;

use crate::LOOK_AGAIN;
use probe::Answer;
use verdict::Verdict;

/// Who this pod is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of this pod
    #[arg(long, env = "POD_NAME")]
    pod: String,
    /// metadata.uid of this pod: its objects go when it goes
    #[arg(long, env = "POD_UID")]
    pod_uid: String,
    /// Address and port where nobody is: outside the cluster, and asked for nothing but a refusal
    #[arg(long, env = "CALLGATE_TARGET", default_value_t = probe::NOBODY)]
    target: SocketAddrV4,
}

/// What is kept of the time for taking the rule away again.
const TO_CLEAN_UP: Duration = Duration::from_secs(10);

/// The whole check, which has `time`; says each step.
pub(crate) async fn run(client: Client, namespace: &str, args: &Args, time: Duration) -> Result<()> {
    let deadline = Instant::now() + time.saturating_sub(TO_CLEAN_UP).max(time / 2);
    let rules: Api<IpRule> = Api::namespaced(client.clone(), namespace);
    let services: Api<Service> = Api::namespaced(client, namespace);

    println!("connecting to {} without a rule", args.target);
    match probe::connect(args.target).await? {
        Answer::Refused => bail!(
            "{} refuses connections although no rule says so: something else in this network answers for it, and the test \
             would prove nothing",
            args.target
        ),
        Answer::Accepted | Answer::Unanswered => {}
    }

    let apply = PatchParams::apply("callgate-selftest").force();
    println!("making the rule {namespace}/{}", objects::NAME);
    services
        .patch(objects::NAME, &apply, &Patch::Apply(objects::service(args.target, &args.pod, &args.pod_uid)))
        .await
        .context("make the Service; are the kinds installed (crds.install) and may this pod make it (rbac.create)?")?;
    let started = Instant::now();
    let outcome = enforced(&rules, &apply, args, deadline).await;
    if let Ok(programmed) = &outcome {
        println!(
            "programmed on {programmed} after {} ms, and refused at once: in force",
            started.elapsed().as_millis()
        );
    }
    // Also after a failure: a rule that stays would go on refusing. And both, whatever becomes of the first.
    let cleaned = [take_away(&rules, "rule").await, take_away(&services, "Service").await];
    // What the test has found comes before what cleaning up has.
    outcome?;
    cleaned.into_iter().collect::<Result<()>>()?;

    println!("rule deleted; connecting until nobody refuses");
    while probe::connect(args.target).await? == Answer::Refused {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    println!("passed");
    Ok(())
}

/// Deletes one of the test's objects; one that is not there need not be deleted.
async fn take_away<K>(api: &Api<K>, what: &str) -> Result<()>
where
    K: Clone + DeserializeOwned + Debug,
{
    match api.delete(objects::NAME, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("delete the {what} {}", objects::NAME)),
    }
}

/// Makes the rule, waits until it says that it is in force, and looks whether it is. Gives the nodes that run it.
async fn enforced(rules: &Api<IpRule>, apply: &PatchParams, args: &Args, deadline: Instant) -> Result<String> {
    let made = rules
        .patch(objects::NAME, apply, &Patch::Apply(objects::rule(args.target, &args.pod, &args.pod_uid)))
        .await
        .context("make the rule")?;
    let generation = made.metadata.generation.unwrap_or_default();
    println!("waiting for Programmed");
    let mut said = String::new();
    let nodes = loop {
        let rule = rules.get(objects::NAME).await.context("read the rule")?;
        match verdict::of(rule.status.as_ref(), generation) {
            Verdict::Programmed(nodes) => break nodes,
            Verdict::Refused(why) => bail!("the rule is not accepted: {why}"),
            Verdict::Waiting(why) if Instant::now() >= deadline => bail!("the rule is not in force: {why}"),
            Verdict::Waiting(why) => {
                if why != said {
                    println!("  {why}");
                    said = why;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    };
    match probe::connect(args.target).await? {
        Answer::Refused => Ok(nodes),
        Answer::Accepted | Answer::Unanswered => bail!(
            "the rule says Programmed, but a connection to {} is not refused: packets do not take the way the status says",
            args.target
        ),
    }
}

#[cfg(test)]
mod tests;
