//! The heir: one store for what many dead writers have not sent.
//!
//! # How it works
//!
//! While the shared registry is away, a dead writer waits for it with all its values. When many wait,
//! those of which nothing is in flight are put together: the heir's store has, for each series, the
//! sum of what none of them has sent, and for each of them its id and last seq, so that it can still
//! take its leave. The heir is a writer like one that has ended: it sends what it has, and leaves.
//!
//! # Why nothing is counted twice
//!
//! The heir's store takes the place of the others in one step, which the arbiter does: it holds
//! either them or the heir. Until it says that it is done, neither is heard of in the registry. An
//! exporter that is killed in between has a successor that is given the ones or the other.
//!
//! # What it costs
//!
//! A registry that is rolled back to a time before a writer's last acknowledged batch, in which that
//! writer had lived, cannot be told again what was acknowledged later; nor is the last value of a
//! dead writer's gauge passed on that has a `pid` label, if it was not sent before.

use metrics_model::{FamilyType, GaugeMode, Point};
use metrics_store::{Series, StoreError, StoreFile, StoreReader, WorkerStore};

use super::shard::{LateLeave, SharedLeave, epoch_from_text, epoch_to_text};
use crate::backend::shard_of;

/// The family of the records by which the heir takes leave for others; hidden.
const LEAVES: &str = "__leaves";

/// Adds to an heir's store what a writer has not sent, and its leaves.
pub(crate) fn bequeath(
    heir: &WorkerStore,
    reader: &StoreReader,
    shards: usize,
    leaves: &[LateLeave],
) -> Result<(), StoreError> {
    for number in 0..reader.len() {
        let view = reader.series(number);
        if view.family.is_hidden() {
            continue;
        }
        let shard = shard_of(&view.family.spec(), shards);
        let (now, acked) = (reader.point(number), reader.acked(shard, number));
        if now.is_same(&acked) || !outlives(view.family.family_type) {
            continue;
        }
        let family = heir.family(&view.family.spec(), view.family.layout.as_ref())?;
        let labels: Vec<_> = view
            .labels
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let series = heir.series(&family, &labels)?;
        add(series, view.family.family_type, &now, &acked);
    }
    let spec = metrics_model::FamilySpec::new(LEAVES, FamilyType::Counter);
    let family = heir.family(&spec, None)?;
    for LateLeave { shard, leave } in leaves {
        let writer = String::from_utf8_lossy(&leave.writer);
        let (shard, epoch) = (shard.to_string(), epoch_to_text(leave.epoch));
        let labels = [("writer", &*writer), ("shard", &*shard), ("epoch", &*epoch)];
        heir.series(&family, &labels)?.set(0, leave.seq as f64);
    }
    Ok(())
}

/// The leaves that an heir has to say.
pub(crate) fn leaves_in(reader: &StoreReader) -> Vec<LateLeave> {
    let read = |number: usize| {
        let view = reader.series(number);
        let label = |wanted: &str| {
            let mut labels = view.labels.iter();
            labels.find_map(|(name, value)| (&**name == wanted).then_some(&**value))
        };
        let Point::Scalar(seq) = reader.point(number) else {
            return None;
        };
        let leave = SharedLeave {
            writer: label("writer")?.as_bytes().to_vec(),
            seq: seq as u64,
            epoch: epoch_from_text(label("epoch").unwrap_or_default()),
        };
        let shard = label("shard")?.parse().ok()?;
        Some(LateLeave { shard, leave })
    };
    reader.find(LEAVES).filter_map(read).collect()
}

/// A new heir, into which nothing was put yet.
pub(crate) fn open(file: &StoreFile) -> Result<WorkerStore, StoreError> {
    file.duplicate()?.adopt()
}

/// Whether anything of a family stays when its writer has ended.
fn outlives(family_type: FamilyType) -> bool {
    match family_type {
        FamilyType::Gauge(mode) => matches!(
            mode,
            GaugeMode::Sum | GaugeMode::Min | GaugeMode::Max | GaugeMode::MostRecent
        ),
        FamilyType::Counter | FamilyType::Histogram | FamilyType::Summary => true,
        FamilyType::NativeHistogram | FamilyType::Info | FamilyType::StateSet => false,
    }
}

fn add(series: Series, family_type: FamilyType, now: &Point, acked: &Point) {
    match (now, acked) {
        (Point::Scalar(now), Point::Scalar(acked)) => {
            let had = series.get(0);
            match family_type.gauge_mode() {
                Some(GaugeMode::Min) if had != 0.0 => series.set(0, had.min(*now)),
                Some(GaugeMode::Max) if had != 0.0 => series.set(0, had.max(*now)),
                Some(GaugeMode::Min | GaugeMode::Max) => series.set(0, *now),
                _ => series.add(0, now - acked),
            }
        }
        (
            Point::Buckets { sum, counts },
            Point::Buckets {
                sum: acked_sum,
                counts: acked_counts,
            },
        ) => {
            series.add(0, sum - acked_sum);
            for (cell, (now, acked)) in counts.iter().zip(acked_counts).enumerate() {
                series.add(1 + cell, now.saturating_sub(*acked) as f64);
            }
        }
        (Point::Timed { value, time }, _) if *time >= series.get_timed().1 => {
            series.set_timed(*value, *time);
        }
        _ => {}
    }
}
