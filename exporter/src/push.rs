//! `push`: what a batch job has measured, into the registry that all share.
//!
//! # How it works
//!
//! As with a Pushgateway, a job's series carry the labels of its *group* (`job`, and what else is
//! given), and a push takes the place of what was pushed for that group before. A registry adds up
//! what writers say, so each push is a new writer, and what the one before left is deleted in the
//! same step in which the new value is written: nobody ever sees both, or neither. A push that is
//! cut off is done again, to the same end.
//!
//! The writer leaves at once; its values stay. So gauges are pushed in mode `sum`, which outlives its
//! writer, and so are infos and statesets.

mod family;
mod group;
mod protobuf;
mod text;

use std::time::Duration;

use metrics_model::{
    BatchHeader, BatchKind, BatchWriter, Epoch, ExposeRequest, FamilySpec, Format, Labels, Layout,
    PushStatus,
};

use crate::backend::{BackendError, RedisBackend, Replacement, shard_of};
use crate::settings::Settings;
use family::{Family, GAUGE, LabelPairs, Parsed, Series};
use group::{Group, Known};

/// How many series go at once: what deletes and writes them takes Redis about a millisecond.
const SERIES_AT_ONCE: usize = 500;
/// For how long the writer is waited for, if it is cut off.
const LEASE: Duration = Duration::from_mins(1);
/// How often a push begins again because the registry was replaced meanwhile.
const RESTARTS: u8 = 3;

/// What is pushed, and how.
#[derive(Debug)]
pub struct PushRequest {
    /// The file.
    pub bytes: Vec<u8>,
    /// Its format.
    pub format: PushFormat,
    /// `job` and what else tells this job's series from others'.
    pub labels: Vec<(String, String)>,
    /// Families that are not in the file stay.
    pub keeps_others: bool,
    /// How long a series outlives its last push; zero: for ever.
    pub ttl: Duration,
}

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushFormat {
    /// Whatever it looks like.
    Auto,
    /// Any of the text formats.
    Text,
    /// Protobuf messages with their lengths.
    Protobuf,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Families of the file.
    pub families: usize,
    /// Series of the file.
    pub series: usize,
    /// Series of the group that there are no more.
    pub removed: usize,
    /// Quantiles of summaries, which no registry keeps.
    pub quantiles: usize,
}

/// Why nothing, or not all, was pushed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum PushError {
    #[error("line {line}: {reason}")]
    Line { line: usize, reason: String },
    #[error("{family}: {reason}")]
    Family { family: String, reason: String },
    #[error("message {message}: {reason}")]
    Message { message: usize, reason: String },
    #[error("the file is neither text nor protobuf messages: {0}")]
    Format(String),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("{0} of the series were left out: METRICS.INFO counts them by reason")]
    LeftOut(u64),
    #[error("the registry was replaced again and again while it was written to")]
    Replaced,
    #[error("the system gives no random bytes")]
    NoRandomness,
}

impl PushError {
    /// Whether the file is wrong, and would be wrong another time.
    pub fn is_of_file(&self) -> bool {
        matches!(
            self,
            Self::Line { .. } | Self::Family { .. } | Self::Message { .. } | Self::Format(_)
        )
    }
}

/// Pushes a file to the Redis of the settings. `progress` is told how many series are done, and of
/// how many.
pub async fn push(
    settings: &Settings,
    request: &PushRequest,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Pushed, PushError> {
    let parsed = parse(&request.bytes, request.format)?;
    let redis = RedisBackend::new(settings)?;
    let families = of_group(parsed.families, &request.labels)?;
    let mut pushed = Pushed {
        families: families.len(),
        series: families.iter().map(|family| family.series.len()).sum(),
        removed: 0,
        quantiles: parsed.quantiles,
    };
    let names = families.iter().map(|family| family.name.clone());
    let mut known = Group::new(&request.labels)
        .find(&redis, request.keeps_others.then(|| names.collect()))
        .await?;
    let total = pushed.series;
    let mut done = 0;
    for shard in 0..redis.shards() {
        let mine: Vec<&Family> = families
            .iter()
            .filter(|family| shard_of(&spec(family), redis.shards()) == shard)
            .collect();
        push_shard(
            &redis,
            shard,
            &mine,
            request.ttl,
            &mut known,
            &mut |series| {
                done += series;
                progress(done.min(total), total);
            },
        )
        .await?;
    }
    for (family, labels) in known.into_series() {
        let shard = shard_of(&family.spec(), redis.shards());
        redis.delete(shard, (&family.name, &labels)).await?;
        pushed.removed += 1;
    }
    Ok(pushed)
}

fn parse(bytes: &[u8], format: PushFormat) -> Result<Parsed, PushError> {
    let text = std::str::from_utf8(bytes).map_err(|error| PushError::Format(error.to_string()));
    let is_text = |text: &&str| {
        !text
            .chars()
            .any(|c| c.is_control() && !c.is_ascii_whitespace())
    };
    match format {
        PushFormat::Text => text::parse(text?),
        PushFormat::Protobuf => protobuf::parse(bytes),
        PushFormat::Auto => match text.ok().filter(is_text) {
            Some(text) => text::parse(text),
            None => protobuf::parse(bytes),
        },
    }
}

/// The families with the group's labels on every series, checked as the registry will.
fn of_group(
    mut families: Vec<Family>,
    group: &[(String, String)],
) -> Result<Vec<Family>, PushError> {
    for family in &mut families {
        for series in &mut family.series {
            let is_other = |(name, _): &(String, String)| group.iter().all(|(own, _)| own != name);
            series.labels.retain(is_other);
            series.labels.extend_from_slice(group);
            series.labels.retain(|(_, value)| !value.is_empty());
            series.labels.sort_unstable();
            let pairs = series
                .labels
                .iter()
                .map(|(name, value)| (&**name, &**value));
            Labels::new(pairs).map_err(|error| PushError::Family {
                family: family.name.clone(),
                reason: error.to_string(),
            })?;
        }
    }
    Ok(families)
}

async fn push_shard(
    redis: &RedisBackend,
    shard: usize,
    families: &[&Family],
    ttl: Duration,
    known: &mut Known,
    progress: &mut dyn FnMut(usize),
) -> Result<(), PushError> {
    let series: Vec<(&Family, &Series)> = families
        .iter()
        .flat_map(|family| family.series.iter().map(move |series| (*family, series)))
        .collect();
    if series.is_empty() {
        return Ok(());
    }
    for _ in 0..RESTARTS {
        let mut run = Run::begin(redis, shard).await?;
        let chunks = chunks(&series);
        let mut is_replaced = false;
        for (number, chunk) in chunks.iter().enumerate() {
            let is_last = number + 1 == chunks.len();
            match run.send(chunk, ttl, is_last, known).await? {
                PushStatus::Ok | PushStatus::Dup => progress(chunk.len()),
                _ => {
                    is_replaced = true;
                    break;
                }
            }
        }
        if !is_replaced {
            return run.end().await;
        }
    }
    Err(PushError::Replaced)
}

/// One writer's life.
struct Run<'a> {
    redis: &'a RedisBackend,
    shard: usize,
    writer: Vec<u8>,
    epoch: Epoch,
    seq: u64,
    left_out: u64,
}

impl<'a> Run<'a> {
    async fn begin(redis: &'a RedisBackend, shard: usize) -> Result<Self, PushError> {
        let mut id = [0; 16];
        let flags = rustix::rand::GetRandomFlags::empty();
        rustix::rand::getrandom(&mut id, flags).map_err(|_| PushError::NoRandomness)?;
        let writer = format!("push:{:032x}", u128::from_be_bytes(id)).into_bytes();
        let lease_ms = LEASE.as_millis() as u64;
        // An empty batch without an epoch: to be told the epoch.
        let hello = BatchWriter::new().finish(BatchHeader::FULL);
        let told = redis
            .push(shard, &writer, 0, None, lease_ms, &hello)
            .await?;
        Ok(Self {
            redis,
            shard,
            writer,
            epoch: told.epoch,
            seq: 0,
            left_out: 0,
        })
    }

    /// Sends some series in the place of those that were pushed before.
    ///
    /// A command whose answer is lost is sent again, and must not delete what it has just written:
    /// so an empty batch goes before the deletions, and only if it is new are they done.
    async fn send(
        &mut self,
        chunk: &[(&Family, &Series)],
        ttl: Duration,
        is_last: bool,
        known: &mut Known,
    ) -> Result<PushStatus, PushError> {
        let mut deletions = Vec::new();
        for (family, series) in chunk {
            if known.take(family, &series.labels) {
                deletions.push((family.name.as_str(), series.labels.as_slice()));
            }
        }
        let kind = if self.seq == 0 {
            BatchKind::Full { forgotten_seq: 0 }
        } else {
            BatchKind::More
        };
        let header = |kind, last| BatchHeader {
            kind,
            last,
            registry_ttl_ms: 0,
        };
        let guard = BatchWriter::new().finish(header(kind, false));
        let batch = batch(chunk, ttl).finish(header(BatchKind::More, is_last));
        self.seq += 2;
        let by = Replacement {
            writer: &self.writer,
            seq: self.seq,
            epoch: self.epoch,
            lease: LEASE,
            guard: &guard,
            batch: &batch,
        };
        let reply = self.redis.replace(self.shard, &deletions, &by).await?;
        self.left_out += reply.left_out;
        Ok(reply.status)
    }

    async fn end(self) -> Result<(), PushError> {
        self.redis
            .leave(self.shard, &self.writer, self.seq, Some(self.epoch))
            .await?;
        match self.left_out {
            0 => Ok(()),
            left_out => Err(PushError::LeftOut(left_out)),
        }
    }
}

/// Series that fit into one batch each.
fn chunks<'a, 's>(
    mut series: &'a [(&'s Family, &'s Series)],
) -> Vec<&'a [(&'s Family, &'s Series)]> {
    let mut chunks = Vec::new();
    while !series.is_empty() {
        let mut length = series.len().min(SERIES_AT_ONCE);
        while length > 1 && !batch(&series[..length], Duration::ZERO).has_room() {
            length /= 2;
        }
        let (chunk, rest) = series.split_at(length);
        chunks.push(chunk);
        series = rest;
    }
    chunks
}

fn batch(chunk: &[(&Family, &Series)], ttl: Duration) -> BatchWriter {
    let mut writer = BatchWriter::new();
    let mut last_layout: Option<(&Layout, usize)> = None;
    let mut family: Option<(&Family, usize)> = None;
    for (of, series) in chunk {
        let number = match family {
            Some((known, number)) if std::ptr::eq(known, *of) => number,
            _ => writer.family(&spec(of)),
        };
        family = Some((of, number));
        let layout = series.layout.as_ref().map(|layout| match last_layout {
            Some((last, number)) if last == layout => number,
            _ => writer.layout(layout),
        });
        last_layout = series.layout.as_ref().zip(layout);
        let labels = series
            .labels
            .iter()
            .map(|(name, value)| (&**name, &**value));
        let ttl_ms = ttl.as_millis() as u64;
        writer.define(number, ttl_ms, labels, "", layout, &series.point, None);
    }
    writer
}

fn spec(family: &Family) -> FamilySpec<'_> {
    FamilySpec {
        name: &family.name,
        family_type: family.family_type,
        help: &family.help,
        unit: &family.unit,
    }
}
