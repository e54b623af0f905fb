//! How much is compared: one step is about as long as it takes to look at one value.

/// Counts steps up to a number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    taken: usize,
    most: usize,
}

impl Steps {
    /// None taken, of so many.
    pub(crate) fn of(most: usize) -> Self {
        Self { taken: 0, most }
    }

    /// For what is not counted.
    pub(crate) fn endless() -> Self {
        Self::of(usize::MAX)
    }

    /// Takes some more. What has been begun may go beyond the end; whoever begins something asks [`Self::are_left`] first.
    pub(crate) fn take(&mut self, steps: usize) {
        self.taken = self.taken.saturating_add(steps);
    }

    /// Whether something may be begun.
    pub(crate) fn are_left(&self) -> bool {
        self.taken < self.most
    }
}
