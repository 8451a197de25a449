//! Request heads of HTTP/1 (RFC 9112): enough of them to dispatch by, and not a byte more; what is answered to those that
//! cannot be served; and where a request ends.
//!
//! Parsing is `httparse`'s. This room adds what it leaves open: a bound on bytes, one host, the forms of the request target.
//! It is given the bytes of the stream from the first one on and never keeps any.
//!
//! [`Framing`], [`Body`] and [`Chunked`] find the end of a request in the client's stream. The switch does not use them yet:
//! it chooses a backend once per connection. They stand ready for choosing anew with each request.

mod chunked;
mod framing;
mod refusal;
mod response;

use core::mem::MaybeUninit;
use core::net::Ipv6Addr;

use httparse::Header;

pub use chunked::{Chunked, EXTENSION_BYTES_MAX, SIZE_DIGITS_MAX, TRAILER_BYTES_MAX, TRAILER_COUNT_MAX};
pub use framing::{Body, Fed, Framing, LENGTH_BYTES_MAX, Unclear};
pub use refusal::{BODY_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, ErrorBody, ErrorPages, Refusal};
pub use response::{LOCATION_NAMES, Location, Response};

/// Header fields a head may have.
pub const HEADER_COUNT_MAX: usize = 128;

/// What rules can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The method, as written.
    pub method: &'a str,
    /// The host asked for, without port: from an absolute target, else from the Host field.
    pub host: Option<&'a str>,
    /// The path of the target, without the query; `*` for asterisk-form, empty for CONNECT.
    pub path: &'a str,
    /// The query of the target, without the question mark.
    pub query: Option<&'a str>,
    /// Every header field, in the order they came.
    pub fields: &'a [Header<'a>],
    /// Bytes of the head, its empty line included.
    pub bytes: usize,
}

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A whole head, perhaps followed by more.
    Complete(Head<'a>),
    /// The beginning of one.
    Partial,
    /// More header fields than [`HEADER_COUNT_MAX`].
    TooManyFields,
    /// No HTTP/1 request, or one whose meaning is disputed: two Host fields, a Host with what no host name has.
    Malformed,
}

/// Room for the header fields of a head.
#[derive(Debug)]
pub struct Fields<'a>([MaybeUninit<Header<'a>>; HEADER_COUNT_MAX]);

impl Default for Fields<'_> {
    fn default() -> Self {
        Self([const { MaybeUninit::uninit() }; HEADER_COUNT_MAX])
    }
}

/// Reads a request head from the first bytes of a connection. Its fields are put into `room`.
///
/// Empty lines before the request line are passed over (RFC 9112, section 2.2).
pub fn parse<'a: 'room, 'room>(bytes: &'a [u8], room: &'room mut Fields<'a>) -> Parsed<'room> {
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut room.0) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(httparse::Error::TooManyHeaders) => return Parsed::TooManyFields,
        Err(_) => return Parsed::Malformed,
    };
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Parsed::Malformed;
    };
    let fields: &'room [Header<'a>] = request.headers;
    let mut hosts = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    let field = hosts.next().map(|field| field.value);
    if hosts.next().is_some() {
        return Parsed::Malformed; // RFC 9112, section 3.2: MUST respond with 400 to more than one Host
    }
    let Ok(field) = field.map(core::str::from_utf8).transpose() else {
        return Parsed::Malformed;
    };
    let Some((authority, path, query)) = target_parts(method, target) else {
        return Parsed::Malformed;
    };
    // RFC 9112, section 3.2.2: the host of an absolute-form target is to be used instead of the Host field.
    let host = match authority.or(field.map(str::trim)).map(host_of) {
        None => None,
        Some(Some(host)) => Some(host),
        Some(None) => return Parsed::Malformed,
    };
    Parsed::Complete(Head { method, host, path, query, fields, bytes: length })
}

/// Splits a request target into authority, path and query (RFC 9112, section 3.2); `None` if it has no form.
fn target_parts<'a>(method: &str, target: &'a str) -> Option<(Option<&'a str>, &'a str, Option<&'a str>)> {
    if target.starts_with('/') {
        let (path, query) = path_and_query(target);
        return Some((None, path, query));
    }
    if target == "*" {
        return Some((None, target, None));
    }
    if method == "CONNECT" {
        return Some((Some(target), "", None));
    }
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let (path, query) = path_and_query(path);
    Some((Some(authority), if path.is_empty() { "/" } else { path }, query))
}

fn path_and_query(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// Takes the port off an authority (RFC 3986, section 3.2), and the brackets off an address; `None` if what is left is no host.
pub fn host_of(authority: &str) -> Option<&str> {
    let host = match authority.strip_prefix('[') {
        Some(rest) => {
            let (literal, port) = rest.split_once(']')?;
            if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
                return None;
            }
            // A name in brackets would pass for the name here and be refused, or read otherwise, by the server.
            literal.parse::<Ipv6Addr>().ok()?;
            literal
        }
        None => match authority.split_once(':') {
            Some((host, port)) if is_port(port) => host,
            Some(_) => return None,
            None => authority,
        },
    };
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:".contains(&byte);
    host.bytes().all(sound).then_some(host)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
