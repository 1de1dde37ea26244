//! Reads headers of proxies: the time at which they received a request, and its trace.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use pyo3::{ffi, intern};

/// Maximum plausible wait in seconds; a larger one means that a clock is wrong.
const LONGEST_WAIT_SECONDS: f64 = 86_400.0;

/// Returns the Unix time, in seconds, of an `X-Request-Start`: `t=1700000000.123`, in seconds,
/// milliseconds (Heroku) or microseconds (Apache).
pub(super) fn request_start(text: &str) -> Option<f64> {
    let text = text.trim();
    let number: f64 = text.strip_prefix("t=").unwrap_or(text).parse().ok()?;
    [(1e8, 1.0), (1e11, 1e3), (1e14, 1e6), (1e17, 1e9)]
        .into_iter()
        .rev()
        .find(|(least, _)| number.is_finite() && number >= *least)
        .map(|(_, unit)| number / unit)
}

/// Returns the values of `x-request-start` and, if traces are kept, `traceparent` from an ASGI
/// scope's headers.
pub(super) fn of_scope(
    scope: &Bound<'_, PyDict>,
    keeps_traces: bool,
) -> (Option<String>, Option<String>) {
    let (mut start, mut trace) = (None, None);
    let headers = scope.get_item(intern!(scope.py(), "headers"));
    let Some(headers) = headers.ok().flatten().and_then(|all| all.try_iter().ok()) else {
        return (start, trace);
    };
    for header in headers.flatten() {
        let part = |place| header.get_item(place).ok()?.cast_into::<PyBytes>().ok();
        let text = || {
            let value = part(1)?;
            String::from_utf8(value.as_bytes().to_vec()).ok()
        };
        match part(0).as_ref().map(PyBytesMethods::as_bytes) {
            Some(b"x-request-start") => start = text(),
            Some(b"traceparent") if keeps_traces => trace = text(),
            _ => {}
        }
    }
    (start, trace)
}

/// Returns how long a request waited that began at `begun` (Unix time). Zero if the clocks differ a
/// little, `None` if they differ wildly.
pub(super) fn wait(start: f64, begun: f64) -> Option<f64> {
    let seconds = begun - start;
    (seconds.abs() <= LONGEST_WAIT_SECONDS).then_some(seconds.max(0.0))
}

/// Returns the trace of a `traceparent`, sampled or not; 0 if it names none.
pub(super) fn trace_id(text: &str) -> u128 {
    let id = || {
        let (_version, rest) = text.trim_start().split_once('-')?;
        let (id, _) = rest.split_at_checked(32)?;
        // Not `from_str_radix` alone, which accepts a sign.
        let is_hex = id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| u128::from_str_radix(id, 16).ok())?
    };
    id().unwrap_or(0)
}

/// Returns the trace of Gunicorn's request object, whose headers are pairs of texts with names in upper case; 0
/// if there is none.
#[inline]
pub(super) fn trace_of_request(req: &Bound<'_, PyAny>) -> u128 {
    const NAME: &str = "TRACEPARENT";
    let Ok(headers) = req.getattr(intern!(req.py(), "headers")) else {
        return 0;
    };
    let Ok(headers) = headers.cast::<PyList>() else {
        return 0;
    };
    for place in 0..headers.len() {
        // SAFETY: the interpreter is attached. The references are borrowed from the list and the pair, which
        // nothing changes meanwhile; each call checks its argument's type and the place, and what it returns is
        // checked before it is used.
        let name = unsafe {
            let pair = ffi::PyList_GetItem(headers.as_ptr(), place.cast_signed());
            if pair.is_null() || ffi::PyTuple_Check(pair) == 0 || ffi::PyTuple_Size(pair) != 2 {
                continue;
            }
            ffi::PyTuple_GetItem(pair, 0)
        };
        // SAFETY: `name` is an item of the pair.
        let is_long_enough = unsafe {
            ffi::PyUnicode_Check(name) != 0
                && ffi::PyUnicode_GetLength(name) == NAME.len().cast_signed()
        };
        if is_long_enough && let Some(trace) = trace_of_pair(headers, place, NAME) {
            return trace;
        }
    }
    0
}

#[cold]
fn trace_of_pair(headers: &Bound<'_, PyList>, place: usize, wanted: &str) -> Option<u128> {
    let (name, value) = headers
        .get_item(place)
        .ok()?
        .extract::<(String, String)>()
        .ok()?;
    (name == wanted).then(|| trace_id(&value))
}

/// Returns the value of `traceparent` in an ASGI scope.
pub(super) fn trace_of_scope(scope: &Bound<'_, PyDict>) -> Option<String> {
    of_scope(scope, true).1
}

/// Returns trace and span of a `traceparent` (W3C Trace Context) whose trace is sampled.
pub(super) fn sampled_trace(text: &str) -> Option<(&str, &str)> {
    let mut parts = text.trim().split('-');
    let (_version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let flags = u8::from_str_radix(parts.next()?.get(..2)?, 16).ok()?;
    let is_id = |text: &str, length| {
        text.len() == length
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && text.bytes().any(|byte| byte != b'0')
    };
    (flags & 1 == 1 && is_id(trace, 32) && is_id(span, 16)).then_some((trace, span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_proxy_is_understood_in_every_unit() {
        for text in [
            "1700000000.5",
            "t=1700000000.5",
            "1700000000500",
            "1700000000500000",
        ] {
            assert_eq!(request_start(text), Some(1_700_000_000.5), "{text}");
        }
        for text in ["", "t=", "soon", "12", "-1700000000", "NaN", "inf"] {
            assert_eq!(request_start(text), None, "{text}");
        }
    }

    #[test]
    fn clocks_that_differ_make_no_negative_wait() {
        assert_eq!(wait(10.0, 12.5), Some(2.5));
        assert_eq!(wait(12.5, 10.0), Some(0.0));
        assert_eq!(wait(0.0, 1e9), None);
    }

    #[test]
    fn a_trace_is_read_from_any_traceparent() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let trace = u128::from_str_radix(id, 16).unwrap();
        for text in [
            format!("00-{id}-b7ad6b7169203331-00"),
            format!(" 00-{id}-b7ad6b7169203331-01"),
            format!("01-{id}-b7ad6b7169203331-01-more"),
        ] {
            assert_eq!(trace_id(&text), trace, "{text}");
        }
        for text in [
            "",
            "00",
            "00-",
            "00-0af7",
            &format!("00-+{}-1", &id[1..]),
            &format!("00-{}é-", &id[1..]),
        ] {
            assert_eq!(trace_id(text), 0, "{text}");
        }
    }

    #[test]
    fn only_traces_that_are_kept_are_exemplars() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let header = |flags: &str| format!("00-{trace}-{span}-{flags}");
        assert_eq!(sampled_trace(&header("01")), Some((trace, span)));
        assert_eq!(sampled_trace(&header("00")), None);
        assert_eq!(sampled_trace(&header("x")), None);
        assert_eq!(sampled_trace("00-0-0-01"), None);
        assert_eq!(
            sampled_trace(&format!("00-{}-{span}-01", "0".repeat(32))),
            None
        );
    }
}
