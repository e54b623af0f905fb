//! On a real Kubernetes control plane, with nodes as namespaces. Run with `--test-threads=1` as root, by `cargo xtask test`.

// A test program: a panic is its way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod classic;
mod clean_up;
mod cli;
mod edits;
mod ground;
mod nothing;
mod objects;
mod options;
mod outages;
mod prometheus;
mod reuse;
mod rights;
mod rolls;
mod scale;
mod shared;
mod stands;
mod tokens;
mod tunnels;
