//! What a SYN offers.

use smoltcp::wire::{TcpOption, TcpPacket};

use crate::wire::{ETHERNET_BYTES, Fault, IPV4_BYTES};

/// The options of a SYN that Baton keeps. Others are ignored and never reflected: what the backend has not agreed to must
/// not be promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Maximum segment size, if announced (RFC 9293, section 3.7.1).
    pub mss: Option<u16>,
    /// Window shift as announced, not yet limited to 14 (RFC 7323, section 2.2).
    pub window_scale: Option<u8>,
    /// Selective acknowledgments permitted (RFC 2018, section 2).
    pub sack_permitted: bool,
    /// TSval, if timestamps are offered (RFC 7323, section 3.2).
    pub tsval: Option<u32>,
}

impl SynOptions {
    /// Reads the options of the segment behind the IPv4 header of `frame`. Of a repeated option the last counts, as in Linux.
    ///
    /// # Errors
    /// [`Fault::TcpOptions`] if an option's length cannot be.
    pub fn parse(frame: &[u8]) -> Result<Self, Fault> {
        let bytes = frame.get(ETHERNET_BYTES + IPV4_BYTES..).ok_or(Fault::Malformed)?;
        let view = TcpPacket::new_checked(bytes).map_err(|_| Fault::Malformed)?;
        let mut options = view.options();
        let mut offered = Self::default();
        while !options.is_empty() {
            let (rest, option) = TcpOption::parse(options).map_err(|_| Fault::TcpOptions)?;
            match option {
                TcpOption::EndOfList => break,
                TcpOption::MaxSegmentSize(mss) => offered.mss = Some(mss),
                TcpOption::WindowScale(shift) => offered.window_scale = Some(shift),
                TcpOption::SackPermitted => offered.sack_permitted = true,
                TcpOption::TimeStamp { tsval, .. } => offered.tsval = Some(tsval),
                TcpOption::NoOperation | TcpOption::SackRange(_) | TcpOption::Unknown { .. } => {}
            }
            options = rest;
        }
        Ok(offered)
    }
}
