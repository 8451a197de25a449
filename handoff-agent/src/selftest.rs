//! A handoff the agent makes itself: the only proof that nothing on the host swallows one.
//!
//! A pair of interfaces of the agent's own leads to a client that does not exist. Its handoff is brought to the data
//! interface as if it had arrived there, with a key and a clock of its own; what the kernel answers leaves for that
//! client, and so never leaves the host. The client sends no byte, asks with a keepalive probe whether it is connected,
//! and resets: a server that logs requests has none to log.

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use handoff_proto::header::Detail;
use handoff_proto::tcp::WindowScale;
use handoff_proto::{
    FourTuple, Generation, Header, KeyId, MessageType, Micros, Negotiated, Seq, TagKey, Vip,
};
use libbpf_rs::Link;
use rustix::rand::{GetRandomFlags, getrandom};
use smoltcp::wire::TcpControl;
use thiserror::Error;

use crate::bpf::abi::RecordState;
use crate::bpf::{
    BpfError, Direction, PROGRAM_EGRESS, PROGRAM_SELF_TEST, Programs, Steering, attach_unpinned,
};
use crate::frame::{Mac, Path, Segment, answer, client_packet, reply, wrapped};
use crate::sys::clock;
use crate::sys::netlink::Netlink;
use crate::sys::packet::PacketSocket;

/// The host's end of the agent's own pair of interfaces.
const NEAR: &str = "baton-st0";
/// The client's end.
const FAR: &str = "baton-st1";
/// The client that does not exist: from the block for benchmarks (RFC 2544), which is routed nowhere.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 2);
/// The client's MAC address: no interface has it, so no stack takes its frames.
const CLIENT_MAC: Mac = [0x02, 0xba, 0x70, 0x4e, 0x53, 0x54];
/// How often the client asks whether it is connected, and how long it waits each time.
const PROBES: u32 = 5;
const PATIENCE: Duration = Duration::from_millis(60);
/// How long new interfaces may take to carry packets.
const RUNNING_WITHIN: Duration = Duration::from_secs(2);
const RUNNING_POLL: Duration = Duration::from_millis(2);

/// Why the self-test failed.
#[derive(Debug, Error)]
pub enum SelfTestError {
    /// It could not be made.
    #[error("the self-test could not be made: {action}: {error}")]
    Network {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// It could not be made.
    #[error("the self-test could not be made: {0}")]
    Bpf(BpfError),
    /// The handoff was refused.
    #[error("self-test at {vip}: {}", refusal(*.detail))]
    Refused {
        /// The VIP.
        vip: Vip,
        /// Why.
        detail: Detail,
    },
    /// The kernel accepted the handoff and dropped it.
    #[error(
        "self-test at {vip}: the kernel accepted a handoff, but no connection came of it: a firewall, strict \
         connection tracking or rp_filter dropped the packet"
    )]
    Swallowed {
        /// The VIP.
        vip: Vip,
    },
    /// Nothing came back.
    #[error("self-test at {vip}: no answer: something drops packets on their way in or out")]
    Silent {
        /// The VIP.
        vip: Vip,
    },
    /// The connection's birth was not noticed.
    #[error(
        "self-test at {vip}: a connection came, but the egress program did not see it; is another tc program in front?"
    )]
    Unnoticed {
        /// The VIP.
        vip: Vip,
    },
    /// The connection outlived its reset.
    #[error("self-test at {vip}: the connection did not end with its reset: something drops resets")]
    Lingers {
        /// The VIP.
        vip: Vip,
    },
}

impl From<BpfError> for SelfTestError {
    fn from(error: BpfError) -> Self {
        Self::Bpf(error)
    }
}

const fn refusal(detail: Detail) -> &'static str {
    match detail {
        Detail::NoListener => "nothing listens there",
        Detail::QueueFull => "the listener's accept queue is full",
        Detail::KernelRefused => {
            "the kernel would not take a handoff: an MPTCP listener, or timestamps, SACK or window scaling off"
        }
        Detail::RecordsFull => "too many new connections for agent.records",
        _ => "the handoff was refused",
    }
}

/// What the self-test needs of the running agent.
pub struct SelfTest<'a> {
    /// The programs at the data interface.
    pub programs: &'a Programs,
    /// Their settings.
    pub steering: &'a Steering<'a>,
    /// The MAC address of the data interface.
    pub mac: Mac,
    /// This host on the data network.
    pub address: Ipv4Addr,
}

/// The agent's own interfaces; they go away with it.
struct Stage<'a> {
    steering: &'a Steering<'a>,
    netlink: Netlink,
    near: u32,
    socket: PacketSocket,
    key: TagKey,
    _links: [Link; 2],
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.steering.end_self_test() {
            tracing::warn!(%error, "the self-test could not be ended");
        }
        if let Err(error) = self.netlink.delete_interface(self.near) {
            tracing::warn!(%error, "{NEAR} could not be removed");
        }
    }
}

/// Removes the interfaces a self-test left behind when its agent was killed.
///
/// # Errors
/// The kernel refuses.
pub fn clean_up() -> io::Result<()> {
    let netlink = Netlink::open()?;
    match netlink.interface(NEAR)? {
        Some(left) => netlink.delete_interface(left.index),
        None => Ok(()),
    }
}

/// Waits until both interfaces carry packets: the kernel notices that each has a peer a moment later.
fn await_running(netlink: &Netlink) -> io::Result<()> {
    let deadline = Instant::now() + RUNNING_WITHIN;
    while Instant::now() < deadline {
        let running = |name| netlink.interface(name).map(|found| found.is_some_and(|found| found.running));
        if running(NEAR)? && running(FAR)? {
            return Ok(());
        }
        std::thread::sleep(RUNNING_POLL);
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn network(action: &'static str) -> impl FnOnce(io::Error) -> SelfTestError {
    move |error| SelfTestError::Network { action, error }
}

fn random<const N: usize>() -> Result<[u8; N], SelfTestError> {
    let mut bytes = [0; N];
    let got = getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| network("reading randomness")(error.into()))?;
    debug_assert_eq!(got, N, "up to 256 bytes come whole (getrandom(2))");
    Ok(bytes)
}

impl<'a> SelfTest<'a> {
    /// Hands one connection off to each VIP, sees it born, and resets it.
    ///
    /// # Errors
    /// Says what became of it instead.
    pub fn run(&self, vips: &[Vip]) -> Result<(), SelfTestError> {
        let stage = self.stage()?;
        vips.iter().try_for_each(|vip| self.hand_off(&stage, *vip))
    }

    fn stage(&self) -> Result<Stage<'a>, SelfTestError> {
        clean_up().map_err(network("removing what an earlier one left"))?;
        let netlink = Netlink::open().map_err(network("opening netlink"))?;
        netlink.add_veth(NEAR, FAR).map_err(network("making interfaces"))?;
        self.set_stage(netlink).inspect_err(|_| {
            if let Err(error) = clean_up() {
                tracing::warn!(%error, "{NEAR} could not be removed");
            }
        })
    }

    fn set_stage(&self, netlink: Netlink) -> Result<Stage<'a>, SelfTestError> {
        let index = |name| {
            let found = netlink.interface(name).and_then(|found| found.ok_or(io::ErrorKind::NotFound.into()));
            found.map(|interface| interface.index).map_err(network("finding the interfaces"))
        };
        let (near, far) = (index(NEAR)?, index(FAR)?);
        netlink.set_up(near).map_err(network("setting interfaces up"))?;
        netlink.set_up(far).map_err(network("setting interfaces up"))?;
        await_running(&netlink).map_err(network("waiting for the interfaces"))?;
        netlink.add_neighbour(near, CLIENT, CLIENT_MAC).map_err(network("adding the client"))?;
        netlink.add_host_route(CLIENT, near).map_err(network("routing to the client"))?;
        let links = [
            attach_unpinned(self.programs, PROGRAM_EGRESS, near, Direction::Egress)?,
            attach_unpinned(self.programs, PROGRAM_SELF_TEST, near, Direction::Ingress)?,
        ];
        let socket = PacketSocket::open(far).map_err(network("opening a packet socket"))?;
        let key = TagKey(random()?);
        self.steering.begin_self_test(CLIENT, near, &key)?;
        Ok(Stage { steering: self.steering, netlink, near, socket, key, _links: links })
    }

    fn hand_off(&self, stage: &Stage<'_>, vip: Vip) -> Result<(), SelfTestError> {
        let connection = Connection::new(stage, self, vip)?;
        let result = self.converse(&connection);
        // However it went, the server is not left with a connection that says nothing.
        let reset = connection.send(MessageType::Forward, connection.base_seq, TcpControl::Rst);
        self.programs.maps().forget(&connection.tuple)?;
        result.and(reset)
    }

    fn converse(&self, connection: &Connection<'_>) -> Result<(), SelfTestError> {
        let vip = connection.tuple.service();
        let mut heard = Heard::Nothing;
        for _ in 0..PROBES {
            // Repeated as a client repeats what was lost: one that was taken is not taken again.
            connection.send(MessageType::Handoff, connection.base_seq, TcpControl::None)?;
            connection.send(MessageType::Forward, connection.base_seq.sub(1), TcpControl::None)?;
            heard = connection.listen()?;
            match heard {
                Heard::Acknowledged => break,
                Heard::Refused(detail) => return Err(SelfTestError::Refused { vip, detail }),
                Heard::Gone | Heard::Nothing => std::thread::sleep(PATIENCE / 4),
            }
        }
        match heard {
            Heard::Acknowledged => {}
            Heard::Gone => return Err(SelfTestError::Swallowed { vip }),
            _ => return Err(SelfTestError::Silent { vip }),
        }
        let record = self.programs.maps().record(&connection.tuple)?;
        if record.is_none_or(|record| record.state != RecordState::Born as u32) {
            return Err(SelfTestError::Unnoticed { vip });
        }
        for _ in 0..PROBES {
            connection.send(MessageType::Forward, connection.base_seq, TcpControl::Rst)?;
            connection.send(MessageType::Forward, connection.base_seq.sub(1), TcpControl::None)?;
            if connection.listen()? == Heard::Gone {
                return Ok(());
            }
        }
        Err(SelfTestError::Lingers { vip })
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// The socket answered.
    Acknowledged,
    /// There is no socket.
    Gone,
    Refused(Detail),
}

/// The connection of the client that does not exist.
struct Connection<'a> {
    stage: &'a Stage<'a>,
    path: Path,
    tuple: FourTuple,
    generation: Generation,
    base_seq: Seq,
    base_ack: Seq,
    timestamps: (u32, u32),
}

impl<'a> Connection<'a> {
    fn new(stage: &'a Stage<'a>, test: &SelfTest<'_>, vip: Vip) -> Result<Self, SelfTestError> {
        let word = || random::<4>().map(u32::from_ne_bytes);
        let [low, high] = random()?;
        let port = u16::from_ne_bytes([low, high]) | 0x8000;
        Ok(Self {
            stage,
            path: Path {
                source_mac: CLIENT_MAC,
                destination_mac: test.mac,
                source: CLIENT,
                destination: test.address,
                port,
            },
            tuple: FourTuple {
                client: CLIENT.into(),
                client_port: port,
                vip: vip.address,
                vip_port: vip.port,
            },
            generation: Generation(clock::monotonic_us()),
            base_seq: Seq(word()?),
            base_ack: Seq(word()?),
            timestamps: (word()?, word()?),
        })
    }

    fn send(&self, kind: MessageType, seq: Seq, control: TcpControl) -> Result<(), SelfTestError> {
        let header = Header {
            kind,
            // What the switch announces: if the host has one of these off, the kernel refuses.
            negotiated: Negotiated {
                mss: 1376,
                wscale: Some(WindowScale { send: 7, receive: 7 }),
                sack: true,
                timestamps: true,
                ecn: true,
            },
            key_id: KeyId(0),
            base_seq: self.base_seq,
            base_ack: self.base_ack,
            tsval: self.timestamps.0,
            tsecr: self.timestamps.1,
            detail: Detail::None,
            lcore: 0,
            generation: self.generation,
            issued: Micros(clock::monotonic_us()),
        };
        let segment = Segment {
            seq,
            ack: Some(self.base_ack),
            control,
            timestamps: Some(self.timestamps),
            payload: &[],
        };
        let Some(packet) = client_packet(&self.tuple, &segment) else {
            return Err(network("building a packet")(io::ErrorKind::Unsupported.into()));
        };
        let frame = wrapped(&self.path, &header, &self.tuple, &self.stage.key, &packet);
        self.stage.socket.send(&frame).map_err(network("sending"))
    }

    fn listen(&self) -> Result<Heard, SelfTestError> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(frame) = self.stage.socket.receive(deadline).map_err(network("receiving"))? {
            if frame.get(6..12) == Some(&CLIENT_MAC[..]) {
                continue; // our own
            }
            if let Ok(answer) = answer(&frame, &self.tuple, &self.stage.key) {
                return Ok(match answer.header.kind {
                    MessageType::Refused => Heard::Refused(answer.header.detail),
                    _ => Heard::Gone,
                });
            }
            if let Ok(reply) = reply(&frame)
                && reply.tuple == self.tuple
                && !reply.syn_fin_rst
                && (reply.seq, reply.ack) == (self.base_ack, self.base_seq)
            {
                return Ok(Heard::Acknowledged);
            }
        }
        Ok(Heard::Nothing)
    }
}
