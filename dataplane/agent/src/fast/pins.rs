//! Names in a bpf file system, by which map and links outlive the process and are found again.
//!
//! ```text
//!  DIR/callgate/TABLE@NETNS/vLAYOUT/paths     the map
//!                          /links/N           the program's link on device N (tcx)
//!                          /links/N-xdp       the XDP program's link on device N
//!                          /links/N-clsact    the program is on device N by a filter; +qdisc: and its qdisc is ours; -new behind it: about to take its place
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::layout::LAYOUT;

/// How the program is put on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// A link of type tcx (Linux 6.6).
    Tcx,
    /// A filter behind clsact; true: the qdisc is ours too.
    Clsact(bool),
    /// A link of type XDP (Linux 5.9), beside one of the others.
    Xdp,
}

/// Where everything of one agent has its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pins {
    dir: PathBuf,
    layout: u32,
}

impl Pins {
    /// The names of the agent with this nftables table in the network namespace of the calling thread. Nothing is made.
    ///
    /// # Errors
    /// When /proc is not there.
    pub fn of(root: &Path, table: &str) -> io::Result<Self> {
        let namespace = fs::metadata("/proc/thread-self/ns/net")?.ino();
        // Names with a dot are refused.
        let name = format!("{}@{namespace}", table.replace('.', "_"));
        Ok(Self { dir: root.join("callgate").join(name), layout: LAYOUT })
    }

    /// The same with maps of another layout.
    #[must_use]
    pub fn with_layout(self, layout: u32) -> Self {
        Self { layout, ..self }
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// With the remedy, where there is no bpf file system, or it cannot be written.
    pub fn make(&self) -> Result<(), String> {
        let root = self.dir.ancestors().nth(2).unwrap_or(&self.dir);
        let is = statfs(root).map(|found| found.filesystem_type() == BPF_FS_MAGIC);
        if !matches!(is, Ok(true)) {
            return Err(format!("{} is no bpf file system: mount -t bpf bpf {0}", root.display()));
        }
        for dir in [self.dir.join("links"), self.version()] {
            fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        }
        Ok(())
    }

    fn version(&self) -> PathBuf {
        self.dir.join(format!("v{}", self.layout))
    }

    /// The map's name.
    #[must_use]
    pub fn map(&self) -> PathBuf {
        self.version().join("paths")
    }

    /// The maps that have a name, and whether they are of this layout.
    pub(super) fn maps(&self) -> Vec<(PathBuf, bool)> {
        let all = self.versions().map(|version| (version.join("paths"), version == self.version()));
        all.filter(|(map, _)| map.exists()).collect()
    }

    fn versions(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('v')).map(|entry| entry.path())
    }

    /// The name of a link.
    #[must_use]
    pub fn link(&self, device: u32, hook: Hook) -> PathBuf {
        let suffix = match hook {
            Hook::Tcx => "",
            Hook::Clsact(false) => "-clsact",
            Hook::Clsact(true) => "-clsact+qdisc",
            Hook::Xdp => "-xdp",
        };
        self.dir.join("links").join(format!("{device}{suffix}"))
    }

    /// The links that have a name, by device.
    #[must_use]
    pub fn links(&self) -> Vec<(u32, Hook)> {
        let names = fs::read_dir(self.dir.join("links")).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let mut links: Vec<(u32, Hook)> = names.filter_map(|name| link(&name.to_string_lossy())).collect();
        links.sort_unstable();
        links
    }

    /// Removes the maps of other layouts.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove_other_layouts(&self) -> io::Result<()> {
        self.versions().filter(|version| *version != self.version()).try_for_each(|version| remove(&version))
    }

    /// Removes all names; what is only held by them goes with them. That there are none is fine.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn remove_all(&self) -> io::Result<()> {
        if !self.dir.exists() {
            return Ok(());
        }
        remove(&self.dir)?;
        // The last agent turns off the light.
        let _ = self.dir.parent().map(fs::remove_dir);
        Ok(())
    }
}

fn link(name: &str) -> Option<(u32, Hook)> {
    let (number, hook) = match name.split_once('-') {
        None => (name, Hook::Tcx),
        Some((number, "clsact")) => (number, Hook::Clsact(false)),
        Some((number, "clsact+qdisc")) => (number, Hook::Clsact(true)),
        Some((number, "xdp")) => (number, Hook::Xdp),
        Some(_) => return None,
    };
    Some((number.parse().ok()?, hook))
}

/// A directory with what is in it: `remove_dir_all` opens what it removes, which pinned objects cannot be.
fn remove(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        match entry.file_type()?.is_dir() {
            true => remove(&entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_apart_by_their_names() {
        let names = ["7", "12-clsact", "12-clsact+qdisc", "7-xdp", "x", "3-other"];
        let [tcx, xdp] = [Hook::Tcx, Hook::Xdp].map(|hook| Some((7, hook)));
        let [filter, qdisc] = [false, true].map(|ours| Some((12, Hook::Clsact(ours))));
        let expected = [tcx, filter, qdisc, xdp, None, None];
        assert_eq!(names.map(link), expected);
        let pins = Pins::of(Path::new("/b"), "my.table").unwrap();
        for (device, hook) in expected.into_iter().flatten() {
            let path = pins.link(device, hook);
            assert_eq!(link(&path.file_name().unwrap().to_string_lossy()), Some((device, hook)));
        }
        assert!(!pins.map().to_string_lossy().contains('.'), "{pins:?}");
    }

    #[test]
    fn an_ordinary_directory_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let error = Pins::of(dir.path(), "callgate").unwrap().make().unwrap_err();
        let path = dir.path().display();
        assert_eq!(error, format!("{path} is no bpf file system: mount -t bpf bpf {path}"));
    }
}
