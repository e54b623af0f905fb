//! The state directory: made, locked, and emptied of what another boot left.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::file::{write_durably, write_whole};

const KERNEL: &str = "kernel.json";
pub(crate) const TENANTS: &str = "tenants.json";
pub(crate) const SERVERS: &str = "servers.json";
pub(crate) const HANDOVER: &str = "handover.json";
pub(crate) const FAST: &str = "fast.json";

/// Every file that is ever here, beside those of the journal.
const OURS: [&str; 10] = [
    "lock",
    "boot-id",
    KERNEL,
    TENANTS,
    SERVERS,
    HANDOVER,
    FAST,
    "config.snapshot",
    "manifests.json",
    "last-good.json",
];

/// Why the state directory cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// Another agent holds the lock.
    #[error("--state-dir {dir} is in use by another callgate-dataplane{who}; stop that one or name another directory")]
    InUse {
        /// The directory.
        dir: String,
        /// ` (process N)` where it is known.
        who: String,
    },
    /// A file or directory operation failed.
    #[error("--state-dir: {what} {path}: {source}; {}", remedy(source))]
    Io {
        /// The operation.
        what: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// What to do about it.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room there, or name a directory on another local disk with --state-dir"
        }
        _ => "name a directory on a local disk that root can write",
    }
}

/// An open state directory; the lock is held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
    discarded: bool,
}

impl StateDir {
    /// Makes the directory if need be (mode 0700), locks it, and removes what belongs to another boot than `boot_id`.
    ///
    /// # Errors
    /// [`Error::InUse`] when another process holds it.
    pub fn open(path: &Path, boot_id: &str) -> Result<Self, Error> {
        let io = |what, path: &Path| {
            let path = path.display().to_string();
            move |source| Error::Io { what, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("cannot create", path))?;
        let lock_path = path.join("lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let mut lock = match Flock::lock(file.map_err(io("cannot open", &lock_path))?, FlockArg::LockExclusiveNonblock)
        {
            Ok(lock) => lock,
            Err((mut held, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = held.read_to_string(&mut pid);
                let who = if pid.trim().is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
                return Err(Error::InUse { dir: path.display().to_string(), who });
            }
            Err((_, errno)) => return Err(io("cannot lock", &lock_path)(errno.into())),
        };
        // Only for people who find it locked: a full disk is no reason to leave what runs to itself.
        let _ = lock.set_len(0).and_then(|()| lock.write_all(std::process::id().to_string().as_bytes()));
        let boot_path = path.join("boot-id");
        let before = fs::read_to_string(&boot_path).ok();
        let other = before.as_deref() != Some(boot_id);
        // Also where nothing says which boot it is of: a lost machine may have lost just that.
        let discarded = other && (before.is_some() || holds_state(path).map_err(io("cannot read", path))?);
        if other {
            remove_boot_state(path).map_err(io("cannot clean", path))?;
            write_whole(&boot_path, boot_id.as_bytes()).map_err(io("cannot write", &boot_path))?;
        }
        Ok(Self { path: path.to_owned(), _lock: lock, discarded })
    }

    /// Whether state of another boot was found, or of one that is not known: what belongs to a boot was removed.
    #[must_use]
    pub fn discarded(&self) -> bool {
        self.discarded
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a JSON file; `None` when there is none. One that cannot be understood is an error of kind `InvalidData`.
    ///
    /// # Errors
    /// What reading gives.
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Replaces a JSON file.
    ///
    /// # Errors
    /// What writing gives; the old content is then still there.
    pub fn save<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        write_whole(&self.path.join(name), &serde_json::to_vec(value)?)
    }

    /// The same for what outlives the boot: it is on the disk then.
    ///
    /// # Errors
    /// As `save`.
    pub fn save_durably<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        write_durably(&self.path.join(name), &serde_json::to_vec(value)?)
    }

    /// Where the kernel's record is kept.
    #[must_use]
    pub fn kernel_record(&self) -> PathBuf {
        self.path.join(KERNEL)
    }

    /// Forgets what was kept for a kernel that has been put back as it was: connections, calls, tags, sysctls.
    ///
    /// # Errors
    /// What removing gives.
    pub fn forget_kernel(&self) -> io::Result<()> {
        remove_boot_state(&self.path)
    }
}

impl StateDir {
    /// Removes everything of ours in it, and then the directory, if nothing is left and it can be (a mounted one cannot).
    ///
    /// # Errors
    /// What removing a file gives.
    pub fn remove(self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let text = name.to_string_lossy();
            let whole = text.strip_suffix(".new").unwrap_or(&text);
            if OURS.contains(&whole) || whole.starts_with("calls.") {
                fs::remove_file(self.path.join(&name))?;
            }
        }
        let _ = fs::remove_dir(&self.path);
        Ok(())
    }
}

/// Whether there is anything of a run before, beside the lock.
fn holds_state(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if (OURS.contains(&&*name) && name != "lock") || name.starts_with("calls.") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes what means nothing without the kernel state of the boot it was written in.
fn remove_boot_state(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let of_the_kernel = [KERNEL, TENANTS, SERVERS, HANDOVER, FAST].contains(&&*name);
        if of_the_kernel || name.starts_with("calls.") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_second_agent_is_refused_and_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/state");
        let first = StateDir::open(&path, "boot-1").unwrap();
        let refused = StateDir::open(&path, "boot-1").unwrap_err().to_string();
        let expected = format!(
            "--state-dir {} is in use by another callgate-dataplane (process {}); stop that one or name another directory",
            path.display(),
            std::process::id()
        );
        assert_eq!(refused, expected);
        drop(first);
        assert!(StateDir::open(&path, "boot-1").is_ok());
    }

    #[test]
    fn a_full_disk_keeps_no_agent_from_its_state_and_where_it_does_the_remedy_is_said() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateDir::open(dir.path(), "boot-1").unwrap());
        fs::remove_file(dir.path().join("lock")).unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join("lock")).unwrap();
        assert!(StateDir::open(dir.path(), "boot-1").is_ok(), "who holds it cannot be written down");
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let told = Error::Io { what: "cannot write", path: "boot-id".to_owned(), source }.to_string();
        let expected = "--state-dir: cannot write boot-id: no storage space; make room there, or name a directory on another local \
                        disk with --state-dir";
        assert_eq!(told, expected);
    }

    #[test]
    fn state_of_another_boot_is_discarded_and_manifests_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let fill = || {
            for name in ["kernel.json", "calls.snapshot", "calls.log.0", "handover.json", "fast.json", "manifests.json"]
            {
                fs::write(dir.path().join(name), "1").unwrap();
            }
        };
        assert!(!StateDir::open(dir.path(), "boot-1").unwrap().discarded());
        fill();
        assert!(!StateDir::open(dir.path(), "boot-1").unwrap().discarded());
        let same_boot = names(dir.path());
        assert!(StateDir::open(dir.path(), "boot-2").unwrap().discarded());
        let other_boot = names(dir.path());
        let kept = [
            "boot-id",
            "calls.log.0",
            "calls.snapshot",
            "fast.json",
            "handover.json",
            "kernel.json",
            "lock",
            "manifests.json",
        ];
        assert_eq!(same_boot, kept);
        assert_eq!(other_boot, ["boot-id", "lock", "manifests.json"]);
        // Of which boot it is was lost with the machine.
        for lose in [fs::remove_file as fn(PathBuf) -> _, |path| fs::write(path, "")] {
            fill();
            lose(dir.path().join("boot-id")).unwrap();
            assert!(StateDir::open(dir.path(), "boot-2").unwrap().discarded());
            assert_eq!(names(dir.path()), ["boot-id", "lock", "manifests.json"]);
        }
    }

    #[test]
    fn removing_it_takes_what_is_ours_and_leaves_what_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let state = StateDir::open(&path, "b").unwrap();
        let files = ["kernel.json", "kernel.json.new", "calls.snapshot", "calls.log.3", "config.snapshot", "notes.txt"];
        files.iter().for_each(|name| fs::write(path.join(name), "1").unwrap());
        state.remove().unwrap();
        assert_eq!(names(&path), ["notes.txt"]);
        fs::remove_file(path.join("notes.txt")).unwrap();
        StateDir::open(&path, "b").unwrap().remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_was_saved_is_loaded_and_nonsense_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), "b").unwrap();
        assert_eq!(state.load::<Vec<u32>>("x.json").unwrap(), None);
        state.save("x.json", &vec![1u32, 2]).unwrap();
        assert_eq!(state.load::<Vec<u32>>("x.json").unwrap(), Some(vec![1, 2]));
        fs::write(dir.path().join("x.json"), "[1,").unwrap();
        assert!(state.load::<Vec<u32>>("x.json").is_err());
    }
}
