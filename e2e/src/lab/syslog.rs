//! A node's own /dev/log: lines are kept, written to a file and can be waited for.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use crate::wait;

/// Collects what programs of one node log.
#[derive(Debug)]
pub struct Syslog {
    socket: UnixDatagram,
    lines: Arc<Mutex<Vec<String>>>,
    path: PathBuf,
}

fn locked(lines: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Syslog {
    /// Reads `socket` into memory and into `path`, on a thread of its own, until this is dropped.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn start(socket: UnixDatagram, path: &Path) -> anyhow::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).open(path).context("syslog file")?;
        let reader = socket.try_clone().context("syslog socket")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length @ 1..) = reader.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).trim_end_matches(['\0', '\n']).to_string();
                drop(writeln!(file, "{text}"));
                locked(&kept).push(text);
            }
        });
        Ok(Self { socket, lines, path: path.to_path_buf() })
    }

    /// How many lines there are: a mark to look behind later.
    pub fn mark(&self) -> usize {
        locked(&self.lines).len()
    }

    /// Lines from `mark` on that contain `pattern`.
    pub fn find(&self, mark: usize, pattern: &str) -> Vec<String> {
        locked(&self.lines).iter().skip(mark).filter(|line| line.contains(pattern)).cloned().collect()
    }

    /// Waits for a line from `mark` on that contains `pattern`.
    ///
    /// # Errors
    /// After `limit`, with the last lines there are.
    pub fn wait(&self, mark: usize, pattern: &str, limit: Duration) -> anyhow::Result<String> {
        wait::until(pattern, limit, || Ok(self.find(mark, pattern).into_iter().next()))
            .with_context(|| format!("{}: the end is\n{}", self.path.display(), self.tail(15)))
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let lines = locked(&self.lines);
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        drop(self.socket.shutdown(Shutdown::Both));
    }
}
