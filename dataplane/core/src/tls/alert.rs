//! What a client is told that cannot be served: a fatal alert (RFC 5246, section 7.2), which needs no keys this early.

/// Bytes of an alert with its record.
pub const ALERT_BYTES: usize = 7;

/// Why (RFC 8446, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alert {
    /// The hello cannot be read.
    DecodeError,
    /// Something on our side: no backend, too much to do.
    InternalError,
    /// Nothing is served under this name (RFC 6066, section 3).
    UnrecognizedName,
}

impl Alert {
    /// Returns the record: a fatal alert of TLS 1.2, which every version reads.
    pub const fn record(self) -> [u8; ALERT_BYTES] {
        const CONTENT_ALERT: u8 = 21;
        const FATAL: u8 = 2;
        let description = match self {
            Self::DecodeError => 50,
            Self::InternalError => 80,
            Self::UnrecognizedName => 112,
        };
        [CONTENT_ALERT, 3, 3, 0, 2, FATAL, description]
    }
}
