//! A large cluster of nothing for one operator: objects, an agent for each node with a token of its own, pods that change.
//!
//! ```text
//!  scale fill     ──► API server: nodes, namespaces, pods, services, rules      (kwok gives pods their addresses)
//!  scale measure  ──► API server: a pod comes, is labelled anew, goes ─► operator ─► its node's agent, in this process
//! ```
//! Asks the API server by $KUBECONFIG, as an administrator. `measure` prints one line of JSON when it is done.
// A tool of developers: it may end with a panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../echo-agents/agent.rs"]
mod agent;
mod changes;
mod fill;
mod fleet;

use std::path::PathBuf;

use clap::Parser;

/// A large cluster of nothing.
#[derive(Debug, Parser)]
enum Args {
    /// Makes everything that is to be there
    Fill(Size),
    /// Attaches an agent for each node, changes pods one after the other, and prints what each took
    Measure {
        #[command(flatten)]
        size: Size,
        /// The operator's address
        #[arg(long, value_name = "ADDRESS")]
        operator: String,
        /// Certificates to trust
        #[arg(long, value_name = "FILE")]
        ca_file: PathBuf,
        /// Pods that come, are labelled anew, and go
        #[arg(long)]
        changes: usize,
        /// Live calls that each agent reports for each rule it has
        #[arg(long, default_value_t = 3)]
        calls: u64,
    },
}

/// How much of what.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Size {
    #[arg(long)]
    nodes: usize,
    /// Twenty on a node and a hundred in a namespace is usual
    #[arg(long)]
    pods: usize,
    #[arg(long)]
    rules: usize,
    #[arg(long)]
    namespaces: usize,
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = kube::Client::try_default().await.unwrap();
    match Args::parse() {
        Args::Fill(size) => fill::fill(&client, size).await,
        Args::Measure { size, operator, ca_file, changes, calls } => {
            let dial = agent::Dial {
                operator,
                server_name: "callgate-operator.callgate-system.svc".to_owned(),
                tls: agent::tls(&ca_file).unwrap(),
                calls,
                delay: std::time::Duration::ZERO,
            };
            let fleet = fleet::attach(&client, dial, size.nodes).await;
            changes::measure(&client, size, fleet, changes).await;
        }
    }
}
