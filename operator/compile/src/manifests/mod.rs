//! Manifests as text in, a `World` and the problems found on the way out.
use serde::Serialize;

/// Something wrong with a manifest; printed as `FILE:LINE OBJECT FIELD MESSAGE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file's name as it was given.
    pub file: String,
    /// 1-based line: of the field where it is known, else of the document.
    pub line: u32,
    /// `IpRule pos/tills`; empty where not even that can be read.
    pub object: String,
    /// Path of the field: `spec.services[0].name`; empty where the whole document is meant.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}
