//! Error pages, read as a client reads them: in order, whole, to the FIN.

use super::client::Client;
use super::packets::{ACK, FIN, PSH, TcpFrame, read_options, read_tcp};
use super::world::{Outcome, SWITCH_MAC};
use baton_core::Verdict;

/// What a page says: its status line behind the version, and why.
pub(crate) type Why = (&'static str, &'static str);

pub(crate) const MALFORMED: Why =
    ("400 Bad Request", "The request head is not HTTP/1.1, or says two things at once.\n");
pub(crate) const DISPUTED: Why = ("400 Bad Request", "The request head came in two versions.\n");
pub(crate) const CUT_OFF: Why =
    ("400 Bad Request", "The connection was closed before the request head was complete.\n");
pub(crate) const UNFINISHED: Why = ("408 Request Timeout", "The request head was not completed in time.\n");
pub(crate) const TOO_LARGE: Why = ("431 Request Header Fields Too Large", "The request head is too large.\n");
pub(crate) const NO_RULE: Why = ("503 Service Unavailable", "No service is configured for this address.\n");
pub(crate) const NO_BACKEND: Why = ("503 Service Unavailable", "No server is available for this address.\n");
pub(crate) const NOT_TLS: Why = ("400 Bad Request", "This port speaks TLS; ask for https.\n");
pub(crate) const OVERLOADED: Why =
    ("503 Service Unavailable", "The servers for this address are busy; try again later.\n");
pub(crate) const REFUSED_BY_ALL: Why =
    ("503 Service Unavailable", "No server takes new connections for this address.\n");

/// Every byte of the head of a page with a body of so many bytes.
pub(crate) fn head_of(status: &str, content_type: &str, body_bytes: usize) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {body_bytes}\r\n\
         Connection: close\r\nCache-Control: no-store\r\n\r\n"
    )
    .into_bytes()
}

/// Every byte of a page.
pub(crate) fn page((status, line): Why) -> Vec<u8> {
    [head_of(status, "text/plain; charset=utf-8", line.len()), line.as_bytes().to_vec()].concat()
}

/// Insists on what every segment from the switch to a client has: the addresses, the flags, the acknowledgment of all
/// that stands `acked` bytes behind the SYN, and timestamps that repeat what the client itself said.
pub(crate) fn expect_to_client(segment: &TcpFrame, client: &Client, flags: u8, acked: u32, tsval: u32) {
    assert_eq!((segment.to, segment.from), (client.mac, SWITCH_MAC));
    assert_eq!((segment.source, segment.destination), (client.vip, client.address));
    assert_eq!((segment.source_port, segment.destination_port), (client.vip_port, client.port));
    assert_eq!(segment.flags, flags, "flags");
    assert_eq!(segment.ack.wrapping_sub(client.isn.wrapping_add(1)), acked, "bytes acknowledged");
    let options = read_options(&segment.options);
    if client.offer.timestamps {
        let stamps = [client.echo.to_be_bytes(), tsval.to_be_bytes()].concat();
        assert_eq!(options, [(8, stamps)], "the client's own echo, and its newest TSval");
    } else {
        assert!(options.is_empty(), "{options:?}");
    }
}

/// The newest TSval of a client that has not moved its clock since.
pub(crate) const fn tsval(client: &Client) -> u32 {
    client.clock.wrapping_add(7)
}

/// Puts together what frames tell a client from the byte at `from` of the other side on; insists that it is in order,
/// acknowledges `acked` bytes, and ends with a FIN. Returns the bytes.
pub(crate) fn read_to_fin(frames: &[Vec<u8>], client: &Client, from: u32, acked: u32, tsval: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (place, frame) in frames.iter().enumerate() {
        let segment = read_tcp(frame);
        let flags = if place + 1 == frames.len() { FIN | ACK } else { PSH | ACK };
        expect_to_client(&segment, client, flags, acked, tsval);
        let offset = u32::try_from(bytes.len()).expect("short");
        assert_eq!(segment.seq, client.peer_isn.wrapping_add(1 + from).wrapping_add(offset), "in order");
        bytes.extend(segment.payload);
    }
    assert!(!frames.is_empty(), "no page came");
    bytes
}

impl Outcome {
    /// Insists that `client` was told why its request cannot be served, after it had sent `acked` bytes (a FIN counts).
    pub(crate) fn expect_page(&self, client: &Client, acked: u32, why: Why) {
        assert_eq!(self.verdict, Verdict::Absorb);
        let bytes = read_to_fin(&self.sent.frames, client, 0, acked, tsval(client));
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&page(why)));
    }
}
