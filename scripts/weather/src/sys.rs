//! The only unsafe code: three system calls on packet sockets that no safe wrapper offers.

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void, packet_mreq, sockaddr, sockaddr_ll, socklen_t, tpacket_stats};

/// A `size_of` as the kernel wants it.
fn length_of<T>() -> socklen_t {
    // No structure here comes near 4 GB.
    size_of::<T>() as socklen_t
}

/// Lets a packet socket receive every frame of one interface, and send by it.
pub(crate) fn bind(socket: BorrowedFd<'_>, interface_index: c_int) -> io::Result<()> {
    let address = sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        // Network byte order.
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: interface_index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let pointer = (&raw const address).cast::<sockaddr>();
    // SAFETY: `pointer` is to a whole sockaddr_ll of that length, which lives until the call is over.
    done(unsafe { libc::bind(socket.as_raw_fd(), pointer, length_of::<sockaddr_ll>()) })
}

/// Sets an option of a packet socket that is a number.
pub(crate) fn set_option(socket: BorrowedFd<'_>, option: c_int, value: c_int) -> io::Result<()> {
    set(socket, option, &value)
}

/// Lets an interface receive what is addressed to others, for as long as the socket lives.
pub(crate) fn receive_all(socket: BorrowedFd<'_>, interface_index: c_int) -> io::Result<()> {
    let membership = packet_mreq {
        mr_ifindex: interface_index,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(socket, libc::PACKET_ADD_MEMBERSHIP, &membership)
}

fn set<T>(socket: BorrowedFd<'_>, option: c_int, value: &T) -> io::Result<()> {
    let pointer = (&raw const *value).cast::<c_void>();
    let length = length_of::<T>();
    // SAFETY: `pointer` is to `length` readable bytes, which live until the call is over.
    done(unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, pointer, length) })
}

/// How many frames the kernel dropped since the last question, because the socket's buffer was full.
pub(crate) fn drops_since_last_asked(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut statistics = tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = size_of_val(&statistics) as socklen_t;
    let pointer = (&raw mut statistics).cast::<c_void>();
    // SAFETY: `pointer` is to `length` writable bytes, any values of which make a tpacket_stats.
    done(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            pointer,
            &raw mut length,
        )
    })?;
    Ok(statistics.tp_drops)
}

fn done(status: c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
