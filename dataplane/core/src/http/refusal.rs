//! What clients are told whose request cannot be served: small, complete responses.

use crate::http::Response;

/// Longest body of an error page, in bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024;
/// Longest content type of an error page, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 128;

/// Why a request is answered with an error. Each has its line in the error page and its status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// 400: the bytes are no HTTP/1 request head.
    Malformed,
    /// 400: two segments had different bytes at the same place.
    Disputed,
    /// 400: the client had nothing more to send before its head was whole.
    CutOff,
    /// 408: the head was not whole in time.
    Unfinished,
    /// 431: the head has too many bytes or fields, or came in too many segments.
    HeadTooLarge,
    /// 400: the bytes are no TLS, where nothing else is spoken.
    NotTls,
    /// 503: no rule takes the request.
    NoRule,
    /// 503: no backend of the pool is usable.
    NoBackend,
    /// 503: as many backends as may be tried refused the connection.
    RefusedByAll,
    /// 503: the backends are full, and others matter more.
    Overloaded,
}

impl Refusal {
    /// The status codes there are, in the order in which [`ErrorPages`] keeps bodies.
    pub const STATUSES: [u16; 4] = [400, 408, 431, 503];

    /// Returns the status code (RFC 9110, section 15; 431 is RFC 6585).
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::Disputed | Self::CutOff | Self::NotTls => 400,
            Self::Unfinished => 408,
            Self::HeadTooLarge => 431,
            Self::NoRule | Self::NoBackend | Self::RefusedByAll | Self::Overloaded => 503,
        }
    }

    /// Returns the line that says why.
    pub const fn line(self) -> &'static str {
        match self {
            Self::Malformed => "The request head is not HTTP/1.1, or says two things at once.\n",
            Self::Disputed => "The request head came in two versions.\n",
            Self::CutOff => "The connection was closed before the request head was complete.\n",
            Self::Unfinished => "The request head was not completed in time.\n",
            Self::HeadTooLarge => "The request head is too large.\n",
            Self::NotTls => "This port speaks TLS; ask for https.\n",
            Self::NoRule => "No service is configured for this address.\n",
            Self::NoBackend => "No server is available for this address.\n",
            Self::RefusedByAll => "No server takes new connections for this address.\n",
            Self::Overloaded => "The servers for this address are busy; try again later.\n",
        }
    }
}

/// A body instead of the line that says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    /// Its media type, at most [`CONTENT_TYPE_BYTES_MAX`] visible ASCII characters and blanks.
    pub content_type: String,
    /// The bytes, at most [`BODY_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// The error pages of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// Bodies the operator gave, per status of [`Refusal::STATUSES`].
    pub bodies: [Option<ErrorBody>; 4],
}

impl ErrorPages {
    /// Writes the response to a refused request into `buffer`, without body if that is what HEAD asked for. Returns how many
    /// bytes it has: 0 if the buffer is too small.
    pub fn write(&self, refusal: Refusal, with_body: bool, buffer: &mut [u8]) -> usize {
        let status = refusal.status();
        let place = Refusal::STATUSES.iter().position(|known| *known == status);
        let given = place.and_then(|place| self.bodies.get(place)).and_then(Option::as_ref);
        let (content_type, body) = match given {
            Some(body) => (body.content_type.as_str(), body.bytes.as_slice()),
            None => ("text/plain; charset=utf-8", refusal.line().as_bytes()),
        };
        Response { status, location: None, content_type, body }.write(with_body, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pages: &ErrorPages, refusal: Refusal, with_body: bool) -> String {
        let mut buffer = [0; 1024];
        let count = pages.write(refusal, with_body, &mut buffer);
        String::from_utf8(buffer[..count].to_vec()).expect("text")
    }

    #[test]
    fn a_page_is_a_whole_response_that_says_why() {
        let text = written(&ErrorPages::default(), Refusal::NoBackend, true);
        let (head, body) = text.split_once("\r\n\r\n").expect("an empty line");
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        assert!(head.contains("\r\nConnection: close"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        assert_eq!(body, "No server is available for this address.\n");
        let head_only = written(&ErrorPages::default(), Refusal::NoBackend, false);
        assert_eq!(head_only, format!("{head}\r\n\r\n"), "the length stays that of the body");
    }

    #[test]
    fn an_operators_body_stands_for_all_reasons_of_its_status() {
        let body = ErrorBody { content_type: "text/html".into(), bytes: b"<p>later</p>".to_vec() };
        let pages = ErrorPages { bodies: [None, None, None, Some(body)] };
        for refusal in [Refusal::NoRule, Refusal::NoBackend, Refusal::RefusedByAll] {
            let text = written(&pages, refusal, true);
            assert!(
                text.contains("Content-Type: text/html\r\n") && text.ends_with("\r\n\r\n<p>later</p>"),
                "{text}"
            );
        }
        assert!(written(&pages, Refusal::Malformed, true).ends_with(Refusal::Malformed.line()));
    }

    #[test]
    fn a_page_without_room_is_not_begun() {
        assert_eq!(ErrorPages::default().write(Refusal::Malformed, true, &mut [0; 40]), 0);
    }
}
