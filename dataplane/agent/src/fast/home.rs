//! Where the fast path of an agent has its names, kept with what outlives the process: what it has left under other names would carry
//! calls before the next one's, and nobody would look after it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use serde::{Deserialize, Serialize};

use super::remove;
use crate::state::{FAST, StateDir, remedy};

/// A place of names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Home {
    /// `--bpf-dir`.
    pub(crate) bpf_dir: PathBuf,
    /// `--nft-table`.
    pub(crate) nft_table: String,
    /// Number of the bpf file system there; `None` where there was none.
    pub(crate) file_system: Option<u64>,
}

impl Home {
    /// These names, as the directory is now.
    pub(crate) fn here(bpf_dir: &Path, nft_table: &str) -> Self {
        Self { bpf_dir: bpf_dir.to_owned(), nft_table: nft_table.to_owned(), file_system: file_system(bpf_dir) }
    }

    /// That of the run before; `None` where it is not known, as after a version that did not write it down.
    pub(crate) fn of(state: &StateDir) -> Option<Self> {
        state.load(FAST).unwrap_or_else(|error| {
            tracing::warn!(
                "{FAST} in the state directory cannot be read ({error}): the fast path is looked for by the flags"
            );
            None
        })
    }

    /// Goes on `here`: what the run before has left elsewhere is removed.
    ///
    /// # Errors
    /// What could not be removed or written down.
    pub(crate) fn move_in(here: &Self, before: Option<Self>, state: &StateDir) -> Result<(), String> {
        if let Some(before) = before.filter(|before| before != here) {
            before.leave(here)?;
        }
        // Where it says so already, a full disk is no reason not to start.
        if state.load::<Self>(FAST).is_ok_and(|kept| kept.as_ref() == Some(here)) {
            return Ok(());
        }
        state
            .save(FAST, here)
            .map_err(|error| format!("writing {FAST} in the state directory: {error}; {}", remedy(&error)))
    }

    fn leave(&self, here: &Self) -> Result<(), String> {
        let Self { bpf_dir, nft_table, file_system: before } = self;
        if before.is_some() && file_system(bpf_dir) != *before {
            tracing::error!(
                "{} was another bpf file system for the run before: what that has left in it cannot be removed from here. Until \
                 somebody does, its calls go on by it when they have ended, and later their packets may reach another client: \
                 rm -r callgate/{nft_table}@* there",
                bpf_dir.display()
            );
        }
        if (bpf_dir, nft_table) == (&here.bpf_dir, &here.nft_table) {
            return Ok(());
        }
        remove(bpf_dir, nft_table)
    }
}

fn file_system(dir: &Path) -> Option<u64> {
    let is_bpf = statfs(dir).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC);
    is_bpf.then(|| fs::metadata(dir).ok()).flatten().map(|found| found.dev())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fast::{Hook, Pins};

    /// A name as a run leaves it; here a file.
    fn named(dir: &Path, table: &str) -> PathBuf {
        let name = Pins::of(dir, table).unwrap().link(7, Hook::Tcx);
        fs::create_dir_all(name.parent().unwrap()).unwrap();
        fs::write(&name, "").unwrap();
        name
    }

    #[test]
    fn what_a_run_before_has_left_goes_when_the_next_one_has_other_names_and_stays_when_it_has_the_same() {
        let [state, old, new] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let state = StateDir::open(state.path(), "boot").unwrap();
        let start = |dir: &tempfile::TempDir, table| {
            let here = Home::here(dir.path(), table);
            Home::move_in(&here, Home::of(&state), &state).unwrap();
            assert_eq!(Home::of(&state), Some(here));
            named(dir.path(), table)
        };
        let first = start(&old, "callgate");
        let written = || fs::metadata(state.path().join(FAST)).unwrap().ino();
        let before = written();
        assert_eq!(start(&old, "callgate"), first);
        assert_eq!(written(), before, "what is there already is not written again");
        let second = start(&new, "callgate");
        assert!(!first.exists() && second.exists());
        let third = start(&new, "other");
        assert!(!second.exists() && third.exists());
    }
}
