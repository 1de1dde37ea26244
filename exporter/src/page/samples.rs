//! Parses sample lines of text 0.0.4.

use std::borrow::Cow;

use metrics_model::unescaped;

/// One sample line of a page.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    pub(super) value: f64,
}

impl Sample<'_> {
    /// Returns the value of a label; an absent label equals an empty one.
    pub(super) fn label(&self, name: &str) -> &str {
        let found = self.labels.iter().find(|(label, _)| *label == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Returns the samples of a page, in its order. Our own registry has rendered the page; a line that
/// cannot be parsed is skipped.
pub(super) fn samples(page: &str) -> impl Iterator<Item = Sample<'_>> {
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let end = closing_quote(after)?;
            labels.push((label, unescaped(&after[..end])));
            rest = &after[end + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name,
        labels,
        value,
    })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_what_they_were_before_they_were_escaped() {
        let page =
            "# TYPE a counter\na{x=\"say \\\"a,b}\\\" \\\\ \\n\",y=\"\"} 1.5\nb NaN\nc{} +Inf 12\n";
        let read: Vec<_> = samples(page).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].label("x"), "say \"a,b}\" \\ \n");
        assert_eq!(read[0].label("y"), "");
        assert_eq!(read[0].label("z"), "");
        assert_eq!(read[0].value, 1.5);
        assert!(read[1].value.is_nan());
        assert_eq!((read[2].name, read[2].value), ("c", f64::INFINITY));
    }

    #[test]
    fn what_is_no_sample_is_left_out() {
        assert_eq!(samples("\na\na{\na{x=\"\na{x=\"1\"}\na one\n").count(), 0);
    }
}
