//! The journal: round trips, torn tails, damaged middles, crashes around a compaction.

use super::*;

fn open(dir: &Path) -> (Journal, Vec<u32>, Vec<Damage>) {
    open_as(dir)
}

fn open_as<T: DeserializeOwned>(dir: &Path) -> (Journal, Vec<T>, Vec<Damage>) {
    let mut entries = Vec::new();
    let (journal, damages) = Journal::open(dir, |entry| entries.push(entry)).unwrap();
    (journal, entries, damages)
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_flushed_is_read_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, nothing, _) = open(dir.path());
    assert_eq!(nothing, Vec::<u32>::new());
    for n in [3u32, 1, 2] {
        journal.append(&n);
    }
    journal.flush().unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("calls.log.0")).unwrap(), "3\n1\n2\n");
    drop(journal);
    let (_, entries, damages) = open(dir.path());
    assert_eq!((entries, damages), (vec![3, 1, 2], vec![]));
}

#[test]
fn what_was_not_flushed_is_not_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path());
    journal.append(&7u32);
    assert_eq!(fs::read(dir.path().join("calls.log.0")).unwrap(), b"");
}

#[test]
fn a_torn_tail_is_cut_off_at_every_byte_and_writing_goes_on_behind_it() {
    let whole = b"[1,10]\n[2,20]\n[3,30]\n";
    for cut in 0..=whole.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("calls.log.0"), &whole[..cut]).unwrap();
        let (mut journal, entries, damages) = open_as::<(u32, u32)>(dir.path());
        let expected: Vec<_> = [(1, 10), (2, 20), (3, 30)].into_iter().take(cut / 7).collect();
        assert_eq!((&entries, damages), (&expected, vec![]), "cut at {cut}");
        journal.append(&(9u32, 9u32));
        journal.flush().unwrap();
        drop(journal);
        let (_, after, damages) = open_as::<(u32, u32)>(dir.path());
        assert_eq!((after, damages), ([expected, vec![(9, 9)]].concat(), vec![]), "cut at {cut}");
    }
}

#[test]
fn a_damaged_middle_is_skipped_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("calls.log.0"), "1\n\x00\x00rubbish\n3\n").unwrap();
    let (_, entries, damages) = open(dir.path());
    assert_eq!(entries, [1, 3]);
    let places: Vec<_> = damages.iter().map(|d| (d.file.as_str(), d.line)).collect();
    assert_eq!(places, [("calls.log.0", 2)]);
}

#[test]
fn compaction_keeps_the_state_and_what_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path());
    for n in 0..100u32 {
        journal.append(&n);
    }
    journal.flush().unwrap();
    journal.compact(vec![98u32, 99]).unwrap();
    journal.append(&100u32);
    journal.flush().unwrap();
    journal.finish_compaction().unwrap();
    assert_eq!(files(dir.path()), ["calls.log.1", "calls.snapshot"]);
    assert_eq!(fs::read_to_string(dir.path().join("calls.snapshot")).unwrap(), "{\"log\":1}\n98\n99\n");
    drop(journal);
    let (mut journal, entries, damages) = open(dir.path());
    assert_eq!((entries, damages), (vec![98, 99, 100], vec![]));
    journal.compact(vec![1u32]).unwrap();
    drop(journal);
    assert_eq!(open(dir.path()).1, [1]);
}

#[test]
fn a_crash_before_the_snapshot_leaves_both_logs_and_after_it_only_the_newer() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("calls.snapshot"), "{\"log\":4}\n1\n").unwrap();
    fs::write(dir.path().join("calls.log.3"), "77\n").unwrap();
    fs::write(dir.path().join("calls.log.4"), "2\n").unwrap();
    fs::write(dir.path().join("calls.log.5"), "3\n").unwrap();
    fs::write(dir.path().join("calls.snapshot.new"), "{\"log\":5}\n1").unwrap();
    let (mut journal, entries, damages) = open(dir.path());
    assert_eq!((entries, damages), (vec![1, 2, 3], vec![]));
    journal.append(&4u32);
    journal.flush().unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("calls.log.5")).unwrap(), "3\n4\n");
    assert!(!dir.path().join("calls.log.3").exists());
}

#[test]
fn a_long_log_wants_compaction_and_a_fresh_snapshot_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path());
    for n in 0..=SHORT.0 as u32 {
        assert!(!journal.wants_compaction());
        journal.append(&n);
        journal.flush().unwrap();
    }
    assert!(journal.wants_compaction());
    journal.compact(vec![0u32]).unwrap();
    journal.finish_compaction().unwrap();
    assert!(!journal.wants_compaction());
}

#[test]
fn a_log_of_few_long_lines_wants_compaction_unless_the_snapshot_is_as_long() {
    let dir = tempfile::tempdir().unwrap();
    let mebibyte = "x".repeat(1 << 20);
    let (mut journal, ..) = open_as::<String>(dir.path());
    let lines_until_compaction = |journal: &mut Journal| {
        let mut lines = 0;
        while !journal.wants_compaction() {
            journal.append(&mebibyte);
            journal.flush().unwrap();
            lines += 1;
        }
        lines
    };
    assert_eq!(lines_until_compaction(&mut journal), 4);
    journal.compact(vec![mebibyte.clone(); 2]).unwrap();
    journal.finish_compaction().unwrap();
    assert_eq!(lines_until_compaction(&mut journal), 9);
    // So it is when it is opened again, whichever log the lines are in.
    drop(journal);
    fs::write(dir.path().join("calls.log.2"), "").unwrap();
    let (mut journal, entries, _) = open_as::<String>(dir.path());
    assert_eq!((entries.len(), journal.wants_compaction()), (11, true));
}

/// The disk is full.
fn fails_to_write_1(journal: &mut Journal) {
    journal.log = OpenOptions::new().write(true).open("/dev/full").unwrap();
    journal.append(&1u32);
    assert!(journal.flush().is_err());
}

#[test]
fn a_failed_write_asks_for_the_snapshot_that_makes_up_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path());
    fails_to_write_1(&mut journal);
    assert!(journal.wants_compaction());
    journal.compact(vec![1u32]).unwrap();
    drop(journal);
    assert_eq!(open(dir.path()).1, [1]);
}

#[test]
fn a_snapshot_that_failed_is_asked_for_until_one_has_made_up_for_what_was_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, ..) = open(dir.path());
    fails_to_write_1(&mut journal);
    // Where the snapshot is to be written there is something else.
    let hindrance = dir.path().join("calls.snapshot.new");
    fs::create_dir(&hindrance).unwrap();
    let ended = |journal: &Journal| {
        while journal.compaction.as_ref().is_some_and(|thread| !thread.is_finished()) {
            std::thread::yield_now();
        }
    };
    journal.compact(vec![1u32]).unwrap();
    ended(&journal);
    assert!(journal.wants_compaction() && journal.wants_compaction());
    assert!(journal.compact(vec![1u32]).is_err(), "what the earlier one ended with");
    ended(&journal);
    assert!(journal.wants_compaction());
    fs::remove_dir(hindrance).unwrap();
    assert!(journal.compact(vec![1u32]).is_err());
    ended(&journal);
    assert!(!journal.wants_compaction());
    drop(journal);
    assert_eq!(open(dir.path()).1, [1]);
}

#[test]
fn a_write_that_failed_halfway_leaves_no_line_that_the_next_one_would_continue() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skipped::skipped("needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let body = move || {
        // A file system of two pages, seen by this thread alone.
        use nix::mount::{MsFlags, mount};
        let none: Option<&str> = None;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=8k")).unwrap();
        let (mut journal, ..) = open_as::<String>(&path);
        for entry in ["first".to_owned(), "x".repeat(9_000), "last".to_owned()] {
            journal.append(&entry);
            assert_eq!(journal.flush().is_ok(), entry.len() < 9_000);
        }
        assert_eq!(fs::read_to_string(path.join("calls.log.0")).unwrap(), "\"first\"\n\"last\"\n");
        assert!(journal.wants_compaction());
    };
    std::thread::spawn(body).join().unwrap();
}

proptest::proptest! {
    #[test]
    fn no_content_makes_opening_panic(log in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
                                      snapshot in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("calls.log.0"), log).unwrap();
        fs::write(dir.path().join("calls.snapshot"), snapshot).unwrap();
        let _ = open(dir.path());
    }
}
