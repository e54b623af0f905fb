//! Manifests in, configurations and statuses out: one file a behaviour.

// A test program: a panic is its way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod alg;
mod bad;
mod classic;
mod last_good;
mod permission;
mod sources;
mod support;
