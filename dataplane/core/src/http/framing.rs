//! How long the body behind a request head is (RFC 9112, section 6), and following that body to its end.
//!
//! This serves to know where the next request of a client begins, without ever guessing: where two readers of the same bytes
//! could come to different ends, the answer is an [`Unclear`] that says why. Whoever follows a stream then stops following
//! it. That is stricter than RFC 9112 asks of a server, and costs such a client nothing but that its connection stays where
//! it is.

use core::mem::MaybeUninit;

use super::{Chunked, HEADER_COUNT_MAX};

/// Longest body, in bytes, and longest chunk: what a signed 64-bit integer holds, which is what servers count in.
pub const LENGTH_BYTES_MAX: u64 = i64::MAX.unsigned_abs();

/// How the end of a request is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body: the next request follows the head.
    Bodiless,
    /// As many bytes as Content-Length says, perhaps 0.
    Length(u64),
    /// Chunks, up to the last and its trailer section.
    Chunked,
}

/// Why the end of a request is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unclear {
    /// The bytes are not one whole request head.
    #[error("not one whole request head")]
    NoHead,
    /// A line of the head, of a chunk or of the trailer section ends with LF alone; one behind the head has a CR without LF.
    #[error("a line that does not end with CR LF")]
    LineEnd,
    /// Both Content-Length and Transfer-Encoding: one of the two is for somebody else (RFC 9112, section 6.1).
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// More than one Content-Length, or a list of them, be they alike or not: servers differ in what they take.
    #[error("more than one Content-Length")]
    Lengths,
    /// A Content-Length that is not digits alone: empty, with a sign, in another base.
    #[error("a Content-Length that is no number")]
    Length,
    /// A length or the size of a chunk above [`LENGTH_BYTES_MAX`], or with more digits than are read.
    #[error("a length beyond what is counted")]
    TooLong,
    /// A Transfer-Encoding other than the one word `chunked`: several codings or fields, parameters, another last coding.
    #[error("a Transfer-Encoding other than chunked")]
    Coding,
    /// Transfer-Encoding in HTTP/1.0: a server may take no notice of it (RFC 9112, section 6.1).
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingBeforeHttp11,
    /// CONNECT or Upgrade: what follows may be another protocol, which only the server's answer tells.
    #[error("what follows may not be HTTP")]
    Tunnel,
    /// A chunk's first line that does not begin with a hexadecimal number, or has neither an extension nor the line's end
    /// behind it.
    #[error("a chunk without a size")]
    ChunkSize,
    /// More bytes of extensions in one chunk's line than [`EXTENSION_BYTES_MAX`](super::EXTENSION_BYTES_MAX), or a control
    /// character in them.
    #[error("chunk extensions too long, or with control characters")]
    Extension,
    /// Bytes behind a chunk's data that are not CR LF: the size does not fit the data.
    #[error("a chunk that does not end where its size says")]
    ChunkEnd,
    /// A trailer section with more bytes than [`TRAILER_BYTES_MAX`](super::TRAILER_BYTES_MAX), more fields than
    /// [`TRAILER_COUNT_MAX`](super::TRAILER_COUNT_MAX), or with what is no field.
    #[error("a trailer section too long, or with what is no field")]
    Trailer,
}

impl Framing {
    /// Reads how the body behind `head` is framed. `head` is one whole request head, from the first byte of the request to
    /// the end of the empty line: [`Head::bytes`](super::Head) of them. It is parsed a second time, so that those who only
    /// dispatch do not pay for it.
    ///
    /// # Errors
    ///
    /// [`Unclear`], if two servers could see different ends.
    pub fn of(head: &[u8]) -> Result<Self, Unclear> {
        let mut fields = [const { MaybeUninit::uninit() }; HEADER_COUNT_MAX];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            _ => return Err(Unclear::NoHead),
        }
        // RFC 9112, section 2.2, lets a recipient take LF alone for the end of a line; not all do.
        if head.split(|byte| *byte == b'\n').rev().skip(1).any(|line| line.last() != Some(&b'\r')) {
            return Err(Unclear::LineEnd);
        }
        let named = |name: &'static str| {
            let fields = request.headers.iter();
            fields.filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
        };
        if request.method == Some("CONNECT") || named("upgrade").next().is_some() {
            return Err(Unclear::Tunnel);
        }
        let (mut lengths, mut codings) = (named("content-length"), named("transfer-encoding"));
        match (lengths.next(), codings.next()) {
            (None, None) => Ok(Self::Bodiless),
            (Some(_), Some(_)) => Err(Unclear::LengthAndCoding),
            (Some(value), None) if lengths.next().is_none() => length_of(value).map(Self::Length),
            (Some(_), None) => Err(Unclear::Lengths),
            (None, Some(_)) if request.version != Some(1) => Err(Unclear::CodingBeforeHttp11),
            // "chunked" is the last coding of "gzip, chunked", too; but no usual server has another coding to take off.
            (None, Some(value)) if codings.next().is_none() && value.eq_ignore_ascii_case(b"chunked") => {
                Ok(Self::Chunked)
            }
            (None, Some(_)) => Err(Unclear::Coding),
        }
    }
}

/// Content-Length = 1*DIGIT (RFC 9110, section 8.6). Leading zeros are allowed there.
fn length_of(value: &[u8]) -> Result<u64, Unclear> {
    if value.contains(&b',') {
        return Err(Unclear::Lengths);
    }
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Unclear::Length);
    }
    let digit = |length: u64, byte: &u8| length.checked_mul(10)?.checked_add(u64::from(byte - b'0'));
    let length = value.iter().try_fold(0, digit);
    length.filter(|length| *length <= LENGTH_BYTES_MAX).ok_or(Unclear::TooLong)
}

/// What became of bytes given to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// All of them belong to it, and more will follow.
    More,
    /// It ended with this many of them; the others belong to what follows.
    Ended(usize),
}

/// A request's body, of which bytes come in any pieces. It keeps none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes are still to come.
    Counted(u64),
    /// Chunks.
    Chunked(Chunked),
}

impl Body {
    /// Returns the body at its first byte.
    pub const fn new(framing: Framing) -> Self {
        match framing {
            Framing::Bodiless => Self::Counted(0),
            Framing::Length(length) => Self::Counted(length),
            Framing::Chunked => Self::Chunked(Chunked::new()),
        }
    }

    /// Takes the next bytes of the stream. At the end, and ever after, the answer is `Ended`, with 0 for a body that has
    /// ended before; so a body of no bytes ends when it is given the first piece, even an empty one.
    ///
    /// # Errors
    ///
    /// [`Unclear`], as [`Chunked::feed`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Fed, Unclear> {
        match self {
            Self::Counted(left) => {
                let given = bytes.len() as u64;
                // Where the body ends, it ends within the piece, so its rest fits the piece's own length.
                let fed = usize::try_from(*left).ok().filter(|end| *end <= bytes.len());
                *left = left.saturating_sub(given);
                Ok(fed.map_or(Fed::More, Fed::Ended))
            }
            Self::Chunked(chunked) => chunked.feed(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
