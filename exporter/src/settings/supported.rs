//! What is read and checked, but not done by this version.

use super::{HttpSettings, Settings, SettingsError};

impl Settings {
    /// Whether this version does all that these settings ask for. Called before anything starts:
    /// an endpoint that was meant to ask for a password must not be served without.
    pub fn check_supported(&self) -> Result<(), SettingsError> {
        let defaults = HttpSettings::default();
        let http = &self.http;
        let asked = [
            (
                !http.skip_paths.is_empty(),
                "exporter.http.skip_paths",
                "leave it out",
            ),
            (
                !http.skip_methods.is_empty(),
                "exporter.http.skip_methods",
                "leave it out",
            ),
            (
                http.group_status,
                "exporter.http.group_status",
                "leave it out",
            ),
            (
                http.buckets != defaults.buckets,
                "exporter.http.buckets",
                "leave it out",
            ),
            (
                http.size_buckets != defaults.size_buckets,
                "exporter.http.size_buckets",
                "leave it out",
            ),
            (http.exemplars, "exporter.http.exemplars", "leave it out"),
        ];
        asked
            .into_iter()
            .find(|(asked, ..)| *asked)
            .map_or(Ok(()), |(_, key, instead)| {
                Err(SettingsError::NotSupported { key, instead })
            })
    }
}
