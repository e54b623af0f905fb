//! Text or JSON.

use std::io::{self, Write};

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

/// One problem of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ProblemView {
    /// Relative to the directory.
    pub file: String,
    /// From 1; 0 is not known.
    pub line: u32,
    /// `Kind namespace/name`; empty where not even that can be read.
    pub object: String,
    /// Path of the field; empty where the whole document is meant.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl From<pb::Problem> for ProblemView {
    fn from(problem: pb::Problem) -> Self {
        let pb::Problem { file, line, message, object, field } = problem;
        Self { file, line, object, field, message }
    }
}

/// `FILE:LINE OBJECT FIELD MESSAGE`, in the order given.
pub fn problem_table(problems: &[ProblemView]) -> Table {
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
