//! `push`: writes the metrics of a batch job into the shared registry.
//!
//! # How it works
//!
//! As with a Pushgateway, a job's series have the labels of its *group* (`job`, and others that are
//! given). A push replaces what was pushed for that group before. The registry knows which series a
//! group has. One command, `METRICS.REPLACE`, replaces them: a page shows all of the old ones or
//! all of the new ones, and series of other groups and of applications stay as they are. If pushes
//! overlap, the last one counts. Repeating the command changes nothing.
//!
//! If a registry is spread over several keys, each has its part of the group, and they are replaced
//! one after the other.

mod content;
mod reading;

use std::time::{Duration, SystemTime};

use metrics_model::{FamilySpec, MAX_HELP_BYTES};

use crate::backend::{BackendError, RedisBackend, Replacement, shard_of};
use content::{batches, with_labels};
use metrics_settings::Settings;
use reading::{Family, parse};
pub use reading::{LeftOut, PushFormat, ReadError};

/// Time limit of one command: a million series take Redis some seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// The arguments of a push.
#[derive(Debug)]
pub struct PushRequest {
    /// The file's bytes; ignored if the group is deleted.
    pub bytes: Vec<u8>,
    /// Its format.
    pub format: PushFormat,
    /// `job` and the other labels of the group.
    pub labels: Vec<(String, String)>,
    /// Whether families that are not in the file stay.
    pub keeps_others: bool,
    /// Whether the group is deleted and not replaced.
    pub deletes: bool,
    /// How long a series outlives its last push; zero: for ever.
    pub ttl: Duration,
}

/// The result of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Number of families in the file.
    pub families: usize,
    /// Number of series in the file.
    pub series: usize,
    /// Number of the group's series that were removed.
    pub removed: u64,
    /// Parts of the file that no registry stores.
    pub left_out: Vec<LeftOut>,
}

/// The reason why nothing was pushed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum PushError {
    #[error(transparent)]
    File(#[from] ReadError),
    #[error("there is no sample in it; --delete removes what was pushed for the group before")]
    Empty,
    #[error("{one} and {other} become one series, because the group sets {labels}")]
    Merged {
        one: String,
        other: String,
        labels: String,
    },
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("redis refuses the push, and nothing has changed: {0}")]
    Refused(String),
    #[error("redis refuses a part of the push: {0}; {1} of {2} keys have the new series already")]
    RefusedPart(String, usize, usize),
}

impl PushError {
    /// Returns whether the file is the reason, so that another attempt would fail too.
    pub fn is_of_file(&self) -> bool {
        !matches!(
            self,
            Self::Backend(_) | Self::Refused(_) | Self::RefusedPart(..)
        )
    }
}

/// Pushes a file to the Redis of the settings. `progress` gets the number of finished series, and
/// of all.
///
/// # Errors
///
/// The file is wrong, or Redis refuses it. Nothing has changed then, except in other keys if a
/// registry is spread over several.
pub async fn push(
    settings: &Settings,
    request: &PushRequest,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Pushed, PushError> {
    let (families, left_out) = if request.deletes {
        (Vec::new(), Vec::new())
    } else {
        let parsed = parse(&request.bytes, request.format)?;
        if parsed.families.is_empty() {
            return Err(PushError::Empty);
        }
        let mut left_out = parsed.left_out;
        left_out.extend(parsed.families.iter().filter_map(too_long));
        (parsed.families, left_out)
    };
    let families = with_labels(families, &request.labels)?;
    let mut pushed = Pushed {
        families: families.len(),
        series: families.iter().map(|family| family.series.len()).sum(),
        removed: 0,
        left_out,
    };
    let redis = RedisBackend::with_patience(settings, PATIENCE)?;
    let (total, shards) = (pushed.series, redis.shards());
    let mut done = 0;
    for shard in 0..shards {
        let mine: Vec<&Family> = families
            .iter()
            .filter(|family| shard_of(&spec(family), shards) == shard)
            .collect();
        progress(done, total);
        let replacement = Replacement {
            group: &request.labels,
            batches: &batches(&mine, request.ttl, SystemTime::now()),
            keeps_others: request.keeps_others,
        };
        let replaced = redis.replace(shard, &replacement).await;
        pushed.removed += replaced
            .map_err(|error| refused(error, shard, shards))?
            .removed;
        done += mine.iter().map(|family| family.series.len()).sum::<usize>();
        progress(done, total);
    }
    Ok(pushed)
}

/// Turns a registry's refusal into an error about the push, and not about the connection.
fn refused(error: BackendError, done: usize, shards: usize) -> PushError {
    let BackendError::Refused { message, .. } = &error else {
        return error.into();
    };
    match message.strip_prefix("ERR ") {
        None => error.into(),
        Some(reason) if done == 0 => PushError::Refused(reason.to_owned()),
        Some(reason) => PushError::RefusedPart(reason.to_owned(), done, shards),
    }
}

/// Returns a note about a family whose help text the registry cuts.
fn too_long(family: &Family) -> Option<LeftOut> {
    let is_too_long = family.help.len() > MAX_HELP_BYTES;
    is_too_long.then(|| LeftOut {
        sample: format!("the end of the help of {}", family.name),
        reason: format!("{MAX_HELP_BYTES} bytes are kept"),
    })
}

fn spec(family: &Family) -> FamilySpec<'_> {
    FamilySpec {
        name: &family.name,
        family_type: family.family_type,
        help: &family.help,
        unit: &family.unit,
    }
}
