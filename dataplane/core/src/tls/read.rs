//! Taking bytes from the front of a slice, in the presentation language of TLS (RFC 8446, section 3).

/// Bytes not taken yet. Numbers are in network byte order; vectors have their length in bytes in front.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes are left.
    pub(super) const fn left(&self) -> usize {
        self.0.len()
    }

    /// Looks at the next `count` bytes, or as many as there are.
    pub(super) fn peek(&self, count: usize) -> &'a [u8] {
        self.0.get(..count).unwrap_or(self.0)
    }

    /// Takes `count` bytes; `None`, and none taken, if there are fewer.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*first))
    }

    /// Takes a vector of up to 2^8 - 1 bytes.
    pub(super) fn vector_8(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// Takes a vector of up to 2^16 - 1 bytes.
    pub(super) fn vector_16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}
