//! The chunked transfer coding (RFC 9112, section 7.1): followed to its end, not taken off.
//!
//! ```text
//! chunked-body = *( 1*HEXDIG [ chunk-ext ] CRLF data CRLF )  1*"0" [ chunk-ext ] CRLF  *( field-line CRLF )  CRLF
//! ```
//!
//! Strict where readers are known to differ: lines end with CR LF, a size is hexadecimal digits and nothing else, data ends
//! where its size says. The trailer section is read as fields and not understood: none of them may change where the message
//! ends (RFC 9110, section 6.5.1).

use super::framing::{Fed, LENGTH_BYTES_MAX, Unclear};

/// Digits a chunk's size may have, leading zeros included: as many as 64 bits need.
pub const SIZE_DIGITS_MAX: u8 = 16;
/// Bytes of extensions a chunk's line may have, from behind the size to the CR.
pub const EXTENSION_BYTES_MAX: u16 = 1024;
/// Bytes a trailer section may have, line ends included.
pub const TRAILER_BYTES_MAX: u16 = 8192;
/// Fields a trailer section may have.
pub const TRAILER_COUNT_MAX: u8 = 64;

/// Where in the coding the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In front of a chunk's size.
    Size,
    /// Within a chunk's size.
    Digits,
    /// Behind blanks after the size, which only an extension may follow.
    Blank,
    /// Within extensions.
    Extension,
    /// Behind the CR of a chunk's first line.
    SizeLf,
    /// Within a chunk's data.
    Data,
    /// Behind the data.
    DataCr,
    /// Behind the CR after the data.
    DataLf,
    /// At the beginning of a line of the trailer section.
    Line,
    /// Within the name of a trailer field.
    Name,
    /// Within the value of a trailer field.
    Value,
    /// Behind the CR of a trailer field.
    ValueLf,
    /// Behind the CR of the empty line.
    EndLf,
    /// Behind the message.
    End,
    /// Nowhere: what came was unclear.
    Lost(Unclear),
}

/// A chunked body, of which bytes come in any pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    /// Of the chunk: its size while that is read, then the bytes of data still to come.
    left: u64,
    /// Of the line: digits of the size, then bytes of extensions. Of the trailer section: its bytes.
    bytes: u16,
    /// Of the trailer section: its fields.
    fields: u8,
    at: At,
}

// A flow keeps one of these.
const _: () = assert!(size_of::<Chunked>() <= 16);

impl Default for Chunked {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunked {
    /// Returns the body at its first byte.
    pub const fn new() -> Self {
        Self { left: 0, bytes: 0, fields: 0, at: At::Size }
    }

    /// Takes the next bytes of the stream, at most up to the end of the message. Once it has ended, that is all it says.
    ///
    /// # Errors
    ///
    /// [`Unclear`], if what comes is no chunked body or one that others may read otherwise. Once it was, it remains so.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Fed, Unclear> {
        let mut rest = bytes;
        loop {
            match self.at {
                At::Lost(why) => return Err(why),
                At::End => return Ok(Fed::Ended(bytes.len() - rest.len())),
                At::Data => rest = self.pass_data(rest),
                _ => {}
            }
            let Some((byte, behind)) = rest.split_first() else {
                return Ok(Fed::More);
            };
            rest = behind;
            self.at = self.step(*byte).unwrap_or_else(At::Lost);
        }
    }

    /// Passes over data, of which there is at least a byte to come, and returns what is behind it.
    fn pass_data<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let count = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.left -= count as u64;
        if self.left == 0 {
            self.at = At::DataCr;
        }
        bytes.get(count..).unwrap_or_default()
    }

    /// Takes one byte that is not data.
    fn step(&mut self, byte: u8) -> Result<At, Unclear> {
        match (self.at, byte) {
            (At::Size | At::Digits, _) if byte.is_ascii_hexdigit() => self.digit(byte),
            (At::Digits | At::Blank, b' ' | b'\t') => self.extension(At::Blank),
            (At::Digits | At::Blank, b';') => self.extension(At::Extension),
            (At::Digits | At::Extension, b'\r') => Ok(At::SizeLf),
            (At::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.extension(At::Extension),
            (At::SizeLf, b'\n') => Ok(self.data_or_trailer()),
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size),
            (At::Line, b'\r') => self.trailer(At::EndLf),
            (At::Line, _) if is_token(byte) => self.field(),
            (At::Name, b':') => self.trailer(At::Value),
            (At::Name, _) if is_token(byte) => self.trailer(At::Name),
            (At::Value, b'\r') => self.trailer(At::ValueLf),
            (At::Value, b'\t' | b' '..=b'~' | 0x80..) => self.trailer(At::Value),
            (At::ValueLf, b'\n') => self.trailer(At::Line),
            (At::EndLf, b'\n') => self.trailer(At::End),
            (at, _) => Err(why_lost(at, byte)),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<At, Unclear> {
        let value = char::from(byte).to_digit(16).map_or(0, u64::from);
        self.bytes += 1;
        self.left = self.left.checked_mul(16).ok_or(Unclear::TooLong)? | value;
        if self.left > LENGTH_BYTES_MAX || self.bytes > u16::from(SIZE_DIGITS_MAX) {
            return Err(Unclear::TooLong);
        }
        Ok(At::Digits)
    }

    /// Counts a byte of the extensions. Until here, `bytes` has counted digits.
    fn extension(&mut self, next: At) -> Result<At, Unclear> {
        self.bytes = if self.at == At::Digits { 1 } else { self.bytes + 1 };
        if self.bytes > EXTENSION_BYTES_MAX { Err(Unclear::Extension) } else { Ok(next) }
    }

    /// Ends a chunk's first line. From here on, `bytes` counts the digits of the next size, or the trailer section.
    fn data_or_trailer(&mut self) -> At {
        self.bytes = 0;
        if self.left == 0 { At::Line } else { At::Data }
    }

    /// Counts a trailer field, at its first byte.
    fn field(&mut self) -> Result<At, Unclear> {
        self.fields += 1;
        if self.fields > TRAILER_COUNT_MAX { Err(Unclear::Trailer) } else { self.trailer(At::Name) }
    }

    /// Counts a byte of the trailer section.
    fn trailer(&mut self, next: At) -> Result<At, Unclear> {
        self.bytes += 1;
        if self.bytes > TRAILER_BYTES_MAX { Err(Unclear::Trailer) } else { Ok(next) }
    }
}

/// Says why `byte` cannot stand there.
fn why_lost(at: At, byte: u8) -> Unclear {
    match (at, byte) {
        (At::SizeLf | At::ValueLf | At::EndLf, _) => Unclear::LineEnd,
        // The digits of a size, extensions or a trailer field that LF alone ends, or an empty line that is LF alone.
        (At::Digits | At::Blank | At::Extension | At::Line | At::Name | At::Value, b'\n') => Unclear::LineEnd,
        (At::DataCr, b'\n') => Unclear::LineEnd,
        (At::DataCr | At::DataLf, _) => Unclear::ChunkEnd,
        (At::Extension, _) => Unclear::Extension,
        (At::Line | At::Name | At::Value, _) => Unclear::Trailer,
        _ => Unclear::ChunkSize,
    }
}

/// What names of fields are made of (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
