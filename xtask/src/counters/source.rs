//! Counters and what they count, out of comments in source.

use anyhow::{Context, Result, bail};

use super::{PAGE, text};

/// Where counters stand.
pub(super) enum Source {
    /// A `counters!` block; its names get a beginning in status.
    Block(&'static str, &'static str),
    /// Names with one of these beginnings in the text of a program.
    Names(&'static str, &'static [&'static str]),
}

/// A counter and what it counts.
pub(super) type Counter = (String, String);

impl Source {
    /// Each with the comment above it. Fails where there is none, and where a counter has no comment.
    pub(super) fn counters(&self) -> Result<Vec<Counter>> {
        let (path, found) = match self {
            Self::Block(path, beginning) => (path, block(&text(path)?, beginning)),
            Self::Names(path, beginnings) => (path, names(&text(path)?, beginnings)),
        };
        let found = found.with_context(|| format!("{path}: counters for {PAGE}"))?;
        if found.is_empty() {
            bail!("{path} has no counters any more: change SECTIONS in xtask/src/counters/mod.rs");
        }
        Ok(found)
    }
}

/// Fields of `pub struct Counters`, each with its doc comment.
fn block(source: &str, beginning: &str) -> Result<Vec<Counter>> {
    let fields = source.split_once("pub struct Counters {\n").context("no `pub struct Counters {`")?.1;
    let fields = fields.split_once("\n    }").context("`pub struct Counters {` has no end")?.0;
    commented(fields.lines(), "///", |line| {
        line.strip_suffix(',').map(|name| (name.to_owned(), format!("{beginning}{name}")))
    })
}

/// String literals with one of these beginnings, each with the comment above its line.
fn names(source: &str, beginnings: &[&str]) -> Result<Vec<Counter>> {
    let product = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    commented(product.lines(), "//", |line| {
        let name = line.split('"').nth(1)?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let is_one = is_name && beginnings.iter().any(|beginning| name.starts_with(beginning));
        is_one.then(|| (line.to_owned(), name.to_owned()))
    })
}

/// What `read` finds a counter in, with the lines of comment directly above; (what it was found in, its name).
fn commented<'a>(
    lines: impl Iterator<Item = &'a str>,
    mark: &str,
    read: impl Fn(&str) -> Option<(String, String)>,
) -> Result<Vec<Counter>> {
    let (mut comment, mut found) = (Vec::new(), Vec::new());
    for line in lines.map(str::trim) {
        if let Some(words) = line.strip_prefix(mark) {
            comment.push(words.trim());
            continue;
        }
        if let Some((at, name)) = read(line) {
            if comment.is_empty() {
                bail!("`{at}` has no comment above it that says what it counts");
            }
            found.push((name, comment.join(" ")));
        }
        comment.clear();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(found: &[(&str, &str)]) -> Vec<Counter> {
        found.iter().map(|(name, about)| ((*name).to_owned(), (*about).to_owned())).collect()
    }

    #[test]
    fn a_blocks_fields_have_their_comments_on_one_line_and_a_beginning() {
        let source = "macro!(pub struct $Counters { $name });\ncounters! {\n    /// All.\n    pub struct Counters {\n        /// One\n        /// more.\n        \
                      one,\n        /// Two.\n        two,\n    }\n}\n/// Other.\nthree,\n";
        let found = block(source, "shared_").expect("counters");
        assert_eq!(found, pairs(&[("shared_one", "One more."), ("shared_two", "Two.")]));
    }

    #[test]
    fn names_in_a_program_have_the_comment_directly_above_and_only_those_with_the_beginning_count() {
        let source = "// Not this.\n\n    // Links\n    // now.\n    push((\"fast_links\", 1));\n    strip(\"other\");\n#[cfg(test)]\nmod tests {\n\"fast_x\"";
        assert_eq!(names(source, &["fast_"]).expect("counters"), pairs(&[("fast_links", "Links now.")]));
    }

    #[test]
    fn a_counter_without_a_comment_is_an_error_that_names_it() {
        let error = block("pub struct Counters {\n        /// One.\n        one,\n        two,\n    }\n", "")
            .expect_err("bare");
        assert_eq!(error.to_string(), "`two` has no comment above it that says what it counts");
    }
}
