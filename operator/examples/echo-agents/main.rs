//! Agents that carry out nothing and acknowledge everything: to try an operator without nodes.
//!
//! `echo-agents --operator 127.0.0.1:9443 --ca-file ca.crt --tokens DIR`, where DIR has a file a node: its name is the node's,
//! its content the token. Prints a line for each snapshot: milliseconds since the start, node, hash, bytes, sources.
// A tool of developers: it may end with a panic.
#![allow(clippy::unwrap_used)]

mod agent;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent::Dial;
use clap::Parser;
use prost::Message as _;

/// Many agents in one process.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// The operator's address
    #[arg(long, value_name = "ADDRESS")]
    operator: String,
    /// Certificates to trust
    #[arg(long, value_name = "FILE")]
    ca_file: PathBuf,
    /// A file with a token for each node
    #[arg(long, value_name = "DIR")]
    tokens: PathBuf,
    /// Name in the operator's certificate
    #[arg(long, default_value = "callgate-operator.callgate-system.svc")]
    server_name: String,
    /// Live calls that each agent reports for each rule it has
    #[arg(long, default_value_t = 0)]
    calls: u64,
    /// Milliseconds between a snapshot and its acknowledgement
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
}

#[tokio::main]
async fn main() {
    let (args, start) = (Args::parse(), Instant::now());
    let tls = agent::tls(&args.ca_file).unwrap();
    let delay = Duration::from_millis(args.delay_ms);
    let dial = Dial { operator: args.operator, server_name: args.server_name, tls, calls: args.calls, delay };
    let mut agents = Vec::new();
    for entry in std::fs::read_dir(&args.tokens).unwrap() {
        let entry = entry.unwrap();
        let node = entry.file_name().into_string().unwrap();
        let token = std::fs::read_to_string(entry.path()).unwrap().trim().to_owned();
        agents.push(tokio::spawn(run(dial.clone(), node, token, start)));
    }
    for agent in agents {
        agent.await.unwrap();
    }
}

async fn run(dial: Dial, node: String, token: String, start: Instant) {
    let mut runs = String::new();
    loop {
        let heard = |at: Instant, snapshot: &callgate_proto::pb::Snapshot| {
            let sources = snapshot.config.as_ref().map_or(0, |config| config.sources.len());
            let bytes = snapshot.encoded_len();
            println!("{} {node} {} {bytes} {sources}", at.duration_since(start).as_millis(), snapshot.hash);
        };
        if let Err(error) = agent::attached(&dial, &node, &token, &mut runs, heard).await {
            println!("{} {node} {error}", start.elapsed().as_millis());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
