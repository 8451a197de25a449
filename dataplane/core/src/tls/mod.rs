//! The ClientHello of TLS (RFC 8446, sections 4.1.2 and 5.1), enough of it to dispatch by: server name, protocols, session id
//! and version.
//!
//! It is given the bytes of the stream from the first one on, keeps none, and is asked again when more have come: a hello may
//! be split over records, and records over segments. Each time it copies what there is of the message, at most
//! [`HELLO_BYTES_MAX`], out of its records into the caller's scratch, which what it returns borrows.
//!
//! GREASE (RFC 8701) and whatever else is unknown is passed over. With Encrypted Client Hello what is seen is the outer one:
//! its server name is that of the provider's front, which is where such a connection is to go.

mod alert;
mod hello;
mod read;

pub use alert::{ALERT_BYTES, Alert};
pub use hello::{Hello, Protocols, Version};

use read::Reader;

/// Longest hello, in bytes, its handshake header included: as much as one record may carry. Those of today's browsers, with
/// the key shares of post-quantum key exchange, have about 2 KB; a resumed session adds its ticket.
pub const HELLO_BYTES_MAX: usize = RECORD_BYTES_MAX;

/// What a hello is put together in.
pub type Scratch = [u8; HELLO_BYTES_MAX];

/// Longest fragment of a record (RFC 8446, section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;
const RECORD_HEADER_BYTES: usize = 5;
const HANDSHAKE_HEADER_BYTES: usize = 4;
/// ContentType handshake.
const CONTENT_HANDSHAKE: u8 = 22;
/// HandshakeType client_hello; in SSL 2.0, too, its MSG-CLIENT-HELLO.
const CLIENT_HELLO: u8 = 1;
/// The major version of SSL 3.0 and all of TLS.
const MAJOR: u8 = 3;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A whole hello, perhaps followed by more.
    Complete(Hello<'a>),
    /// The beginning of one.
    Partial,
    /// Something else: no record of TLS.
    NotTls,
    /// TLS, or an ancestor, but no hello that can be dispatched.
    Malformed(Fault),
}

/// What is wrong with a hello. It is always the client who was wrong, or too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// A hello in the form of SSL 2.0 (RFC 6101, appendix E), which RFC 6176 forbids and which has no server name.
    #[error("a hello in the form of SSL 2.0")]
    Ssl2,
    /// A record without content or with more than 2^14 bytes.
    #[error("a record of impossible length")]
    RecordLength,
    /// A record of another type or major version between those of the hello.
    #[error("another record within the hello")]
    Interleaved,
    /// A handshake message other than a ClientHello.
    #[error("a handshake that does not begin with a ClientHello")]
    NoHello,
    /// A hello longer than [`HELLO_BYTES_MAX`].
    #[error("a hello longer than {HELLO_BYTES_MAX} bytes")]
    TooLong,
    /// Bytes behind the hello in its last record: a client must wait for the answer.
    #[error("more in the record than the hello")]
    Trailing,
    /// A length within the hello that does not fit what contains it, or is not among those allowed.
    #[error("a length that does not fit")]
    Length,
    /// A legacy version that is not 3.x.
    #[error("a hello of another protocol version")]
    Version,
    /// One of the extensions that are read stands there twice.
    #[error("an extension that occurs twice")]
    Repeated,
    /// A server name list that is not exactly one host name, or a name that is no name of the DNS.
    #[error("a server name that is no host name")]
    ServerName,
}

/// Returns how many bytes of the stream a hello has at the least, by its beginning; until so many are there, [`parse`] would
/// answer `Partial`.
pub fn bytes_min(bytes: &[u8]) -> usize {
    const BEGINNING: usize = RECORD_HEADER_BYTES + HANDSHAKE_HEADER_BYTES;
    match bytes {
        [CONTENT_HANDSHAKE, MAJOR, _, 0, ..=3, ..] => 0, // a header over several records
        [CONTENT_HANDSHAKE, MAJOR, _, _, _, CLIENT_HELLO, high, middle, low, ..] => {
            let length = usize::try_from(u32::from_be_bytes([0, *high, *middle, *low])).unwrap_or(usize::MAX);
            if length > HELLO_BYTES_MAX { 0 } else { BEGINNING + length }
        }
        _ => 0,
    }
}

/// Reads a ClientHello from the first bytes of a connection.
///
/// As bytes come the answer is `Partial` until there is another, and that one stays. A caller bounds the bytes it holds: at
/// its bound, `Partial` means too long. A hello in records of one byte each takes six times its size.
pub fn parse<'a>(bytes: &[u8], scratch: &'a mut Scratch) -> Parsed<'a> {
    match bytes {
        [CONTENT_HANDSHAKE] | [CONTENT_HANDSHAKE, MAJOR, ..] => {}
        // The length of SSL 2.0 has its highest bit set where no padding follows.
        [0x80..=0xff, _, CLIENT_HELLO, ..] => return Parsed::Malformed(Fault::Ssl2),
        [] | [0x80..=0xff] | [0x80..=0xff, _] => return Parsed::Partial,
        _ => return Parsed::NotTls,
    }
    let joined = match join(bytes, scratch) {
        Ok(Some(joined)) => joined,
        Ok(None) => return Parsed::Partial,
        Err(fault) => return Parsed::Malformed(fault),
    };
    let message = scratch.get(HANDSHAKE_HEADER_BYTES..joined.message).unwrap_or_default();
    match Hello::read(message, joined.stream) {
        Ok(hello) => Parsed::Complete(hello),
        Err(fault) => Parsed::Malformed(fault),
    }
}

/// A whole message, put together.
struct Joined {
    /// Bytes of the message, its header included.
    message: usize,
    /// Bytes of the records it came in.
    stream: usize,
}

/// Takes a handshake message out of its records; `None` if it is not whole.
fn join(bytes: &[u8], scratch: &mut Scratch) -> Result<Option<Joined>, Fault> {
    let (mut records, mut filled) = (Reader::new(bytes), 0);
    while let Some(record) = Record::read(&mut records)? {
        let room = scratch.get_mut(filled..).unwrap_or_default();
        let count = record.fragment.len().min(room.len());
        for (to, from) in room.iter_mut().zip(record.fragment) {
            *to = *from;
        }
        let fits = count == record.fragment.len();
        filled += count;
        let length = match scratch.get(..filled).unwrap_or_default() {
            [] => None,
            [CLIENT_HELLO, high, middle, low, ..] => {
                let length = u32::from_be_bytes([0, *high, *middle, *low]);
                Some(HANDSHAKE_HEADER_BYTES + usize::try_from(length).map_err(|_| Fault::TooLong)?)
            }
            [CLIENT_HELLO, ..] => None,
            _ => return Err(Fault::NoHello),
        };
        match length {
            Some(length) if length > HELLO_BYTES_MAX => return Err(Fault::TooLong),
            Some(length) if length < filled || !fits => return Err(Fault::Trailing),
            Some(length) if length == filled && record.is_whole => {
                return Ok(Some(Joined { message: length, stream: bytes.len() - records.left() }));
            }
            _ if !record.is_whole => return Ok(None),
            _ => {}
        }
    }
    Ok(None)
}

/// A record, or the beginning of one.
struct Record<'a> {
    fragment: &'a [u8],
    is_whole: bool,
}

impl<'a> Record<'a> {
    /// Takes a record, or what there is of it; `None` if not even its header is whole.
    fn read(bytes: &mut Reader<'a>) -> Result<Option<Self>, Fault> {
        let header = bytes.peek(RECORD_HEADER_BYTES);
        // Whatever minor version there is, it MUST be ignored (RFC 8446, section 5.1).
        if !matches!(header, [] | [CONTENT_HANDSHAKE] | [CONTENT_HANDSHAKE, MAJOR, ..]) {
            return Err(Fault::Interleaved);
        }
        let [_, _, _, high, low] = header else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // "Implementations MUST NOT send zero-length fragments of Handshake types": so each record brings the end nearer.
        if length == 0 || length > RECORD_BYTES_MAX {
            return Err(Fault::RecordLength);
        }
        bytes.take(RECORD_HEADER_BYTES);
        let fragment = bytes.peek(length);
        bytes.take(fragment.len());
        Ok(Some(Self { fragment, is_whole: fragment.len() == length }))
    }
}

#[cfg(test)]
mod tests;
