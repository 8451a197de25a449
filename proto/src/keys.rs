//! The shared secrets of a cluster: read from the key file, turned into one subkey per purpose.
//!
//! The key file is TOML: up to [`KEYS_MAX`] `[[key]]` tables, each with an `id` and a `secret` of 64 hex digits. The first
//! one issues, all are accepted, so that keys rotate by adding, reordering and removing. Checking the file's
//! permissions is the reader's business.

use hkdf::Hkdf;
use serde::Deserialize;
use sha2::Sha256;
use thiserror::Error;

use crate::tag::TagKey;

/// How many keys a file may hold.
pub const KEYS_MAX: usize = 8;
/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;
/// Hex digits in a row that no message repeats.
const HIDDEN_DIGITS_MIN: usize = 8;

/// Names a key on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub u8);

/// One shared secret and what is derived from it. `Debug` shows only the id.
#[derive(Clone)]
pub struct Key {
    id: KeyId,
    secret: [u8; SECRET_BYTES],
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Key({})", self.id.0)
    }
}

impl Key {
    /// Makes a key from its parts.
    pub const fn new(id: KeyId, secret: [u8; SECRET_BYTES]) -> Self {
        Self { id, secret }
    }

    /// Returns the id that stands on the wire.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Derives the key of the handoff header's tag.
    pub fn tag_key(&self) -> TagKey {
        TagKey(self.derive(b"baton v1 tag"))
    }

    /// Derives the master key of the SYN cookies.
    pub fn cookie_key(&self) -> [u8; 16] {
        self.derive(b"baton v1 syn cookie")
    }

    /// Derives the pre-shared key of the control channel (Noise NNpsk0).
    pub fn control_psk(&self) -> [u8; 32] {
        self.derive(b"baton v1 control")
    }

    /// Derives `N` bytes for one purpose: HKDF-SHA256 (RFC 5869) without salt.
    fn derive<const N: usize>(&self, purpose: &[u8]) -> [u8; N] {
        let mut out = [0; N];
        match Hkdf::<Sha256>::new(None, &self.secret).expand(purpose, &mut out) {
            Ok(()) => out,
            Err(_) => unreachable!("HKDF-SHA256 gives up to 8,160 bytes, {N} were asked for"),
        }
    }
}

/// All keys of the cluster: never empty, ids unique.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: Vec<Key>,
}

/// Why a text is not a key file. Messages never repeat a secret.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyFileError {
    /// Not TOML, or not of the form above; the text says where.
    #[error("{0}")]
    Form(String),
    /// No `[[key]]` in it.
    #[error("no [[key]] in the file; `batonctl keygen FILE` makes one")]
    Empty,
    /// More keys than [`KEYS_MAX`].
    #[error("{0} keys, at most {KEYS_MAX} are allowed; remove those no longer in use")]
    TooMany(usize),
    /// Two keys with one id.
    #[error("key id {0} is used twice; ids must differ")]
    Repeated(u8),
    /// Not 64 hex digits.
    #[error("the secret of key {0} must be 64 hex digits (32 bytes)")]
    Secret(u8),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    key: Vec<RawKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    id: u8,
    secret: String,
}

impl KeyRing {
    /// Reads the text of a key file.
    ///
    /// # Errors
    /// Says what is wrong, without repeating a secret.
    pub fn from_toml(text: &str) -> Result<Self, KeyFileError> {
        // `message` alone: the full error of the toml crate quotes the line, and with it the secret.
        let raw: RawFile =
            toml::from_str(text).map_err(|error| KeyFileError::Form(without_secrets(error.message())))?;
        let mut keys: Vec<Key> = Vec::with_capacity(raw.key.len());
        for RawKey { id, secret } in &raw.key {
            if keys.iter().any(|key| key.id.0 == *id) {
                return Err(KeyFileError::Repeated(*id));
            }
            keys.push(Key::new(KeyId(*id), from_hex(secret).ok_or(KeyFileError::Secret(*id))?));
        }
        Self::new(keys)
    }

    /// Makes a ring; the first key issues.
    ///
    /// # Errors
    /// Refuses an empty ring, one with more than [`KEYS_MAX`] keys and repeated ids.
    pub fn new(keys: Vec<Key>) -> Result<Self, KeyFileError> {
        if keys.is_empty() {
            return Err(KeyFileError::Empty);
        }
        if keys.len() > KEYS_MAX {
            return Err(KeyFileError::TooMany(keys.len()));
        }
        for (position, key) in keys.iter().enumerate() {
            if keys[..position].iter().any(|earlier| earlier.id == key.id) {
                return Err(KeyFileError::Repeated(key.id.0));
            }
        }
        Ok(Self { keys })
    }

    /// Returns the key that issues.
    pub fn current(&self) -> &Key {
        &self.keys[0]
    }

    /// Returns the accepted keys, the issuing one first.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }
}

/// Writes the text of a key file with one key. The secret must come from the operating system's randomness.
pub fn key_file_text(id: KeyId, secret: &[u8; SECRET_BYTES]) -> String {
    use core::fmt::Write as _;
    let mut hex = String::with_capacity(2 * SECRET_BYTES);
    for byte in secret {
        let _ = write!(hex, "{byte:02x}"); // writing to a String cannot fail
    }
    format!(
        "# Shared secret of a Baton cluster: the same file on the switch and on every backend, mode 0600.\n\
         # The first key issues, all are accepted. docs/OPERATING.md tells how to rotate.\n\
         [[key]]\nid = {}\nsecret = \"{hex}\"\n",
        id.0
    )
}

/// Takes out what may be a piece of a secret: what TOML's reader repeats where it expected something else, as when id and secret
/// are exchanged.
fn without_secrets(message: &str) -> String {
    let told = |piece: &str| {
        let behind = piece.trim_start_matches(|digit: char| digit.is_ascii_hexdigit());
        if piece.len() - behind.len() < HIDDEN_DIGITS_MIN {
            piece.to_owned()
        } else {
            format!("[...]{behind}")
        }
    };
    message.split_inclusive(|digit: char| !digit.is_ascii_hexdigit()).map(told).collect()
}

fn from_hex(text: &str) -> Option<[u8; SECRET_BYTES]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * SECRET_BYTES {
        return None;
    }
    let mut secret = [0; SECRET_BYTES];
    for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(nibble(pair[0])? << 4 | nibble(pair[1])?).ok()?;
    }
    Some(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [0xa5; 32];

    #[test]
    fn a_made_file_reads_back() {
        let ring = KeyRing::from_toml(&key_file_text(KeyId(7), &SECRET)).expect("our own file");
        assert_eq!(ring.current().id(), KeyId(7));
        assert_eq!(ring.current().secret, SECRET);
    }

    #[test]
    fn every_fault_of_a_key_file_is_told_without_its_secret() {
        let key = |id: u16, digits: &str| format!("[[key]]\nid = {id}\nsecret = \"{digits}\"\n");
        let good = "ab".repeat(32);
        let fault = |text: &str| match KeyRing::from_toml(text) {
            Err(error) => error,
            Ok(_) => panic!("accepted {text}"),
        };
        assert_eq!(fault(""), KeyFileError::Empty);
        assert_eq!(fault(&key(1, "abc")), KeyFileError::Secret(1));
        assert_eq!(fault(&key(1, &"xy".repeat(32))), KeyFileError::Secret(1));
        assert_eq!(fault(&(key(3, &good) + &key(3, &good))), KeyFileError::Repeated(3));
        let nine: String = (1..=9).map(|id| key(id, &good)).collect();
        assert_eq!(fault(&nine), KeyFileError::TooMany(9));
        let swapped = format!("[[key]]\nid = \"{good}\"\nsecret = 1\n");
        let as_a_key = format!("[[key]]\nid = 1\n{good} = \"secret\"\n");
        for text in [
            key(256, &good),
            key(1, &good) + "colour = 1\n",
            key(1, &good).replace('"', ""),
            swapped,
            as_a_key,
        ] {
            let told = fault(&text).to_string();
            assert!(!told.contains(&good[..8]), "secret in: {told}");
        }
    }

    #[test]
    fn each_purpose_has_a_key_of_its_own() {
        let key = Key::new(KeyId(1), SECRET);
        assert_ne!(key.tag_key().0, key.cookie_key());
        assert_ne!(key.control_psk()[..16], key.cookie_key());
        assert_eq!(format!("{key:?} {:?}", key.tag_key()), "Key(1) TagKey(..)");
    }
}
