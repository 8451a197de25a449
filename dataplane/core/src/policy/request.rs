//! What is known of a request when a backend is chosen for it: parsed, never bytes.

use core::net::IpAddr;

use crate::ids::VipIndex;

/// What rules and policies look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Which VIP the client connected to.
    pub vip: VipIndex,
    /// Who asks.
    pub client: IpAddr,
    /// What is asked for, as far as the VIP's bytes are looked at.
    pub content: Content<'a>,
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Nothing was looked at.
    Unseen,
    /// The head of an HTTP/1 request.
    Http(Http<'a>),
    /// A ClientHello.
    Tls(Tls<'a>),
}

/// The head of an HTTP/1 request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http<'a> {
    /// The method, as written: methods are case sensitive (RFC 9110, section 9.1).
    pub method: &'a str,
    /// The host asked for, without port, as the client wrote it.
    pub host: Option<&'a str>,
    /// The path of the target, without the query.
    pub path: &'a str,
    /// The query of the target, without the question mark.
    pub query: Option<&'a str>,
    /// Every header field, in the order they came.
    pub fields: &'a [Field<'a>],
}

/// One header field: its name, as written, to be compared without regard to ASCII case (RFC 9110, section 5.1), and its
/// value, without blanks around it. The type is that of the parser, so that nothing is copied on the way here.
pub use httparse::Header as Field;

/// A ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tls<'a> {
    /// The server's name (RFC 6066, section 3), as written.
    pub server_name: Option<&'a str>,
    /// The application protocols offered (RFC 7301), most wanted first.
    pub protocols: &'a [&'a [u8]],
    /// The session to be resumed in TLS 1.2; empty without.
    pub session_id: &'a [u8],
}

impl<'a> Http<'a> {
    /// Returns the value of the first field with this name.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Lists the cookies, in the order they came: names and values, without blanks around them (RFC 6265, section 4.2.1). What
    /// has no equals sign is no cookie.
    pub fn cookies(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let fields = self.fields.iter().filter(|field| field.name.eq_ignore_ascii_case("cookie"));
        let pairs = fields.flat_map(|field| field.value.split(|byte| *byte == b';'));
        pairs.filter_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = pair.split_at(equals);
            Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
        })
    }

    /// Returns the value of the first cookie with this name; names of cookies are case sensitive.
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        self.cookies().find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
    }
}

impl<'a> Request<'a> {
    /// Returns the request head, if this is HTTP.
    pub const fn http(&self) -> Option<&Http<'a>> {
        match &self.content {
            Content::Http(http) => Some(http),
            Content::Unseen | Content::Tls(_) => None,
        }
    }

    /// Returns the ClientHello, if this is TLS.
    pub const fn tls(&self) -> Option<&Tls<'a>> {
        match &self.content {
            Content::Tls(tls) => Some(tls),
            Content::Unseen | Content::Http(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_in_all_their_fields_and_nowhere_else() {
        let fields = [
            Field { name: "X-Cookie", value: b"a=0" },
            Field { name: "cookie", value: b"a=1;b = 2 ; c; =x" },
            Field { name: "Cookie", value: b"a=3; d=e=f" },
        ];
        let http = Http { method: "GET", host: None, path: "/", query: None, fields: &fields };
        let found: Vec<_> = http.cookies().collect();
        let expected: [(&[u8], &[u8]); 5] =
            [(b"a", b"1"), (b"b", b"2"), (b"", b"x"), (b"a", b"3"), (b"d", b"e=f")];
        assert_eq!(found, expected);
        assert_eq!(http.cookie("a"), Some(&b"1"[..]), "the first counts");
        assert_eq!((http.cookie("A"), http.cookie("c")), (None, None));
        assert_eq!(http.field("x-cookie"), Some(&b"a=0"[..]));
    }
}
