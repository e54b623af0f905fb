//! A file's documents, each with the line it begins on.

use serde_json::Value;

/// One document: its first line (1-based) and what it holds; null where it is empty.
pub(super) struct Document {
    pub(super) line: u32,
    /// Where it is a list in block style: the line on which each of its items begins.
    pub(super) items: Vec<u32>,
    pub(super) value: Result<Value, (u32, String)>,
}

/// Splits at `---` lines and parses each part by itself, so that one broken document does not hide the others. In YAML
/// such a line ends a document wherever it stands, also within a block of text.
pub(super) fn documents(text: &str) -> Vec<Document> {
    let mut parts: Vec<(u32, String)> = vec![(1, String::new())];
    for (number, line) in (1..).zip(text.lines()) {
        match (after_marker(line), parts.last_mut()) {
            (Some(rest), _) if rest.trim().is_empty() => parts.push((number + 1, String::new())),
            // The document begins on the line of its marker; blanks in the marker's place keep columns right.
            (Some(rest), _) => parts.push((number, format!("   {rest}\n"))),
            (None, Some((_, part))) => part.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    parts.into_iter().filter(|(_, part)| !is_empty(part)).map(|(line, part)| document(line, &part)).collect()
}

/// What follows on the line of a document's beginning or end; `None` for every other line.
fn after_marker(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."))?;
    (rest.is_empty() || rest.starts_with([' ', '\t'])).then_some(rest)
}

fn is_empty(part: &str) -> bool {
    part.lines().all(says_nothing)
}

fn says_nothing(line: &str) -> bool {
    line.trim().is_empty() || line.trim_start().starts_with('#')
}

fn document(line: u32, part: &str) -> Document {
    let length = part.lines().count().max(1) as u32;
    let value = serde_saphyr::from_str::<Value>(part).map_err(|error| {
        // An end that comes too early is reported one line after the last.
        let at = error.location().map_or(1, |location| location.line() as u32).clamp(1, length);
        (line + at - 1, words(&error.to_string()))
    });
    // The first line that says something, so that an editor lands on the object.
    let skip = part.lines().take_while(|line| says_nothing(line)).count();
    let items = match &value {
        Ok(Value::Object(fields)) => items(line, part, fields.get("items")),
        Ok(_) | Err(_) => Vec::new(),
    };
    Document { line: line + skip as u32, items, value }
}

/// Lines on which `items` begin in the document that begins on `line`; none where they cannot be told, as in flow style.
fn items(line: u32, part: &str, items: Option<&Value>) -> Vec<u32> {
    let begins = |text: &str| text.trim_start().starts_with("- ");
    let indent = |text: &str| text.len() - text.trim_start().len();
    let after = (line..).zip(part.lines()).skip_while(|(_, text)| text.trim_end() != "items:").skip(1);
    let after = after.skip_while(|(_, text)| says_nothing(text));
    let mut level = None;
    let found = after.filter(|(_, text)| begins(text) && indent(text) == *level.get_or_insert(indent(text)));
    let found: Vec<u32> = found.map(|(number, _)| number).collect();
    let count = items.and_then(Value::as_array).map_or(0, Vec::len);
    if found.len() == count { found } else { Vec::new() }
}

/// The first line of the parser's message without its place, which counts from the document's first line and not the
/// file's, and without advice to whoever calls the parser.
fn words(error: &str) -> String {
    let first = error.lines().next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let placed = message.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    let message = match placed {
        Some((place, message)) if place.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase() || b == b' ') => {
            message
        }
        Some(_) | None => message,
    };
    let message = message.split(", set ").next().unwrap_or(message);
    if message.is_empty() { "it cannot be parsed".to_owned() } else { message.to_owned() }
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

    #[test]
    fn a_key_that_is_there_twice_is_named_and_nothing_said_of_the_parsers_options() {
        let found = documents("a: 1\nb: {c: 1, c: 2}\n").remove(0).value;
        assert_eq!(found, Err((2, "duplicate mapping key: c".to_owned())));
    }

    #[test]
    fn a_document_may_begin_on_the_line_of_its_marker() {
        let found: Vec<(u32, Option<Value>)> = documents("--- {a: 1}\n--- # none\n...\n--- !!map\nb: 2\n")
            .into_iter()
            .map(|d| (d.line, d.value.ok()))
            .collect();
        assert_eq!(found, [(1, Some(serde_json::json!({"a": 1}))), (4, Some(serde_json::json!({"b": 2})))]);
    }

    #[test]
    fn an_error_has_the_line_of_the_file_and_says_nothing_of_another() {
        let found: Vec<_> = documents("a: 1\n---\n\nb: [\n").into_iter().filter_map(|d| d.value.err()).collect();
        let [(line, message)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(*line, 4);
        assert!(!message.contains("line") && !message.starts_with("error"), "{message}");
    }

    #[test]
    fn the_items_of_a_list_know_their_lines_where_each_has_one() {
        let lines = |text: &str| documents(text).remove(0).items;
        let kubectl = "apiVersion: v1\nitems:\n- kind: A\n  spec:\n    names:\n    - x\n- kind: B\nkind: List\n";
        assert_eq!(lines(kubectl), [3, 7]);
        assert_eq!(
            lines("# two\nkind: List\nitems:\n  # one\n  - kind: A\n    names:\n      - x\n  - kind: B\n"),
            [5, 8]
        );
        assert_eq!(lines("kind: List\nitems: [{kind: A}, {kind: B}]\n"), Vec::<u32>::new());
    }
}
