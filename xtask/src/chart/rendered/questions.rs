//! What the chart's alerts and dashboard ask of Prometheus: it is PromQL, and of what the operator tells.

use promql_parser::parser;
use serde_json::Value;

use super::{helm_or_skip, objects, run};
use crate::root;

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).expect(file)
}

/// Title of a panel and what it asks.
fn of_the_dashboard() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&read("charts/callgate/files/dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let asked = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().expect("targets");
        targets.iter().map(|target| (text(&panel["title"]), text(&target["expr"])))
    });
    asked.collect()
}

/// The alerts of the chart with this value.
fn alerts(helm: &std::path::PathBuf, value: &str) -> Vec<Value> {
    let out =
        run(helm, &["template", "callgate"], &["--set", "metrics.prometheusRule.enabled=true", "--set-string", value]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let all = objects(&String::from_utf8(out.stdout).expect("UTF-8"));
    let rule = all.iter().find(|object| object["kind"] == "PrometheusRule").expect("a PrometheusRule");
    let groups = rule["spec"]["groups"].as_array().expect("groups");
    groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// Fails unless it can be asked; how many names of the operator's own and of nodes it has.
fn check((title, query): &(String, String)) -> [usize; 2] {
    // Grafana puts a duration in the place of this.
    let asked = query.replace("$__rate_interval", "1m");
    parser::parse(&asked).unwrap_or_else(|error| panic!("{title}: {query}: {error}"));
    let sources = [read("operator/src/metrics.rs"), read("operator/src/metrics/nodes.rs")];
    let mut seen = [0; 2];
    for word in query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        let Some(name) = word.strip_prefix("callgate_") else { continue };
        // What the exposition adds to the registered name.
        let name =
            ["_total", "_bucket", "_seconds"].iter().fold(name, |name, end| name.strip_suffix(end).unwrap_or(name));
        let (source, name) = name.strip_prefix("operator_").map_or((1, name), |name| (0, name));
        assert!(sources[source].contains(&format!("\"{name}\"")), "{title}: {word} in {query}");
        seen[source] += 1;
    }
    seen
}

fn all_can_be_asked(questions: &[(String, String)]) {
    let seen = questions.iter().map(check).fold([0; 2], |all, seen| [all[0] + seen[0], all[1] + seen[1]]);
    assert!(seen.iter().all(|seen| *seen > 0), "{seen:?}");
}

#[test]
fn the_dashboard_asks_only_for_what_the_operator_tells() {
    all_can_be_asked(&of_the_dashboard());
}

#[test]
fn alerts_ask_only_for_what_the_operator_tells_and_the_manual_has_each() {
    let Some(helm) = helm_or_skip("alerts_ask_only_for_what_the_operator_tells_and_the_manual_has_each") else {
        return;
    };
    let alerts = alerts(&helm, "dataplane.fastPath=auto");
    let questions: Vec<_> = alerts.iter().map(|alert| (text(&alert["alert"]), text(&alert["expr"]))).collect();
    all_can_be_asked(&questions);
    for alert in &alerts {
        let severity = text(&alert["labels"]["severity"]);
        assert!(["critical", "warning"].contains(&severity.as_str()), "{alert}");
        assert!(!text(&alert["annotations"]["summary"]).is_empty(), "{alert}");
        assert!(!text(&alert["annotations"]["description"]).is_empty(), "{alert}");
    }
    let manual = read("docs/operations.md");
    let listed: Vec<_> =
        manual.lines().filter_map(|line| line.strip_prefix("| `Callgate")?.split('`').next()).collect();
    let names: Vec<_> = questions.iter().filter_map(|(name, _)| name.strip_prefix("Callgate")).collect();
    assert_eq!(listed, names, "docs/operations.md, section Alerts");
}

#[test]
fn nobody_is_told_of_user_space_who_has_switched_the_fast_path_off() {
    let Some(helm) = helm_or_skip("nobody_is_told_of_user_space_who_has_switched_the_fast_path_off") else { return };
    let told = |value| alerts(&helm, value).iter().any(|alert| alert["alert"] == "CallgateNotOnFastPath");
    assert_eq!([told("dataplane.fastPath=auto"), told("dataplane.fastPath=off")], [true, false]);
}
