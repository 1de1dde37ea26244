//! The host that a request names, by RFC 9112, section 3.2.

use std::net::Ipv6Addr;

use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Version};

/// Longest part of a wrong host in an answer, in characters.
const MAX_SHOWN: usize = 80;

/// The reason why a request is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum HostError {
    #[error("a request of HTTP/1.1 has one header Host")]
    Missing,
    #[error("a request has one header Host, and this one has {0}")]
    Several(usize),
    /// Every target here is an `http` or `https` URI, whose host may not be empty (RFC 9110, section
    /// 4.2.1).
    #[error("the host is empty, expected a name or an address, and perhaps a port")]
    Empty,
    #[error("the host {0:?} is wrong, expected a name or an address, and perhaps a port")]
    Invalid(String),
}

/// Checks the header `Host`, and the host in a target that is a whole URI. HTTP/1.0 needs none.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), HostError> {
    let hosts = request.headers().get_all(HOST);
    match hosts.iter().count() {
        0 if request.version() >= Version::HTTP_11 => return Err(HostError::Missing),
        0 | 1 => {}
        several => return Err(HostError::Several(several)),
    }
    let in_target = request.uri().authority();
    let in_target = in_target.map(|authority| authority.as_str().as_bytes());
    let mut named = hosts.iter().map(HeaderValue::as_bytes).chain(in_target);
    named.try_for_each(check_value)
}

fn check_value(value: &[u8]) -> Result<(), HostError> {
    if value.is_empty() {
        return Err(HostError::Empty);
    }
    let text = std::str::from_utf8(value);
    if text.is_ok_and(is_host_with_port) {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(value);
    Err(HostError::Invalid(shown.chars().take(MAX_SHOWN).collect()))
}

/// Whether it is `uri-host [ ":" port ]` of RFC 9110, section 7.2, with a host that is not empty.
fn is_host_with_port(text: &str) -> bool {
    if let Some(literal) = text.strip_prefix('[') {
        let Some((address, rest)) = literal.split_once(']') else {
            return false;
        };
        let is_port = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
        return is_port && (address.parse::<Ipv6Addr>().is_ok() || is_future_address(address));
    }
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    is_name(name) && is_port(port)
}

/// A port may be missing after its colon (RFC 3986, section 3.2.3).
fn is_port(text: &str) -> bool {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number && (text.is_empty() || text.parse::<u16>().is_ok())
}

/// Whether it is a registered name or an IPv4 address (RFC 3986, section 3.2.2).
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let mut is_digit = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
        let is_allowed = match byte {
            b'%' => is_digit() && is_digit(),
            byte => is_plain(byte),
        };
        if !is_allowed {
            return false;
        }
    }
    !name.is_empty()
}

/// An address of a later version: `"v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )`.
fn is_future_address(text: &str) -> bool {
    let Some((version, address)) = text
        .strip_prefix(['v', 'V'])
        .and_then(|text| text.split_once('.'))
    else {
        return false;
    };
    let is_version = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_address = !address.is_empty() && address.bytes().all(|b| b == b':' || is_plain(b));
    is_version && is_address
}

/// The characters `unreserved` and `sub-delims` of RFC 3986.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test should stop here")]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_ports_are_hosts() {
        for host in [
            "x",
            "metrics.internal:9091",
            "a_b.example.",
            "10.0.0.1:65535",
            "[::1]:9091",
            "[2001:db8::7]",
            "[v1.fe80:a]",
            "caf%C3%A9",
            "x:",
            "a,b",
        ] {
            assert_eq!(check_value(host.as_bytes()), Ok(()), "{host}");
        }
    }

    #[test]
    fn everything_else_is_no_host() {
        assert_eq!(check_value(b""), Err(HostError::Empty));
        for host in [
            "a b",
            "a\tb",
            "user@host",
            "user:pw@host",
            "x/metrics",
            "http://x",
            "x?y",
            "x#y",
            "x\\y",
            ":9091",
            "x:http",
            "x:-1",
            "x:+1",
            "x:65536",
            "x:1:2",
            "::1",
            "[::1",
            "[::1]9091",
            "[]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "caf%C3%A",
            "%zz",
            "%",
            "caf\u{e9}",
            "<x>",
            "\"x\"",
            "x\u{7f}",
        ] {
            let wrong = Err(HostError::Invalid(host.to_owned()));
            assert_eq!(check_value(host.as_bytes()), wrong, "{host}");
        }
        assert!(check_value(b"x\xff").is_err());
    }

    #[test]
    fn one_host_is_needed_from_http_1_1_on() {
        let request = |version, hosts: &[&str], target: &str| {
            let mut request = Request::builder().version(version).uri(target);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            check(&request.body(()).unwrap())
        };
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        assert_eq!(request(old, &[], "/metrics"), Ok(()));
        assert_eq!(request(new, &[], "/metrics"), Err(HostError::Missing));
        assert_eq!(request(new, &["x"], "http://x:1/metrics"), Ok(()));
        for version in [old, new] {
            let several = request(version, &["x", "x"], "/");
            assert_eq!(several, Err(HostError::Several(2)));
            assert_eq!(request(version, &[""], "/"), Err(HostError::Empty));
            let user = request(version, &["x"], "http://u:p@x/");
            assert_eq!(user, Err(HostError::Invalid("u:p@x".to_owned())));
        }
    }
}
