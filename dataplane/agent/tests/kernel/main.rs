//! The kernel part on a real kernel, each test in network namespaces of its own, looked at with the nft and ip tools.

// A test program: a panic is its way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod apply;
mod space;
