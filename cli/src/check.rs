//! `check -f DIR`: what is wrong with manifests, offline.

use callgate_compile::manifests::Problem;
use serde::Serialize;

use crate::args::CheckArgs;
use crate::error::{Error, OK, PROBLEMS};
use crate::human::count;
use crate::manifests;
use crate::output::{self, Format, problem_table};
use crate::run::Io;

/// The answer as JSON writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckView {
    /// Objects of ours that could be read (predefined ones not counted).
    pub objects: u64,
    /// Sorted by file and line.
    pub problems: Vec<Problem>,
    /// What is worth knowing but stands in nobody's way, such as a rule that never decides; sorted likewise.
    pub notes: Vec<Problem>,
}

/// Runs the command.
///
/// # Errors
/// Files that cannot be read, or an output that cannot be written.
pub fn run(args: &CheckArgs, io: &mut Io<'_>) -> Result<u8, Error> {
    let manifests = manifests::load(&args.files, !args.cluster)?;
    let view = CheckView { objects: manifests.objects, problems: manifests.problems, notes: manifests.notes };
    match args.output {
        Format::Json => output::json(io.out, &view)?,
        Format::Text => write!(io.out, "{}", text(&view, args.cluster))?,
    }
    Ok(if view.problems.is_empty() { OK } else { PROBLEMS })
}

/// Problems, then notes, then one line that sums up, and says who would judge so.
fn text(view: &CheckView, cluster: bool) -> String {
    let judge = if cluster { "for a cluster" } else { "for a single host (--cluster: for a cluster)" };
    let mut blocks = Vec::new();
    if !view.problems.is_empty() {
        blocks.push(problem_table(&view.problems).to_string());
    }
    if !view.notes.is_empty() {
        blocks.push(format!("notes:\n{}", problem_table(&view.notes).headless().indented(2)));
    }
    let objects = count(view.objects, "object");
    blocks.push(match view.problems.len() {
        0 => format!("{objects}, no problems {judge}\n"),
        number => format!("{objects}, {} {judge}\n", count(number as u64, "problem")),
    });
    blocks.join("\n")
}
