//! How much there may be of what costs a node or the operator: one value, so that tests come to its end with a handful of objects.

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Numbers a node has to tell flows apart by.
    pub tags_of_node: usize,
    /// Entries that rules may have in the table of one node's kernel.
    pub entries_of_node: usize,
    /// Entries that the rules of one namespace may come to, wherever they are.
    pub entries_of_namespace: usize,
    /// Services that the groups of one namespace may come to, each group for itself.
    pub leaves_of_namespace: usize,
    /// Steps that are taken to find out which rules of one namespace are shadowed.
    pub steps_of_namespace: usize,
    /// Rules that lists of rules may have that nobody uses any more, before they are forgotten.
    pub spare_in_lists: usize,
}

impl Default for Limits {
    /// Those of the product.
    fn default() -> Self {
        Self {
            // 11 bits of the connection mark, without 0 (no rule) and 2047 (kept by the agent).
            tags_of_node: 2046,
            // As much as an agent puts there in a few seconds and holds in memory with ease.
            entries_of_node: 100_000,
            // What the operator has to look at for it.
            entries_of_namespace: 50_000,
            // Some hundredths of a second and half a megabyte, whenever an object changes.
            leaves_of_namespace: 50_000,
            // Each of a thousand rules compared with each; some hundredths of a second.
            steps_of_namespace: 4_000_000,
            // 4 MB.
            spare_in_lists: 1_000_000,
        }
    }
}
