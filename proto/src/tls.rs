//! The id a TLS server gives a session, so that its client can come back to it (RFC 5246, section 7.4.1.3).

use core::fmt;
use core::str::FromStr;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// Longest session id, in bytes (RFC 5246, section 7.4.1.2).
pub const SESSION_ID_BYTES_MAX: usize = 32;

/// A session id of 1 to [`SESSION_ID_BYTES_MAX`] bytes. An empty one names no session, and is none.
///
/// In JSON it is a text of lowercase hex digits, two a byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlsSessionId {
    /// Zero behind the id, so that equal ids are equal values.
    bytes: [u8; SESSION_ID_BYTES_MAX],
    length: u8,
}

impl TlsSessionId {
    /// Takes an id as it stands on the wire; `None` if it is empty or longer than any.
    pub fn new(id: &[u8]) -> Option<Self> {
        if id.is_empty() {
            return None;
        }
        let mut bytes = [0; SESSION_ID_BYTES_MAX];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self { bytes, length: u8::try_from(id.len()).ok()? })
    }

    /// Returns the id as it stands on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&self.bytes)
    }

    fn from_hex(text: &str) -> Option<Self> {
        if text.len() > 2 * SESSION_ID_BYTES_MAX || !text.len().is_multiple_of(2) {
            return None;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pairs = text.as_bytes().chunks_exact(2);
        let bytes: Option<Vec<u8>> =
            pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.last()?)?)).collect();
        Self::new(&bytes?)
    }
}

/// No session id.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("1 to {SESSION_ID_BYTES_MAX} bytes in hex digits are needed, two a byte")]
pub struct SessionIdFault;

impl FromStr for TlsSessionId {
    type Err = SessionIdFault;

    /// Reads hex digits, two a byte, in either case.
    fn from_str(text: &str) -> Result<Self, SessionIdFault> {
        Self::from_hex(text).ok_or(SessionIdFault)
    }
}

impl fmt::Display for TlsSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TlsSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsSessionId({self})")
    }
}

impl Serialize for TlsSessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TlsSessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Hex;
        impl Visitor<'_> for Hex {
            type Value = TlsSessionId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "1 to {SESSION_ID_BYTES_MAX} bytes in hex digits, two a byte")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TlsSessionId, E> {
                TlsSessionId::from_hex(text).ok_or_else(|| E::invalid_length(text.len(), &self))
            }
        }
        deserializer.deserialize_str(Hex)
    }
}
