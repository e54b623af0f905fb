//! docs/counters.md: every counter of an agent with its metric, out of the comments where the counters are.
//!
//! ```text
//!  `counters!` blocks, other names of counters ─ comments ──────┐
//!  operator/src/metrics/nodes.rs ─ which metric tells which ────┼─► docs/counters.md
//!  docs/operations.md ─ what to do about some ──────────────────┘
//! ```

mod metrics;
mod source;

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};

use self::metrics::Metrics;
use self::source::Source;
use crate::root;

const PAGE: &str = "docs/counters.md";

const HEAD: &str = "<!-- Made from the comments at the counters in dataplane/ by `cargo xtask generate`: change them there. -->
# Counters

Read this when `status` or Prometheus shows a number and you want to know what it counts.

`kubectl-callgate status` shows counters that are not zero, with `-a` all; of a cluster it shows sums over all nodes, and with `--api` on a node
those of its agent. Totals count since the agent was started, packets unless they say otherwise. Up is from the client to the server, down the other way.

The second column is how [the operator's `/metrics`](operator.md#probes-and-metrics) tell it, with `callgate_` before it and a label `node`: a `reason` there is
the counter without its `drop_` or `fast_left_` (`shared_drop_icmp` is `shared_icmp`). Where several counters have the same metric, it is their sum; what is in `fast_` is in `gre_` already. –: in no metric.
";

const TAIL: &str = "
## Of an object
`status` shows these in the object's own row.

| counter | of | what it counts |
| --- | --- | --- |
| `clients` | every kind | pods and networks for which it is in force |
| `flows` | IpRule, Service; of an agent | flows that were judged by it since it was last edited; with Drop and Reject every packet |
| `refused` | Service; of an agent | packets of sessions beyond `maxSessions` |
| `tunnels` | PptpAlg; of an agent | connections to servers, now ([Shared](shared.md)) |
| `live_calls` | every kind; of a cluster | PPTP calls that are up by it |
| `nodes_programmed`, `nodes_total` | every kind; of a cluster | nodes that have acknowledged it as it is, and that have to |
";

/// Headings, and what is below each.
const SECTIONS: [(&str, &[Source]); 6] = [
    ("The ALG: connections, calls, packets", &[Source::Block("dataplane/pptp/src/engine/counters.rs", "")]),
    ("Sockets, journal, log", &[Source::Block("dataplane/agent/src/alg/counters.rs", "")]),
    (
        "The fast path",
        &[
            Source::Names("dataplane/agent/src/fast/table.rs", &["fast_"]),
            Source::Names("dataplane/agent/src/fast/on.rs", &["fast_"]),
            Source::Names("dataplane/agent/src/fast/layout.rs", &["fast_"]),
        ],
    ),
    (
        "Shared and Auto",
        &[
            Source::Block("dataplane/pptp/src/shared/counters.rs", "shared_"),
            Source::Block("dataplane/agent/src/shared/mode.rs", ""),
        ],
    ),
    (
        "What the kernel has of ours",
        &[
            Source::Names("dataplane/agent/src/api/status.rs", &["kernel_"]),
            Source::Names("dataplane/agent/src/run/report.rs", &["applies", "last_apply_"]),
        ],
    ),
    (
        "The agent and its operator",
        &[
            Source::Names("dataplane/agent/src/cluster/link.rs", &["operator_"]),
            Source::Names("dataplane/agent/src/cluster/session.rs", &["operator_", "snapshots"]),
        ],
    ),
];

/// Writes the page, or with `check` only says whether it is another one; false when it is and may not.
pub(crate) fn generate(check: bool) -> Result<bool> {
    let wanted = page()?;
    if fs::read_to_string(root().join(PAGE)).is_ok_and(|is| is == wanted) {
        return Ok(true);
    }
    if check {
        eprintln!("error: {PAGE} is not what the code says: run `cargo xtask generate` and commit it");
        return Ok(false);
    }
    fs::write(root().join(PAGE), wanted).with_context(|| format!("write {PAGE}"))?;
    println!("wrote {PAGE}");
    Ok(true)
}

fn page() -> Result<String> {
    let metrics = Metrics::read(&text("operator/src/metrics/nodes.rs")?)?;
    let operations = text("docs/operations.md")?;
    let wrong = operations.split("## When something is wrong").nth(1).unwrap_or_default();
    let wrong = wrong.split("\n## ").next().unwrap_or_default();
    let mut page = HEAD.to_owned();
    for (heading, sources) in SECTIONS {
        let _ = write!(page, "\n## {heading}\n| counter | `callgate_…` | what it counts |\n| --- | --- | --- |\n");
        for source in sources {
            for (name, about) in source.counters()? {
                let metric = metrics.of(&name).map_or_else(|| "–".to_owned(), |metric| format!("`{metric}`"));
                let remedy = wrong.contains(&format!("`{name}`"));
                let remedy = if remedy { " [What to do](operations.md#when-something-is-wrong)." } else { "" };
                let _ = writeln!(page, "| `{name}` | {metric} | {}{remedy} |", about.replace('|', "\\|"));
            }
        }
    }
    Ok(page + TAIL)
}

fn text(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("read {path}"))
}
