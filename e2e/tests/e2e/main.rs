//! End to end: real peers, real kernel, in network namespaces. Run with `--test-threads=1` as root.

// A test program: a panic is its way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agreement;
mod bad_input;
mod baselines;
mod bench;
mod chaos;
mod edits;
mod fast_path;
mod labs;
mod lacking;
mod lives;
mod many_clients;
mod mppe;
mod raw;
mod scripted;
mod shared;
mod small_segments;
mod straight;
mod support;
mod surroundings;
mod survival;
mod teardown;
mod too_big;
mod traffic_lifecycle;
mod traffic_rules;
mod traffic_scale;
mod wire;
