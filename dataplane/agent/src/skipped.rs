//! Tests that did not run, for people and for whoever counts them.

/// Tells that the calling test did not run.
pub(crate) fn skipped(why: &str) {
    println!("SKIPPED: {why}");
    if let Ok(path) = std::env::var("CALLGATE_SKIPS") {
        use std::io::Write;
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{}: {why}", std::thread::current().name().unwrap_or("a test of the agent")).unwrap();
    }
}
