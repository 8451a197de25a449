//! TCP sockets of this network namespace, through `sock_diag`. Only dumps: an exact query for a connection that is not
//! there is answered with its listener.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::netlink::{DATAGRAM_BYTES_MAX, connect, receive};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const FLAGS: u16 = 0x1 | 0x300; // NLM_F_REQUEST | NLM_F_DUMP
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_req_v2` and `struct inet_diag_msg`, without the netlink header.
const REQUEST_BYTES: usize = 56;
const MESSAGE_BYTES: usize = 72;
const ATTRIBUTE_V6ONLY: u16 = 11;
const ATTRIBUTE_ULP_INFO: u16 = 19;
const ATTRIBUTE_CGROUP_ID: u16 = 21;
const ULP_INFO_NAME: u16 = 1;

/// TCP states as `sock_diag` counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// `TCP_ESTABLISHED`
    Established = 1,
    /// `TCP_LISTEN`
    Listen = 10,
}

/// A TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Its own address; IPv4-mapped ones are given as IPv4.
    pub address: IpAddr,
    /// Its own port.
    pub port: u16,
    /// Index of the interface it is bound to, 0 for none.
    pub interface: u32,
    /// Whether it takes IPv6 only.
    pub v6only: bool,
    /// Whether it belongs to MPTCP.
    pub mptcp: bool,
    /// Of a listener, connections it has not accepted yet; of others, bytes not read yet.
    pub rx_queue: u32,
    /// Of a listener, how many of these there may be; of others, bytes not acknowledged yet.
    pub tx_queue: u32,
    /// Its inode number.
    pub inode: u32,
    /// Id of the control group, of the unified hierarchy, in which it was made; where the kernel keeps that.
    pub cgroup: Option<u64>,
}

impl TcpSocket {
    /// Says whether a listener takes connections to this address.
    pub fn serves(&self, address: Ipv4Addr, port: u16) -> bool {
        let addressed = match self.address {
            IpAddr::V4(own) => own.is_unspecified() || own == address,
            IpAddr::V6(own) => own.is_unspecified() && !self.v6only,
        };
        addressed && self.port == port
    }
}

/// Lists the sockets in one state; with a port, only those at that port of their own.
///
/// # Errors
/// The kernel refuses.
pub fn tcp_sockets(state: State, port: Option<u16>) -> io::Result<Vec<TcpSocket>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).map_err(io::Error::other)?;
        dump(&request(family, state, port), &mut found)?;
    }
    Ok(found)
}

fn request(family: u8, state: State, port: Option<u16>) -> [u8; HEADER_BYTES + REQUEST_BYTES] {
    const LENGTH: u32 = 72;
    const _: () = assert!(HEADER_BYTES + REQUEST_BYTES == LENGTH as usize);
    let mut bytes = [0; HEADER_BYTES + REQUEST_BYTES];
    bytes[..4].copy_from_slice(&LENGTH.to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&FLAGS.to_ne_bytes());
    bytes[8..12].copy_from_slice(&1u32.to_ne_bytes());
    bytes[16] = family;
    bytes[17] = 6; // IPPROTO_TCP
    bytes[20..24].copy_from_slice(&(1u32 << state as u8).to_ne_bytes());
    bytes[24..26].copy_from_slice(&port.unwrap_or(0).to_be_bytes());
    bytes
}

fn dump(request: &[u8], found: &mut Vec<TcpSocket>) -> io::Result<()> {
    let socket = connect(NETLINK_SOCK_DIAG)?;
    socket.send(request, 0)?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let received = receive(&socket, &mut buffer)?;
        let mut rest = buffer.get(..received).unwrap_or(&buffer);
        while let Some((message, kind, after)) = next_message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = message.first_chunk().map_or(-libc::EIO, |code| i32::from_ne_bytes(*code));
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                _ => found.extend(tcp_socket(message)),
            }
            rest = after;
        }
    }
}

/// Cuts the first netlink message off: its payload, its type, and what follows.
fn next_message(bytes: &[u8]) -> Option<(&[u8], u16, &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let payload = bytes.get(HEADER_BYTES..length)?;
    Some((payload, kind, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn tcp_socket(message: &[u8]) -> Option<TcpSocket> {
    let fixed: &[u8; MESSAGE_BYTES] = message.first_chunk()?;
    let address = match i32::from(fixed[0]) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*fixed[8..].first_chunk::<4>()?)),
        _ => Ipv6Addr::from(*fixed[8..].first_chunk::<16>()?).to_canonical(),
    };
    let mut socket = TcpSocket {
        address,
        port: u16::from_be_bytes([fixed[4], fixed[5]]),
        interface: u32::from_ne_bytes(*fixed[40..].first_chunk()?),
        v6only: false,
        mptcp: false,
        rx_queue: u32::from_ne_bytes(*fixed[56..].first_chunk()?),
        tx_queue: u32::from_ne_bytes(*fixed[60..].first_chunk()?),
        inode: u32::from_ne_bytes(*fixed[68..].first_chunk()?),
        cgroup: None,
    };
    for (kind, value) in Attributes(&message[MESSAGE_BYTES..]) {
        match kind {
            ATTRIBUTE_V6ONLY => socket.v6only = value.first() == Some(&1),
            ATTRIBUTE_CGROUP_ID => {
                socket.cgroup = value.first_chunk().map(|id| u64::from_ne_bytes(*id));
            }
            ATTRIBUTE_ULP_INFO => {
                socket.mptcp =
                    Attributes(value).any(|(kind, name)| kind == ULP_INFO_NAME && name.starts_with(b"mptcp"));
            }
            _ => {}
        }
    }
    Some(socket)
}

/// Walks netlink attributes: type and value.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        const NESTED_AND_ORDER: u16 = 0xc000;
        let [l0, l1, k0, k1] = *self.0.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & !NESTED_AND_ORDER, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn our_own_sockets_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("loopback");
        let listeners = tcp_sockets(State::Listen, Some(port)).expect("readable");
        assert_eq!(listeners.len(), 1);
        assert!(listeners[0].serves(Ipv4Addr::LOCALHOST, port) && !listeners[0].mptcp);
        assert!(!listeners[0].serves(Ipv4Addr::new(10, 0, 0, 1), port));
        let established = tcp_sockets(State::Established, Some(port)).expect("readable");
        assert_eq!(established.len(), 1, "the client's end has another port: {established:?}");
    }

    #[test]
    fn a_listener_tells_its_queue_and_whose_it_is() {
        use rustix::net::{AddressFamily, SocketAddrV4, SocketType, bind, listen, socket};
        let own = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&own, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        listen(&own, 7).expect("loopback");
        let listener = TcpListener::from(own);
        let port = listener.local_addr().expect("bound").port();
        let queue = || {
            let found = tcp_sockets(State::Listen, Some(port)).expect("readable");
            (found[0].rx_queue, found[0].tx_queue)
        };
        assert_eq!(queue(), (0, 7));
        let connect = || std::net::TcpStream::connect(("127.0.0.1", port)).expect("loopback");
        let _waiting = [connect(), connect(), connect()];
        assert_eq!(queue(), (3, 7));
        let _accepted = listener.accept().expect("three wait");
        assert_eq!(queue(), (2, 7));
        let inode = rustix::fs::fstat(&listener).expect("open").st_ino;
        let found = tcp_sockets(State::Listen, Some(port)).expect("readable");
        assert_eq!(u64::from(found[0].inode), inode);
    }

    #[test]
    fn hostile_messages_end_the_walk() {
        assert_eq!(next_message(&[]), None);
        assert_eq!(next_message(&[0; 15]), None);
        assert_eq!(next_message(&[255; 16]), None);
        assert_eq!(tcp_socket(&[2; 71]), None);
        assert_eq!(Attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(Attributes(&[9, 0, 1, 0, 5]).count(), 0);
        assert_eq!(Attributes(&[5, 0, 1, 0, 5]).collect::<Vec<_>>(), [(1, &[5][..])]);
    }
}
