//! The initial parts of an exporter's state.

use metrics_settings::Settings;
use metrics_store::{Control, Facts, Snapshots, StoreError};

use super::files::{FilesBoot, Role};
use crate::stores::Directory;

/// The initial parts of an exporter's state.
#[derive(Debug)]
pub struct Beginning {
    /// The settings of the instance.
    pub settings: Settings,
    pub(crate) instance: String,
    pub(crate) facts: Facts,
    pub(crate) control: Control,
    pub(crate) snapshots: Snapshots,
    /// File mode: the directory.
    pub(crate) files: Option<FilesBoot>,
}

impl Beginning {
    /// Returns those of a directory's reader without an arbiter: it has no Gunicorn, and its memory
    /// is its own.
    pub fn as_reader(settings: Settings, directory: Directory) -> Result<Self, StoreError> {
        Ok(Self {
            settings,
            instance: String::new(),
            facts: Facts::default(),
            control: Control::create()?,
            snapshots: Snapshots::create()?,
            files: Some(FilesBoot {
                role: Role::Reader,
                directory: Ok(directory),
            }),
        })
    }
}
