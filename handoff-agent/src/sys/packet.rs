//! Raw frames on one interface.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// `ETH_P_ALL` in network byte order.
const EVERY_PROTOCOL: u16 = 3u16.to_be();

/// A socket that sends and receives whole Ethernet frames on one interface.
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Opens the socket; frames are kept for it from here on.
    ///
    /// # Errors
    /// The kernel refuses; needs `CAP_NET_RAW`.
    pub fn open(interface: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Protocol 0: nothing is received before it is bound, so no frame of another interface.
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None::<Protocol>)?;
        bind(socket.as_fd(), interface)?;
        Ok(Self { socket })
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// The kernel refuses, for instance because the interface is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(&self.socket, frame, SendFlags::empty())?;
        Ok(())
    }

    /// Returns the next frame, `None` if there is none until `deadline`. Our own frames come back as well.
    ///
    /// # Errors
    /// The kernel refuses, for instance because the interface went away.
    pub fn receive(&self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, length)) => {
                    buffer.truncate(length);
                    return Ok(Some(buffer));
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Ok(None);
            }
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn bind(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    // SAFETY: all bytes zero make a sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET.try_into().map_err(io::Error::other)?;
    address.sll_protocol = EVERY_PROTOCOL;
    address.sll_ifindex = interface.try_into().map_err(io::Error::other)?;
    let length = size_of::<libc::sockaddr_ll>().try_into().map_err(io::Error::other)?;
    // SAFETY: the address is a sockaddr_ll of the given length, and the descriptor is open.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
