//! How many entries of batches were left out, by reason.

/// The reason why an entry of a batch was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The registry has as many series as its limit allows.
    SeriesLimit,
    /// A label text is longer than the limit allows.
    LabelBytes,
    /// A label name is wrong or reserved.
    Labels,
    /// A family name is wrong or reserved.
    Name,
    /// The family exists with another type, or its sample names belong to another.
    Conflict,
    /// Memory is full.
    Memory,
    /// A counter or bucket is lower than before.
    Decrease,
    /// The value does not fit the series.
    Value,
    /// The index was never defined, was retired, or was left out before.
    Index,
    /// A native histogram is coarser than its family allows.
    Schema,
    /// An exemplar's labels, value or time are wrong.
    Exemplar,
    /// The total would be too large for its type.
    Overflow,
    /// A text is too long, or there are too many buckets.
    Size,
}

impl Reason {
    /// Every reason.
    pub const EVERY: [Self; 13] = [
        Self::SeriesLimit,
        Self::LabelBytes,
        Self::Labels,
        Self::Name,
        Self::Conflict,
        Self::Memory,
        Self::Decrease,
        Self::Value,
        Self::Index,
        Self::Schema,
        Self::Exemplar,
        Self::Overflow,
        Self::Size,
    ];

    /// Returns the value of the label `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Self::SeriesLimit => "max_series",
            Self::LabelBytes => "max_label_bytes",
            Self::Labels => "labels",
            Self::Name => "name",
            Self::Conflict => "conflict",
            Self::Memory => "oom",
            Self::Decrease => "decrease",
            Self::Value => "value",
            Self::Index => "index",
            Self::Schema => "schema",
            Self::Exemplar => "exemplar",
            Self::Overflow => "overflow",
            Self::Size => "size",
        }
    }
}

/// The number of entries that were left out, by reason.
#[derive(Debug, Clone, Default)]
pub(super) struct Rejected([u64; Reason::EVERY.len()]);

impl Rejected {
    /// Adds to the number of entries that were left out for a reason.
    pub(super) fn add(&mut self, reason: Reason, count: u64) {
        let all = &mut self.0[reason as usize];
        *all = all.saturating_add(count);
    }

    /// Returns the reasons that there were, each with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::EVERY
            .into_iter()
            .zip(self.0)
            .filter(|(_, count)| *count > 0)
    }

    /// Returns every number, in the order of [`Reason::EVERY`].
    pub(super) fn numbers(&self) -> &[u64] {
        &self.0
    }

    pub(super) fn numbers_mut(&mut self) -> &mut [u64] {
        &mut self.0
    }
}
