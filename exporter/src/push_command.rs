//! `push`: reads the command line and the file, and shows the progress.

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use metrics_model::{LabelError, Labels};

use crate::{LeftOut, PushError, PushFormat, PushRequest, push};
use metrics_settings::Settings;

/// Time between two updates of the line on the terminal.
const REDRAW: Duration = Duration::from_millis(100);
/// Maximum number of left-out samples that are logged, one line each.
const MOST_NAMED: usize = 100;

/// Writes the metrics of a batch job to the Redis that applications share.
///
/// The file is in Prometheus' text format, `OpenMetrics` or protobuf. Each series gets the label
/// `job`, and those of --instance and --label: together they name a group. A push replaces what was
/// pushed for the same group before, in one step; pushing a file twice changes nothing. Metrics of
/// applications and of other groups stay as they are: a series that belongs to them is an error.
/// Infos, statesets and families without a type become gauges; quantiles of summaries are left out,
/// and named; time stamps are refused.
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct PushWords {
    /// The file; without one, or for -, standard input
    file: Option<PathBuf>,

    /// The name of the job: the label `job` of each series
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    job: String,

    /// The label `instance` of each series
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,

    /// Another label of the group; may be given more than once
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,

    /// Replace only the families of the file; others of the group stay
    #[arg(long)]
    keep_others: bool,

    /// Remove what was pushed for the group; no file is read
    #[arg(long, conflicts_with_all = ["file", "keep_others", "ttl", "format"])]
    delete: bool,

    /// How long series outlive their last push, in seconds; 0 = for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    ttl: u32,

    /// The format of the file
    #[arg(long, value_enum, default_value_t = FileFormat::Auto)]
    format: FileFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FileFormat {
    /// Detected from the content
    Auto,
    /// Prometheus' text format, or OpenMetrics
    Text,
    /// Protobuf messages, each preceded by its length
    Protobuf,
}

/// The reason why nothing was pushed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushFailure {
    #[error("{file} cannot be read: {reason}")]
    Unreadable { file: String, reason: io::Error },
    #[error("{file}: {reason}")]
    File {
        file: String,
        reason: Box<PushError>,
    },
    #[error("--label is {0:?}, allowed is NAME=VALUE, each name once")]
    Label(String),
    #[error("the labels of the group: {0}")]
    Group(LabelError),
    #[error(transparent)]
    Push(PushError),
}

impl PushWords {
    pub(crate) fn run(
        &self,
        runtime: &tokio::runtime::Runtime,
        settings: &Settings,
    ) -> Result<(), PushFailure> {
        let labels = self.labels()?;
        let file = match self.file.as_deref() {
            Some(path) if path != Path::new("-") => path.display().to_string(),
            _ => "standard input".to_owned(),
        };
        let request = PushRequest {
            bytes: self.read().map_err(|reason| PushFailure::Unreadable {
                file: file.clone(),
                reason,
            })?,
            format: match self.format {
                FileFormat::Auto => PushFormat::Auto,
                FileFormat::Text => PushFormat::Text,
                FileFormat::Protobuf => PushFormat::Protobuf,
            },
            labels,
            keeps_others: self.keep_others,
            deletes: self.delete,
            ttl: Duration::from_secs(self.ttl.into()),
        };
        let mut progress = Progress::new();
        let pushed = runtime.block_on(push(settings, &request, &mut |done, of| {
            progress.show(done, of);
        }));
        progress.clear();
        let pushed = pushed.map_err(|reason| {
            if reason.is_of_file() {
                PushFailure::File {
                    file,
                    reason: Box::new(reason),
                }
            } else {
                PushFailure::Push(reason)
            }
        })?;
        warn_of(&pushed.left_out);
        tracing::info!(
            "pushed {} series of {} families, {} that were pushed before are gone",
            pushed.series,
            pushed.families,
            pushed.removed
        );
        Ok(())
    }

    fn labels(&self) -> Result<Vec<(String, String)>, PushFailure> {
        let mut labels = vec![("job".to_owned(), self.job.clone())];
        if let Some(instance) = &self.instance {
            labels.push(("instance".to_owned(), instance.clone()));
        }
        for label in &self.label {
            let wrong = || PushFailure::Label(label.clone());
            let (name, value) = label.split_once('=').ok_or_else(wrong)?;
            if name.is_empty() || labels.iter().any(|(known, _)| known == name) {
                return Err(wrong());
            }
            labels.push((name.to_owned(), value.to_owned()));
        }
        labels.retain(|(_, value)| !value.is_empty());
        let pairs = labels.iter().map(|(name, value)| (&**name, &**value));
        Labels::new(pairs).map_err(PushFailure::Group)?;
        Ok(labels)
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        if self.delete {
            return Ok(Vec::new());
        }
        match self.file.as_deref() {
            Some(path) if path != Path::new("-") => std::fs::read(path),
            _ => {
                let mut bytes = Vec::new();
                io::stdin().lock().read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

/// Logs the parts of the file that no registry stores.
fn warn_of(left_out: &[LeftOut]) {
    for LeftOut { sample, reason } in left_out.iter().take(MOST_NAMED) {
        tracing::warn!("left out: {sample}: {reason}");
    }
    if let Some(more @ 1..) = left_out.len().checked_sub(MOST_NAMED) {
        tracing::warn!("left out: {more} more, for the like reasons");
    }
}

/// A line on the terminal, if there is one.
struct Progress {
    is_shown: bool,
    drawn: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self {
            is_shown: io::stderr().is_terminal(),
            drawn: None,
        }
    }

    fn show(&mut self, done: usize, of: usize) {
        let is_new = self.drawn.is_none_or(|drawn| drawn.elapsed() > REDRAW);
        if self.is_shown && is_new {
            self.drawn = Some(Instant::now());
            self.write(&format!("\r{done} of {of} series"));
        }
    }

    fn clear(&mut self) {
        if self.drawn.take().is_some() {
            self.write("\r\x1b[K");
        }
    }

    fn write(&mut self, text: &str) {
        // Without a terminal the line is not shown any more.
        self.is_shown = io::stderr().write_all(text.as_bytes()).is_ok();
    }
}
