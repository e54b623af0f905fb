//! Explanations without an agent (placeholder until compile lands).
