//! The journal of the ALG's durable state: JSON lines, appended before they take effect, compacted in the background.
//!
//! `calls.snapshot` begins with the number N of the log that follows it; the state is the snapshot and then logs N, N+1, ...
//! Compaction turns to log N+1 first and writes the snapshot N+1 afterwards, in a thread of its own, so that the packet path
//! never waits for it; a crash between the two leaves the older snapshot and both logs, which are the same state.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::file::create;

const SNAPSHOT: &str = "calls.snapshot";
const LOG: &str = "calls.log.";

/// A log shorter than this is not worth compacting, lines.
const SHORT: usize = 4096;

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
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    number: u64,
    log: File,
    /// Lines in the current log.
    lines: usize,
    /// Bytes of them: whatever is behind these was written only in part.
    length: u64,
    /// Entries of the last snapshot.
    snapshot: usize,
    pending: Vec<u8>,
    pending_lines: usize,
    /// Something could not be written: only a new snapshot makes the files whole again.
    incomplete: bool,
    compaction: Option<JoinHandle<io::Result<()>>>,
    /// How a compaction has ended that nobody was told of yet.
    failed: Option<io::Error>,
}

impl Journal {
    /// Reads what is there and opens it for more. A last line without its end (the process died while writing it, so it
    /// never took effect) is cut off silently; any other line that cannot be read is skipped and reported.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn open<T: DeserializeOwned>(dir: &Path) -> io::Result<(Self, Vec<T>, Vec<Damage>)> {
        let mut entries = Vec::new();
        let mut damages = Vec::new();
        let first = read_snapshot(&dir.join(SNAPSHOT), &mut entries, &mut damages)?;
        let snapshot = entries.len();
        let mut lines = 0;
        let mut number = first;
        for log in logs(dir)? {
            if log < first {
                // Compaction died before it could remove it.
                fs::remove_file(dir.join(format!("{LOG}{log}")))?;
            } else {
                lines = read_lines(&dir.join(format!("{LOG}{log}")), 0, &mut entries, &mut damages)?;
                number = log;
            }
        }
        let log = open_log(dir, number)?;
        let length = log.metadata()?.len();
        let journal = Self {
            dir: dir.to_owned(),
            number,
            log,
            lines,
            length,
            snapshot,
            pending: Vec::new(),
            pending_lines: 0,
            incomplete: false,
            compaction: None,
            failed: None,
        };
        Ok((journal, entries, damages))
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
        self.lines += self.pending_lines;
        match &result {
            Ok(()) => self.length += self.pending.len() as u64,
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
        self.compaction.is_none() && (self.incomplete || self.lines > SHORT.max(4 * self.snapshot))
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
        (self.lines, self.length) = (0, 0);
        self.snapshot = entries.len();
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
        result
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

fn write_snapshot<T: Serialize>(dir: &Path, log: u64, entries: &[T]) -> io::Result<()> {
    let temporary = dir.join("calls.snapshot.new");
    let mut file = BufWriter::new(create(&temporary)?);
    serde_json::to_writer(&mut file, &Header { log })?;
    file.write_all(b"\n")?;
    for entry in entries {
        serde_json::to_writer(&mut file, entry)?;
        file.write_all(b"\n")?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?;
    fs::rename(temporary, dir.join(SNAPSHOT))?;
    for old in logs(dir)?.into_iter().filter(|n| *n < log) {
        fs::remove_file(dir.join(format!("{LOG}{old}")))?;
    }
    Ok(())
}

/// Returns the number of the log that follows; 0 without a snapshot.
fn read_snapshot<T: DeserializeOwned>(path: &Path, entries: &mut Vec<T>, damages: &mut Vec<Damage>) -> io::Result<u64> {
    let mut first = Vec::new();
    match File::open(path) {
        Ok(file) => BufReader::new(file).read_until(b'\n', &mut first)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
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
    read_lines(path, 1, entries, damages)?;
    Ok(log)
}

/// Reads entries after the first `skip` lines; returns how many lines there are.
fn read_lines<T: DeserializeOwned>(
    path: &Path,
    skip: usize,
    entries: &mut Vec<T>,
    damages: &mut Vec<Damage>,
) -> io::Result<usize> {
    let bytes = fs::read(path)?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    if whole < bytes.len() {
        OpenOptions::new().write(true).open(path)?.set_len(whole as u64)?;
    }
    let mut lines = 0;
    for line in bytes[..whole].split_inclusive(|b| *b == b'\n') {
        lines += 1;
        if lines <= skip {
            continue;
        }
        match serde_json::from_slice(line) {
            Ok(entry) => entries.push(entry),
            Err(e) => {
                let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                damages.push(Damage { file, line: lines, problem: e.to_string() });
            }
        }
    }
    Ok(lines)
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
