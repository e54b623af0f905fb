//! Why a message is not a valid snapshot: the path of the field, and what is wrong with it.

/// A field that cannot be taken over from the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("NodeConfig{}{path}: {problem}", if path.is_empty() { "" } else { "." })]
pub struct ConvertError {
    /// Path from the snapshot down, such as `rules[3].destinations[0].prefix_length`; empty for the snapshot itself.
    pub path: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl ConvertError {
    /// An error about the value itself; callers add where it is with [`within`](Self::within).
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self { path: String::new(), problem: problem.into() }
    }

    /// An error about one field of the value.
    pub(super) fn field(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: name.into(), problem: problem.into() }
    }

    /// The same error, seen from the message that holds the value in `field`.
    pub(super) fn within(self, field: &str) -> Self {
        let path = if self.path.is_empty() { field.to_owned() } else { format!("{field}.{}", self.path) };
        Self { path, ..self }
    }
}
