//! Conditions on a server's name: the host an HTTP request asks for, the server name of a ClientHello.

use core::fmt;
use core::net::Ipv6Addr;

/// Longest name (RFC 1035, section 2.3.4), in bytes.
pub const HOST_BYTES_MAX: usize = 253;

/// A server's name to compare with, without port. Comparison ignores ASCII case (RFC 9110, section 4.2.3) and one trailing
/// dot.
///
/// `www.example.org` is that name alone. `*.example.org` is every name with at least one label in front of `example.org`,
/// and not `example.org` itself. `[2001:db8::1]` is an IPv6 address, compared as text: clients write them as RFC 5952 says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMatch(Pattern);

/// In lower case, without the trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// The whole name.
    Exact(Box<str>),
    /// What stands behind the asterisk, its dot included.
    Below(Box<str>),
}

/// Why a text is no name to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing is written, or something that stands in no host name.
    #[error(
        "a host name as clients ask for it is needed, without scheme or port, such as \"www.example.org\" or \
         \"*.example.org\"; letters beyond ASCII are written as xn--..., an IPv6 address in brackets"
    )]
    NoName,
    /// It is longer than any name.
    #[error("a host name has at most {HOST_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// An asterisk elsewhere than in front, or for part of a label.
    #[error("an asterisk stands for whole labels in front, such as \"*.example.org\", and nowhere else")]
    Wildcard,
    /// A label without letters.
    #[error("a host name has something between its dots and in front of the first")]
    EmptyLabel,
}

impl HostMatch {
    /// Compares with a name, or with all names below one.
    ///
    /// # Errors
    /// If no client could ask for it: see [`HostError`].
    pub fn new(text: &str) -> Result<Self, HostError> {
        // An IPv6 literal stands in brackets (RFC 3986, section 3.2.2), which are not part of what it is compared with.
        if let Some(literal) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let _: Ipv6Addr = literal.parse().map_err(|_| HostError::NoName)?;
            return Ok(Self(Pattern::Exact(literal.to_ascii_lowercase().into())));
        }
        let bare = without_dot(text);
        let (below, name) = bare.strip_prefix("*.").map_or((false, bare), |name| (true, name));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.contains('*') {
            return Err(HostError::Wildcard);
        }
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(HostError::NoName);
        }
        if bare.len() > HOST_BYTES_MAX {
            return Err(HostError::TooLong(bare.len()));
        }
        if name.split('.').any(str::is_empty) {
            return Err(HostError::EmptyLabel);
        }
        let name = name.to_ascii_lowercase();
        Ok(Self(if below { Pattern::Below(format!(".{name}").into()) } else { Pattern::Exact(name.into()) }))
    }

    /// Says whether `host` is this name, or one of these.
    pub fn matches(&self, host: &str) -> bool {
        let host = without_dot(host);
        match &self.0 {
            Pattern::Exact(name) => host.eq_ignore_ascii_case(name),
            Pattern::Below(end) => {
                let end = end.as_bytes();
                let at = host.len().saturating_sub(end.len());
                at > 0 && host.as_bytes().get(at..).is_some_and(|rest| rest.eq_ignore_ascii_case(end))
            }
        }
    }

    /// Says whether every name that `other` matches is matched by this.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (_, Pattern::Exact(name)) => self.matches(name),
            (Pattern::Below(end), Pattern::Below(other)) => other.ends_with(&**end),
            (Pattern::Exact(_), Pattern::Below(_)) => false,
        }
    }

    /// Returns the end that all its names share, in lower case and without the trailing dot, and whether that is the whole.
    pub(super) fn end(&self) -> (&str, bool) {
        match &self.0 {
            Pattern::Exact(name) => (name, true),
            Pattern::Below(end) => (end, false),
        }
    }
}

impl fmt::Display for HostMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Exact(literal) if literal.contains(':') => write!(f, "[{literal}]"),
            Pattern::Exact(name) => f.write_str(name),
            Pattern::Below(end) => write!(f, "*{end}"),
        }
    }
}

/// Takes the dot off a name that is written as the absolute one it is (RFC 1034, section 3.1).
pub(super) fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_itself_in_any_case_and_an_asterisk_is_one_label_or_more() {
        let ours = ["www.example.org", "*.example.org", "Example.ORG.", "[2001:DB8::1]"].map(HostMatch::new);
        let ours = ours.map(|host| host.expect("a name"));
        for (host, expected) in [
            ("www.example.org", [true, true, false, false]),
            ("WWW.Example.org.", [true, true, false, false]),
            ("www.example.org..", [false, false, false, false]),
            ("a.b.example.org", [false, true, false, false]),
            ("example.org", [false, false, true, false]),
            (".example.org", [false, false, false, false]),
            ("badexample.org", [false, false, false, false]),
            ("www.example.org.evil", [false, false, false, false]),
            ("2001:db8::1", [false, false, false, true]),
            ("é.example.org", [false, true, false, false]),
            ("", [false, false, false, false]),
            (".", [false, false, false, false]),
        ] {
            assert_eq!(ours.each_ref().map(|ours| ours.matches(host)), expected, "{host}");
        }
        let words = ours.map(|ours| ours.to_string());
        assert_eq!(words, ["www.example.org", "*.example.org", "example.org", "[2001:db8::1]"]);
    }

    #[test]
    fn what_no_client_asks_for_is_refused() {
        let long = "a".repeat(254);
        for (text, expected) in [
            ("", HostError::NoName),
            (".", HostError::NoName),
            ("http://x", HostError::NoName),
            ("x:80", HostError::NoName),
            ("::1", HostError::NoName),
            ("[::1", HostError::NoName),
            ("[x]", HostError::NoName),
            ("bücher.example", HostError::NoName),
            ("*.", HostError::Wildcard),
            ("*", HostError::Wildcard),
            ("*.*.org", HostError::Wildcard),
            ("w*.example.org", HostError::Wildcard),
            ("www.*", HostError::Wildcard),
            ("a..b", HostError::EmptyLabel),
            (".a", HostError::EmptyLabel),
            ("*..a", HostError::EmptyLabel),
            (&long, HostError::TooLong(254)),
        ] {
            assert_eq!(HostMatch::new(text), Err(expected), "{text}");
        }
        assert!(HostMatch::new(&long[1..]).is_ok());
    }
}
