//! Builds that run while labs do, which mostly wait: what a cluster needs and takes minutes.

use std::fs::File;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{bin_dir, images, process};

/// Behind everything else for CPU and disk. In a session of its own, because the kernel shares CPUs out among sessions first
/// (sched_autogroup, man 7 sched), and daemons such as pptpd are one each: within its session alone nobody would be behind them.
const BEHIND: [&str; 6] = ["chrt", "--idle", "0", "ionice", "-c", "3"];

/// A command that runs beside others, behind them where both want the CPU. Dropped, it is ended.
pub(crate) struct Beside(Child);

impl Beside {
    /// Begins with the Go programs and the images. Whatever fails of it is done again, and told, at its own step.
    pub(crate) fn for_cluster() -> Result<Self> {
        let log = bin_dir("beside.log");
        println!("\nwhat a cluster needs is built beside the labs; output in {}", log.display());
        let file = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let both = "echo 19 >/proc/self/autogroup; \"$0\" cluster tools --kwok && \"$0\" \"$@\"";
        let mut command = Command::new("setsid");
        command.args(BEHIND).args(["sh", "-c", both]);
        command.arg(std::env::current_exe().context("where this program is")?).args(images::AS_FOR_TESTS);
        command.stdout(file.try_clone().context("one file for both outputs")?).stderr(file);
        process::start_session(&mut command).map(Self)
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self, limit: Duration) -> Result<()> {
        process::wait(&mut self.0, limit).map(drop)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = process::wait(&mut self.0, Duration::ZERO);
        }
    }
}
