//! A file's documents, each with the line it begins on.

use serde_json::Value;

/// One document: its first line (1-based) and what it holds; null where it is empty.
pub(super) struct Document {
    pub(super) line: u32,
    pub(super) value: Result<Value, (u32, String)>,
}

/// Splits at `---` lines and parses each part by itself, so that one broken document does not hide the others.
pub(super) fn documents(text: &str) -> Vec<Document> {
    let mut parts: Vec<(u32, String)> = vec![(1, String::new())];
    for (index, line) in text.lines().enumerate() {
        let marker = line == "---" || line.starts_with("--- ") || line.starts_with("---\t") || line == "...";
        if marker {
            parts.push((index as u32 + 2, String::new()));
        } else if let Some((_, part)) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts.into_iter().filter(|(_, part)| !is_empty(part)).map(|(line, part)| document(line, &part)).collect()
}

fn is_empty(part: &str) -> bool {
    part.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

fn document(line: u32, part: &str) -> Document {
    let value = serde_saphyr::from_str::<Value>(part).map_err(|error| {
        let at = error.location().map_or(1, |location| location.line());
        let words = error.to_string();
        let first = words.lines().next().unwrap_or("not YAML").to_owned();
        (line + (at.max(1) as u32) - 1, first)
    });
    // The first line that says something, so that an editor lands on the object.
    let skip = part.lines().take_while(|line| line.trim().is_empty() || line.trim_start().starts_with('#')).count();
    Document { line: line + skip as u32, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_know_where_they_begin_and_comments_are_none() {
        let text = "# only a comment\n---\na: 1\n---\n\n# why\nb: 2\n--- # again\nc: [\n";
        let found: Vec<(u32, bool)> = documents(text).iter().map(|d| (d.line, d.value.is_ok())).collect();
        assert_eq!(found, [(3, true), (7, true), (9, false)]);
    }
}
