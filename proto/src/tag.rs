//! The keyed tag of the handoff header: SipHash-2-4 over the header's first 48 bytes and the inner 4-tuple.
//!
//! SipHash (Aumasson and Bernstein, 2012) with a 128-bit key and a 64-bit result is cheap enough to be computed in BPF
//! for every tunnelled packet. It authenticates that a holder of the shared key wrote this header for this
//! connection; it does not cover the client's bytes.

use core::hash::Hasher;

use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;

use crate::addr::FourTuple;
use crate::header::TAGGED_BYTES;

/// The 128-bit key of the tag. `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TagKey(pub [u8; 16]);

impl core::fmt::Debug for TagKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TagKey(..)")
    }
}

/// A 64-bit tag. It has no `==`: compare with [`Tag::verify`], in constant time.
#[derive(Clone, Copy, Debug)]
pub struct Tag(u64);

impl Tag {
    /// Computes the tag of a header for a connection.
    pub fn of(key: &TagKey, header: &[u8; TAGGED_BYTES], tuple: &FourTuple) -> Self {
        let mut hash = SipHasher24::new_with_key(&key.0);
        hash.write(header);
        hash.write(&tuple.to_bytes());
        Self(hash.finish())
    }

    /// Says whether this is the tag of `header` for `tuple`, in time that does not depend on where they differ.
    pub fn verify(self, key: &TagKey, header: &[u8; TAGGED_BYTES], tuple: &FourTuple) -> bool {
        self.0.ct_eq(&Self::of(key, header, tuple).0).into()
    }

    /// Returns the tag as it stands on the wire: network byte order.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Reads a tag from the wire.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }
}
