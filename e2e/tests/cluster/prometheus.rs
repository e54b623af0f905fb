//! What Prometheus would read of the operators, and what the chart's dashboard and alerts ask for.

use std::collections::{BTreeMap, BTreeSet};

use callgate_e2e::cluster::{Cluster, callgate};
use callgate_e2e::wait;
use serde_json::Value;

use super::shared::SOON;

/// Values by name and labels.
pub(crate) type Told = BTreeMap<String, u64>;

/// What the leader tells.
pub(crate) fn told(cluster: &Cluster) -> Told {
    told_by(cluster, &callgate::leader_address(cluster).unwrap())
}

/// What the operator with this address tells, by name and labels as they stand there.
pub(crate) fn told_by(cluster: &Cluster, address: &str) -> Told {
    let url = format!("http://{address}:8080/metrics");
    let text = cluster.machines[0].node.run("curl", &["-sSf", "--max-time", "8", &url]).unwrap();
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

/// Waits until what the leader tells is as `expected`, which agents report with a delay of some seconds; everything it tells then.
pub(crate) fn told_at_last(cluster: &Cluster, expected: impl Fn(&Told) -> bool) -> Told {
    let mut now = Told::new();
    let told = wait::until_true("the leader tells what agents have reported", SOON, || {
        now = told(cluster);
        Ok(expected(&now))
    });
    told.unwrap_or_else(|error| panic!("{error:#}: {now:#?}"));
    now
}

/// Names of metrics in these questions that begin with `prefix`, none of which may be missing in what was told.
pub(crate) fn asked_and_told(questions: &[String], prefix: &str, told: &Told) -> BTreeSet<String> {
    let names: BTreeSet<&str> = told.keys().filter_map(|name| name.split('{').next()).collect();
    let words = questions.iter().flat_map(|question| question.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let wanted: BTreeSet<_> = words.filter(|word| word.starts_with(prefix)).map(str::to_owned).collect();
    let missing: Vec<&String> = wanted.iter().filter(|name| !names.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "missing {missing:?} in {told:#?}");
    wanted
}

/// What a dashboard asks.
pub(crate) fn of_dashboard(dashboard: &Value) -> Vec<String> {
    expressions(&dashboard["panels"], "targets")
}

/// What the alerts of a PrometheusRule ask.
pub(crate) fn of_alerts(rule: &Value) -> Vec<String> {
    expressions(&rule["spec"]["groups"], "rules")
}

fn expressions(groups: &Value, list: &str) -> Vec<String> {
    let askers = groups.as_array().unwrap().iter().flat_map(|group| group[list].as_array().into_iter().flatten());
    askers.map(|asker| asker["expr"].as_str().unwrap().to_owned()).collect()
}

/// The dashboard of this checkout.
pub(crate) fn dashboard() -> Value {
    let text = std::fs::read_to_string(callgate::chart().join("files/dashboard.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}
