//! How much a page may hold and cost.

/// What a page may hold, and what it holds so far.
pub(super) struct Budget {
    pub(super) bytes: usize,
    pub(super) values: usize,
    pub(super) visited: usize,
    pub(super) series: usize,
}

impl Budget {
    pub(super) fn is_spent(&self, bytes: usize) -> bool {
        bytes >= self.bytes || self.visited >= self.values || self.series == 0
    }

    pub(super) fn visit(&mut self, values: usize) {
        self.visited = self.visited.saturating_add(values);
    }

    pub(super) fn spend(&mut self, values: usize) {
        self.visit(values);
        self.series = self.series.saturating_sub(1);
    }
}
