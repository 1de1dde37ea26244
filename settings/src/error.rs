//! Errors of the settings: one line each, in the words that the user sees.

use std::fmt;
use std::path::PathBuf;

/// The place of a value.
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
        /// The key with its parents, such as `exporter.redis.port`.
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

/// The settings cannot be used, so nothing is started.
///
/// The first eight texts are those of the package that this one replaces, with the place added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file does not exist.
    #[error("Configuration file not found: {}", .0.display())]
    NotFound(PathBuf),
    /// The path is a directory, a socket or the like.
    #[error("Path is not a file: {}", .0.display())]
    NotAFile(PathBuf),
    /// The file exists but cannot be read.
    #[error("configuration file {} cannot be read: {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's message.
        reason: String,
    },
    /// The text is not YAML.
    #[error("Invalid YAML in configuration file: {}:{line}: {message}", .path.display())]
    InvalidYaml {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The parser's message.
        message: String,
    },
    /// The root is a list, a text or nothing.
    #[error("Configuration file must contain a dictionary at the root level ({})", .0.display())]
    RootNotADictionary(PathBuf),
    /// `exporter:` is missing.
    #[error("Configuration must contain 'exporter' section ({})", .0.display())]
    NoExporterSection(PathBuf),
    /// `exporter:` contains something other than keys.
    #[error("'exporter' section must be a dictionary ({}:{line})", .path.display())]
    ExporterNotADictionary {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// Another section contains something other than keys.
    #[error("'{key}' must be a dictionary ({}:{line})", .path.display())]
    NotADictionary {
        /// The section, such as `exporter.redis`.
        key: String,
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// A value is out of its type or range.
    #[error("{origin} is {value}, allowed is {allowed}")]
    Value {
        /// The place of the value.
        origin: Origin,
        /// The value in quotes, or a word for it if it may contain a password.
        value: String,
        /// The allowed values.
        allowed: String,
    },
    /// Only one of two settings is set that must be set together.
    #[error("{set} is set and {missing} is not: set both or neither")]
    Pair {
        /// The key that is set.
        set: &'static str,
        /// The key that is missing.
        missing: &'static str,
    },
    /// Two settings exclude each other.
    #[error("{0}")]
    Conflict(String),
}
