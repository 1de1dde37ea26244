//! The text formats: finds the families of a page, and writes a page with other names.

use std::borrow::Cow;

use metrics_model::unescaped;

use super::ChangedNames;

const TYPE: &[u8] = b"# TYPE ";

/// Returns name and type of the families that a page declares.
pub(super) fn families(page: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    hashes(page).filter_map(|at| {
        let begins_line = at == 0 || page[at - 1] == b'\n';
        let line = page[at..].strip_prefix(TYPE).filter(|_| begins_line)?;
        let end = line.iter().position(|byte| *byte == b'\n')?;
        let (name, after) = name(std::str::from_utf8(&line[..end]).ok()?)?;
        Some((name, after.trim_start()))
    })
}

/// Returns the places of `#`, which are few.
fn hashes(page: &[u8]) -> impl Iterator<Item = usize> {
    const CHUNK: usize = 64;
    // Without a branch for each byte, the compiler compares many at once.
    let has = |chunk: &[u8]| {
        let found = chunk
            .iter()
            .fold(0, |found, byte| found | u8::from(*byte == b'#'));
        found != 0
    };
    let chunks = page.chunks(CHUNK).enumerate();
    let chunks = chunks.filter(move |(_, chunk)| has(chunk));
    chunks.flat_map(|(number, chunk)| {
        let places = chunk.iter().enumerate().filter(|(_, byte)| **byte == b'#');
        places.map(move |(at, _)| number * CHUNK + at)
    })
}

/// Returns the page with the new names.
pub(super) fn renamed(page: Vec<u8>, names: &ChangedNames) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&page) else {
        return page;
    };
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for line in text.split_inclusive('\n') {
        if rename_line(line, names, &mut out).is_none() {
            out.push_str(line);
        }
    }
    out.into_bytes()
}

/// Appends a line with its new name; `None` if its name stays.
fn rename_line(line: &str, names: &ChangedNames, out: &mut String) -> Option<()> {
    if let Some(comment) = line.strip_prefix("# ") {
        let (keyword, rest) = comment.split_once(' ')?;
        let (old, after) = name(rest)?;
        let Some(new) = names.get(&*old)? else {
            return Some(());
        };
        match (keyword, after.trim()) {
            // A unit must be the ending of the name.
            ("UNIT", _) => {}
            // A label of a state set has the family's name. This one keeps its old name.
            ("TYPE", "stateset") => out.extend(["# TYPE ", new, " gauge\n"]),
            _ => out.extend(["# ", keyword, " ", new, after]),
        }
    } else if let Some(labels) = line.strip_prefix('{') {
        let (old, after) = name(labels)?;
        if let Some(new) = names.get(&*old)? {
            out.extend(["{\"", new, "\"", after]);
        }
    } else {
        let (old, after) = name(line)?;
        if let Some(new) = names.get(&*old)? {
            out.extend([new, after]);
        }
    }
    Some(())
}

/// Splits a text after the name, which may be in quotes, with which it begins.
fn name(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '{', '\n']).unwrap_or(text.len());
        return Some((Cow::Borrowed(&text[..end]), &text[end..]));
    };
    let mut is_escaped = false;
    let end = quoted.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })?;
    Some((unescaped(&quoted[..end]), &quoted[end + 1..]))
}
