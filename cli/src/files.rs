//! Manifests from a directory or a file, as text.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Name (relative to the directory) and text of every `*.yaml` and `*.yml` in `path`, sorted by name; hidden files and
/// directories below are left out. Where `path` is a file, that one; where it is `-`, standard input.
///
/// # Errors
/// What cannot be read, is not UTF-8, or a directory without any manifest.
pub fn read(path: &Path) -> Result<Vec<(String, String)>, Error> {
    if path.as_os_str() == "-" {
        let text = io::read_to_string(io::stdin()).map_err(|error| unreadable(path, &error))?;
        return Ok(vec![("standard input".to_owned(), text)]);
    }
    let meta = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !meta.is_dir() {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        return Ok(vec![(name, text(path)?)]);
    }
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| unreadable(path, &error))? {
        let entry = entry.map_err(|error| unreadable(path, &error))?.path();
        // Follows links: a mounted ConfigMap is a directory of links.
        if is_manifest(&entry) && entry.is_file() {
            names.push(entry);
        }
    }
    if names.is_empty() {
        let problem = "has no *.yaml or *.yml file; pass the directory that holds the manifests".into();
        return Err(Error::Files { path: path.to_owned(), problem });
    }
    names.sort();
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    names.iter().map(|file| Ok((name(file), text(file)?))).collect()
}

fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    !hidden && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn text(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
    String::from_utf8(bytes).map_err(|_| {
        let problem = "is not UTF-8 text; a manifest has to be".into();
        Error::Files { path: path.to_owned(), problem }
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let problem = match error.kind() {
        io::ErrorKind::NotFound => "does not exist; pass the directory that holds the manifests".into(),
        _ => format!("cannot be read: {error}"),
    };
    Error::Files { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_read_in_order_of_their_names_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, text) in
            [("b.yml", "b"), ("a.yaml", "a"), (".hidden.yaml", "h"), ("notes.txt", "n"), ("c.yaml.bak", "c")]
        {
            fs::write(at(name), text).unwrap();
        }
        fs::create_dir(at("below.yaml")).unwrap();
        fs::write(at("below.yaml").join("d.yaml"), "d").unwrap();
        std::os::unix::fs::symlink(at("notes.txt"), at("link.yaml")).unwrap();
        let expected = [("a.yaml", "a"), ("b.yml", "b"), ("link.yaml", "n")].map(|(n, t)| (n.into(), t.into()));
        assert_eq!(read(dir.path()).unwrap(), expected);
        assert_eq!(read(&at("notes.txt")).unwrap(), [("notes.txt".into(), "n".into())]);
    }

    #[test]
    fn what_cannot_be_read_is_named_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let said = |path: &Path| read(path).unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "DIR");
        let none = "DIR: has no *.yaml or *.yml file; pass the directory that holds the manifests";
        assert_eq!(said(dir.path()), none);
        let missing = "DIR/x: does not exist; pass the directory that holds the manifests";
        assert_eq!(said(&dir.path().join("x")), missing);
        fs::write(dir.path().join("y.yaml"), [0xff, 0xfe]).unwrap();
        assert_eq!(said(dir.path()), "DIR/y.yaml: is not UTF-8 text; a manifest has to be");
    }
}
