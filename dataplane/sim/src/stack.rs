//! One TCP connection of smoltcp, as a machine without I/O: IP packets and the time in, IP packets out.
//!
//! smoltcp's TCP was written by others and knows nothing of Baton: that is what makes it a judge. It sends no SACK
//! blocks of use, no ECN, and does not discover path MTUs: those stay with the lab and its kernels.

use core::cell::Cell;
use core::net::Ipv4Addr;
use std::collections::VecDeque;

use handoff_proto::Micros;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

thread_local! {
    /// What smoltcp's timestamp generator returns: it is a plain function, so the clock of the stack that is at work
    /// has to be left where that function finds it.
    static TIMESTAMP: Cell<u32> = const { Cell::new(0) };
}

fn timestamp() -> u32 {
    TIMESTAMP.get()
}

/// What a connection is made with.
#[derive(Clone, Copy, Debug)]
pub struct StackSettings {
    /// The host's address.
    pub address: Ipv4Addr,
    /// The longest IP packet it takes, in bytes; its MSS is 40 less.
    pub mtu_bytes: usize,
    /// Bytes its socket can receive before they are read.
    pub receive_bytes: usize,
    /// Bytes its socket can keep until they are acknowledged.
    pub send_bytes: usize,
    /// Whether it offers, or takes, timestamps; and what is added to its clock for them.
    pub timestamps: Option<u32>,
    /// How long it repeats what nobody acknowledges, before it gives up.
    pub patience: Micros,
    /// Decides about initial sequence numbers.
    pub seed: u64,
}

/// An interface without a link layer, and a socket.
pub struct Stack {
    interface: Interface,
    port: Port,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    timestamp_offset: u32,
    next: Option<Micros>,
}

impl Stack {
    /// Makes one whose socket is closed.
    #[must_use]
    pub fn new(settings: &StackSettings, now: Micros) -> Self {
        let mut port = Port { mtu_bytes: settings.mtu_bytes, arrived: VecDeque::new(), left: Vec::new() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = settings.seed;
        let mut interface = Interface::new(config, &mut port, instant(now));
        interface.update_ip_addrs(|addresses| {
            // Everybody is a neighbour where there is no link layer.
            let fits = addresses.push(IpCidr::new(IpAddress::Ipv4(settings.address), 0));
            debug_assert!(fits.is_ok(), "an interface takes an address");
        });
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(vec![0; settings.receive_bytes]),
            tcp::SocketBuffer::new(vec![0; settings.send_bytes]),
        );
        socket.set_timeout(Some(Duration::from_micros(settings.patience.0)));
        // With one, smoltcp 0.14 may stop for good after a loss: it sends less than the client has acknowledged by then, and
        // takes the client's acknowledgments for wrong ones.
        socket.set_congestion_control(tcp::CongestionControl::None);
        if settings.timestamps.is_some() {
            socket.set_tsval_generator(Some(timestamp));
        }
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let timestamp_offset = settings.timestamps.unwrap_or(0);
        Self { interface, port, sockets, handle, timestamp_offset, next: None }
    }

    /// Begins a connection from port `from`.
    pub fn connect(&mut self, to: (Ipv4Addr, u16), from: u16) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.handle);
        let begun = socket.connect(self.interface.context(), (IpAddress::Ipv4(to.0), to.1), from);
        debug_assert!(begun.is_ok(), "a closed socket and good addresses: {begun:?}");
    }

    /// The socket, to read, write and close.
    pub fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// The socket, to look at.
    #[must_use]
    pub fn state(&self) -> tcp::State {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).state()
    }

    /// Bytes that were received in order and not read yet.
    #[must_use]
    pub fn unread_bytes(&self) -> usize {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).recv_queue()
    }

    /// Gives it an IP packet; it is looked at by the next [`Stack::poll`].
    pub fn take(&mut self, packet: Vec<u8>) {
        self.port.arrived.push_back(packet);
    }

    /// Lets it work; returns the IP packets it sends.
    pub fn poll(&mut self, now: Micros) -> Vec<Vec<u8>> {
        TIMESTAMP.set(timestamp_at(now, self.timestamp_offset));
        self.interface.poll(instant(now), &mut self.port, &mut self.sockets);
        self.next = self.interface.poll_at(instant(now), &self.sockets).map(micros);
        std::mem::take(&mut self.port.left)
    }

    /// When it wants to be polled again, as it said last.
    #[must_use]
    pub fn next_poll(&self) -> Option<Micros> {
        self.next
    }
}

/// Adds to `bytes` all that a socket has received in order.
pub fn read_all(socket: &mut tcp::Socket<'_>, bytes: &mut Vec<u8>) {
    while socket.can_recv() {
        let got = socket.recv(|received| {
            bytes.extend_from_slice(received);
            (received.len(), received.len())
        });
        if got.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// What a clock with an offset shows in timestamps.
#[must_use]
pub fn timestamp_at(now: Micros, offset: u32) -> u32 {
    // Timestamps wrap by design.
    #[expect(clippy::cast_possible_truncation)]
    let millis = (now.0 / 1000) as u32;
    millis.wrapping_add(offset)
}

fn instant(now: Micros) -> Instant {
    Instant::from_micros(i64::try_from(now.0).unwrap_or(i64::MAX))
}

fn micros(instant: Instant) -> Micros {
    Micros(u64::try_from(instant.total_micros()).unwrap_or(0))
}

/// Where packets wait on their way in and out.
struct Port {
    mtu_bytes: usize,
    arrived: VecDeque<Vec<u8>>,
    left: Vec<Vec<u8>>,
}

impl Device for Port {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving<'_>)> {
        let packet = self.arrived.pop_front()?;
        Some((Arrived(packet), Leaving(&mut self.left)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.left))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu_bytes;
        capabilities
    }
}

struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Leaving<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}
