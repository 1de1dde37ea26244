//! What can be wrong with the settings: one line each, and these are the words the user sees.

use std::fmt;
use std::path::PathBuf;

/// Where a value was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable.
    Variable(String),
    /// A key of the file, named from the root.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line of the value, from 1.
        line: u64,
        /// The key with its parents, as `exporter.redis.port`.
        key: String,
    },
    /// An option of the command line, with its dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line, key } => write!(f, "{}:{line}: {key}", path.display()),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The settings cannot be used; nothing is started.
///
/// The first eight texts are those of the package that this one replaces, with the place added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// There is no such file.
    #[error("Configuration file not found: {}", .0.display())]
    NotFound(PathBuf),
    /// A directory, a socket or the like.
    #[error("Path is not a file: {}", .0.display())]
    NotAFile(PathBuf),
    /// The file is there and cannot be read.
    #[error("configuration file {} cannot be read: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The text is not YAML.
    #[error("Invalid YAML in configuration file: {}:{line}: {message}", .path.display())]
    InvalidYaml {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What the parser says.
        message: String,
    },
    /// A list, a text or nothing.
    #[error("Configuration file must contain a dictionary at the root level ({})", .0.display())]
    RootNotADictionary(PathBuf),
    /// No `exporter:`.
    #[error("Configuration must contain 'exporter' section ({})", .0.display())]
    NoExporterSection(PathBuf),
    /// `exporter:` holds something else than keys.
    #[error("'exporter' section must be a dictionary ({}:{line})", .path.display())]
    ExporterNotADictionary {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// Another section holds something else than keys.
    #[error("'{key}' must be a dictionary ({}:{line})", .path.display())]
    NotADictionary {
        /// The section, as `exporter.redis`.
        key: String,
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// A value out of its type or range.
    #[error("{origin} is {value}, allowed is {allowed}")]
    Value {
        /// Where it was found.
        origin: Origin,
        /// The value in quotes, or a word for it where it may hold a password.
        value: String,
        /// What may stand there.
        allowed: String,
    },
    /// One of two settings that only work together is missing.
    #[error("{set} is set and {missing} is not: set both or neither")]
    Pair {
        /// The key that is there.
        set: &'static str,
        /// The key that is not.
        missing: &'static str,
    },
    /// Two settings that exclude each other.
    #[error("{0}")]
    Conflict(String),
}
