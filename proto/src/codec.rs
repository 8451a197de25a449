//! Framing of `serde_json` messages on a byte stream: a 4-byte length in network byte order, then the JSON text.
//!
//! Both directions of the admin socket use it. Lengths are limited before anything is stored; the decoder holds at most
//! one message and one read beyond it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Longest message, in bytes of JSON: 4 MiB, enough for a listing of ten thousand flows.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

const PREFIX_BYTES: usize = 4;

/// Why a message cannot be framed or read.
#[derive(Debug, Error)]
pub enum CodecError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("message of {0} bytes, the limit is {MESSAGE_BYTES_MAX}")]
    TooLong(usize),
    /// Not JSON, or not a message of the expected kind.
    #[error("not a message of this protocol: {0}")]
    Form(#[from] serde_json::Error),
}

/// Frames one message.
///
/// # Errors
/// Refuses messages longer than [`MESSAGE_BYTES_MAX`].
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; PREFIX_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - PREFIX_BYTES;
    match u32::try_from(length) {
        Ok(prefix) if length <= MESSAGE_BYTES_MAX => {
            frame[..PREFIX_BYTES].copy_from_slice(&prefix.to_be_bytes());
            Ok(frame)
        }
        _ => Err(CodecError::TooLong(length)),
    }
}

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Takes bytes as they came from the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next message, or `None` until all of it has been fed.
    ///
    /// # Errors
    /// After an error the stream is out of step: close it.
    pub fn take<M: DeserializeOwned>(&mut self) -> Result<Option<M>, CodecError> {
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > MESSAGE_BYTES_MAX {
            return Err(CodecError::TooLong(length));
        }
        let Some(text) = rest.get(..length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(text)?;
        self.buffer.drain(..PREFIX_BYTES + length);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_however_the_stream_is_cut() {
        let stream: Vec<u8> =
            ["one", "", "three"].iter().flat_map(|text| encode(text).expect("short")).collect();
        for cut in 1..stream.len() {
            let mut decoder = Decoder::default();
            let mut seen: Vec<String> = Vec::new();
            for piece in stream.chunks(cut) {
                decoder.feed(piece);
                while let Some(message) = decoder.take().expect("well framed") {
                    seen.push(message);
                }
            }
            assert_eq!(seen, ["one", "", "three"], "cut every {cut} bytes");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_are_awaited() {
        let mut decoder = Decoder::default();
        decoder.feed(&u32::MAX.to_be_bytes());
        assert!(matches!(decoder.take::<String>(), Err(CodecError::TooLong(_))));
        assert!(matches!(encode(&"x".repeat(MESSAGE_BYTES_MAX)), Err(CodecError::TooLong(_))));
    }

    #[test]
    fn something_else_than_the_message_is_an_error() {
        let mut decoder = Decoder::default();
        decoder.feed(&encode(&17).expect("short"));
        assert!(matches!(decoder.take::<String>(), Err(CodecError::Form(_))));
    }
}
