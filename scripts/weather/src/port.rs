//! One end of the link: a packet socket on an interface.
//!
//! Frames travel with their virtio header in front. Where kernels talk over veth, a frame's checksum may be left undone
//! and a frame may be a whole burst of segments of up to 64 KB; the header says so. Read at one port and written
//! unchanged at the other, it lets the receiving kernel treat the frame as if there had been no weather in between.
//! Without it, frames with undone checksums would arrive broken, and every host would have to turn its offloads off.
//! A burst is one frame to the weather, and shares one fate; where that is too coarse, turn `tso` and `gso` off on the
//! far ends of both cables, as the lab does.
//!
//! The kernel takes VLAN tags out of frames before a packet socket sees them: a link with tags is none for this program.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::c_int;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, sockopt};
use thiserror::Error;

use crate::sys;

/// Length of struct virtio_net_hdr, which is in front of every frame.
pub const VIRTIO_HEADER_BYTES: usize = 10;
/// Header, Ethernet header, and the longest packet IP knows; with room to spare.
pub const FRAME_BYTES_MAX: usize = 1 << 17;
/// What may wait to be read: some hundred milliseconds of short frames.
const RECEIVE_BUFFER_BYTES: usize = 32 << 20;

/// Why an interface cannot be used, or no longer.
#[derive(Debug, Error)]
pub enum PortError {
    /// It cannot be opened.
    #[error("interface {interface}: cannot {step}: {error}")]
    Open {
        /// Its name.
        interface: String,
        /// What failed.
        step: &'static str,
        /// Why.
        error: io::Error,
    },
    /// Nothing more can be read from it.
    #[error("interface {interface}: {error}")]
    Receive {
        /// Its name.
        interface: String,
        /// Why.
        error: io::Error,
    },
}

/// What [`Port::receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame of so many bytes, virtio header included, is in the buffer.
    Frame(usize),
    /// There was a frame, but it cannot be told as header and bytes. It is gone.
    Unreadable,
    /// There is none now.
    Nothing,
}

/// A packet socket on one interface. It does not see what it sent itself, nor what else leaves by the interface.
#[derive(Debug)]
pub struct Port {
    interface: String,
    socket: OwnedFd,
}

impl Port {
    /// Opens an interface of this network namespace and begins to receive. Needs CAP_NET_RAW and CAP_NET_ADMIN.
    ///
    /// # Errors
    /// Names the interface and what could not be done with it.
    pub fn open(interface: &str) -> Result<Self, PortError> {
        let fail =
            |step| move |error: io::Error| PortError::Open { interface: interface.to_owned(), step, error };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Protocol 0 receives nothing: not a frame comes in before the options are set and the interface is chosen.
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
            .map_err(|error| fail("open a packet socket")(error.into()))?;
        let index = netdevice::name_to_index(&socket, interface)
            .map_err(io::Error::from)
            .and_then(|index| c_int::try_from(index).map_err(io::Error::other))
            .map_err(fail("find it"))?;
        sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES)
            .map_err(|error| fail("enlarge the receive buffer")(error.into()))?;
        sys::set_option(socket.as_fd(), libc::PACKET_VNET_HDR, 1).map_err(fail("ask for virtio headers"))?;
        sys::set_option(socket.as_fd(), libc::PACKET_IGNORE_OUTGOING, 1)
            .map_err(fail("ignore what leaves"))?;
        sys::receive_all(socket.as_fd(), index).map_err(fail("receive what is addressed to others"))?;
        sys::bind(socket.as_fd(), index).map_err(fail("bind to it"))?;
        Ok(Self { interface: interface.to_owned(), socket })
    }

    /// Reads the next frame, if there is one, into `buffer`.
    ///
    /// # Errors
    /// When the interface is gone or down.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Received, PortError> {
        loop {
            // With TRUNC a frame's true length is told, also when it is longer than the buffer.
            return match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::TRUNC) {
                Ok((_, length)) if length > buffer.len() => Ok(Received::Unreadable),
                Ok((_, length)) if length < VIRTIO_HEADER_BYTES => Ok(Received::Unreadable),
                Ok((_, length)) => Ok(Received::Frame(length)),
                Err(Errno::AGAIN) => Ok(Received::Nothing),
                Err(Errno::INTR) => continue,
                // The kernel has no virtio header for it, and has thrown it away.
                Err(Errno::INVAL) => Ok(Received::Unreadable),
                Err(error) => {
                    Err(PortError::Receive { interface: self.interface.clone(), error: error.into() })
                }
            };
        }
    }

    /// Sends a frame with its virtio header. Returns whether the kernel took it: where it does not, the frame is gone,
    /// as on any link that is full.
    #[must_use]
    pub fn send(&self, frame: &[u8]) -> bool {
        rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, frame, SendFlags::empty())).is_ok()
    }

    /// How many frames the kernel dropped since the last question, because they were not read in time.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn drops_since_last_asked(&self) -> Result<u32, PortError> {
        sys::drops_since_last_asked(self.socket.as_fd())
            .map_err(|error| PortError::Receive { interface: self.interface.clone(), error })
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
