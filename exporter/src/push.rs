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
//! If a registry is spread over several keys, each has its part of the group. Every key first checks
//! its part (`CHECK`), and only if none refuses it they are replaced, one after the other. A key can
//! still fail in between, by another write or because its server is gone: then the error says how
//! many keys have the new series. The same push again completes it.

mod content;
mod reading;

use std::time::{Duration, SystemTime};

use metrics_model::{FamilySpec, MAX_HELP_BYTES, passed_name};

use metrics_agent::shard_of;

use crate::backend::{BackendError, RedisBackend, Replacement};
use content::{batches, with_labels};
use metrics_settings::Settings;
use reading::{Family, parse};
pub use reading::{LeftOut, Place, PushFormat, ReadError};

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
pub struct PushResult {
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
    #[error("{place}: {one} and {other} become one series, because the group sets {labels}")]
    Merged {
        place: Place,
        one: String,
        other: String,
        labels: String,
    },
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("redis refuses the push, and nothing has changed: {0}")]
    Refused(String),
    #[error(
        "{reason}; {done} of {of} keys have the new series already, the others still have the old ones: the same push again completes it"
    )]
    Part {
        reason: Box<Self>,
        done: usize,
        of: usize,
    },
    #[error("redis refuses a part of the push: {0}")]
    RefusedPart(String),
}

impl PushError {
    /// Returns whether the file is the reason, so that another attempt would fail too.
    pub fn is_of_file(&self) -> bool {
        matches!(self, Self::File(_) | Self::Empty | Self::Merged { .. })
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
) -> Result<PushResult, PushError> {
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
    let mut pushed = PushResult {
        families: families.len(),
        series: families.iter().map(|family| family.series.len()).sum(),
        removed: 0,
        left_out,
    };
    let redis = RedisBackend::with_patience(settings, PATIENCE)?;
    let parts = parts(&families, request.ttl, redis.shards());
    let replacement = |part| Replacement {
        group: &request.labels,
        batches: part,
        keeps_others: request.keeps_others,
    };
    if let [_, _, ..] = parts.as_slice() {
        for (shard, part) in parts.iter().enumerate() {
            let replacement = replacement(&part.batches);
            let checked = redis.check_replacement(shard, &replacement).await;
            checked.map_err(refused)?;
        }
    }
    let (mut done, total) = (0, pushed.series);
    progress(done, total);
    for (shard, part) in parts.iter().enumerate() {
        let replaced = redis.replace(shard, &replacement(&part.batches)).await;
        let replaced = replaced.map_err(|error| partly(error, shard, parts.len()))?;
        pushed.removed += replaced.removed;
        done += part.series;
        progress(done, total);
    }
    Ok(pushed)
}

/// The part of a push that one key gets.
struct KeyPart {
    batches: Vec<Vec<u8>>,
    series: usize,
}

fn parts(families: &[Family], ttl: Duration, shards: usize) -> Vec<KeyPart> {
    let now = SystemTime::now();
    let part = |shard| {
        let of_shard = |family: &&Family| {
            let name = passed_name(&family.name, family.family_type);
            shard_of(&spec(family, &name), shards) == shard
        };
        let mine: Vec<&Family> = families.iter().filter(of_shard).collect();
        KeyPart {
            batches: batches(&mine, ttl, now),
            series: mine.iter().map(|family| family.series.len()).sum(),
        }
    };
    (0..shards).map(part).collect()
}

/// Turns a registry's refusal into an error about the push, and not about the connection.
fn refused(error: BackendError) -> PushError {
    match refusal(&error) {
        Some(reason) => PushError::Refused(reason),
        None => error.into(),
    }
}

/// Does the same after some of the keys have been replaced.
fn partly(error: BackendError, done: usize, of: usize) -> PushError {
    if done == 0 {
        return refused(error);
    }
    let reason = Box::new(match refusal(&error) {
        Some(reason) => PushError::RefusedPart(reason),
        None => error.into(),
    });
    PushError::Part { reason, done, of }
}

/// Returns the reason for which a registry refuses a command.
fn refusal(error: &BackendError) -> Option<String> {
    match error {
        BackendError::Refused { message, .. } => message.strip_prefix("ERR ").map(str::to_owned),
        _ => None,
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

/// Returns the declaration of a family with this name, which [`passed_name`] has given.
fn spec<'f>(family: &'f Family, name: &'f str) -> FamilySpec<'f> {
    FamilySpec {
        name,
        family_type: family.family_type,
        help: &family.help,
        unit: &family.unit,
    }
}
