//! What the client and the switch agreed on in the SYN exchange and no later segment repeats; and the states a
//! connection can be in on a backend.

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

/// The state of a connection's socket on a backend (RFC 9293, section 3.3.2). The numbers are the wire values, which are
/// the kernel's. LISTEN and CLOSED are missing: such a socket is of no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum TcpState {
    /// Data may go both ways.
    Established = 1,
    /// The backend itself sent a SYN and waits for the answer.
    SynSent = 2,
    /// A SYN was answered; the socket waits for the acknowledgment.
    SynReceived = 3,
    /// The server closed; its FIN is not acknowledged.
    FinWait1 = 4,
    /// The server closed; its FIN is acknowledged, the client may still send.
    FinWait2 = 5,
    /// Both closed, the server first: the 4-tuple rests.
    TimeWait = 6,
    /// The client closed, the server may still send.
    CloseWait = 8,
    /// Both closed, the client first; the server's FIN is not acknowledged.
    LastAck = 9,
    /// Both closed at once; the server's FIN is not acknowledged.
    Closing = 11,
}

impl TcpState {
    /// Returns the state with this wire value.
    pub const fn from_wire(value: u16) -> Option<Self> {
        Some(match value {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            11 => Self::Closing,
            _ => return None,
        })
    }
}
