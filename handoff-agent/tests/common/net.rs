//! A backend's end of a wire, in a network namespace of its own, and the switch's end of it.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use handoff_agent::frame::{Answer, Mac, Reply, answer, reply};
use handoff_agent::sys::netlink::Netlink;
use handoff_agent::sys::packet::PacketSocket;

use super::{CLIENT, Client, HOST, PORT, SWITCH, enter_new_netns, tag_key};

/// Where frames for clients go: no interface has it, so that no stack takes them.
pub const ROUTER_MAC: Mac = [2, 0, 0, 0, 0, 254];
pub const PATIENCE: Duration = Duration::from_secs(2);

pub struct Net {
    pub switch: PacketSocket,
    pub data_mac: Mac,
    pub data_index: u32,
}

pub fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).expect("a sysctl of our own namespace");
}

pub fn read_sysctl(name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).expect("a sysctl");
    text.trim().to_owned()
}

impl Net {
    /// Makes the namespace, with `data0`, its address and the ways to the client and the switch; no VIP.
    pub fn new() -> Self {
        enter_new_netns();
        sysctl("conf/all/rp_filter", "0");
        sysctl("conf/default/rp_filter", "0");
        Self::in_this_netns()
    }

    /// Makes the interfaces, in a namespace that has none of these.
    pub fn in_this_netns() -> Self {
        let netlink = Netlink::open().expect("netlink");
        let up = |name: &str| {
            let interface = netlink.interface(name).expect("readable").expect("there");
            netlink.set_up(interface.index).expect("root sets interfaces up");
            interface
        };
        up("lo");
        netlink.add_veth("data0", "wire0").expect("root makes interfaces");
        let (data, wire) = (up("data0"), up("wire0"));
        netlink.add_address(data.index, HOST).expect("address");
        for client in [CLIENT, SWITCH] {
            netlink.add_host_route(client, data.index).expect("route");
            netlink.add_neighbour(data.index, client, ROUTER_MAC).expect("neighbour");
        }
        let switch = PacketSocket::open(wire.index).expect("packet socket");
        Self { switch, data_mac: data.mac, data_index: data.index }
    }

    pub fn add_address(&self, interface: &str, address: Ipv4Addr) {
        let netlink = Netlink::open().expect("netlink");
        let interface = netlink.interface(interface).expect("readable").expect("there");
        netlink.add_address(interface.index, address).expect("address");
    }

    pub fn client(&self, port: u16) -> Client {
        Client { destination_mac: self.data_mac, ..Client::new(port) }
    }

    pub fn send(&self, frame: &[u8]) {
        self.switch.send(frame).expect("the wire is up");
    }

    /// The next frame from the backend that `wanted` takes.
    #[track_caller]
    pub fn await_frame<T>(&self, what: &str, wanted: impl Fn(&[u8]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        while let Some(frame) = self.switch.receive(deadline).expect("readable") {
            if frame[6..12] == self.data_mac
                && let Some(found) = wanted(&frame)
            {
                return found;
            }
        }
        panic!("no {what} within {PATIENCE:?}");
    }

    #[track_caller]
    pub fn await_reply(&self, client: &Client, what: &str, wanted: impl Fn(&Reply) -> bool) -> Reply {
        self.await_frame(what, |frame| {
            reply(frame).ok().filter(|reply| reply.tuple == client.tuple && wanted(reply))
        })
    }

    #[track_caller]
    pub fn await_answer(&self, client: &Client) -> Answer {
        self.await_frame("answer", |frame| answer(frame, &client.tuple, &tag_key()).ok())
    }

    /// No RST and no SYN-ACK leaves for the client within a moment.
    #[track_caller]
    pub fn assert_quiet(&self, client: &Client) {
        let deadline = Instant::now() + Duration::from_millis(100);
        while let Some(frame) = self.switch.receive(deadline).expect("readable") {
            if let Ok(reply) = reply(&frame)
                && reply.tuple == client.tuple
                && frame[6..12] == self.data_mac
            {
                assert!(!reply.syn_fin_rst, "{reply:?}");
            }
        }
    }
}

pub fn listen() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("a free namespace");
    listener.set_nonblocking(true).expect("settable");
    listener
}

#[track_caller]
pub fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(false).expect("settable");
                stream.set_read_timeout(Some(PATIENCE)).expect("settable");
                return (stream, peer);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                assert!(Instant::now() < deadline, "no connection within {PATIENCE:?}");
                std::thread::yield_now();
            }
            Err(error) => panic!("accept: {error}"),
        }
    }
}

#[track_caller]
pub fn assert_nothing_to_accept(listener: &TcpListener) {
    std::thread::sleep(Duration::from_millis(50));
    let error = listener.accept().expect_err("no connection may be there");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[track_caller]
pub fn assert_reads(stream: &mut TcpStream, want: &[u8]) {
    let mut read = vec![0; want.len()];
    stream.read_exact(&mut read).expect("bytes of the client");
    assert_eq!(read, want);
}
