//! What holds for every world: the oracle, any text, the cluster, size, what is kept.

// A test program: a panic is its way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod again;
mod any_text;
mod cluster;
mod explained;
mod groups;
mod kept;
mod oracle;
mod room;
mod size;
mod worlds;
