//! What happens to a family when its declaration changes: its type or mode, its bounds, its help
//! text.
//!
//! # How it works
//!
//! A declaration is *held* by the live writers that own a series of it. Each family counts them: all,
//! by help text, and by bucket layout. What a batch declares anew takes effect once no live writer
//! holds the old one:
//!
//! - **Type and mode.** Until then the new definitions are left out ([`Reason::Conflict`]). Then the
//!   old family is deleted whole, as METRICS.DEL does it, in the batch that brings the new one.
//! - **Bounds.** Layouts live side by side while writers hold them. One that is not held, and is not
//!   the newest, is taken out of every total of the family; a series that has no other ends.
//! - **Help.** Numbers do not depend on it, so the definitions are accepted, and the text is replaced.
//!
//! Families that were declared or written by hand (METRICS.DECLARE, INC, SET and OBSERVE without a
//! writer) or pushed as a group have no writer whose end the registry could wait for: they stay
//! until METRICS.DEL.
//!
//! # What it costs
//!
//! A few numbers for each family, updated when a writer begins or ends to own a series. Each write,
//! and a primary's timer, removes old bounds from a few series.
//!
//! [`Reason::Conflict`]: crate::Reason::Conflict

use super::series::{Family, Total};
use crate::FamilySpec;
use crate::ids::{FamilyId, LayoutId, SeriesId, WriterId};
use crate::name::kept_name;
use crate::registry::Registry;
use crate::registry::catalog::Catalog;

/// The holders of a family's declaration.
#[derive(Debug, Clone, Default)]
pub(in crate::registry) struct Holders {
    /// Number of owned entries that were defined with the shown help text, and with the next one:
    /// the former at index [`help_side`](Self::help_side).
    by_help: [u32; 2],
    /// Index of the shown help text; it changes when the next text becomes the shown one.
    pub(in crate::registry) help_side: bool,
    /// The next help text, shown once no live writer holds the present one.
    pub(in crate::registry) next_help: Option<Box<str>>,
    /// Bucket layouts, each with the number of owned entries that have it, which is never zero.
    by_layout: Vec<(LayoutId, u32)>,
    /// The layout whose first holder came last.
    pub(in crate::registry) newest_layout: Option<LayoutId>,
    /// Whether a command without a writer has written to the family.
    pub(in crate::registry) is_by_hand: bool,
    /// Number of its series that belong to groups.
    pub(in crate::registry) grouped: u32,
}

impl Holders {
    pub(in crate::registry) fn heap_bytes(&self) -> usize {
        let next_help = self.next_help.as_ref().map_or(0, |help| help.len());
        next_help + self.by_layout.capacity() * size_of::<(LayoutId, u32)>()
    }

    /// Returns the layouts that live writers hold.
    pub(in crate::registry) fn layouts(&self) -> impl Iterator<Item = LayoutId> + '_ {
        self.by_layout.iter().map(|(layout, _)| *layout)
    }

    fn is_held(&self) -> bool {
        self.by_help != [0, 0]
    }

    /// Adds or removes an entry.
    pub(in crate::registry) fn count(
        &mut self,
        help_side: bool,
        layout: Option<LayoutId>,
        holds: bool,
    ) {
        let step = if holds { 1 } else { u32::MAX };
        let place = &mut self.by_help[usize::from(help_side)];
        *place = place.wrapping_add(step);
        let Some(layout) = layout else { return };
        match self.by_layout.binary_search_by_key(&layout, |(of, _)| *of) {
            Ok(at) => {
                self.by_layout[at].1 = self.by_layout[at].1.wrapping_add(step);
                if self.by_layout[at].1 == 0 {
                    self.by_layout.remove(at);
                }
            }
            Err(at) if holds => self.by_layout.insert(at, (layout, 1)),
            Err(_) => {}
        }
    }

    fn holds_layout(&self, layout: LayoutId) -> bool {
        let found = self.by_layout.binary_search_by_key(&layout, |(of, _)| *of);
        found.is_ok()
    }
}

impl Family {
    /// Counts a writer that begins or ceases to own a series, with the help text and the bucket
    /// layout of its definition. Returns whether older layouts have to be removed from the totals.
    pub(in crate::registry) fn count_holder(
        &mut self,
        help_side: bool,
        layout: Option<LayoutId>,
        holds: bool,
    ) -> bool {
        let holders = &mut self.holders;
        let was_held = layout.is_some_and(|layout| holders.holds_layout(layout));
        holders.count(help_side, layout, holds);
        let changed = layout.filter(|layout| was_held != holders.holds_layout(*layout));
        let newest = holders.newest_layout;
        if holds && changed.is_some() {
            holders.newest_layout = changed;
        }
        self.show_next_help();
        // A new family has the series of this entry and nothing old.
        let is_new = newest.is_none() && self.order.len() <= 1;
        changed.is_some() && newest != changed && !is_new
    }

    /// Shows the next help text once only its holders are left.
    fn show_next_help(&mut self) {
        let holders = &mut self.holders;
        let shown = usize::from(holders.help_side);
        if holders.by_help[shown] == 0
            && holders.by_help[1 - shown] > 0
            && let Some(next) = holders.next_help.take()
        {
            self.help = next;
            holders.help_side = !holders.help_side;
        }
    }
}

impl Registry {
    /// Notes the help text with which an entry was defined.
    pub(in crate::registry) fn hold_help(&mut self, writer: WriterId, at: usize, help: &str) {
        let entry = self.writers[writer].entries[at];
        let family_id = self.catalog.series[entry.series].family;
        let family = &mut self.catalog.families[family_id];
        let holders = &mut family.holders;
        let is_fixed = family.is_declared || holders.is_by_hand;
        let mut help_side = holders.help_side;
        if !help.is_empty() && *family.help != *help && !is_fixed {
            if holders.by_help[usize::from(help_side)] == 0 {
                family.help = help.into();
                holders.next_help = None;
            } else {
                help_side = !help_side;
                holders.next_help = Some(help.into());
            }
        }
        if help_side == entry.help_side() {
            return;
        }
        if entry.is_owned() {
            holders.count(!help_side, None, false);
            holders.count(help_side, None, true);
        }
        family.show_next_help();
        self.writers[writer].entries[at].set_help_side(help_side);
    }

    /// Returns the families that a new declaration replaces, if no live writer holds any of them;
    /// `None` if one is held.
    pub(in crate::registry) fn superseded(&self, spec: &FamilySpec<'_>) -> Option<Vec<FamilyId>> {
        let name = kept_name(spec).ok()?;
        let same = self.catalog.by_name.get(name).copied();
        let others = self
            .catalog
            .rivals(name, spec.family_type)
            .map(|(_, id)| id);
        let mut rivals = same.into_iter().chain(others).collect::<Vec<_>>();
        rivals.sort_unstable();
        rivals.dedup();
        let is_free = rivals.iter().all(|id| self.is_free(*id));
        is_free.then_some(rivals)
    }

    /// Returns whether a family may be replaced. A writer that has come back owns its series again
    /// only when they are settled.
    fn is_free(&self, family: FamilyId) -> bool {
        let family = &self.catalog.families[family];
        let holders = &family.holders;
        let is_kept = family.is_declared || holders.is_by_hand || holders.grouped > 0;
        !is_kept && !holders.is_held() && self.writers.unsettled.is_empty()
    }

    /// Continues that removal.
    pub(in crate::registry) fn sweep_some(&mut self, budget: usize) {
        for _ in 0..budget {
            let Some(&(family, after_no)) = self.catalog.sweeps.front() else {
                return;
            };
            let number_of = |id: SeriesId| self.catalog.series[id].created_no;
            let next = self.catalog.families.get(family);
            let next = next.and_then(|family| family.order.after(after_no, number_of).next());
            let Some(id) = next else {
                self.catalog.sweeps.pop_front();
                continue;
            };
            if let Some((_, after_no)) = self.catalog.sweeps.front_mut() {
                *after_no = self.catalog.series[id].created_no;
            }
            self.drop_old_layouts(id);
        }
    }

    /// Removes from a total the layouts that are neither held nor the newest.
    pub(in crate::registry) fn drop_old_layouts(&mut self, id: SeriesId) {
        let series = &mut self.catalog.series[id];
        let family = &self.catalog.families[series.family];
        let holders = &family.holders;
        if holders.is_by_hand || family.is_declared || self.groups.owner(id).is_some() {
            return;
        }
        let Total::Buckets(buckets) = &mut series.total else {
            return;
        };
        let is_current = |layout: LayoutId| {
            holders.newest_layout == Some(layout) || holders.holds_layout(layout)
        };
        if buckets.parts.iter().all(|part| is_current(part.layout)) {
            return;
        }
        self.catalog.series_heap_bytes -= series.total.heap_bytes();
        let Total::Buckets(buckets) = &mut series.total else {
            return;
        };
        buckets.parts.retain(|part| is_current(part.layout));
        let counts = buckets.parts.iter().flat_map(|part| &part.counts);
        buckets.count = counts.sum();
        let is_empty = buckets.parts.is_empty();
        self.catalog.series_heap_bytes += series.total.heap_bytes();
        series.start_ms = self.last_stamp_ms;
        self.catalog.drop_exemplars(id);
        if is_empty {
            self.end_total(id);
        }
    }
}

impl Catalog {
    /// Starts the removal of old layouts from all totals of a family.
    pub(in crate::registry) fn sweep(&mut self, family: FamilyId) {
        match self.sweeps.iter_mut().find(|(of, _)| *of == family) {
            Some((_, after_no)) => *after_no = 0,
            None => self.sweeps.push_back((family, 0)),
        }
    }
}
