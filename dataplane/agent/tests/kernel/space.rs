//! A network namespace for one test, gone when its thread ends; tools run inside it.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` in a thread with a network namespace of its own, or says loudly that it cannot.
pub(crate) fn in_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: needs root: {name}");
        if let Some(file) = std::env::var_os("CALLGATE_SKIPS") {
            use std::io::Write;
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
            writeln!(file, "needs root: {name}").unwrap();
        }
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run("ip", &["link", "set", "lo", "up"]);
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a tool in this thread's namespace; its output.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Everything a teardown has to restore.
pub(crate) fn everything() -> Vec<String> {
    // Link numbers and their order are the kernel's business.
    let mut all = vec![
        run("nft", &["list", "ruleset"]),
        run("ip", &["rule"]),
        run("ip", &["route", "show", "table", "all"]),
        run("ip", &["-o", "link"]),
    ];
    let proc = std::fs::read_to_string("/proc/thread-self/net/../net/dev").unwrap_or_default();
    all.push(proc.lines().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect());
    all.push(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap());
    all
}
