//! Interfaces, addresses, routes and neighbours of this network namespace, through rtnetlink.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// Room for a datagram: the kernel sends up to 32 KiB at a time on a netlink socket that does not ask for more.
pub(super) const DATAGRAM_BYTES_MAX: usize = 1 << 16;
/// How long each part of an answer may take. The kernel has most of it ready when the request is sent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Bytes of payload in one frame.
    pub mtu: u32,
    /// Whether it is set up and has a carrier.
    pub running: bool,
    /// Whether it speaks Ethernet.
    pub ethernet: bool,
    /// Its MAC address; zero for interfaces without one.
    pub mac: [u8; 6],
    /// Bytes received since it was made.
    pub rx_bytes: u64,
    /// Bytes sent since it was made.
    pub tx_bytes: u64,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// Index of the interface.
    pub interface: u32,
    /// The address.
    pub address: IpAddr,
    /// Bits of its network.
    pub prefix: u8,
}

/// A connection to the kernel's rtnetlink, in the network namespace of the thread that opened it.
pub struct Netlink {
    socket: Socket,
}

impl Netlink {
    /// Connects.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open() -> io::Result<Self> {
        connect(NETLINK_ROUTE).map(|socket| Self { socket })
    }

    /// Returns the interface of a name, `None` if there is none.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn interface(&self, name: &str) -> io::Result<Option<Interface>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.request(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => Ok(answers.into_iter().find_map(interface)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lists the addresses of all interfaces.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn addresses(&self) -> io::Result<Vec<InterfaceAddress>> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        Ok(self.request(request, NLM_F_DUMP)?.into_iter().filter_map(interface_address).collect())
    }

    /// Gives an interface a host address (/32); it need not be new.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add_address(&self, interface: u32, address: Ipv4Addr) -> io::Result<()> {
        let request = RouteNetlinkMessage::NewAddress(host_address(interface, address));
        self.request(request, NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    /// Takes a host address (/32) from an interface.
    ///
    /// # Errors
    /// The kernel refuses; `AddrNotAvailable` if the interface does not have it.
    pub fn delete_address(&self, interface: u32, address: Ipv4Addr) -> io::Result<()> {
        self.request(RouteNetlinkMessage::DelAddress(host_address(interface, address)), 0).map(drop)
    }

    /// Makes a pair of connected interfaces.
    ///
    /// # Errors
    /// The kernel refuses; `AlreadyExists` if one of the names is taken.
    pub fn add_veth(&self, name: &str, peer_name: &str) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(peer_name.to_owned()));
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Sets an interface up.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_up(&self, interface: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = interface;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), 0).map(drop)
    }

    /// Removes an interface, with its peer if it is a pair.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete_interface(&self, interface: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = interface;
        self.request(RouteNetlinkMessage::DelLink(message), 0).map(drop)
    }

    /// Routes one address through an interface.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add_host_route(&self, destination: Ipv4Addr, interface: u32) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 32;
        message.header.table = netlink_packet_route::route::RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Link;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(destination)));
        message.attributes.push(RouteAttribute::Oif(interface));
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Says which MAC address an address has on an interface, for good.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn add_neighbour(&self, interface: u32, address: Ipv4Addr, mac: [u8; 6]) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = interface;
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        self.request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE).map(drop)
    }

    fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        request(&self.socket, message, flags)
    }
}

/// Opens a netlink socket towards the kernel, on which nobody waits for ever.
pub(super) fn connect(protocol: isize) -> io::Result<Socket> {
    connect_within(protocol, ANSWER_TIMEOUT)
}

fn connect_within(protocol: isize, timeout: Duration) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(timeout))?;
    Ok(socket)
}

/// Receives the next part of an answer: how many bytes of `buffer` it fills.
///
/// # Errors
/// `TimedOut` if it does not come.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    socket.recv(&mut &mut *buffer, 0).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(
            ErrorKind::TimedOut,
            format!("the kernel did not answer on netlink within {ANSWER_TIMEOUT:?}"),
        ),
        _ => error,
    })
}

/// Sends one request and collects the answers up to the acknowledgment or the end of the dump.
fn request(
    socket: &Socket,
    message: RouteNetlinkMessage,
    flags: u16,
) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
    packet.header.flags =
        NLM_F_REQUEST | if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK } | flags;
    packet.header.sequence_number = 1;
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let received = receive(socket, &mut buffer)?;
        let mut rest = buffer.get(..received).unwrap_or(&buffer);
        while !rest.is_empty() {
            let answer =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = usize::try_from(answer.header.length).map_err(io::Error::other)?.next_multiple_of(4);
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => answers.push(message),
                NetlinkPayload::Error(error) => {
                    return match error.code {
                        Some(_) => Err(error.to_io()),
                        None => Ok(answers),
                    };
                }
                NetlinkPayload::Done(_) => return Ok(answers),
                _ => {}
            }
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
    }
}

fn host_address(interface: u32, address: Ipv4Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.scope = AddressScope::Universe;
    message.header.index = interface;
    message.attributes.push(AddressAttribute::Local(address.into()));
    message.attributes.push(AddressAttribute::Address(address.into()));
    message
}

fn interface(message: RouteNetlinkMessage) -> Option<Interface> {
    let RouteNetlinkMessage::NewLink(link) = message else { return None };
    let flags = link.header.flags;
    let mut found = Interface {
        index: link.header.index,
        name: String::new(),
        mtu: 0,
        running: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::Running),
        ethernet: link.header.link_layer_type == LinkLayerType::Ether,
        mac: [0; 6],
        rx_bytes: 0,
        tx_bytes: 0,
    };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name = name,
            LinkAttribute::Mtu(mtu) => found.mtu = mtu,
            LinkAttribute::Address(mac) => found.mac = mac.try_into().unwrap_or_default(),
            LinkAttribute::Stats64(stats) => {
                found.rx_bytes = stats.rx_bytes;
                found.tx_bytes = stats.tx_bytes;
            }
            _ => {}
        }
    }
    Some(found)
}

fn interface_address(message: RouteNetlinkMessage) -> Option<InterfaceAddress> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        // IPv4 has the own address in `Local`, the peer's in `Address`.
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = address.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    Some(InterfaceAddress { interface: message.header.index, address, prefix: message.header.prefix_len })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn an_answer_that_does_not_come_is_not_waited_for() {
        let timeout = Duration::from_millis(30);
        let socket = connect_within(NETLINK_ROUTE, timeout).expect("netlink");
        let begun = Instant::now();
        let error = receive(&socket, &mut [0; 64]).expect_err("nothing was asked");
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("did not answer on netlink"), "{error}");
        assert!((timeout..ANSWER_TIMEOUT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        let opened = connect(NETLINK_ROUTE).expect("netlink");
        let limit = rustix::net::sockopt::socket_timeout(&opened, Timeout::Recv).expect("readable");
        assert_eq!(limit, Some(ANSWER_TIMEOUT));
    }
}
