//! What an EgressNode says of an agent that is there, away, behind, or short of something.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::moment::Moment;
use callgate_proto::model::NodeConfig;
use callgate_proto::pb;

use super::*;
use crate::fleet::Fleet;
use crate::snapshot::Snapshot;

fn hello(features: &[(&str, bool, &str)]) -> pb::Hello {
    let features = features.iter().map(|(name, available, detail)| pb::Feature {
        name: (*name).to_owned(),
        available: *available,
        detail: (*detail).to_owned(),
    });
    pb::Hello {
        version: "1".to_owned(),
        kernel: "6.1".to_owned(),
        features: features.collect(),
        ..pb::Hello::default()
    }
}

/// `True Reason: message`.
fn told(fleet: &Fleet, snapshot: &Arc<Snapshot>) -> String {
    let wanted = BTreeMap::from([("a".to_owned(), Arc::clone(snapshot))]);
    let (serving_since, now) = (Moment::at(0), Moment::at(0));
    let view = View { wanted: &wanted, fleet, serving_since, now };
    let status = status("a", &EgressNodeStatus::default(), view);
    let [condition] = &status.conditions[..] else { panic!("{status:?}") };
    format!("{} {}: {}", condition.status, condition.reason, condition.message)
}

#[test]
fn ready_follows_the_agent_and_what_it_has_answered() {
    let (mut fleet, snapshot) = (Fleet::default(), Arc::new(Snapshot::new(NodeConfig::default(), vec![])));
    let missing = "False AgentMissing: No agent is attached: see the agent's pod on node a, and its log.";
    let needless = "False AgentMissing: No agent is attached, and no rule has a client on node a: where none is meant to be, delete this object.";
    assert_eq!(told(&fleet, &snapshot), needless);
    fleet.attach("a", 1, hello(&[]), Moment::at(0));
    assert_eq!(told(&fleet, &snapshot), "False Converging: The last snapshot is not yet in effect.");
    fleet.sent("a", 1, &snapshot);
    let failure = pb::Failure { object: "IpRule a/b".into(), message: "no".into(), ..pb::Failure::default() };
    let refused = pb::Outcome { hash: snapshot.hash.clone(), failure: Some(failure), sequence: 0 };
    fleet.outcome("a", 1, refused.clone());
    assert_eq!(told(&fleet, &snapshot), "False SnapshotRefused: IpRule a/b: no. What ran before goes on.");
    fleet.outcome("a", 1, pb::Outcome { hash: snapshot.hash.clone(), failure: None, sequence: 0 });
    assert_eq!(told(&fleet, &snapshot), "True AgentReady: Runs what it should.");
    fleet.outcome("a", 1, refused);
    assert_eq!(told(&fleet, &snapshot), "False SnapshotRefused: IpRule a/b: no. What runs is not whole.");
    fleet.outcome("a", 1, pb::Outcome { hash: snapshot.hash.clone(), failure: None, sequence: 0 });
    assert_eq!(told(&fleet, &snapshot), "True AgentReady: Runs what it should.");
    fleet.detach("a", 1, Moment::at(0));
    assert_eq!(told(&fleet, &snapshot), missing);
}

#[test]
fn a_kernel_that_lacks_something_is_degraded_and_says_what_that_costs() {
    let (mut fleet, snapshot) = (Fleet::default(), Arc::new(Snapshot::new(NodeConfig::default(), vec![])));
    fleet.attach("a", 1, hello(&[("nftables", true, ""), ("tcx", false, "packets take the slow path")]), Moment::at(0));
    fleet.sent("a", 1, &snapshot);
    fleet.outcome("a", 1, pb::Outcome { hash: snapshot.hash.clone(), failure: None, sequence: 0 });
    assert_eq!(
        told(&fleet, &snapshot),
        "True Degraded: Runs what it should, without tcx (packets take the slow path)."
    );
}
