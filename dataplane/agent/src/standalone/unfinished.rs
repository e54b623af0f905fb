//! What the events of a directory mean: files that are being written wait until whoever writes them has closed them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use notify::Event;
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};

/// A file that nobody has written to for so long is taken as it is, though its writer has not closed it.
const LONGEST: Duration = Duration::from_secs(60);

/// Files that are being written, and when they were last written to.
#[derive(Debug, Default)]
pub(super) struct Unfinished(BTreeMap<String, Instant>);

impl Unfinished {
    /// Their names.
    pub(super) fn names(&self, now: Instant) -> BTreeSet<String> {
        let waiting = self.0.iter().filter(|(_, at)| now.duration_since(**at) < LONGEST);
        waiting.map(|(name, _)| name.clone()).collect()
    }

    /// Whether `dir` has to be read after this. Not because somebody reads in it, or each reading would cause the next; nor for what
    /// happens beside it.
    pub(super) fn hear(&mut self, event: &Event, dir: &Path, now: Instant) -> bool {
        if event.paths.is_empty() {
            // Events were lost: whoever closed a file meanwhile was not heard.
            self.0.clear();
            return true;
        }
        let mut matters = false;
        for path in event.paths.iter().filter(|path| path.starts_with(dir)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let writes = match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
                EventKind::Access(_) => continue,
                EventKind::Modify(ModifyKind::Data(_)) => true,
                EventKind::Modify(ModifyKind::Metadata(_)) => self.0.contains_key(&name),
                EventKind::Create(CreateKind::File) => will_be_closed(path),
                _ => false,
            };
            if writes {
                self.0.insert(name, now);
            } else {
                self.0.remove(&name);
                matters = true;
            }
        }
        matters
    }
}

/// Whether a file that has just come was made by whoever writes it now. A link was not, and nobody closes it.
fn will_be_closed(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file() && found.nlink() == 1)
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, MetadataKind, RemoveKind, RenameMode};

    use super::*;

    const CREATED: EventKind = EventKind::Create(CreateKind::File);
    const OPENED: EventKind = EventKind::Access(AccessKind::Open(AccessMode::Any));
    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const TOUCHED: EventKind = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const RENAMED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    const REMOVED: EventKind = EventKind::Remove(RemoveKind::File);

    /// For each event of a file in `dir`: whether that is to be read, and which files are unfinished then.
    fn heard<const N: usize>(dir: &Path, events: [(EventKind, &str); N]) -> [(bool, Vec<String>); N] {
        let (mut unfinished, now) = (Unfinished::default(), Instant::now());
        events.map(|(kind, name)| {
            let matters = unfinished.hear(&Event::new(kind).add_path(dir.join(name)), dir, now);
            (matters, unfinished.names(now).into_iter().collect())
        })
    }

    #[test]
    fn a_file_is_read_when_it_is_closed_and_not_while_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        let a = || vec!["a".to_owned()];
        let events = [
            (CREATED, "a"),
            (OPENED, "a"),
            (WRITTEN, "a"),
            (TOUCHED, "a"),
            (REMOVED, "b"),
            (CLOSED, "a"),
            (OPENED, "a"),
        ];
        let expected =
            [(false, a()), (false, a()), (false, a()), (false, a()), (true, a()), (true, vec![]), (false, vec![])];
        assert_eq!(heard(dir.path(), events), expected);
    }

    #[test]
    fn what_is_whole_at_once_is_read_at_once() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join("link")).unwrap();
        std::fs::write(dir.path().join("one"), "").unwrap();
        std::fs::hard_link(dir.path().join("one"), dir.path().join("two")).unwrap();
        for event in [(CREATED, "link"), (CREATED, "two"), (CREATED, "gone"), (TOUCHED, "one"), (RENAMED, "one")] {
            assert_eq!(heard(dir.path(), [event]), [(true, vec![])], "{event:?}");
        }
        for end in [RENAMED, REMOVED, CLOSED] {
            let a = vec!["a".to_owned()];
            assert_eq!(heard(dir.path(), [(WRITTEN, "a"), (end, "a")]), [(false, a), (true, vec![])], "{end:?}");
        }
    }

    #[test]
    fn nobody_waits_for_ever_nor_for_whoever_was_not_heard() {
        let (mut unfinished, now) = (Unfinished::default(), Instant::now());
        let dir = Path::new("/nowhere");
        let written = Event::new(WRITTEN).add_path(dir.join("a"));
        assert!(!unfinished.hear(&written, dir, now));
        let after = |time: Duration| unfinished.names(now + time).len();
        assert_eq!((after(LONGEST - Duration::from_millis(1)), after(LONGEST)), (1, 0));
        assert!(!unfinished.hear(&written, Path::new("/elsewhere"), now), "beside the directory");
        assert!(unfinished.hear(&Event::new(EventKind::Other), dir, now), "events were lost");
        assert_eq!(unfinished.names(now), BTreeSet::new());
    }
}
