//! Reads Prometheus' text formats: 0.0.4, 1.0.0 and `OpenMetrics`.
//!
//! All formats are read by the same rules where they differ: a counter may be declared with
//! `_total` or without, names may be quoted, samples may have exemplars. Concatenated files are
//! read to the end: `# EOF` ends a part. Time stamps are refused, because a registry shows only
//! present values.

mod placing;
mod tokens;
mod value;

use std::collections::{HashMap, HashSet};

use metrics_model::{FamilyType, unescaped};

use super::family::{Draft, FileContent, GAUGE, LabelPairs, Sample};
use super::{LeftOut, Place, ReadError};
use tokens::{BLANK, NameOf, has_bare_return, identity, name, shown};
use value::{Value, read_value, unfit};

const END_OF_PART: &str = "# EOF";
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a file.
pub(super) fn parse(text: &str) -> Result<FileContent, ReadError> {
    let lines = || text.split('\n').map(trimmed);
    let mut reader = Reader::new(lines().any(|line| line == END_OF_PART));
    for (number, line) in (1..).zip(lines()) {
        reader.place = Place::Line(number);
        reader
            .line(line)
            .map_err(|reason| ReadError::at(reader.place, &reason))?;
    }
    if let Some(place) = reader.exemplar {
        let reason = "an exemplar, and no line # EOF follows; allowed are exemplars in OpenMetrics, which ends with # EOF: is the file cut off?";
        return Err(ReadError::at(place, reason));
    }
    reader.settle_start_times();
    let mut parsed = FileContent {
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

/// Returns a line without its end, blanks around it, and the mark of a joined file.
fn trimmed(line: &str) -> &str {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    line.trim_matches(BLANK)
}

#[derive(Debug)]
struct Reader {
    /// The line that is being read.
    place: Place,
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
    /// Names of infos (with `_info`) and statesets.
    facts: HashMap<String, Fact>,
    /// The samples' name of each counter, and where the file has it first.
    counter_samples: HashMap<usize, (String, Place)>,
    /// The first exemplar since the last `# EOF`.
    exemplar: Option<Place>,
}

/// A type of which a registry keeps only the gauge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    Info,
    StateSet,
}

impl Reader {
    fn new(is_open_metrics: bool) -> Self {
        Self {
            place: Place::Line(1),
            drafts: Vec::new(),
            by_name: HashMap::new(),
            counters: HashMap::new(),
            left_out: Vec::new(),
            is_open_metrics,
            help: HashMap::new(),
            unit: HashMap::new(),
            facts: HashMap::new(),
            counter_samples: HashMap::new(),
            exemplar: None,
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() {
            return Ok(());
        }
        let Some(comment) = line.strip_prefix('#') else {
            if has_bare_return(line) {
                return Err(LONE_RETURN.to_owned());
            }
            return self.sample(line);
        };
        // A help text may have one, in front of something that is no line.
        if comment.split('\r').skip(1).any(is_line) {
            return Err(LONE_RETURN.to_owned());
        }
        if line == END_OF_PART {
            self.exemplar = None;
        }
        let comment = comment.trim_start_matches(BLANK);
        let (word, rest) = comment.split_once(BLANK).unwrap_or((comment, ""));
        if !matches!(word, "HELP" | "TYPE" | "UNIT") {
            return Ok(());
        }
        let rest = rest.trim_start_matches(BLANK);
        let (name, rest) =
            name(rest, NameOf::Metric).map_err(|reason| format!("{word}: {reason}"))?;
        if !rest.is_empty() && !rest.starts_with(BLANK) {
            return Err(format!(
                "{word}: {} after the name {name}, allowed is a blank",
                shown(rest)
            ));
        }
        let rest = rest.trim_start_matches(BLANK);
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
        let fact = match family_type {
            "info" => Some((format!("{name}_info"), Fact::Info)),
            "stateset" => Some((name.to_owned(), Fact::StateSet)),
            _ => None,
        };
        self.facts.extend(fact);
        let family_type = match family_type {
            "counter" => FamilyType::Counter,
            "gauge" | "untyped" | "unknown" | "info" | "stateset" => GAUGE,
            "histogram" => FamilyType::Histogram,
            "summary" => FamilyType::Summary,
            other => {
                return Err(format!(
                    "type {} of {name}, allowed is counter, gauge, histogram, summary, info, stateset, unknown or untyped",
                    shown(other)
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
            self.drafts.push(Draft::new(bare, family_type, self.place));
            self.drafts.len() - 1
        });
        self.drafts[number].describe(self.help.get(name).cloned(), self.unit.get(name).cloned());
        if is_counter {
            self.counters.insert(bare.to_owned(), number);
        }
        self.by_name.insert(name.to_owned(), number);
        number
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let (name, mut labels, rest) = identity(line)?;
        let written = line[..line.len() - rest.len()].trim_end_matches(BLANK);
        let Value { value, exemplar } = read_value(rest)?;
        let names: HashSet<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
        if names.len() < labels.len() {
            return Err("a label name is given twice".to_owned());
        }
        self.check_fact(&name, &labels, value)?;
        if exemplar.is_some() {
            self.exemplar.get_or_insert(self.place);
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
        let sample = Sample {
            value,
            place: self.place,
        };
        if !self.drafts[draft].add(labels, part, sample, exemplar) {
            return Err(format!("{name} has this sample twice"));
        }
        Ok(())
    }

    /// Refuses values that an info or a stateset cannot have.
    fn check_fact(&self, name: &str, labels: &LabelPairs, value: f64) -> Result<(), String> {
        let bare = name.strip_suffix("_info").unwrap_or(name);
        let is_value = |allowed: &[f64]| allowed.contains(&value);
        match self.facts.get(name) {
            Some(Fact::Info) if !is_value(&[1.0]) => {
                Err(format!("info {bare} has another value, allowed is 1"))
            }
            Some(Fact::StateSet) if !is_value(&[0.0, 1.0]) => Err(format!(
                "stateset {name} has another value, allowed are 0 and 1"
            )),
            Some(Fact::StateSet) if labels.iter().all(|(label, _)| label != name) => Err(format!(
                "a series of stateset {name} needs a label of that name, which tells the state"
            )),
            _ => Ok(()),
        }
    }

    fn leave_out(&mut self, sample: &str, reason: &str) {
        self.left_out.push(LeftOut {
            sample: sample.to_owned(),
            reason: reason.to_owned(),
        });
    }
}

const LONE_RETURN: &str =
    "a carriage return without a line feed, allowed as the end of a line are \\n and \\r\\n";

/// Returns whether a text is a line of a file: metadata or a sample.
fn is_line(text: &str) -> bool {
    let text = text.trim_matches(BLANK);
    let is_sample = || identity(text).is_ok_and(|(_, _, rest)| read_value(rest).is_ok());
    ["# HELP ", "# TYPE ", "# UNIT ", END_OF_PART]
        .iter()
        .any(|start| text.starts_with(start))
        || is_sample()
}

#[cfg(test)]
mod tests;
