//! Reads Prometheus' text formats: 0.0.4, 1.0.0 and `OpenMetrics`.
//!
//! All formats are read by the same rules where they differ: a counter may be declared with
//! `_total` or without, names may be quoted, samples may have exemplars. Concatenated files are
//! read to the end: `# EOF` ends a part. Time stamps are refused, because a registry shows only
//! present values.

mod tokens;

use std::collections::{HashMap, HashSet};

use metrics_model::{Exemplar, FamilyType, parse_number, unescaped};

use super::family::{Draft, FileExemplar, GAUGE, LabelPairs, Parsed, Part};
use super::{LeftOut, ReadError};
use tokens::{identity, label_set, name};

/// Reads a file.
pub(super) fn parse(text: &str) -> Result<Parsed, ReadError> {
    let mut reader = Reader {
        is_open_metrics: text.lines().any(|line| line.trim_end() == "# EOF"),
        ..Reader::default()
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_matches([' ', '\t', '\r', '\u{feff}']);
        reader.line(line).map_err(|reason| ReadError::Line {
            line: number + 1,
            reason,
        })?;
    }
    reader.settle_start_times();
    let mut parsed = Parsed {
        families: Vec::new(),
        left_out: reader.left_out,
    };
    for draft in reader.drafts {
        let family = draft.finish(&mut parsed.left_out)?;
        if !family.series.is_empty() {
            parsed.families.push(family);
        }
    }
    Ok(parsed)
}

#[derive(Debug, Default)]
struct Reader {
    drafts: Vec<Draft>,
    /// Families by their declared names.
    by_name: HashMap<String, usize>,
    /// Counters by their names without `_total`.
    counters: HashMap<String, usize>,
    left_out: Vec<LeftOut>,
    is_open_metrics: bool,
    /// HELP texts of families without a type yet.
    help: HashMap<String, String>,
    unit: HashMap<String, String>,
}

/// The parts of a sample's line after its labels.
struct Value {
    value: f64,
    exemplar: Option<FileExemplar>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() {
            return Ok(());
        }
        let Some(comment) = line.strip_prefix('#') else {
            return self.sample(line);
        };
        let comment = comment.trim_start();
        let Some((word, rest)) = comment.split_once([' ', '\t']) else {
            return Ok(());
        };
        if !matches!(word, "HELP" | "TYPE" | "UNIT") {
            return Ok(());
        }
        let (name, rest) = name(rest.trim_start())?;
        let rest = rest.trim_start();
        match word {
            "TYPE" => return self.declare(&name, rest),
            "HELP" => {
                let help = unescaped(rest).into_owned();
                self.help.insert(name.clone(), help)
            }
            _ => self.unit.insert(name.clone(), rest.to_owned()),
        };
        if let Some(&known) = self.by_name.get(&name) {
            self.drafts[known]
                .describe(self.help.get(&name).cloned(), self.unit.get(&name).cloned());
        }
        Ok(())
    }

    fn declare(&mut self, name: &str, family_type: &str) -> Result<(), String> {
        let family_type = match family_type.trim() {
            "counter" => FamilyType::Counter,
            "gauge" | "untyped" | "unknown" | "info" | "stateset" => GAUGE,
            "histogram" => FamilyType::Histogram,
            "summary" => FamilyType::Summary,
            other => {
                return Err(format!(
                    "type \"{other}\" of {name}, allowed is counter, gauge, histogram, summary, info, stateset, unknown or untyped"
                ));
            }
        };
        match self.by_name.get(name) {
            None => {
                self.add_draft(name, family_type);
                Ok(())
            }
            // Concatenated files repeat it.
            Some(&known) if self.drafts[known].family_type() == family_type => Ok(()),
            Some(_) => Err(format!("{name} has another type already")),
        }
    }

    fn add_draft(&mut self, name: &str, family_type: FamilyType) -> usize {
        let is_counter = family_type == FamilyType::Counter;
        let bare = match name.strip_suffix("_total") {
            Some(bare) if is_counter => bare,
            _ => name,
        };
        let known = self.counters.get(bare).copied().filter(|_| is_counter);
        let number = known.unwrap_or_else(|| {
            self.drafts.push(Draft::new(bare, family_type));
            self.drafts.len() - 1
        });
        self.drafts[number].describe(self.help.get(name).cloned(), self.unit.get(name).cloned());
        if is_counter {
            self.counters.insert(bare.to_owned(), number);
        }
        self.by_name.insert(name.to_owned(), number);
        number
    }

    /// Moves start times to their families: text 0.0.4 writes them as a family of gauges of its
    /// own, with the same help. Any other gauge with such a name stays a gauge.
    fn settle_start_times(&mut self) {
        let is_counting = |draft: &Draft| draft.family_type() != GAUGE;
        let counting = self.drafts.iter().enumerate();
        let by_name: HashMap<String, usize> = counting
            .filter(|(_, draft)| is_counting(draft))
            .map(|(number, draft)| (format!("{}_created", draft.name()), number))
            .collect();
        let pairs: Vec<(usize, usize)> = self
            .drafts
            .iter()
            .enumerate()
            .filter_map(|(number, draft)| Some((number, *by_name.get(draft.name())?)))
            .filter(|(number, of)| self.drafts[*number].is_start_times_of(&self.drafts[*of]))
            .collect();
        for (number, of) in &pairs {
            let times = std::mem::replace(&mut self.drafts[*number], Draft::new("", GAUGE));
            times.give_start_times_to(&mut self.drafts[*of]);
        }
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let (name, mut labels, rest) = identity(line)?;
        let written = line[..line.len() - rest.len()].trim_end();
        let Value { value, exemplar } = read_value(rest)?;
        let names: HashSet<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
        if names.len() < labels.len() {
            return Err("a label name is given twice".to_owned());
        }
        // A label with an empty value is absent.
        labels.retain(|(_, value)| !value.is_empty());
        let Some((draft, part)) = self.place(&name, &mut labels)? else {
            self.leave_out(written, "a quantile, and these cannot be added up");
            return Ok(());
        };
        labels.sort_unstable();
        let exemplar = exemplar.filter(|exemplar| {
            let reason = unfit(exemplar, &part, self.drafts[draft].family_type());
            if let Some(reason) = &reason {
                self.leave_out(&format!("the exemplar of {written}"), reason);
            }
            reason.is_none()
        });
        if !self.drafts[draft].add(labels, part, value, exemplar) {
            return Err(format!("{name} has this sample twice"));
        }
        Ok(())
    }

    fn leave_out(&mut self, sample: &str, reason: &str) {
        self.left_out.push(LeftOut {
            sample: sample.to_owned(),
            reason: reason.to_owned(),
        });
    }

    /// Returns the family and part of a sample; `None` for samples that are left out.
    fn place(
        &mut self,
        name: &str,
        labels: &mut LabelPairs,
    ) -> Result<Option<(usize, Part)>, String> {
        let mut take = |label: &str| {
            let at = labels.iter().position(|(name, _)| name == label)?;
            Some(labels.remove(at).1)
        };
        let found = |reader: &Self, suffix: &str| {
            let family = name.strip_suffix(suffix)?;
            reader.by_name.get(family).copied()
        };
        if let Some(draft) = found(self, "") {
            let part = match self.drafts[draft].family_type() {
                FamilyType::Summary => {
                    take("quantile")
                        .ok_or_else(|| format!("{name} is a summary and has no quantile"))?;
                    return Ok(None);
                }
                FamilyType::Histogram => {
                    return Err(format!("{name} is a histogram and has no such sample"));
                }
                _ => Part::Value,
            };
            return Ok(Some((draft, part)));
        }
        for suffix in ["_total", "_bucket", "_sum", "_count", "_created", "_info"] {
            let Some(draft) = found(self, suffix) else {
                continue;
            };
            let part = match (self.drafts[draft].family_type(), suffix) {
                (FamilyType::Counter, "_total") => Part::Value,
                (FamilyType::Histogram, "_bucket") => {
                    Part::Bucket(take("le").ok_or_else(|| format!("{name} has no le"))?)
                }
                (FamilyType::Histogram | FamilyType::Summary, "_sum") => Part::Sum,
                (FamilyType::Histogram | FamilyType::Summary, "_count") => Part::Count,
                // In text 0.0.4 it may be any gauge.
                (FamilyType::Counter, "_created") if !self.is_open_metrics => continue,
                (FamilyType::Counter | FamilyType::Histogram | FamilyType::Summary, "_created") => {
                    Part::Start
                }
                // `# TYPE build info`, and then `build_info`: a gauge with that name.
                (_, "_info") => {
                    let bare = name.strip_suffix("_info").unwrap_or(name);
                    if let Some(help) = self.help.get(bare).cloned() {
                        self.help.entry(name.to_owned()).or_insert(help);
                    }
                    let draft = self.add_draft(name, GAUGE);
                    return Ok(Some((draft, Part::Value)));
                }
                _ => continue,
            };
            return Ok(Some((draft, part)));
        }
        Ok(Some((self.add_draft(name, GAUGE), Part::Value)))
    }
}

/// Parses what follows a sample's name and labels: `value`, and optionally `# {labels} value time`.
fn read_value(rest: &str) -> Result<Value, String> {
    let (own, exemplar) = match rest.split_once('#') {
        Some((own, exemplar)) => (own, Some(exemplar)),
        None => (rest, None),
    };
    let number = |text: &str| {
        parse_number(text.as_bytes()).ok_or_else(|| format!("\"{text}\" is no number"))
    };
    let mut words = own.split_ascii_whitespace();
    let value = number(words.next().ok_or("a sample without a value")?)?;
    if words.next().is_some() {
        return Err("a time stamp: what is pushed is what is now".to_owned());
    }
    let Some(exemplar) = exemplar else {
        return Ok(Value {
            value,
            exemplar: None,
        });
    };
    let mut labels = LabelPairs::new();
    let rest = label_set(exemplar.trim_start(), &mut Some(String::new()), &mut labels)
        .map_err(|reason| format!("an exemplar has {reason}"))?;
    let mut words = rest.split_ascii_whitespace();
    let exemplar = FileExemplar {
        labels,
        value: number(words.next().ok_or("an exemplar without a value")?)?,
        time: words.next().map(number).transpose()?,
    };
    if words.next().is_some() {
        return Err("an exemplar with more than a value and a time".to_owned());
    }
    Ok(Value {
        value,
        exemplar: Some(exemplar),
    })
}

/// Returns why a registry would refuse an exemplar.
fn unfit(exemplar: &FileExemplar, part: &Part, family_type: FamilyType) -> Option<String> {
    let has_place = match family_type {
        FamilyType::Counter => *part == Part::Value,
        FamilyType::Histogram => matches!(part, Part::Bucket(_)),
        _ => false,
    };
    if !has_place {
        return Some("only counters and buckets have exemplars".to_owned());
    }
    let labels = exemplar.labels.iter();
    let labels = labels.map(|(name, value)| (&**name, &**value));
    let time = exemplar.time.unwrap_or_default();
    let checked = Exemplar::new(labels, exemplar.value, time);
    checked.err().map(|error| error.to_string())
}

#[cfg(test)]
mod tests;
