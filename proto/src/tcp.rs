//! What the client and the switch agreed on in the SYN exchange and no later segment repeats.

/// The largest window shift (RFC 7323, section 2.3: "If a Window Scale option is received with a shift.cnt value
/// larger than 14, the TCP SHOULD log the error but MUST use 14").
pub const WSCALE_MAX: u8 = 14;

/// The smallest MSS the kernel's handoff accepts over IPv4: RFC 9293's default of 536 bytes.
pub const MSS_MIN: u16 = 536;

/// The options negotiated in the handshake; the handoff header carries them to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Negotiated {
    /// Bytes of payload the client takes in one segment, timestamps not counted.
    pub mss: u16,
    /// Window shifts, if both sides sent the option.
    pub wscale: Option<WindowScale>,
    /// Both sides allow selective acknowledgments (RFC 2018).
    pub sack: bool,
    /// Both sides use timestamps (RFC 7323).
    pub timestamps: bool,
    /// Explicit congestion notification was agreed on (RFC 3168).
    pub ecn: bool,
}

/// The window shifts of both directions, each 0 to [`WSCALE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowScale {
    /// Shift of the windows the client announces: the server applies it when sending.
    pub send: u8,
    /// Shift the switch announced in its SYN-ACK: the server applies it to the windows it announces.
    pub receive: u8,
}
