//! Reads the facts of a finished request from Gunicorn's objects.
//!
//! Some version, worker or client may not have set any of these attributes. What a missing one
//! means is documented beside it; nothing raises.

use pyo3::exceptions::{PyOSError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{ffi, intern};

use super::request_end::Swallowed;
use super::route::{self, NO_STATUS};

/// Returns the response's status, if the application has started one.
#[inline]
pub(super) fn status(resp: &Bound<'_, PyAny>) -> Option<u16> {
    resp.getattr(intern!(resp.py(), "status_code"))
        .ok()?
        .extract()
        .ok()
}

/// Returns whether anything of the response was sent.
pub(super) fn has_begun(resp: &Bound<'_, PyAny>) -> bool {
    resp.getattr(intern!(resp.py(), "headers_sent"))
        .is_ok_and(|sent| sent.is_truthy().unwrap_or(false))
}

/// Returns the server's answer to a request that ended with an exception before any of its response
/// was sent: status, and bytes of the body. Gunicorn answers 500, unless the connection failed;
/// `page` is the size of its body for HTTP/1.
pub(super) fn answer_to(req: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>, page: f64) -> (u16, f64) {
    let is_stream = req.hasattr(intern!(req.py(), "stream")).unwrap_or(false);
    if is_stream {
        return answer_to_stream(error);
    }
    if error.is_instance_of::<PyOSError>() {
        (NO_STATUS, 0.0)
    } else {
        (500, page)
    }
}

/// Returns the same for a stream of HTTP/2: the body is the exception's text.
fn answer_to_stream(error: &Bound<'_, PyAny>) -> (u16, f64) {
    let errors = error.py().import("gunicorn.http2.errors");
    let is_of_the_peer = errors.is_ok_and(|errors| {
        ["HTTP2StreamError", "HTTP2ConnectionError"]
            .iter()
            .any(|name| {
                let class = errors.getattr(*name);
                class.is_ok_and(|class| error.is_instance(&class).unwrap_or(false))
            })
    });
    if is_of_the_peer {
        return (NO_STATUS, 0.0);
    }
    let text = error.str().ok();
    let bytes = text.and_then(|text| text.to_str().map(str::len).ok());
    (500, bytes.unwrap_or(0) as f64)
}

/// Returns the exceptions that the framework turned into responses (`frameworks/__init__.py` collects them), without
/// `uncaught`.
#[inline]
pub(super) fn answered_exceptions(
    environ: &Bound<'_, PyDict>,
    uncaught: Option<&Bound<'_, PyAny>>,
) -> Vec<Swallowed> {
    let py = environ.py();
    match environ.get_item(intern!(py, "gunicorn_prometheus_exporter.errors")) {
        Ok(Some(noted)) => noted
            .call_method1(intern!(py, "without"), (uncaught,))
            .and_then(|errors| errors.extract())
            .unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// Returns the bytes of the body that were sent.
#[inline]
pub(super) fn bytes_sent(resp: &Bound<'_, PyAny>) -> f64 {
    let py = resp.py();
    let sent = number(resp, intern!(py, "sent"));
    if sent > 0.0 {
        return sent;
    }
    // `sent` does not include sendfile; our wrapper of it keeps the count (bodies.py).
    number(resp, intern!(py, "sent_by_sendfile"))
}

/// Returns the bytes of the body that were read from the client, by the application or for it.
#[inline]
pub(super) fn bytes_received(req: &Bound<'_, PyAny>, environ: &Bound<'_, PyDict>) -> f64 {
    let py = req.py();
    let declared = |name| matches!(environ.get_item(name), Ok(Some(_)));
    // The body of a stream of HTTP/2 needs no length, and counts itself (bodies.py). On other
    // requests a header with that name has no effect.
    if declared(intern!(py, "HTTP_VERSION")) {
        let of_stream = req
            .getattr(intern!(py, "body"))
            .map_or(0.0, |body| number(&body, intern!(py, "received")));
        if of_stream > 0.0 {
            return of_stream;
        }
    }
    if !declared(intern!(py, "CONTENT_LENGTH")) && !declared(intern!(py, "HTTP_TRANSFER_ENCODING"))
    {
        return 0.0;
    }
    req.getattr(intern!(py, "body"))
        .and_then(|body| body.getattr(intern!(py, "reader")))
        .map_or(0.0, |reader| number(&reader, intern!(py, "received")))
}

#[inline]
fn number(object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> f64 {
    // Read as an integer: for a float, Python would make an object first.
    object
        .getattr(name)
        .and_then(|value| value.extract::<i64>())
        .map_or(0.0, |number| number as f64)
}

/// Returns the exception that ends the request; the hook runs in a `finally`.
///
/// `StopIteration` is how Gunicorn closes a connection: it stands for the exception that was being
/// handled when it was raised, or for none.
#[inline]
pub(super) fn current_exception(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    let error = handled_exception(py)?;
    if error.is_instance_of::<PyStopIteration>() {
        return error
            .getattr(intern!(py, "__context__"))
            .ok()
            .filter(|context| !context.is_none());
    }
    Some(error)
}

/// `sys.exc_info()[1]`.
#[inline]
fn handled_exception(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    let mut parts = [std::ptr::null_mut(); 3];
    let [kind, value, traceback] = &mut parts;
    // SAFETY: the interpreter is attached (`py`); the function fills three places, each with a new
    // reference or null. (`PyErr_GetHandledException` is newer than our stable ABI.)
    let [_kind, value, _traceback] = unsafe {
        ffi::PyErr_GetExcInfo(kind, value, traceback);
        parts.map(|part| Bound::from_owned_ptr_or_opt(py, part))
    };
    value.filter(|value| !value.is_none())
}

/// Returns the name of an exception's class.
pub(super) fn class_name(error: &Bound<'_, PyAny>) -> String {
    error
        .get_type()
        .name()
        .map_or_else(|_| "Exception".to_owned(), |name| name.to_string())
}

/// The endpoint of a WSGI request.
pub(super) enum Endpoint<'py> {
    /// The template of its route, or the mount point of the application that has answered it.
    Named(Bound<'py, PyString>),
    /// The application has routes, and none matched.
    Without(&'static str),
    /// Only the path is known.
    Path(Option<Bound<'py, PyString>>),
}

/// Reads the endpoint from what the frameworks have left in the environment. `has_routes` tells
/// whether a framework names routes.
#[inline]
pub(super) fn endpoint<'py>(
    environ: &Bound<'py, PyDict>,
    has_routes: bool,
    status: u16,
) -> Endpoint<'py> {
    let py = environ.py();
    let noted = entry(
        environ,
        intern!(py, "gunicorn_prometheus_exporter.endpoint"),
    );
    match noted {
        Some(template) => Endpoint::Named(template),
        None => endpoint_without_note(environ, has_routes, status),
    }
}

fn endpoint_without_note<'py>(
    environ: &Bound<'py, PyDict>,
    mut has_routes: bool,
    status: u16,
) -> Endpoint<'py> {
    let py = environ.py();
    let is_there = |name| matches!(environ.get_item(name), Ok(Some(_)));
    // A Bottle without our integration leaves this, for example one that the application has
    // vendored under another name.
    if is_there(intern!(py, "bottle.app")) {
        has_routes = true;
        let rule = environ
            .get_item(intern!(py, "bottle.route"))
            .ok()
            .flatten()
            .and_then(|route| route.getattr(intern!(py, "rule")).ok())
            .and_then(|rule| rule.cast_into().ok());
        if let Some(rule) = rule {
            return Endpoint::Named(rule);
        }
    }
    if !has_routes {
        return Endpoint::Path(whole_path(environ));
    }
    let label = route::without_route(status);
    let mounted = entry(environ, intern!(py, "gunicorn_prometheus_exporter.mount"));
    match mounted {
        // An application without route names, mounted beside others that have them.
        Some(mounted) if label == route::UNMATCHED && !matches!(status, 404 | 405) => {
            Endpoint::Named(mounted)
        }
        _ => Endpoint::Without(label),
    }
}

/// Returns the path as the client sent it: an application that passes requests on to others moves
/// the beginning of `PATH_INFO` to `SCRIPT_NAME`.
#[inline]
pub(super) fn whole_path<'py>(environ: &Bound<'py, PyDict>) -> Option<Bound<'py, PyString>> {
    let py = environ.py();
    let path = entry(environ, intern!(py, "PATH_INFO"))?;
    match entry(environ, intern!(py, "SCRIPT_NAME")) {
        Some(script) if script.len().is_ok_and(|length| length > 0) => {
            script.add(&path).ok()?.cast_into().ok()
        }
        _ => Some(path),
    }
}

/// Returns a text of the WSGI environment.
#[inline]
pub(super) fn entry<'py>(
    environ: &Bound<'py, PyDict>,
    name: &Bound<'py, PyString>,
) -> Option<Bound<'py, PyString>> {
    environ.get_item(name).ok()??.cast_into().ok()
}

#[inline]
pub(super) fn text<'a>(text: &'a Bound<'_, PyString>) -> Option<&'a str> {
    text.to_str().ok()
}
