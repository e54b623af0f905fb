//! Text or JSON.

use std::io::{self, Write};

use callgate_compile::manifests::Problem;
use callgate_proto::pb;
use clap::ValueEnum;
use serde::Serialize;

use crate::table::{Align, Table};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned tables for people.
    Text,
    /// One JSON document (`calls -w`: one a line); the shapes are in docs/cli.md.
    Json,
}

/// Writes one JSON document, indented.
///
/// # Errors
/// Where `out` cannot be written.
pub fn json(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Writes one JSON document on one line and flushes it, for streams.
///
/// # Errors
/// Where `out` cannot be written.
pub fn json_line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A problem of a manifest as an agent tells it.
pub fn problem(told: pb::Problem) -> Problem {
    let pb::Problem { file, line, message, object, field } = told;
    Problem { file, line, object, field, message }
}

/// `None` for a text that is empty, as protobuf tells of what is not there.
pub fn there(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// `FILE:LINE OBJECT FIELD MESSAGE`, in the order given.
pub fn problem_table(problems: &[Problem]) -> Table {
    let mut table = Table::new(&["FILE:LINE", "OBJECT", "FIELD", "MESSAGE"].map(|title| (title, Align::Left)));
    let or_dash = |text: &str| if text.is_empty() { "-".into() } else { text.to_owned() };
    for problem in problems {
        let place = match problem.line {
            0 => problem.file.clone(),
            line => format!("{}:{line}", problem.file),
        };
        table.row([place, or_dash(&problem.object), or_dash(&problem.field), problem.message.clone()]);
    }
    table
}
