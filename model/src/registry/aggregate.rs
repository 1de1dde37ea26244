//! Reading: combines the values of many writers. Changes nothing.

use super::Registry;
use super::catalog::Catalog;
use super::catalog::series::{Gauge, Member, Total, folded};
use super::catalog::views::{SeriesEntry, SeriesView};
use crate::ids::{SeriesId, WriterId};
use crate::sum::ExactSum;
use crate::{
    AfterLeave, FamilyType, GaugeMode, Labels, NativeHistogram, Setting, number_text, upper_bound,
};

/// The reply of `METRICS.GET`: one series.
#[derive(Debug, Clone, PartialEq)]
pub enum Aggregate {
    /// A counter, or a gauge (in the per-writer modes the sum of what its writers show).
    Number(f64),
    /// A histogram, or a summary (without buckets).
    Buckets {
        /// Number of observations.
        count: u64,
        /// Sum of the observations.
        sum: f64,
        /// The text of each upper bound, and the number of observations up to it.
        buckets: Vec<(String, u64)>,
    },
}

/// Reads the numbers of series of one family.
#[derive(Debug)]
pub(crate) struct PlainNumbers<'a> {
    catalog: &'a Catalog,
    now_ms: u64,
}

impl PlainNumbers<'_> {
    /// Returns what a page shows of a series, at the cost of one value; `None` if more than the
    /// series has to be looked at.
    #[inline]
    pub(crate) fn number(&self, of: SeriesEntry<'_>) -> Option<f64> {
        if self.catalog.may_be_overdue(of.series, self.now_ms) {
            return None;
        }
        match &of.series.total {
            Total::Counter(sum) => Some(sum.value()),
            Total::Gauge(gauge) if gauge.live > 0 && gauge.odd == 0 && gauge.retired.is_none() => {
                Some(gauge.sum.value())
            }
            _ => None,
        }
    }
}

impl Registry {
    /// Returns the value of one series, or `None` if it has nothing to show.
    pub fn get(&self, now_ms: u64, family: &str, labels: &Labels) -> Option<Aggregate> {
        let family = self.catalog.family_named(family)?;
        let id = self.catalog.find_series(family, labels.as_str())?;
        if !self.catalog.has_total(id) {
            return None;
        }
        let family_type = self.catalog.families[family].family_type;
        let series = SeriesEntry {
            id,
            series: &self.catalog.series[id],
        };
        Some(match self.total_of(series, family_type, now_ms, &mut 0)? {
            SeriesView::Number(number) => Aggregate::Number(number),
            SeriesView::PerWriter(values) => {
                Aggregate::Number(sum_of(values.iter().map(|(_, value)| *value)))
            }
            SeriesView::Native(histogram) => Aggregate::Buckets {
                count: histogram.count(),
                sum: histogram.sum,
                buckets: cumulative(histogram),
            },
            SeriesView::Buckets(view) => {
                let mut count = 0;
                let texts = view.layout.texts().chain(["+Inf"]);
                let buckets = texts.zip(view.counts.iter()).map(|(bound, in_bucket)| {
                    count = in_bucket.wrapping_add(count);
                    (bound.to_owned(), count)
                });
                let mut buckets = buckets.collect::<Vec<_>>();
                if family_type == FamilyType::Summary {
                    buckets.clear();
                }
                Aggregate::Buckets {
                    count,
                    sum: view.sum,
                    buckets,
                }
            }
        })
    }

    /// Returns the number of the series that was created last.
    pub(crate) fn last_created_no(&self) -> u64 {
        self.catalog.last_created_no
    }

    /// Returns how to read the numbers of a family's series at that time, if most of them depend on
    /// nothing but the series.
    pub(crate) fn plain_numbers(
        &self,
        family_type: FamilyType,
        now_ms: u64,
    ) -> Option<PlainNumbers<'_>> {
        let is_plain = match family_type {
            FamilyType::Counter => true,
            FamilyType::Gauge(mode @ (GaugeMode::Sum | GaugeMode::LiveSum)) => {
                self.is_sum_kept(mode, now_ms)
            }
            _ => false,
        };
        (is_plain && !self.healing.may_leave_out()).then_some(PlainNumbers {
            catalog: &self.catalog,
            now_ms,
        })
    }

    /// Returns what a page shows of a series at that time, if anything; adds the number of visited
    /// values.
    #[expect(
        clippy::inline_always,
        reason = "the way of every sample: calls were a third of what it costs"
    )]
    #[inline(always)]
    pub(crate) fn view<'a>(
        &'a self,
        of: SeriesEntry<'a>,
        family_type: FamilyType,
        now_ms: u64,
        visited: &mut usize,
    ) -> Option<SeriesView<'a>> {
        if self.healing.is_undecided(of.series, &self.writers) {
            *visited += 1;
            return None;
        }
        self.total_of(of, family_type, now_ms, visited)
    }

    #[expect(
        clippy::inline_always,
        reason = "the way of every sample: calls were a third of what it costs"
    )]
    #[inline(always)]
    fn total_of<'a>(
        &'a self,
        of: SeriesEntry<'a>,
        family_type: FamilyType,
        now_ms: u64,
        visited: &mut usize,
    ) -> Option<SeriesView<'a>> {
        *visited += 1;
        if self.catalog.may_be_overdue(of.series, now_ms) {
            *visited += self.cost_of_overdue(of.id);
            if self.is_idle_for_too_long(of.id, now_ms) {
                return None;
            }
        }
        match &of.series.total {
            Total::Counter(sum) => Some(SeriesView::Number(sum.value())),
            Total::Gauge(gauge) => self.view_of_gauge(gauge, of.id, family_type, now_ms, visited),
            Total::Buckets(buckets) => {
                let values = buckets.parts.iter().map(|part| part.counts.len());
                *visited += values.sum::<usize>();
                Some(SeriesView::Buckets(self.catalog.join(buckets)))
            }
            Total::Native(native) => {
                *visited += native.histogram.len();
                Some(SeriesView::Native(&native.histogram))
            }
        }
    }

    fn view_of_gauge<'a>(
        &'a self,
        gauge: &'a Gauge,
        id: SeriesId,
        family_type: FamilyType,
        now_ms: u64,
        visited: &mut usize,
    ) -> Option<SeriesView<'a>> {
        let mode = family_type.gauge_mode()?;
        // A group's gauge has one value, in any mode.
        let has_writers = !gauge.members.is_empty() || !gauge.left_values.is_empty();
        if let (Some(number), false) = (gauge.retired, has_writers) {
            *visited += 1;
            return Some(SeriesView::Number(number));
        }
        if !mode.is_per_writer() {
            let number = self.fold(gauge, mode, id, now_ms, visited)?;
            return Some(SeriesView::Number(number));
        }
        *visited += gauge.members.len() + gauge.left_values.len();
        let values = self.per_writer(gauge, mode, id, now_ms);
        (!values.is_empty()).then_some(SeriesView::PerWriter(values))
    }

    /// In the modes that show each writer: returns some values of a series, and where it goes on;
    /// `None` at the end. A writer's place does not change while it has a value, so a writer that
    /// was there all the time appears exactly once.
    pub(crate) fn writers_of(
        &self,
        id: SeriesId,
        now_ms: u64,
        from: u64,
        at_most: usize,
    ) -> Option<(Vec<(&str, f64)>, u64)> {
        let series = &self.catalog.series[id];
        let (Total::Gauge(gauge), Some(mode)) = (
            &series.total,
            self.catalog.families[series.family]
                .family_type
                .gauge_mode(),
        ) else {
            return None;
        };
        if !self.catalog.has_total(id) || self.is_expired(id, now_ms) {
            return None;
        }
        let (from, members) = (from as usize, gauge.members.len());
        if from >= members + gauge.left_values.len() {
            return None;
        }
        let to = from.saturating_add(at_most);
        let shown = gauge
            .members
            .iter()
            .take(to)
            .skip(from)
            .filter(|member| member.writer != WriterId::NONE)
            .filter(|member| self.is_shown(member, mode, id, now_ms))
            .map(|member| (&*self.writers[member.writer].pid, member.value));
        let left_values = gauge
            .left_values
            .iter()
            .take(to.saturating_sub(members))
            .skip(from.saturating_sub(members))
            .filter(|left_value| left_value.until_ms > now_ms)
            .map(|left_value| (&*left_value.pid, left_value.value));
        Some((shown.chain(left_values).collect(), to as u64))
    }

    fn per_writer<'a>(
        &'a self,
        gauge: &'a Gauge,
        mode: GaugeMode,
        id: SeriesId,
        now_ms: u64,
    ) -> Vec<(&'a str, f64)> {
        let members = gauge
            .present()
            .filter(|member| self.is_shown(member, mode, id, now_ms))
            .map(|member| (&*self.writers[member.writer].pid, member.value));
        let left_values = gauge
            .left_values
            .iter()
            .filter(|left_value| left_value.until_ms > now_ms)
            .map(|left_value| (&*left_value.pid, left_value.value));
        members.chain(left_values).collect()
    }

    fn fold(
        &self,
        gauge: &Gauge,
        mode: GaugeMode,
        id: SeriesId,
        now_ms: u64,
        visited: &mut usize,
    ) -> Option<f64> {
        let is_sum = matches!(mode, GaugeMode::Sum | GaugeMode::LiveSum);
        if is_sum && self.is_sum_kept(mode, now_ms) && gauge.odd == 0 {
            let is_shown = gauge.live > 0 || gauge.retired.is_some();
            return is_shown.then(|| match gauge.retired {
                None => gauge.sum.value(),
                Some(retired) => with_retired(&gauge.sum, retired),
            });
        }
        // To fold takes several times as long as to show a number that is kept: some 40 ns for each
        // writer, and as much once.
        *visited += 2 + 2 * (gauge.members.len() + gauge.left_values.len());
        let shown = || {
            gauge
                .present()
                .filter(|m| self.is_shown(m, mode, id, now_ms))
        };
        let values = || shown().map(|member| member.value).chain(gauge.retired);
        if is_sum {
            return values().next().is_some().then(|| sum_of(values()));
        }
        let members = shown().map(|member| Setting {
            value: member.value,
            time: member.time,
            writer: &self.writers[member.writer].id,
        });
        let left_values = gauge
            .left_values
            .iter()
            .filter(|left_value| left_value.until_ms > now_ms);
        let left_values = left_values.map(|left_value| Setting {
            value: left_value.value,
            time: left_value.time,
            writer: &left_value.writer_id,
        });
        let settings = members.chain(left_values).chain(gauge.retired.map(folded));
        let mut set = settings.filter(|setting| !mode.is_timed() || setting.time > 0.0);
        let first = set.next()?;
        let all = set.try_fold(first, |one, other| mode.fold(one, other));
        all.map(|all| all.value)
    }

    /// Returns whether the sums of gauges in that mode, `sum` or `livesum`, are kept up to date,
    /// however many writers there are.
    fn is_sum_kept(&self, mode: GaugeMode, now_ms: u64) -> bool {
        if mode.is_live() {
            self.writers.is_settled_at(now_ms)
        } else {
            self.writers.unnamed == 0
        }
    }

    /// Returns whether a writer's value is visible, given the mode and the writer's phase.
    fn is_shown(&self, member: &Member, mode: GaugeMode, id: SeriesId, now_ms: u64) -> bool {
        if self.writers.is_settled_at(now_ms) {
            return member.is_live;
        }
        let writer = &self.writers[member.writer];
        if writer.unnamed.is_some() && writer.find(id).is_some_and(|at| writer.is_given_up(at)) {
            return false;
        }
        if mode.is_live() {
            return self.writers.is_live(writer, now_ms);
        }
        let ends_by_ttl = mode.after_leave() == AfterLeave::UntilTtl;
        if ends_by_ttl && let Some(gone_ms) = self.writers.gone_ms(writer, now_ms, &self.limits) {
            let ttl_ms = self.catalog.ttl_ms(id);
            let stays = if ttl_ms > 0 {
                ttl_ms
            } else {
                self.limits.writer_retention_ms
            };
            return gone_ms.saturating_add(stays) > now_ms;
        }
        true
    }
}

/// Returns the exact sum of the writers' present values and of what other writers left.
fn with_retired(sum: &ExactSum, retired: f64) -> f64 {
    if !retired.is_finite() {
        return retired;
    }
    let mut all = sum.clone();
    all.add(retired);
    all.value()
}

/// Returns the sum of any numbers: exact if all are finite; otherwise the sum of those that are
/// not.
fn sum_of(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut odd) = (ExactSum::default(), 0.0);
    for value in values {
        if value.is_finite() {
            sum.add(value);
        } else {
            odd += value;
        }
    }
    if odd == 0.0 { sum.value() } else { odd }
}

/// Returns the buckets of a native histogram from the lowest bound up: the text of each upper
/// bound, and the number of observations up to it.
fn cumulative(histogram: &NativeHistogram) -> Vec<(String, u64)> {
    let bound = |number: i32| upper_bound(histogram.schema, number);
    let below_zero = histogram.negative.iter().rev();
    let below_zero = below_zero.map(|(number, count)| (-bound(number - 1), *count));
    let zero =
        (histogram.zero_count > 0).then_some((histogram.zero_threshold, histogram.zero_count));
    let above_zero = histogram.positive.iter();
    let above_zero = above_zero.map(|(number, count)| (bound(*number), *count));
    let mut total = 0;
    let mut buckets = below_zero
        .chain(zero)
        .chain(above_zero)
        .map(|(bound, count)| {
            total = count.wrapping_add(total);
            (number_text(bound), total)
        })
        .collect::<Vec<_>>();
    if buckets.last().is_none_or(|(bound, _)| bound != "+Inf") {
        buckets.push(("+Inf".to_owned(), total));
    }
    buckets
}
