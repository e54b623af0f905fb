//! Manifests from the directory; what is broken now goes on as it was when it was good.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use callgate_compile::manifests::{Parsed, Problem, parse};
use callgate_compile::world::World;

/// The directory, and what was good of it.
pub(super) struct Manifests {
    dir: PathBuf,
    /// Last text of each file that was YAML.
    good: BTreeMap<String, String>,
    /// The world as it was last compiled.
    world: Option<World>,
}

impl Manifests {
    pub(super) fn new(dir: &Path, good: BTreeMap<String, String>) -> Self {
        Self { dir: dir.to_owned(), good, world: None }
    }

    /// Last text of each file that was YAML, to be saved.
    pub(super) fn good(&self) -> &BTreeMap<String, String> {
        &self.good
    }

    /// Reads everything anew.
    pub(super) fn read(&mut self) -> (World, Vec<Problem>) {
        let mut problems = Vec::new();
        let files = self.files(&mut problems);
        let predefined = callgate_crds::predefined();
        let mut parsed = parse(&files, predefined);
        problems.extend(std::mem::take(&mut parsed.problems));
        let names: std::collections::BTreeSet<&String> = files.iter().map(|(name, _)| name).collect();
        self.good.retain(|name, _| names.contains(name));
        if !parsed.broken_files.is_empty() {
            let mended: Vec<(String, String)> = files
                .iter()
                .map(|(name, text)| {
                    let broken = parsed.broken_files.contains(name);
                    // A broken file that never was good: what can be read of it counts.
                    let text = if broken { self.good.get(name).unwrap_or(text) } else { text };
                    (name.clone(), text.clone())
                })
                .collect();
            for name in &parsed.broken_files {
                let what = if self.good.contains_key(name) { "what it held before goes on" } else { "it is left out" };
                tracing::warn!(file = name, "is broken: {what}");
            }
            let refused = parsed.refused.clone();
            parsed = Parsed { refused, ..parse(&mended, predefined) };
        }
        for (name, text) in &files {
            if !problems.iter().any(|problem| problem.file == *name && problem.message.starts_with("is not YAML")) {
                self.good.insert(name.clone(), text.clone());
            }
        }
        if let Some(previous) = &self.world {
            for object in parsed.keep_refused(previous) {
                tracing::warn!(%object, "is refused: it goes on as it was");
            }
        }
        problems.sort();
        self.world = Some(parsed.world.clone());
        (parsed.world, problems)
    }

    /// Name and text of each manifest, sorted. What cannot be read keeps its last good text.
    fn files(&self, problems: &mut Vec<Problem>) -> Vec<(String, String)> {
        let mut problem = |file: &str, message: String| {
            problems.push(Problem {
                file: file.to_owned(),
                line: 0,
                object: String::new(),
                field: String::new(),
                message,
            });
        };
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) => {
                let message = format!("cannot be read ({error}): make it readable; what it held before goes on");
                problem(&self.dir.display().to_string(), message);
                return self.good.clone().into_iter().collect();
            }
        };
        let mut files = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
            if !yaml || name.starts_with('.') || path.is_dir() {
                continue;
            }
            match std::fs::read(&path).map(String::from_utf8) {
                Ok(Ok(text)) => files.push((name, text)),
                bad @ (Ok(Err(_)) | Err(_)) => {
                    let why = match bad {
                        Err(error) => format!("cannot be read ({error}): make it readable, or remove it"),
                        Ok(_) => "is not UTF-8 text; a manifest has to be".to_owned(),
                    };
                    problem(&name, why);
                    files.extend(self.good.get(&name).map(|text| (name, text.clone())));
                }
            }
        }
        files.sort();
        files
    }
}
