//! What agents, switch and operators say to each other, in JSON.
//!
//! The first byte chooses the kind of message. Or the rest are bytes on the control port, from somebody without the key, and the byte
//! says into what pieces they are cut.

use std::fmt::Debug;

use handoff_proto::admin::{
    Backend, CaptureRequest, Changes, Class, Configuration, ConfigurationText, Counter, Events, Fault, Flows,
    NewBackend, NewWeight, Pool, Route, RouteQuestion, Rule, Status,
};
use handoff_proto::channel::{Channel, ChannelError};
use handoff_proto::control::{FromAgent, FromSwitch};
use handoff_proto::keys::Key;
use handoff_proto::{KeyId, KeyRing};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads messages.
///
/// # Panics
/// A message that is not the same after it was written and read again, a channel that opens for somebody without the key.
pub fn control_message(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    if first & 4 == 4 {
        return channel(rest, usize::from(first >> 3) + 1);
    }
    match first & 3 {
        0 => read::<FromAgent>(rest),
        1 => read::<FromSwitch>(rest),
        2 => asked(rest),
        _ => answered(rest),
    }
}

/// What operators send: a body, or a query.
fn asked(bytes: &[u8]) {
    read::<NewBackend>(bytes);
    read::<NewWeight>(bytes);
    read::<ConfigurationText>(bytes);
    read::<CaptureRequest>(bytes);
    let Ok(text) = str::from_utf8(bytes) else { return };
    let pairs = text.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    if let Ok(question) = RouteQuestion::from_pairs(pairs) {
        assert_eq!(RouteQuestion::from_pairs(question.to_pairs()), Ok(question));
    }
}

/// What operators read.
fn answered(bytes: &[u8]) {
    read::<Status>(bytes);
    read::<Vec<Backend>>(bytes);
    read::<Vec<Pool>>(bytes);
    read::<Vec<Rule>>(bytes);
    read::<Vec<Class>>(bytes);
    read::<Flows>(bytes);
    read::<Vec<Counter>>(bytes);
    read::<Events>(bytes);
    read::<Route>(bytes);
    read::<Configuration>(bytes);
    read::<Changes>(bytes);
    read::<Fault>(bytes);
}

/// What was read is written, read again, and written the same.
fn read<M: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    let Ok(message) = serde_json::from_slice::<M>(bytes) else { return };
    let written = serde_json::to_vec(&message).expect("a message that came can be sent");
    let again: M = serde_json::from_slice(&written).expect("our own writing");
    assert_eq!(again, message);
    assert_eq!(serde_json::to_vec(&again).expect("as before"), written);
}

/// Bytes on the control port, from somebody who does not have the key.
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
