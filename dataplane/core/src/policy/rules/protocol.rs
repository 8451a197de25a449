//! Conditions on the application protocols a ClientHello offers.

use core::fmt;

/// Longest name of a protocol (RFC 7301, section 3.1), in bytes.
const PROTOCOL_BYTES_MAX: usize = 255;

/// An application protocol that must be among those offered (RFC 7301), such as `h2`. Names are compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolMatch(Box<str>);

/// Why a text is no protocol to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of an application protocol is needed, such as \"h2\" or \"http/1.1\": 1 to 255 visible ASCII characters"
)]
pub struct ProtocolError;

impl ProtocolMatch {
    /// Looks for this protocol.
    ///
    /// # Errors
    /// If it is no name that is in use.
    pub fn new(name: &str) -> Result<Self, ProtocolError> {
        let is_name = (1..=PROTOCOL_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_graphic());
        if is_name { Ok(Self(name.into())) } else { Err(ProtocolError) }
    }

    /// Says whether it is offered.
    pub fn matches(&self, offered: &[&[u8]]) -> bool {
        offered.contains(&self.0.as_bytes())
    }
}

impl fmt::Display for ProtocolMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_offered_at_any_place_or_not() {
        let ours = ProtocolMatch::new("h2").expect("a name");
        assert!(ours.matches(&[b"h2"]) && ours.matches(&[b"http/1.1", b"h2"]));
        assert!(!ours.matches(&[]) && !ours.matches(&[b"h2c", b"H2", b"h"]));
        for text in ["", "h 2", "\u{e9}", &"h".repeat(256)] {
            assert_eq!(ProtocolMatch::new(text), Err(ProtocolError), "{text}");
        }
    }
}
