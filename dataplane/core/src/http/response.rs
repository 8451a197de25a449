//! Responses the switch writes itself: small, complete, the last ones of their connection.

use core::fmt::{self, Display, Formatter};
use std::io::Write as _;

/// A response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The status code, 200 to 599.
    pub status: u16,
    /// Where else to ask (RFC 9110, section 10.2.2).
    pub location: Option<Location<'a>>,
    /// The media type of the body.
    pub content_type: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// Where else to ask: a template and what stands for its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location<'a> {
    /// A URI with `{host}`, `{path}`, `{query}`, `{uri}` and `{port}` in it.
    pub template: &'a str,
    /// The host asked for; empty without.
    pub host: &'a str,
    /// The path asked for.
    pub path: &'a str,
    /// The query asked for.
    pub query: Option<&'a str>,
    /// The port of the VIP.
    pub port: u16,
}

/// Names a template may have.
pub const LOCATION_NAMES: [&str; 5] = ["host", "path", "query", "uri", "port"];

impl Display for Location<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.template;
        while let Some((before, behind)) = rest.split_once('{') {
            f.write_str(before)?;
            let Some((name, after)) = behind.split_once('}') else {
                return f.write_str(behind); // the configuration refuses such
            };
            match name {
                "host" => f.write_str(self.host)?,
                "path" => f.write_str(self.path)?,
                "query" => f.write_str(self.query.unwrap_or_default())?,
                "uri" => match self.query {
                    Some(query) => write!(f, "{}?{query}", self.path)?,
                    None => f.write_str(self.path)?,
                },
                "port" => write!(f, "{}", self.port)?,
                _ => {}
            }
            rest = after;
        }
        f.write_str(rest)
    }
}

impl Response<'_> {
    /// Writes the response into `buffer`, without body if that is what HEAD asked for. Returns how many bytes it has: 0 if the
    /// buffer is too small.
    pub fn write(&self, with_body: bool, buffer: &mut [u8]) -> usize {
        let room = buffer.len();
        let mut rest = buffer;
        let Self { status, location, content_type, body } = self;
        let written = write!(rest, "HTTP/1.1 {status} {}\r\n", phrase(*status))
            .and_then(|()| location.map_or(Ok(()), |location| write!(rest, "Location: {location}\r\n")))
            .and_then(|()| {
                write!(
                    rest,
                    "Content-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\
                     Cache-Control: no-store\r\n\r\n",
                    body.len(),
                )
            })
            .and_then(|()| if with_body { rest.write_all(body) } else { Ok(()) });
        written.map_or(0, |()| room - rest.len())
    }
}

/// Returns the reason phrase of a status code (RFC 9110, section 15; 429 and 431 are RFC 6585, 451 is RFC 7725). Clients ignore
/// it; it may be empty (RFC 9112, section 4).
const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Location<'_> =
        Location { template: "", host: "a.example", path: "/x", query: Some("q=1"), port: 8080 };

    #[test]
    fn names_in_a_template_stand_for_what_was_asked() {
        for (template, expected) in [
            ("https://{host}{uri}", "https://a.example/x?q=1"),
            ("https://b.example{path}", "https://b.example/x"),
            ("http://{host}:{port}/?{query}", "http://a.example:8080/?q=1"),
            ("/elsewhere", "/elsewhere"),
        ] {
            assert_eq!(Location { template, ..ASKED }.to_string(), expected);
        }
        let plain = Location { template: "https://{host}{uri}", query: None, ..ASKED };
        assert_eq!(plain.to_string(), "https://a.example/x");
    }

    #[test]
    fn a_redirect_is_a_whole_response() {
        let location = Some(Location { template: "https://{host}{uri}", ..ASKED });
        let response = Response { status: 301, location, content_type: "text/plain", body: b"moved\n" };
        let mut buffer = [0; 512];
        let count = response.write(true, &mut buffer);
        let text = core::str::from_utf8(&buffer[..count]).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("an empty line");
        let mut lines = head.split("\r\n");
        assert_eq!(lines.next(), Some("HTTP/1.1 301 Moved Permanently"));
        assert_eq!(lines.next(), Some("Location: https://a.example/x?q=1"));
        assert!(head.ends_with("Connection: close\r\nCache-Control: no-store"), "{head}");
        assert!(head.contains("\r\nContent-Length: 6\r\n") && body == "moved\n", "{text}");
    }

    #[test]
    fn a_response_without_room_is_not_begun() {
        let response = Response { status: 200, location: None, content_type: "a/b", body: &[b'x'; 100] };
        assert_eq!(response.write(true, &mut [0; 150]), 0);
        assert!(response.write(false, &mut [0; 150]) > 0, "without its body it fits");
    }
}
