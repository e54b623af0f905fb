//! The last snapshot on disk: written before it takes effect, checked like one from the operator when it is read.

use std::io;
use std::path::PathBuf;

use callgate_proto::pb;
use prost::Message;

use super::snapshot::Snapshot;
use crate::state::write_durably;

/// Name of the file in the state directory.
const FILE: &str = "config.snapshot";

/// The file, and what is in it.
pub(super) struct Store {
    path: PathBuf,
    node: String,
    /// Its bytes as they are on disk.
    bytes: Vec<u8>,
    /// What was there before the last `put`.
    before: Vec<u8>,
}

impl Store {
    /// The store in this directory, for this node.
    pub(super) fn new(dir: &std::path::Path, node: &str) -> Self {
        Self { path: dir.join(FILE), node: node.to_owned(), bytes: Vec::new(), before: Vec::new() }
    }

    /// What is there; `None` where there is nothing.
    ///
    /// # Errors
    /// When it cannot be read, or is not a snapshot for this node: then as if there were none.
    pub(super) fn load(&mut self) -> Result<Option<Snapshot>, String> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        // Its length comes first: a message cut short between two fields would still be one.
        let whole =
            bytes.split_first_chunk::<8>().filter(|(length, rest)| u64::from_be_bytes(**length) == rest.len() as u64);
        let (_, rest) = whole.ok_or_else(|| format!("{FILE} is cut short"))?;
        let message = pb::Snapshot::decode(rest).map_err(|error| error.to_string())?;
        let snapshot = Snapshot::checked(message, &self.node)?;
        self.bytes = bytes;
        Ok(Some(snapshot))
    }

    /// Makes a snapshot what is there. The same one again writes nothing.
    ///
    /// # Errors
    /// What writing gives; then what was there is still there.
    pub(super) fn put(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let message = snapshot.message().encode_to_vec();
        let bytes = [&(message.len() as u64).to_be_bytes()[..], &message].concat();
        if bytes == self.bytes {
            return Ok(());
        }
        write_durably(&self.path, &bytes)?;
        self.before = std::mem::replace(&mut self.bytes, bytes);
        Ok(())
    }

    /// The last one did not take effect: the one before it is there again.
    ///
    /// # Errors
    /// What writing gives; the next start then tries the last one, and is told why not.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        let before = std::mem::take(&mut self.before);
        if before.is_empty() {
            return Ok(());
        }
        write_durably(&self.path, &before)?;
        self.bytes = before;
        Ok(())
    }

    /// The last one is in force: there is no way back.
    pub(super) fn settled(&mut self) {
        self.before.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::snapshot;
    use super::*;

    #[test]
    fn what_was_put_is_there_for_the_next_start_and_what_failed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (snapshot("node-a", "u1"), snapshot("node-a", "u2"));
        let mut store = Store::new(dir.path(), "node-a");
        assert_eq!(store.load(), Ok(None));
        store.put(&first).unwrap();
        store.settled();
        store.put(&second).unwrap();
        assert_eq!(Store::new(dir.path(), "node-a").load(), Ok(Some(second.clone())), "before it takes effect");
        store.take_back().unwrap();
        assert_eq!(Store::new(dir.path(), "node-a").load(), Ok(Some(first)));
        store.put(&second).unwrap();
        store.settled();
        store.take_back().unwrap();
        assert_eq!(Store::new(dir.path(), "node-a").load(), Ok(Some(second)));
    }

    #[test]
    fn a_file_that_was_cut_short_or_is_another_nodes_is_no_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(dir.path(), "node-a");
        store.put(&snapshot("node-a", "u1")).unwrap();
        let other = Store::new(dir.path(), "node-b").load().unwrap_err();
        assert!(other.starts_with("the snapshot is for node \"node-a\""), "{other}");
        let path = dir.path().join(FILE);
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(Store::new(dir.path(), "node-a").load().is_err(), "{length} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn the_same_again_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(dir.path(), "node-a");
        store.put(&snapshot("node-a", "u1")).unwrap();
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        store.put(&snapshot("node-a", "u1")).unwrap();
        assert_eq!(Store::new(dir.path(), "node-a").load(), Ok(None));
    }
}
