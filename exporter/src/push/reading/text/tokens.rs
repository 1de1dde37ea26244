//! Parses the parts of a line: names, label sets, quoted texts, numbers.

use metrics_model::{parse_number, unescaped};

use super::super::family::LabelPairs;

/// The characters between two words of a line.
pub(super) const BLANK: [char; 2] = [' ', '\t'];

/// What a name is of. Label names have no colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameOf {
    Metric,
    Label,
}

/// Parses name and labels of a sample's line, `name{label="value"} rest` or `{"name"} rest`;
/// returns the rest too.
pub(super) fn identity(line: &str) -> Result<(String, LabelPairs, &str), String> {
    let mut own_name = None;
    let mut rest = line;
    if line.starts_with('"') {
        let (name, _) = quoted(line)?;
        return Err(format!(
            "a quoted name outside of braces, allowed is {{\"{name}\"}}"
        ));
    }
    if !line.starts_with('{') {
        let (name, after) = name(line, NameOf::Metric)?;
        own_name = Some(name);
        rest = after.trim_start_matches(BLANK);
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
    let mut rest = inside.trim_start_matches(BLANK);
    while !rest.starts_with('}') {
        if rest.is_empty() {
            return Err("labels that do not end with }".to_owned());
        }
        let (label, after) = name(rest, NameOf::Label)?;
        let is_quoted = rest.starts_with('"');
        let after = after.trim_start_matches(BLANK);
        if let Some(value) = after.strip_prefix('=') {
            let (value, after) = quoted(value.trim_start_matches(BLANK))?;
            labels.push((label, value));
            rest = after.trim_start_matches(BLANK);
        } else if own_name.is_none() && is_quoted {
            *own_name = Some(label);
            rest = after;
        } else {
            return Err(format!("label {label} has no value"));
        }
        rest = match rest.strip_prefix(',') {
            Some(more) => more.trim_start_matches(BLANK),
            None if rest.starts_with('}') => rest,
            None => return Err("labels that do not end with }".to_owned()),
        };
    }
    Ok(&rest[1..])
}

/// Parses a name at the beginning of a text, quoted or not.
pub(super) fn name(text: &str, of: NameOf) -> Result<(String, &str), String> {
    if text.starts_with('"') {
        return quoted(text);
    }
    let end = text
        .find([' ', '\t', '{', '}', '=', ',', '"'])
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Err("a name is missing".to_owned());
    }
    let is_fit = |(at, byte): (usize, u8)| {
        byte.is_ascii_alphabetic()
            || byte == b'_'
            || (byte == b':' && of == NameOf::Metric)
            || (byte.is_ascii_digit() && at > 0)
    };
    if name.bytes().enumerate().all(is_fit) {
        return Ok((name.to_owned(), rest));
    }
    let (what, quoted) = match of {
        NameOf::Metric => ("letters, digits, _ and :", "{\"a name\"}"),
        NameOf::Label => ("letters, digits and _", "\"a name\"=\"a value\""),
    };
    Err(format!(
        "{} is no name, allowed are {what}, no digit first; any other name stands in quotes, {quoted}",
        shown(name)
    ))
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

/// Parses a number of a file: decimal, an infinity or NaN. Hexadecimal ones are not in the formats,
/// and one that no 64-bit float holds would become another number.
pub(super) fn number(text: &str) -> Result<f64, String> {
    let is_decimal = text.bytes().any(|byte| byte.is_ascii_digit());
    let parsed = parse_number(text.as_bytes()).filter(|_| !text.contains(['x', 'X']));
    match parsed {
        Some(number) if number.is_infinite() && is_decimal => Err(format!(
            "{} is too large, allowed are numbers up to 1.7976931348623157e308, and +Inf",
            shown(text)
        )),
        Some(number) => Ok(number),
        None => Err(format!(
            "{} is no number, allowed are decimal numbers, +Inf, -Inf and NaN",
            shown(text)
        )),
    }
}

/// Returns whether a line has a carriage return outside of quoted texts.
pub(super) fn has_bare_return(line: &str) -> bool {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for byte in line.bytes() {
        match byte {
            b'\r' if !is_quoted => return true,
            b'"' if !is_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        is_escaped = is_quoted && byte == b'\\' && !is_escaped;
    }
    false
}

/// Returns a part of the file for an error: quoted, and cut if it is long.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("\"{}…\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}
