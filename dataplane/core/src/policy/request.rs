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

    /// Returns the value of the first cookie with this name; names of cookies are case sensitive.
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        cookies(self.fields).find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
    }
}

/// Goes over the cookies of a request, as name and value, in the order they came.
///
/// The field is taken apart as servers do: at semicolons (RFC 6265, section 4.2.1), blanks around each part dropped, the name
/// up to the first `=` (section 5.2); parts without `=` or without name are passed over. Values stay as they stand, quotes
/// included. HTTP/1 clients send one Cookie field (section 5.4); where there are several, all count.
pub fn cookies<'a>(fields: &'a [Field<'a>]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("cookie"))
        .flat_map(|field| field.value.split(|byte| *byte == b';'))
        .filter_map(|part| {
            let at = part.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (part.get(..at)?.trim_ascii(), part.get(at + 1..)?.trim_ascii());
            (!name.is_empty()).then_some((name, value))
        })
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
    fn the_first_field_or_cookie_of_a_name_counts() {
        let fields = [
            Field { name: "X-Cookie", value: b"a=0" },
            Field { name: "cookie", value: b"a=1;b = 2 ; c; =x" },
            Field { name: "Cookie", value: b"a=3; d=e=f" },
        ];
        let http = Http { method: "GET", host: None, path: "/", query: None, fields: &fields };
        assert_eq!((http.cookie("a"), http.cookie("d")), (Some(&b"1"[..]), Some(&b"e=f"[..])));
        assert_eq!((http.cookie("A"), http.cookie("c")), (None, None), "names are case sensitive");
        assert_eq!((http.field("x-cookie"), http.field("x")), (Some(&b"a=0"[..]), None));
    }
}
