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
