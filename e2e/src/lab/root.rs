//! Tests that need root skip loudly without it, and leave a line where `cargo xtask test` counts skips.

use std::fs::OpenOptions;
use std::io::Write as _;

/// True if we may make namespaces. Else says so on stderr and in the file that CALLGATE_SKIPS names.
pub fn root_or_skip(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    skip(test, "needs root");
    false
}

/// Says that a test is skipped and why.
pub fn skip(test: &str, why: &str) {
    eprintln!("SKIPPED: {why} ({test})");
    if let Some(path) = std::env::var_os("CALLGATE_SKIPS") {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{test}: {why}")) {
            eprintln!("{}: {error}", path.display());
        }
    }
}
