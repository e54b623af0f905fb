//! Which metric of the operator tells a counter, and under which label.

use anyhow::{Context, Result, bail};

/// What the operator tells Prometheus of nodes' counters.
pub(super) struct Metrics {
    /// Counter, metric with label.
    steps: Vec<(String, String)>,
    /// Counters that are reasons for drops under their whole name.
    drops: Vec<String>,
}

/// Beginnings of counters that the operator turns into reasons, as its source has them: metric, counter's beginning, reason's beginning.
const REASONS: [(&str, &str, &str); 3] = [
    ("node_dropped_packets", "drop_", ""),
    ("node_dropped_packets", "shared_drop_", "shared_"),
    ("node_fast_path_left_packets", "fast_left_", ""),
];

impl Metrics {
    /// From the operator's source.
    pub(super) fn read(source: &str) -> Result<Self> {
        for (metric, old, new) in REASONS {
            let named = format!("reasons(node, agent, {old:?}, {new:?})");
            if !source.contains(&named) || !source.contains(&format!("{metric:?}")) {
                bail!("operator/src/metrics/nodes.rs has no {named} or no {metric} any more: change REASONS");
            }
        }
        let list = |name: &str| -> Result<&str> {
            let rest = source.split_once(&format!("const {name}: ")).with_context(|| format!("no {name}"))?.1;
            Ok(rest.split_once("];\n").with_context(|| format!("{name} has no end"))?.0)
        };
        let mut steps = Vec::new();
        for (name, metric) in [("CALL_EVENTS", "node_call_events"), ("CONNECTION_EVENTS", "node_connection_events")] {
            for line in list(name)?.lines() {
                let mut quoted = quoted(line);
                let Some(event) = quoted.next() else { continue };
                steps.extend(quoted.map(|counter| (counter.to_owned(), labelled(metric, &[("event", event)]))));
            }
        }
        Ok(Self { steps, drops: quoted(list("DROPS")?).map(str::to_owned).collect() })
    }

    /// The one that tells this counter, with the labels that say so; `None` where none does.
    pub(super) fn of(&self, counter: &str) -> Option<String> {
        if let Some((_, metric)) = self.steps.iter().find(|(name, _)| name == counter) {
            return Some(metric.clone());
        }
        if self.drops.iter().any(|name| name == counter) {
            return Some(labelled("node_dropped_packets", &[("reason", counter)]));
        }
        for (metric, old, new) in REASONS {
            if let Some(reason) = counter.strip_prefix(old) {
                return Some(labelled(metric, &[("reason", &format!("{new}{reason}"))]));
            }
        }
        let ways = [("gre_", None), ("shared_gre_", Some("af_packet")), ("fast_", Some("ebpf"))];
        ways.into_iter().find_map(|(beginning, path)| {
            let (direction, unit) = counter.strip_prefix(beginning)?.split_once('_')?;
            let known = ["up", "down"].contains(&direction) && ["packets", "bytes"].contains(&unit);
            let path = path.map(|path| ("path", path));
            let labels: Vec<_> = [("direction", direction)].into_iter().chain(path).collect();
            known.then(|| labelled(&format!("node_gre_{unit}"), &labels))
        })
    }
}

fn labelled(metric: &str, labels: &[(&str, &str)]) -> String {
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{metric}_total{{{}}}", labels.join(","))
}

/// What stands between double quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('"').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::super::text;
    use super::*;

    #[test]
    fn every_counter_that_the_operator_tells_has_the_metric_and_the_label_it_has_there() {
        let metrics = Metrics::read(&text("operator/src/metrics/nodes.rs").expect("source")).expect("metrics");
        let of = |counter| metrics.of(counter).unwrap_or_default();
        assert_eq!(of("shared_calls_up"), "node_call_events_total{event=\"up\"}");
        assert_eq!(of("connections_refused"), "node_connection_events_total{event=\"refused\"}");
        assert_eq!(of("drop_ttl"), "node_dropped_packets_total{reason=\"ttl\"}");
        assert_eq!(of("shared_drop_icmp"), "node_dropped_packets_total{reason=\"shared_icmp\"}");
        assert_eq!(of("tx_no_route"), "node_dropped_packets_total{reason=\"tx_no_route\"}");
        assert_eq!(of("fast_left_ttl"), "node_fast_path_left_packets_total{reason=\"ttl\"}");
        assert_eq!(of("gre_up_bytes"), "node_gre_bytes_total{direction=\"up\"}");
        assert_eq!(of("shared_gre_down_packets"), "node_gre_packets_total{direction=\"down\",path=\"af_packet\"}");
        assert_eq!(of("fast_up_packets"), "node_gre_packets_total{direction=\"up\",path=\"ebpf\"}");
        assert_eq!((of("fast_calls"), of("gre_held"), of("taps")), Default::default());
    }
}
