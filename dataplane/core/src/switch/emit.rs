//! Segments of the switch's own making, on their way out.

use handoff_proto::header::HEADER_BYTES;

use crate::frame::Frame;
use crate::metrics::DropReason;
use crate::switch::{Outbox, SCRATCH_HEADROOM};
use crate::tunnel::{self, Outer};
use crate::wire::{self, TcpAnswer, Way};

/// What a segment to a backend is wrapped in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tunnel<'a> {
    /// Its outer addresses.
    pub(super) outer: &'a Outer,
    /// Its handoff header.
    pub(super) header: &'a [u8; HEADER_BYTES],
    /// Largest outer IP packet, in bytes.
    pub(super) mtu_bytes: u16,
}

/// Sends a segment to a client, built in `scratch`. Says whether there was a buffer for it.
pub(super) fn to_client(
    scratch: &mut [u8],
    way: &Way,
    segment: &TcpAnswer,
    payload: &[u8],
    out: &mut impl Outbox,
) -> bool {
    Frame::new(scratch, SCRATCH_HEADROOM, 0).is_some_and(|mut frame| {
        wire::write_tcp(&mut frame, way, segment, payload).is_ok() && out.transmit(frame.bytes())
    })
}

/// Sends a segment to a backend in the tunnel, as if from its client, built in `scratch`. Says whether there was a buffer for it.
///
/// # Errors
/// It does not fit the MTU.
pub(super) fn to_backend(
    scratch: &mut [u8],
    tunnel: &Tunnel<'_>,
    way: &Way,
    segment: &TcpAnswer,
    payload: &[u8],
    out: &mut impl Outbox,
) -> Result<bool, DropReason> {
    let mut frame = Frame::new(scratch, SCRATCH_HEADROOM, 0).ok_or(DropReason::TooLong)?;
    wire::write_tcp(&mut frame, way, segment, payload).map_err(|_| DropReason::TooLong)?;
    tunnel::wrap(&mut frame, tunnel.outer, tunnel.header, tunnel.mtu_bytes)?;
    Ok(out.transmit(frame.bytes()))
}
