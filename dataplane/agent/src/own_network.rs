//! Tests that have a network namespace to themselves.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use nix::sched::{CloneFlags, unshare};

use crate::skipped::skipped;

/// One test at a time: until a program has begun, its process holds all sockets of ours, and a socket that a neighbour closes just then
/// lives on.
static ONE: Mutex<()> = Mutex::new(());

/// Runs `test` in a network with nothing but lo, which is up.
pub(crate) fn in_a_network_of_its_own(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return skipped("needs root");
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        test();
    };
    if let Err(panic) = std::thread::spawn(body).join() {
        std::panic::resume_unwind(panic);
    }
}
