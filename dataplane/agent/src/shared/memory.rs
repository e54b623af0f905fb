//! What Auto has learned about servers, kept across restarts of the agent; it goes with the boot, whose clock it counts by.

use std::io;
use std::path::{Path, PathBuf};

use callgate_pptp::shared::Learned;

use crate::state::{SERVERS, write_whole};

/// The file.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
}

impl Memory {
    /// In this state directory.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { path: dir.join(SERVERS) }
    }

    /// What was kept; nothing where there is no such file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn load(&self) -> io::Result<Vec<Learned>> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Keeps this and nothing else.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self, learned: &[Learned]) -> io::Result<()> {
        write_whole(&self.path, &serde_json::to_vec(learned)?)
    }

    /// Which file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use callgate_pptp::Now;
    use callgate_pptp::shared::Why;

    use super::*;

    #[test]
    fn what_is_kept_is_there_for_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::new(dir.path());
        assert_eq!(memory.load().unwrap(), []);
        let (why, server) = (Why::SecondRefused, std::net::Ipv4Addr::new(203, 0, 113, 7));
        let (alg, since, seen, until) = ("pos/pptp".to_owned(), Now(1), Now(2), Now(3));
        let learned = [Learned { server, server_port: 1723, why, alg, since, seen, until }];
        memory.save(&learned).unwrap();
        assert_eq!(Memory::new(dir.path()).load().unwrap(), learned);
    }
}
