//! Removes what a run before has left, or at least takes its calls from it: nobody looks after them any more.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use callgate_pptp::Now;

use super::pins::Pins;
use super::program::{self, Attached};

/// Between two attempts, ms.
const PAUSE: u64 = 5_000;

/// Removes what an agent with this table has left: program, map, links. What cannot be removed carries no call any more, where its
/// map can be reached: a call that ends would go on by it, and later its packets would reach another client.
///
/// # Errors
/// What could not be removed, and why.
pub fn remove(root: &Path, table: &str) -> Result<(), String> {
    let pins = Pins::of(root, table).map_err(|error| error.to_string())?;
    let emptied = pins.maps().into_iter().try_for_each(|(map, ours)| program::empty(&map, ours));
    let links = pins.links();
    let mut left = Vec::new();
    if !links.is_empty() {
        let routes = crate::netlink::Routes::open().map_err(|error| error.to_string())?;
        for (link, hook) in links {
            let detached = program::detach(link, Attached::named(hook), Some(&pins), &routes);
            left.extend(detached.err().map(|error| format!("link {link}: {error}")));
        }
    }
    if left.is_empty() {
        // Behind the links: until they are gone, the map is found by its name.
        left.extend(pins.remove_all().err().map(|error| error.to_string()));
    }
    let Some(first) = left.first() else { return Ok(()) };
    let more = if left.len() > 1 { format!(" (and {} more)", left.len() - 1) } else { String::new() };
    Err(match emptied {
        Ok(()) => format!("{first}{more}; it carries no call any more"),
        Err(why) => format!(
            "{first}{more}; calls that have ended go on by it, and later their packets may reach another client: its map cannot be \
             emptied either: {why}"
        ),
    })
}

/// A removal that has failed, and is tried again in a thread of its own: packets do not wait for it.
pub(super) struct Removal {
    root: PathBuf,
    table: String,
    attempt: Option<JoinHandle<Result<(), String>>>,
    again: Now,
}

impl Removal {
    /// Tries it; what has failed, and why.
    pub(super) fn attempt(root: &Path, table: &str, now: Now) -> Option<(Self, String)> {
        let why = remove(root, table).err()?;
        let (root, table) = (root.to_owned(), table.to_owned());
        Some((Self { root, table, attempt: None, again: now.after(PAUSE) }, why))
    }

    /// When it is to be looked at.
    pub(super) fn deadline(&self) -> Now {
        self.again
    }

    /// Looks at the attempt under way, and begins the next one if it has failed. What came of one that is over.
    pub(super) fn work(&mut self, now: Now) -> Option<Result<(), String>> {
        if now < self.again {
            return None;
        }
        self.again = now.after(PAUSE);
        if self.attempt.as_ref().is_some_and(|attempt| !attempt.is_finished()) {
            return None;
        }
        let result =
            self.attempt.take().map(|attempt| attempt.join().unwrap_or_else(|_| Err("it has panicked".to_owned())));
        if !matches!(result, Some(Ok(()))) {
            let (root, table) = (self.root.clone(), self.table.clone());
            self.attempt =
                std::thread::Builder::new().name("remove".to_owned()).spawn(move || remove(&root, &table)).ok();
        }
        result
    }
}
