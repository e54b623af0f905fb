//! End to end: real peers, real kernel, in network namespaces. Run with `--test-threads=1` as root.

// A test program: a panic is its way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod baselines;
mod many_clients;
mod support;
