//! Reads Prometheus' text formats: 0.0.4, 1.0.0 and `OpenMetrics`.
//!
//! What the formats differ in is read in all of them: a counter may be declared with `_total` or
//! without, names may be quoted, samples may carry exemplars (which are left out). Time stamps are
//! refused, because a registry shows what is now.

use std::collections::{HashMap, HashSet};

use metrics_model::{FamilyType, parse_number};

use super::PushError;
use super::family::{Draft, GAUGE, LabelPairs, Parsed, Part};

/// Reads a file.
pub(super) fn parse(text: &str) -> Result<Parsed, PushError> {
    let mut reader = Reader::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line == "# EOF" {
            break;
        }
        reader.line(line).map_err(|reason| PushError::Line {
            line: number + 1,
            reason,
        })?;
    }
    reader.forget_start_times();
    let mut parsed = Parsed {
        families: Vec::new(),
        quantiles: reader.quantiles,
    };
    for draft in reader.drafts {
        if draft.has_samples() {
            parsed.families.push(draft.finish()?);
        }
    }
    Ok(parsed)
}

#[derive(Debug, Default)]
struct Reader {
    drafts: Vec<Draft>,
    /// By the name that it was declared with, and a counter by its bare name too.
    by_name: HashMap<String, usize>,
    quantiles: usize,
    /// What was said of families that have no type yet.
    help: HashMap<String, String>,
    unit: HashMap<String, String>,
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
            "HELP" => self.help.insert(name.clone(), unescaped(rest)),
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
            // Nobody will be alive to go on saying what an info or a stateset says.
            "gauge" | "untyped" | "unknown" | "info" | "stateset" => GAUGE,
            "histogram" => FamilyType::Histogram,
            "summary" => FamilyType::Summary,
            other => {
                return Err(format!(
                    "type \"{other}\" of {name}, allowed is counter, gauge, histogram, summary, info, stateset, unknown or untyped"
                ));
            }
        };
        if self.by_name.contains_key(name) {
            return Err(format!("{name} has a type already"));
        }
        self.add_draft(name, family_type);
        Ok(())
    }

    fn add_draft(&mut self, name: &str, family_type: FamilyType) -> usize {
        let bare = match family_type {
            FamilyType::Counter => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let mut draft = Draft::new(bare, family_type);
        draft.describe(self.help.get(name).cloned(), self.unit.get(name).cloned());
        self.drafts.push(draft);
        let number = self.drafts.len() - 1;
        self.by_name.insert(name.to_owned(), number);
        number
    }

    /// Text 0.0.4 has the start times of a family as another one, of gauges.
    fn forget_start_times(&mut self) {
        let has_start_time = |draft: &&Draft| {
            matches!(
                draft.family_type(),
                FamilyType::Counter | FamilyType::Histogram | FamilyType::Summary
            )
        };
        let with = self.drafts.iter().filter(has_start_time);
        let names: HashSet<String> = with
            .map(|draft| format!("{}_created", draft.name()))
            .collect();
        self.drafts.retain(|draft| !names.contains(draft.name()));
        // The numbers are no longer right.
        self.by_name.clear();
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let (name, mut labels, rest) = identity(line)?;
        let mut words = rest
            .split('#')
            .next()
            .unwrap_or_default()
            .split_ascii_whitespace();
        let value = words.next().ok_or("a sample without a value")?;
        let value =
            parse_number(value.as_bytes()).ok_or_else(|| format!("\"{value}\" is no number"))?;
        if words.next().is_some() {
            return Err("a time stamp: what is pushed is what is now".to_owned());
        }
        let Some((draft, part)) = self.place(&name, &mut labels)? else {
            return Ok(());
        };
        labels.sort_unstable();
        if labels.windows(2).any(|two| two[0].0 == two[1].0) {
            return Err("a label name is given twice".to_owned());
        }
        if !self.drafts[draft].add(labels, part, value) {
            return Err(format!("{name} has this sample twice"));
        }
        Ok(())
    }

    /// Which part of which family a sample is; `None` for those that are left out.
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
                    self.quantiles += 1;
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
                // The registry knows itself since when it counts.
                (FamilyType::Counter | FamilyType::Histogram | FamilyType::Summary, "_created") => {
                    return Ok(None);
                }
                // `# TYPE build info`, and then `build_info`: a gauge of that name.
                (_, "_info") => {
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

/// Name, labels and the rest of a sample's line: `name{label="value"} rest` or `{"name"} rest`.
pub(super) fn identity(line: &str) -> Result<(String, LabelPairs, &str), String> {
    let mut labels = LabelPairs::new();
    let mut own_name = None;
    let mut rest = line;
    if !line.starts_with('{') {
        let (name, after) = name(line)?;
        own_name = Some(name);
        rest = after.trim_start();
    }
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside.trim_start();
        while !rest.starts_with('}') {
            let (label, after) = name(rest)?;
            let after = after.trim_start();
            if let Some(value) = after.strip_prefix('=') {
                let (value, after) = quoted(value.trim_start())?;
                labels.push((label, value));
                rest = after.trim_start();
            } else if own_name.is_none() {
                own_name = Some(label);
                rest = after;
            } else {
                return Err(format!("label {label} has no value"));
            }
            rest = match rest.strip_prefix(',') {
                Some(more) => more.trim_start(),
                None if rest.starts_with('}') => rest,
                None => return Err("labels that do not end with }".to_owned()),
            };
        }
        rest = &rest[1..];
    }
    let name = own_name.ok_or("a sample without a name")?;
    Ok((name, labels, rest))
}

/// A name at the beginning of a text, quoted or not.
fn name(text: &str) -> Result<(String, &str), String> {
    if text.starts_with('"') {
        return quoted(text);
    }
    let end = text
        .find([' ', '\t', '{', '}', '=', ',', '"'])
        .unwrap_or(text.len());
    if end == 0 {
        return Err("a name is missing".to_owned());
    }
    Ok((text[..end].to_owned(), &text[end..]))
}

/// A quoted text at the beginning of a text, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let inside = text
        .strip_prefix('"')
        .ok_or("a quotation mark is missing")?;
    let mut is_escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'"' if !is_escaped => return Ok((unescaped(&inside[..at]), &inside[at + 1..])),
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    Err("a quoted text does not end".to_owned())
}

/// `\\`, `\"` and `\n`; other backslashes stand for themselves.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => plain.push('\n'),
            Some(other @ ('\\' | '"')) => plain.push(other),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use metrics_model::{Layout, Point};

    use super::super::family::{Family, Series};
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> LabelPairs {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        pairs.iter().map(owned).collect()
    }

    fn scalar(pairs: &[(&str, &str)], value: f64) -> Series {
        Series {
            labels: labels(pairs),
            layout: None,
            point: Point::Scalar(value),
        }
    }

    fn family(name: &str, family_type: FamilyType, help: &str, series: Vec<Series>) -> Family {
        Family {
            name: name.to_owned(),
            family_type,
            help: help.to_owned(),
            unit: String::new(),
            series,
        }
    }

    #[test]
    fn both_spellings_of_a_counter_are_one() {
        let expected = vec![family(
            "jobs",
            FamilyType::Counter,
            "Jobs\nof \\ all",
            vec![
                scalar(&[("a", "x \"y\"\\\n"), ("b", "#,}")], 3.0),
                scalar(&[], 0.5),
            ],
        )];
        let old = "# HELP jobs_total Jobs\\nof \\\\ all\n# TYPE jobs_total counter\n\
            jobs_total{b=\"#,}\",a=\"x \\\"y\\\"\\\\\\n\",} 3\njobs_total 0.5\n";
        let new = "# TYPE jobs counter\n# HELP jobs Jobs\\nof \\\\ all\n\
            jobs_total{b=\"#,}\",a=\"x \\\"y\\\"\\\\\\n\"} 3 # {trace_id=\"1\"} 1 1600000000.5\n\
            jobs_created{b=\"#,}\"} 1600000000\njobs_total 0.5\n# EOF\nnot read any more";
        assert_eq!(parse(old).unwrap().families, expected);
        assert_eq!(parse(new).unwrap().families, expected);
    }

    #[test]
    fn histograms_are_put_together() {
        let parsed = parse(
            "# TYPE wait histogram\n# UNIT wait seconds\nwait_bucket{q=\"m\",le=\"1.0\"} 2\n\
             wait_bucket{le=\"+Inf\",q=\"m\"} 5\nwait_bucket{q=\"m\",le=\"0.5\"} 1\n\
             wait_sum{q=\"m\"} 7.5\nwait_count{q=\"m\"} 5\n",
        )
        .unwrap();
        let mut expected = family("wait", FamilyType::Histogram, "", Vec::new());
        expected.unit = "seconds".to_owned();
        expected.series.push(Series {
            labels: labels(&[("q", "m")]),
            layout: Some(Layout::new(["0.5", "1.0"]).unwrap()),
            point: Point::Buckets {
                sum: 7.5,
                counts: vec![1, 1, 3],
            },
        });
        assert_eq!(parsed.families, [expected]);
    }

    #[test]
    fn summaries_lose_their_quantiles_and_say_so() {
        let parsed = parse(
            "# TYPE size summary\nsize{quantile=\"0.5\"} 1\nsize{quantile=\"0.9\"} 2\nsize_sum 9\nsize_count 4\n",
        )
        .unwrap();
        assert_eq!(parsed.quantiles, 2);
        let point = Point::Buckets {
            sum: 9.0,
            counts: vec![4],
        };
        assert_eq!(parsed.families[0].series[0].point, point);
    }

    #[test]
    fn what_has_no_type_is_a_gauge() {
        let parsed = parse(
            "last_success 1.6e9\n# TYPE build info\nbuild_info{v=\"1\"} 1\n# TYPE s stateset\n\
             s{s=\"on\"} 1\n{\"a name\",\"a label\"=\"x\"} NaN\n",
        )
        .unwrap();
        let names: Vec<_> = parsed.families.iter().map(|family| &*family.name).collect();
        assert_eq!(names, ["last_success", "build_info", "s", "a name"]);
        assert!(
            parsed
                .families
                .iter()
                .all(|family| family.family_type == GAUGE)
        );
        assert_eq!(
            parsed.families[3].series[0].labels,
            labels(&[("a label", "x")])
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, expected) in [
            ("a 1\nb\n", "line 2: a sample without a value"),
            ("a one\n", "line 1: \"one\" is no number"),
            (
                "a 1 1600000000\n",
                "line 1: a time stamp: what is pushed is what is now",
            ),
            ("a 1\na 2\n", "line 2: a has this sample twice"),
            (
                "a{x=\"1\",x=\"2\"} 2\n",
                "line 1: a label name is given twice",
            ),
            ("a{x=\"1} 2\n", "line 1: a quoted text does not end"),
            ("a{x} 2\n", "line 1: label x has no value"),
            ("a{x=\"1\" 2\n", "line 1: labels that do not end with }"),
            (
                "# TYPE a counter\na_total -1\n",
                "a: a counter is -1, allowed is a finite number from 0 on",
            ),
            (
                "# TYPE h histogram\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\n",
                "h: bucket le=\"+Inf\" counts less than the one below it",
            ),
            (
                "# TYPE h histogram\nh_bucket{le=\"1\"} 0.5\nh_count 1\n",
                "h: 0.5 is no count of observations",
            ),
            (
                "# TYPE g gaugehistogram\n",
                "line 1: type \"gaugehistogram\" of g, allowed is counter, gauge, histogram, summary, info, stateset, unknown or untyped",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
