//! Parses the parts of a line: names, label sets, quoted texts.

use metrics_model::unescaped;

use super::super::family::LabelPairs;

/// Parses name and labels of a sample's line, `name{label="value"} rest` or `{"name"} rest`;
/// returns the rest too.
pub(super) fn identity(line: &str) -> Result<(String, LabelPairs, &str), String> {
    let mut own_name = None;
    let mut rest = line;
    if !line.starts_with('{') {
        let (name, after) = name(line)?;
        own_name = Some(name);
        rest = after.trim_start();
    }
    let mut labels = LabelPairs::new();
    if rest.starts_with('{') {
        rest = label_set(rest, &mut own_name, &mut labels)?;
    }
    let name = own_name.ok_or("a sample without a name")?;
    Ok((name, labels, rest))
}

/// Parses `{label="value",...}`, where a quoted text without a value is the name; returns what
/// follows.
pub(super) fn label_set<'t>(
    text: &'t str,
    own_name: &mut Option<String>,
    labels: &mut LabelPairs,
) -> Result<&'t str, String> {
    let inside = text.strip_prefix('{').ok_or("labels without {")?;
    let mut rest = inside.trim_start();
    while !rest.starts_with('}') {
        let (label, after) = name(rest)?;
        let after = after.trim_start();
        if let Some(value) = after.strip_prefix('=') {
            let (value, after) = quoted(value.trim_start())?;
            labels.push((label, value));
            rest = after.trim_start();
        } else if own_name.is_none() {
            *own_name = Some(label);
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
    Ok(&rest[1..])
}

/// Parses a name at the beginning of a text, quoted or not.
pub(super) fn name(text: &str) -> Result<(String, &str), String> {
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

/// Parses a quoted text at the beginning of a text; returns what follows.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let inside = text
        .strip_prefix('"')
        .ok_or("a quotation mark is missing")?;
    let mut is_escaped = false;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'"' if !is_escaped => {
                return Ok((unescaped(&inside[..at]).into_owned(), &inside[at + 1..]));
            }
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    Err("a quoted text does not end".to_owned())
}
