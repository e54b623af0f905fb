//! The journal of the ALG's durable state: JSON lines, appended before they take effect, compacted in the background.
//!
//! `calls.snapshot` begins with the number N of the log that follows it; the state is the snapshot and then logs N, N+1, ...
//! Compaction turns to log N+1 first and writes the snapshot N+1 afterwards, in a thread of its own, so that the packet path
//! never waits for it; a crash between the two leaves the older snapshot and both logs, which are the same state.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::ops::AddAssign;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::file::create;

const SNAPSHOT: &str = "calls.snapshot";
const LOG: &str = "calls.log.";

/// A log shorter than this is not worth compacting: lines, and octets.
const SHORT: (u64, u64) = (4096, 4 << 20);

/// A log is compacted when it is so many times as long as the snapshot before it.
const TIMES: u64 = 4;

/// First line of a snapshot.
#[derive(Serialize, Deserialize)]
struct Header {
    log: u64,
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Name of the file in the state directory.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// What is wrong with it.
    pub problem: String,
}

/// How long a file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    lines: u64,
    octets: u64,
}

impl AddAssign for Size {
    fn add_assign(&mut self, more: Self) {
        self.lines += more.lines;
        self.octets += more.octets;
    }
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    number: u64,
    log: File,
    /// Octets of the current log: whatever is behind these was written only in part.
    length: u64,
    /// All logs behind the snapshot.
    logs: Size,
    /// The last snapshot.
    snapshot: Size,
    pending: Vec<u8>,
    pending_lines: u64,
    /// Something could not be written: only a new snapshot makes the files whole again.
    incomplete: bool,
    compaction: Option<JoinHandle<io::Result<Size>>>,
    /// How a compaction has ended that nobody was told of yet.
    failed: Option<io::Error>,
}

impl Journal {
    /// Reads what is there, entry by entry, and opens it for more. No more than a line is kept of it. A last line without its end
    /// (the process died while writing it, so it never took effect) is cut off silently; any other line that cannot be read is
    /// skipped and reported.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn open<T: DeserializeOwned>(dir: &Path, mut each: impl FnMut(T)) -> io::Result<(Self, Vec<Damage>)> {
        let mut damages = Vec::new();
        let (first, snapshot) = read_snapshot(&dir.join(SNAPSHOT), &mut each, &mut damages)?;
        let mut behind = Size::default();
        let mut number = first;
        for log in logs(dir)? {
            if log < first {
                // Compaction died before it could remove it.
                fs::remove_file(dir.join(format!("{LOG}{log}")))?;
            } else {
                behind += read_lines(&dir.join(format!("{LOG}{log}")), 0, &mut each, &mut damages)?;
                number = log;
            }
        }
        let log = open_log(dir, number)?;
        let length = log.metadata()?.len();
        let journal = Self {
            dir: dir.to_owned(),
            number,
            log,
            length,
            logs: behind,
            snapshot,
            pending: Vec::new(),
            pending_lines: 0,
            incomplete: false,
            compaction: None,
            failed: None,
        };
        Ok((journal, damages))
    }

    /// Adds an entry to what the next `flush` writes.
    pub fn append<T: Serialize>(&mut self, entry: &T) {
        match serde_json::to_writer(&mut self.pending, entry) {
            Ok(()) => self.pending_lines += 1,
            // Only maps with keys that are no strings cannot be written; none of ours has any.
            Err(_) => self.incomplete = true,
        }
        self.pending.push(b'\n');
    }

    /// Makes all entries so far durable, with one write. Call it before carrying out what they describe.
    ///
    /// # Errors
    /// When the disk is full or broken. The entries are then not kept: `wants_compaction` says so from now on, until a
    /// snapshot has made up for them.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let result = self.log.write_all(&self.pending);
        let written = Size { lines: self.pending_lines, octets: self.pending.len() as u64 };
        self.logs += written;
        match &result {
            Ok(()) => self.length += written.octets,
            // The next entry must not be read as the end of this one.
            Err(_) => drop(self.log.set_len(self.length)),
        }
        self.pending.clear();
        self.pending_lines = 0;
        self.incomplete |= result.is_err();
        result
    }

    /// Whether a snapshot would shorten the journal much, or is needed to repair it.
    #[must_use]
    pub fn wants_compaction(&mut self) -> bool {
        if self.compaction.as_ref().is_some_and(JoinHandle::is_finished)
            && let Err(error) = self.finish_compaction()
        {
            self.failed = Some(error);
        }
        let long = self.logs.lines > SHORT.0.max(TIMES * self.snapshot.lines)
            || self.logs.octets > SHORT.1.max(TIMES * self.snapshot.octets);
        self.compaction.is_none() && (self.incomplete || long)
    }

    /// Begins a new log and, in the background, replaces everything before it by a snapshot of `entries`, which must be the state
    /// after everything appended so far. What an earlier compaction ended with is returned.
    ///
    /// # Errors
    /// When the new log cannot be opened, or the earlier snapshot could not be written; the journal stays whole.
    pub fn compact<T: Serialize + Send + 'static>(&mut self, entries: Vec<T>) -> io::Result<()> {
        let earlier = self.finish_compaction().and(self.failed.take().map_or(Ok(()), Err));
        let written = self.flush();
        let number = self.number + 1;
        // A rest of a run that died during its own compaction.
        self.log = create(&self.dir.join(format!("{LOG}{number}"))).and_then(|_| open_log(&self.dir, number))?;
        self.number = number;
        (self.logs, self.length) = (Size::default(), 0);
        let dir = self.dir.clone();
        let thread = std::thread::Builder::new().name("compaction".into());
        self.compaction = Some(thread.spawn(move || write_snapshot(&dir, number, &entries))?);
        self.incomplete = false;
        earlier.and(written)
    }

    /// Waits for a compaction under way.
    ///
    /// # Errors
    /// Why it could not be written; `wants_compaction` is then true.
    pub fn finish_compaction(&mut self) -> io::Result<()> {
        let Some(thread) = self.compaction.take() else { return Ok(()) };
        let result = thread.join().unwrap_or_else(|_| Err(io::Error::other("the compaction thread panicked")));
        self.incomplete |= result.is_err();
        self.snapshot = result?;
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let _ = self.flush();
        let _ = self.finish_compaction();
    }
}

fn open_log(dir: &Path, number: u64) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(dir.join(format!("{LOG}{number}")))
}

/// Numbers of the logs that are there, ascending.
fn logs(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|n| n.strip_prefix(LOG)).and_then(|n| n.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn write_snapshot<T: Serialize>(dir: &Path, log: u64, entries: &[T]) -> io::Result<Size> {
    let temporary = dir.join("calls.snapshot.new");
    let mut file = BufWriter::new(create(&temporary)?);
    serde_json::to_writer(&mut file, &Header { log })?;
    file.write_all(b"\n")?;
    for entry in entries {
        serde_json::to_writer(&mut file, entry)?;
        file.write_all(b"\n")?;
    }
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    let size = Size { lines: entries.len() as u64, octets: file.metadata()?.len() };
    fs::rename(temporary, dir.join(SNAPSHOT))?;
    for old in logs(dir)?.into_iter().filter(|n| *n < log) {
        fs::remove_file(dir.join(format!("{LOG}{old}")))?;
    }
    Ok(size)
}

/// Returns the number of the log that follows, 0 without a snapshot, and how long the snapshot is.
fn read_snapshot<T: DeserializeOwned>(
    path: &Path,
    each: &mut impl FnMut(T),
    damages: &mut Vec<Damage>,
) -> io::Result<(u64, Size)> {
    let mut first = Vec::new();
    match File::open(path) {
        Ok(file) => BufReader::new(file).read_until(b'\n', &mut first)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((0, Size::default())),
        Err(e) => return Err(e),
    };
    let log = match serde_json::from_slice::<Header>(&first) {
        Ok(header) => header.log,
        Err(e) => {
            // Every log that is left then follows.
            damages.push(Damage { file: SNAPSHOT.into(), line: 1, problem: e.to_string() });
            0
        }
    };
    Ok((log, read_lines(path, 1, each, damages)?))
}

/// Reads entries after the first `skip` lines; returns how long the file is without a last line that has no end.
fn read_lines<T: DeserializeOwned>(
    path: &Path,
    skip: u64,
    each: &mut impl FnMut(T),
    damages: &mut Vec<Damage>,
) -> io::Result<Size> {
    let (mut file, mut line, mut size) = (BufReader::new(File::open(path)?), Vec::new(), Size::default());
    while file.read_until(b'\n', &mut line)? > 0 {
        if line.last() != Some(&b'\n') {
            OpenOptions::new().write(true).open(path)?.set_len(size.octets)?;
            break;
        }
        size += Size { lines: 1, octets: line.len() as u64 };
        if size.lines > skip {
            match serde_json::from_slice(&line) {
                Ok(entry) => each(entry),
                Err(e) => {
                    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    damages.push(Damage { file, line: size.lines, problem: e.to_string() });
                }
            }
        }
        line.clear();
    }
    Ok(size)
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
