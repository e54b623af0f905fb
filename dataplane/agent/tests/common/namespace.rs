//! Namespaces and commands of tests against a real kernel.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace other than the test thread's own. It lives as long as its file descriptor.
#[derive(Clone)]
pub(crate) struct Namespace(Arc<File>);

impl Namespace {
    /// An empty one.
    pub(crate) fn fresh() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            Self(Arc::new(File::open("/proc/thread-self/ns/net").unwrap()))
        });
        made.join().unwrap()
    }

    /// Runs `work` on a thread inside, which stays on the CPUs of this one.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap()
    }

    /// Starts `work` on a thread inside.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let file = self.0.try_clone().unwrap();
        std::thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }

    /// Runs a command line inside; it must succeed.
    pub(crate) fn sh(&self, line: &str) -> String {
        let line = line.to_owned();
        self.run(move || sh(&line))
    }

    /// For `netns` of `ip link`.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// Index of a link of the calling thread's namespace. Not from /sys, which shows the links of the namespace it was mounted in.
pub(crate) fn index(link: &str) -> u32 {
    nix::net::if_::if_nametoindex(link).unwrap()
}

/// Runs a command line in the calling thread's namespace; it must succeed. Its output.
pub(crate) fn sh(line: &str) -> String {
    let output = Command::new("sh").arg("-c").arg(line).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Whether this test can run; says so loudly when it cannot.
pub(crate) fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skipped("needs root");
    }
    root
}

/// Tells people, and whoever counts, that the calling test did not run.
pub(crate) fn skipped(why: &str) {
    println!("SKIPPED: {why}");
    if let Ok(path) = std::env::var("CALLGATE_SKIPS") {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        writeln!(file, "{}: {why}", std::thread::current().name().unwrap_or("a test without name")).unwrap();
    }
}
