//! What agents, switch and `batonctl` say to each other: JSON in frames with a length in front.
//!
//! The first byte chooses the kind of message, whether the rest is one message or a stream of framed ones, and into what
//! pieces the stream is cut.

use std::fmt::Debug;

use handoff_proto::admin::{Request, Response};
use handoff_proto::channel::{Channel, ChannelError};
use handoff_proto::codec::{CodecError, Decoder, MESSAGE_BYTES_MAX, encode};
use handoff_proto::control::{FromAgent, FromSwitch};
use handoff_proto::keys::Key;
use handoff_proto::{KeyId, KeyRing};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of the length in front of a framed message.
const PREFIX_BYTES: usize = 4;

/// Reads messages.
///
/// # Panics
/// A message that is not the same after it was written and read again, a stream that means something else in other pieces, a
/// length over the limit that is waited for, a channel that opens for somebody without the key.
pub fn control_message(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let (is_stream, piece) = (first & 4 == 4, usize::from(first >> 3) + 1);
    match first & 3 {
        0 => read::<FromAgent>(rest, is_stream, piece),
        1 => read::<FromSwitch>(rest, is_stream, piece),
        2 => read::<Request>(rest, is_stream, piece),
        _ => read::<Response>(rest, is_stream, piece),
    }
    if is_stream {
        channel(rest, piece);
    }
}

fn read<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8], is_stream: bool, piece: usize) {
    if is_stream {
        return stream::<M>(bytes, piece);
    }
    if let Ok(message) = serde_json::from_slice::<M>(bytes) {
        expect_stable(&message);
    }
}

/// What was read is written, read again, and written the same.
fn expect_stable<M: Serialize + DeserializeOwned + PartialEq + Debug>(message: &M) {
    let framed = encode(message).expect("a message that came is short enough to be sent");
    assert!(framed.len() <= PREFIX_BYTES + MESSAGE_BYTES_MAX);
    let mut decoder = Decoder::default();
    decoder.feed(&framed);
    let again: M = decoder.take().expect("our own writing").expect("whole");
    assert_eq!(again, *message);
    assert_eq!(encode(&again).expect("as before"), framed);
    assert!(matches!(decoder.take::<M>(), Ok(None)), "nothing is left over");
}

fn stream<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8], piece: usize) {
    let whole = messages::<M>(bytes, bytes.len().max(1));
    let pieces = messages::<M>(bytes, piece);
    assert_eq!(whole, pieces, "in pieces of {piece} bytes");
    whole.0.iter().for_each(expect_stable);
    // A length over the limit is refused when its last byte is there, whatever follows.
    if let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>()
        && u32::from_be_bytes(*prefix) > u32::try_from(MESSAGE_BYTES_MAX).expect("four million")
    {
        let mut decoder = Decoder::default();
        decoder.feed(prefix);
        assert!(matches!(decoder.take::<M>(), Err(CodecError::TooLong(_))));
    }
}

/// Reads a stream that comes in pieces, up to the first error; returns the messages and the error.
fn messages<M: DeserializeOwned>(bytes: &[u8], piece: usize) -> (Vec<M>, Option<String>) {
    let mut decoder = Decoder::default();
    let mut taken = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.feed(piece);
        loop {
            match decoder.take() {
                Ok(Some(message)) => taken.push(message),
                Ok(None) => break,
                Err(error) => return (taken, Some(error.to_string())),
            }
        }
    }
    (taken, None)
}

/// The same bytes on the control port, from somebody who does not have the key.
fn channel(bytes: &[u8], piece: usize) {
    let ring = KeyRing::new(vec![Key::new(KeyId(1), [7; 32])]).expect("a good ring");
    let mut channel = Channel::accept(ring);
    for piece in bytes.chunks(piece) {
        channel.feed(piece);
        match channel.advance() {
            Ok(None) => {
                assert!(matches!(channel.take::<FromAgent>(), Ok(None)), "a message before the handshake")
            }
            Ok(Some(_)) => panic!("the handshake went on without the key"),
            Err(error) => {
                assert!(
                    matches!(
                        error,
                        ChannelError::UnknownKey(_) | ChannelError::Noise(_) | ChannelError::EmptyHello
                    ),
                    "{error}"
                );
                assert!(matches!(channel.seal(&1), Err(ChannelError::NotOpen)));
                return;
            }
        }
        assert!(!channel.is_open());
    }
}
