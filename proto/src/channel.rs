//! The secure channel between agent and switch: Noise `NNpsk0` over a byte stream, sans I/O.
//!
//! Every frame is a 2-byte length in network byte order and that many bytes. The agent's first frame is the id of the
//! key it uses and Noise's first message; the switch answers with the second; from then on each frame is one sealed
//! `serde_json` message. Both sides prove knowledge of the shared key, and each connection has keys of its own (Noise
//! Protocol Framework, revision 34, sections 7.4 and 9).

use serde::Serialize;
use serde::de::DeserializeOwned;
use snow::params::NoiseParams;
use snow::{Builder, HandshakeState, TransportState};
use thiserror::Error;

use crate::keys::{Key, KeyId, KeyRing};

/// Longest plaintext of one message: what a Noise message holds less its 16-byte authentication tag.
pub const PLAINTEXT_BYTES_MAX: usize = FRAME_BYTES_MAX - 16;

const FRAME_BYTES_MAX: usize = 65_535;
const PREFIX_BYTES: usize = 2;
const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"baton control v1";

/// Why the channel cannot go on. After an error, close the connection.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// The peer names a key that is not in our key file.
    #[error("the peer uses key {0}, which is not in our key file")]
    UnknownKey(u8),
    /// The peer does not know the shared key, or the bytes were changed on the way.
    #[error("the peer's messages do not authenticate; is the key file the same on both sides? ({0})")]
    Noise(#[from] snow::Error),
    /// The first frame is empty.
    #[error("the peer opened the channel with an empty frame")]
    EmptyHello,
    /// A message too long for one frame.
    #[error("message of {0} bytes, the limit is {PLAINTEXT_BYTES_MAX}")]
    TooLong(usize),
    /// Authentic, but not a message of this protocol.
    #[error("not a message of this protocol: {0}")]
    Form(#[from] serde_json::Error),
    /// A message before the handshake is complete.
    #[error("the channel is not open yet")]
    NotOpen,
}

enum State {
    /// Agent: the first message is out, the second is awaited.
    Initiated(Box<HandshakeState>),
    /// Switch: nothing came yet.
    Awaiting(KeyRing),
    /// Both sides know the keys of this connection.
    Open(Box<TransportState>),
    /// An error ended it.
    Failed,
}

/// One end of the channel. Feed it what the stream brings, send what it gives.
pub struct Channel {
    state: State,
    incoming: Vec<u8>,
}

impl Channel {
    /// Starts as the agent; returns the bytes to send first.
    ///
    /// # Errors
    /// Fails if the operating system gives Noise no randomness.
    pub fn initiate(key: &Key) -> Result<(Self, Vec<u8>), ChannelError> {
        let psk = key.control_psk();
        let mut noise = Builder::new(params()?).prologue(PROLOGUE)?.psk(0, &psk)?.build_initiator()?;
        let mut hello = vec![key.id().0];
        hello.extend_from_slice(&handshake_message(&mut noise)?);
        Ok((Self::with(State::Initiated(Box::new(noise))), framed(&hello)?))
    }

    /// Starts as the switch, which accepts any key of the ring.
    pub fn accept(keys: KeyRing) -> Self {
        Self::with(State::Awaiting(keys))
    }

    fn with(state: State) -> Self {
        Self { state, incoming: Vec::new() }
    }

    /// Says whether messages can be sealed.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Takes bytes as they came from the stream. Bounded by the caller's read size plus one frame, as long as
    /// [`Channel::take`] is called until it returns `None`.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
    }

    /// Advances the handshake if a frame of it has arrived; returns bytes to send, if any. Call before [`Channel::take`].
    ///
    /// # Errors
    /// The peer does not know the key, or speaks something else.
    pub fn advance(&mut self) -> Result<Option<Vec<u8>>, ChannelError> {
        if self.is_open() {
            return Ok(None);
        }
        let Some(frame) = self.take_frame() else {
            return Ok(None);
        };
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Initiated(mut noise) => {
                noise.read_message(&frame, &mut [0; FRAME_BYTES_MAX])?;
                self.state = State::Open(Box::new(noise.into_transport_mode()?));
                Ok(None)
            }
            State::Awaiting(keys) => {
                let (id, message) = frame.split_first().ok_or(ChannelError::EmptyHello)?;
                let key =
                    keys.iter().find(|key| key.id() == KeyId(*id)).ok_or(ChannelError::UnknownKey(*id))?;
                let psk = key.control_psk();
                let mut noise =
                    Builder::new(params()?).prologue(PROLOGUE)?.psk(0, &psk)?.build_responder()?;
                noise.read_message(message, &mut [0; FRAME_BYTES_MAX])?;
                let answer = handshake_message(&mut noise)?;
                self.state = State::Open(Box::new(noise.into_transport_mode()?));
                framed(&answer).map(Some)
            }
            State::Open(_) | State::Failed => Err(ChannelError::NotOpen),
        }
    }

    /// Seals one message; returns the bytes to send.
    ///
    /// # Errors
    /// Before the handshake is complete, and for messages longer than [`PLAINTEXT_BYTES_MAX`].
    pub fn seal<M: Serialize>(&mut self, message: &M) -> Result<Vec<u8>, ChannelError> {
        let State::Open(transport) = &mut self.state else {
            return Err(ChannelError::NotOpen);
        };
        let text = serde_json::to_vec(message)?;
        if text.len() > PLAINTEXT_BYTES_MAX {
            return Err(ChannelError::TooLong(text.len()));
        }
        let mut sealed = vec![0; FRAME_BYTES_MAX];
        let length = transport.write_message(&text, &mut sealed)?;
        framed(&sealed[..length])
    }

    /// Opens the next message, or returns `None` until all of it has been fed.
    ///
    /// # Errors
    /// The frame does not authenticate, or is no message of this kind.
    pub fn take<M: DeserializeOwned>(&mut self) -> Result<Option<M>, ChannelError> {
        if !self.is_open() {
            return Ok(None);
        }
        let Some(frame) = self.take_frame() else {
            return Ok(None);
        };
        let State::Open(transport) = &mut self.state else {
            return Err(ChannelError::NotOpen);
        };
        let mut text = vec![0; FRAME_BYTES_MAX];
        let length = transport.read_message(&frame, &mut text)?;
        Ok(Some(serde_json::from_slice(&text[..length])?))
    }

    fn take_frame(&mut self) -> Option<Vec<u8>> {
        let (prefix, rest) = self.incoming.split_first_chunk::<PREFIX_BYTES>()?;
        let length = usize::from(u16::from_be_bytes(*prefix));
        let frame = rest.get(..length)?.to_vec();
        self.incoming.drain(..PREFIX_BYTES + length);
        Some(frame)
    }
}

fn params() -> Result<NoiseParams, snow::Error> {
    PATTERN.parse()
}

fn handshake_message(noise: &mut HandshakeState) -> Result<Vec<u8>, ChannelError> {
    let mut message = vec![0; FRAME_BYTES_MAX];
    let length = noise.write_message(&[], &mut message)?;
    message.truncate(length);
    Ok(message)
}

fn framed(bytes: &[u8]) -> Result<Vec<u8>, ChannelError> {
    let length = u16::try_from(bytes.len()).map_err(|_| ChannelError::TooLong(bytes.len()))?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(bytes);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u8, byte: u8) -> Key {
        Key::new(KeyId(id), [byte; 32])
    }

    fn ring(keys: &[Key]) -> KeyRing {
        KeyRing::new(keys.to_vec()).expect("a good ring")
    }

    /// Carries the handshake between an agent with `agent_key` and a switch with `ring`.
    fn shaken(agent_key: &Key, ring: KeyRing) -> Result<(Channel, Channel), ChannelError> {
        let (mut agent, hello) = Channel::initiate(agent_key)?;
        let mut switch = Channel::accept(ring);
        for byte in hello {
            assert!(!switch.is_open());
            switch.feed(&[byte]);
            if let Some(answer) = switch.advance()? {
                agent.feed(&answer);
            }
        }
        agent.advance()?;
        Ok((agent, switch))
    }

    #[test]
    fn messages_cross_both_ways_under_any_key_of_the_ring() {
        let (mut agent, mut switch) =
            shaken(&key(2, 9), ring(&[key(1, 8), key(2, 9)])).expect("a shared key");
        switch.feed(&agent.seal(&"hello").expect("open"));
        switch.feed(&agent.seal(&"again").expect("open"));
        assert_eq!(switch.take::<String>().expect("authentic").as_deref(), Some("hello"));
        assert_eq!(switch.take::<String>().expect("authentic").as_deref(), Some("again"));
        assert_eq!(switch.take::<String>().expect("nothing"), None);
        agent.feed(&switch.seal(&7).expect("open"));
        assert_eq!(agent.take::<u32>().expect("authentic"), Some(7));
    }

    #[test]
    fn a_peer_with_another_key_is_told_from_one_with_an_unknown_id() {
        assert!(matches!(shaken(&key(1, 9), ring(&[key(1, 8)])), Err(ChannelError::Noise(_))));
        assert!(matches!(shaken(&key(3, 8), ring(&[key(1, 8)])), Err(ChannelError::UnknownKey(3))));
    }

    #[test]
    fn each_flipped_byte_and_each_repetition_is_noticed() {
        let length = {
            let (mut agent, _) = shaken(&key(1, 8), ring(&[key(1, 8)])).expect("a shared key");
            agent.seal(&"hello").expect("open").len()
        };
        for position in PREFIX_BYTES..length {
            let (mut agent, mut switch) = shaken(&key(1, 8), ring(&[key(1, 8)])).expect("a shared key");
            let mut frame = agent.seal(&"hello").expect("open");
            frame[position] ^= 1;
            switch.feed(&frame);
            assert!(matches!(switch.take::<String>(), Err(ChannelError::Noise(_))), "byte {position}");
        }
        let (mut agent, mut switch) = shaken(&key(1, 8), ring(&[key(1, 8)])).expect("a shared key");
        let frame = agent.seal(&"hello").expect("open");
        switch.feed(&frame);
        switch.feed(&frame);
        assert!(switch.take::<String>().expect("authentic").is_some());
        assert!(matches!(switch.take::<String>(), Err(ChannelError::Noise(_))));
    }

    #[test]
    fn nothing_is_sealed_before_the_handshake_and_nothing_too_long_after() {
        let (mut early, _) = Channel::initiate(&key(1, 8)).expect("randomness");
        assert!(matches!(early.seal(&1), Err(ChannelError::NotOpen)));
        let (mut agent, _) = shaken(&key(1, 8), ring(&[key(1, 8)])).expect("a shared key");
        let long = "x".repeat(PLAINTEXT_BYTES_MAX);
        assert!(matches!(agent.seal(&long), Err(ChannelError::TooLong(_))));
    }
}
