//! What the rulesets are: deterministic, and only elements differ when only sources do.
