//! Text that must not be shown.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A password. It is sent only where it is needed; `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Text that is shown in its place.
    pub const HIDDEN: &str = "<hidden>";

    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(super) fn hide(&mut self) {
        Self::HIDDEN.clone_into(&mut self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::HIDDEN)
    }
}
