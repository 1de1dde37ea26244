//! `push`: what a batch job has measured, into the registry that all share.
//!
//! # How it works
//!
//! As with a Pushgateway, a job's series carry the labels of its *group* (`job`, and what else is
//! given), and a push takes the place of what was pushed for that group before. The registry knows
//! which series a group has. One command, `METRICS.REPLACE`, gives it others: a page shows all of the
//! old ones or all of the new ones, and series of other groups and of applications are not looked at.
//! Of pushes that overlap the last one holds. Sent again, the command changes nothing.
//!
//! Where a registry is spread over several keys, each has its part of the group, and is replaced after
//! the other.

mod content;
mod reading;

use std::time::{Duration, SystemTime};

use metrics_model::{FamilySpec, MAX_HELP_BYTES};

use crate::backend::{BackendError, RedisBackend, Replacement, shard_of};
use content::{batches, with_labels};
use metrics_settings::Settings;
use reading::{Family, parse};
pub use reading::{LeftOut, PushFormat, ReadError};

/// How long Redis may take for one command: a million series take it some seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is pushed, and how.
#[derive(Debug)]
pub struct PushRequest {
    /// The file; not read where the group is deleted.
    pub bytes: Vec<u8>,
    /// Its format.
    pub format: PushFormat,
    /// `job` and what else tells this job's series from others'.
    pub labels: Vec<(String, String)>,
    /// Families that are not in the file stay.
    pub keeps_others: bool,
    /// The group goes, and nothing comes in its place.
    pub deletes: bool,
    /// How long a series outlives its last push; zero: for ever.
    pub ttl: Duration,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Families of the file.
    pub families: usize,
    /// Series of the file.
    pub series: usize,
    /// Series of the group that there are no more.
    pub removed: u64,
    /// What of the file no registry keeps.
    pub left_out: Vec<LeftOut>,
}

/// Why nothing was pushed.
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
    /// Whether the file is wrong, and would be wrong another time.
    pub fn is_of_file(&self) -> bool {
        !matches!(
            self,
            Self::Backend(_) | Self::Refused(_) | Self::RefusedPart(..)
        )
    }
}

/// Pushes a file to the Redis of the settings. `progress` gets how many series are done, and of how
/// many.
///
/// # Errors
///
/// The file is wrong, or Redis does not take it; then nothing has changed, but for other keys where a
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

/// What the registry has to say of the push is not said in the name of the connection.
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

/// Says of a family whose help the registry cuts.
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
