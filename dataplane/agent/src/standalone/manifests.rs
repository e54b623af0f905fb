//! Manifests from the directory; what is broken now goes on as it was when it was good.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::ReadDir;
use std::io;
use std::path::{Path, PathBuf};

use callgate_compile::manifests::{Problem, holds_documents, parse};
use callgate_compile::world::World;
use serde::{Deserialize, Serialize};

/// What outlives the process, by file name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// Last text that was YAML, whatever it said.
    yaml: BTreeMap<String, String>,
    /// Last text without any problem: an object that is refused after a restart goes on as it was there.
    sound: BTreeMap<String, String>,
}

/// The directory, and what was good of it.
#[derive(Debug, Clone)]
pub(super) struct Manifests {
    dir: PathBuf,
    saved: Saved,
    /// The files as they were last read.
    files: Vec<(String, String)>,
    /// The world as it was last compiled, in this run or the one before.
    world: World,
}

impl Manifests {
    pub(super) fn new(dir: &Path, saved: Saved) -> Self {
        let sound: Vec<_> = saved.sound.clone().into_iter().collect();
        let world = parse(&sound, callgate_crds::predefined()).world;
        Self { dir: dir.to_owned(), saved, files: Vec::new(), world }
    }

    /// To be saved after each `read`.
    pub(super) fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Whether the files are others than those last read; for file systems that do not tell. `unfinished` as in `read`.
    pub(super) fn changed(&self, unfinished: &BTreeSet<String>) -> bool {
        self.files(unfinished, &mut Vec::new()) != self.files
    }

    /// Reads everything anew, but for files that somebody is writing: those stay as they were last read.
    pub(super) fn read(&mut self, unfinished: &BTreeSet<String>) -> (World, Vec<Problem>) {
        let mut problems = Vec::new();
        let files = self.files(unfinished, &mut problems);
        let predefined = callgate_crds::predefined();
        let mut parsed = parse(&files, predefined);
        problems.extend(std::mem::take(&mut parsed.problems));
        let Saved { yaml, sound } = &mut self.saved;
        for texts in [&mut *yaml, &mut *sound] {
            texts.retain(|name, _| files.iter().any(|(file, _)| file == name));
        }
        let mut broken = std::mem::take(&mut parsed.broken_files);
        // Truncated, and perhaps written later: whoever wants the objects gone says so by removing the file.
        let emptied = files.iter().filter(|(name, text)| {
            !holds_documents(text) && yaml.get(name).is_some_and(|before| holds_documents(before))
        });
        for (name, _) in emptied {
            problems.push(problem(name, "is empty: remove the file to remove its objects"));
            broken.insert(name.clone());
        }
        if !broken.is_empty() {
            for name in &broken {
                let what = if yaml.contains_key(name) { "what it held before goes on" } else { "it is left out" };
                tracing::warn!(file = name, "is broken: {what}");
            }
            let mended = files.iter().map(|(name, text)| {
                // A broken file that never was good: what can be read of it counts.
                let text = if broken.contains(name) { yaml.get(name).unwrap_or(text) } else { text };
                (name.clone(), text.clone())
            });
            // With what is refused of the text before: it was refused then, too, and went on as it was.
            parsed = parse(&mended.collect::<Vec<_>>(), predefined);
        }
        for (name, text) in &files {
            if !broken.contains(name) {
                yaml.insert(name.clone(), text.clone());
            }
            if !problems.iter().any(|problem| problem.file == *name) {
                sound.insert(name.clone(), text.clone());
            }
        }
        for object in parsed.keep_refused(&self.world) {
            tracing::warn!(%object, "is refused: it goes on as it was");
        }
        problems.sort();
        self.files = files;
        self.world = parsed.world.clone();
        (parsed.world, problems)
    }

    /// Name and text of each manifest, sorted. What cannot be read keeps its last good text, what is unfinished that read last.
    fn files(&self, unfinished: &BTreeSet<String>, problems: &mut Vec<Problem>) -> Vec<(String, String)> {
        let paths = match std::fs::read_dir(&self.dir).and_then(|entries| listed(&self.dir, entries)) {
            Ok(paths) => paths,
            Err(error) => {
                let message = format!("cannot be read ({error}): make it readable; what it held before goes on");
                problems.push(problem(&self.dir.display().to_string(), message));
                return self.saved.yaml.clone().into_iter().collect();
            }
        };
        let mut files = Vec::new();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
            if !yaml || name.starts_with('.') || path.is_dir() {
                continue;
            }
            let good = || self.saved.yaml.get(&name);
            if unfinished.contains(&name) {
                let last = self.files.iter().find(|(file, _)| *file == name).map(|(_, text)| text);
                files.extend(last.or_else(good).map(|text| (name.clone(), text.clone())));
                continue;
            }
            match std::fs::read(&path).map(String::from_utf8) {
                Ok(Ok(text)) => files.push((name, text)),
                bad @ (Ok(Err(_)) | Err(_)) => {
                    let why = match bad {
                        Err(error) => format!("cannot be read ({error}): make it readable, or remove it"),
                        Ok(_) => "is not UTF-8 text; a manifest has to be".to_owned(),
                    };
                    problems.push(problem(&name, why));
                    files.extend(good().map(|text| (name.clone(), text.clone())));
                }
            }
        }
        files.sort();
        files
    }
}

/// Everything that is in `dir`, or nothing at all: half a list would read as files that are gone. So would the end of a list because
/// the directory has gone, which readdir does not tell from any other end.
fn listed(dir: &Path, entries: ReadDir) -> io::Result<Vec<PathBuf>> {
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    std::fs::metadata(dir)?;
    Ok(paths)
}

/// About a file as a whole.
fn problem(file: &str, message: impl Into<String>) -> Problem {
    Problem { file: file.to_owned(), line: 0, object: String::new(), field: String::new(), message: message.into() }
}

#[cfg(test)]
#[path = "manifests_tests.rs"]
mod tests;
