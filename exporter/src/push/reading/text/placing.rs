//! Finds the family of a sample, and the part of a series that it holds.

use metrics_model::FamilyType;

use super::super::family::{Draft, GAUGE, LabelPairs, Part};
use super::Reader;
use super::tokens::{number, shown};

/// Endings of samples whose family may have been declared without.
const ENDINGS: [&str; 6] = ["_total", "_bucket", "_sum", "_count", "_created", "_info"];

impl Reader {
    /// Returns the family and part of a sample; `None` for samples that are left out.
    pub(super) fn place(
        &mut self,
        name: &str,
        labels: &mut LabelPairs,
    ) -> Result<Option<(usize, Part)>, String> {
        if let Some(&family) = self.by_name.get(name) {
            return self.place_in(family, name, labels);
        }
        for ending in ENDINGS {
            let declared = name.strip_suffix(ending);
            let family = declared.and_then(|declared| self.by_name.get(declared).copied());
            let Some(family) = family else { continue };
            if let Some(place) = self.place_by_ending(family, name, ending, labels)? {
                return Ok(Some(place));
            }
        }
        Ok(Some((self.add_draft(name, GAUGE), Part::Value)))
    }

    /// Does so for a sample with the name of a family.
    fn place_in(
        &mut self,
        family: usize,
        name: &str,
        labels: &mut LabelPairs,
    ) -> Result<Option<(usize, Part)>, String> {
        match self.drafts[family].family_type() {
            FamilyType::Summary => {
                let quantile = take(labels, "quantile")
                    .ok_or_else(|| format!("{name} is a summary and has no quantile"))?;
                return match number(&quantile) {
                    Ok(0.0..=1.0) => Ok(None),
                    _ => Err(format!("quantile {}, allowed is 0 to 1", shown(&quantile))),
                };
            }
            FamilyType::Histogram => {
                return Err(format!("{name} is a histogram and has no such sample"));
            }
            FamilyType::Counter => self.note_counter(family, name)?,
            _ => {}
        }
        Ok(Some((family, Part::Value)))
    }

    /// Does so for a sample with the name of a family and an ending; `None`: that family has no such
    /// samples.
    fn place_by_ending(
        &mut self,
        family: usize,
        name: &str,
        ending: &str,
        labels: &mut LabelPairs,
    ) -> Result<Option<(usize, Part)>, String> {
        let part = match (self.drafts[family].family_type(), ending) {
            (FamilyType::Counter, "_total") => {
                let counter = self.counter_of(name, family);
                self.note_counter(counter, name)?;
                return Ok(Some((counter, Part::Value)));
            }
            (FamilyType::Histogram, "_bucket") => bucket(name, labels)?,
            (FamilyType::Histogram | FamilyType::Summary, "_sum") => Part::Sum,
            (FamilyType::Histogram | FamilyType::Summary, "_count") => Part::Count,
            // In text 0.0.4 it may be any gauge.
            (_, "_created") if !self.is_open_metrics => return Ok(None),
            (FamilyType::Counter, "_created") => {
                let name = name.strip_suffix(ending).unwrap_or(name);
                let counter = self.by_name.get(&format!("{name}_total")).copied();
                let is_counter =
                    |counter: &usize| self.drafts[*counter].family_type() == FamilyType::Counter;
                return Ok(Some((
                    counter.filter(is_counter).unwrap_or(family),
                    Part::Start,
                )));
            }
            (FamilyType::Histogram | FamilyType::Summary, "_created") => Part::Start,
            // `# TYPE build info`, and then `build_info`: a gauge with that name.
            (_, "_info") => {
                let bare = name.strip_suffix("_info").unwrap_or(name);
                if let Some(help) = self.help.get(bare).cloned() {
                    self.help.entry(name.to_owned()).or_insert(help);
                }
                return Ok(Some((self.add_draft(name, GAUGE), Part::Value)));
            }
            _ => return Ok(None),
        };
        Ok(Some((family, part)))
    }

    /// Returns the family of a counter's sample with the ending `_total`, which was declared without:
    /// `# TYPE jobs_total counter`, and then `jobs_total_total`, is not the counter of `jobs_total`.
    fn counter_of(&mut self, sample: &str, declared: usize) -> usize {
        let name = sample.strip_suffix("_total").unwrap_or(sample);
        if !name.ends_with("_total") {
            return declared;
        }
        for texts in [&mut self.help, &mut self.unit] {
            if let Some(text) = texts.get(name).cloned() {
                texts.entry(sample.to_owned()).or_insert(text);
            }
        }
        self.add_draft(sample, FamilyType::Counter)
    }

    /// Refuses counters `x` and `x_total`, which text 0.0.4 distinguishes, and no other format.
    fn note_counter(&mut self, counter: usize, sample: &str) -> Result<(), String> {
        let first = || (sample.to_owned(), self.place);
        let (known, place) = self.counter_samples.entry(counter).or_insert_with(first);
        if known == sample {
            return Ok(());
        }
        Err(format!(
            "counters {known} ({place}) and {sample}: pages show both as {}_total, allowed is one of the two names",
            sample.strip_suffix("_total").unwrap_or(sample)
        ))
    }

    /// Moves start times to their families. Text 0.0.4 has none, but `prometheus_client` writes them
    /// there, as a family of gauges right after the counting family. Any other gauge with such a name
    /// stays a gauge.
    pub(super) fn settle_start_times(&mut self) {
        for number in 1..self.drafts.len() {
            let (before, from) = self.drafts.split_at_mut(number);
            let (of, times) = (&mut before[number - 1], &mut from[0]);
            let is_next = times.name().strip_suffix("_created") == Some(of.name());
            if is_next && of.family_type() != GAUGE && times.is_start_times_of(of) {
                let times = std::mem::replace(times, Draft::new("", GAUGE, self.place));
                times.give_start_times_to(of);
            }
        }
    }
}

fn bucket(name: &str, labels: &mut LabelPairs) -> Result<Part, String> {
    let bound = take(labels, "le").ok_or_else(|| format!("{name} has no le"))?;
    match number(&bound) {
        Ok(number) if !number.is_nan() => Ok(Part::Bucket(bound, number)),
        _ => Err(format!(
            "le {} is no bound, allowed are numbers and +Inf",
            shown(&bound)
        )),
    }
}

/// Removes a label, and returns its value.
fn take(labels: &mut LabelPairs, label: &str) -> Option<String> {
    let at = labels.iter().position(|(name, _)| name == label)?;
    Some(labels.remove(at).1)
}
