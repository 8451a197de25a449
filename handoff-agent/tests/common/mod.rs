//! What the BPF tests share: a network namespace per test, a client with its messages, loaded programs.

#![allow(dead_code, unreachable_pub, reason = "a module of several test crates, each of which uses a part")]

pub mod bench;
pub mod coverage;
pub mod errors;
pub mod lab;
pub mod net;
pub mod tls;
pub mod wire;

use std::net::Ipv4Addr;

use coverage::Loaded;
use handoff_agent::bpf::abi::{SETTING_CLOCK_KNOWN, SETTING_READY, SETTING_SWITCH_KNOWN, Settings, Window};
use handoff_agent::bpf::{Counters, Maps, Programs};
use handoff_agent::frame::{Mac, Path, Segment, client_packet, wrapped};
use handoff_agent::sys::clock;
use handoff_proto::header::Detail;
use handoff_proto::keys::Key;
use handoff_proto::tcp::WindowScale;
use handoff_proto::{
    FRESHNESS_FUTURE, FRESHNESS_PAST, FourTuple, Generation, Header, KeyId, KeyRing, MessageType, Micros,
    Negotiated, Seq, TagKey, Vip,
};
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use smoltcp::wire::TcpControl;
use zerocopy::IntoBytes as _;

pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 11);
pub const SWITCH: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 50, 0, 11);
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 100);
pub const PORT: u16 = 80;
pub const SWITCH_MAC: Mac = [2, 0, 0, 0, 0, 1];
/// The loopback's, on which BPF_PROG_TEST_RUN lets packets arrive.
pub const NO_MAC: Mac = [0; 6];
pub const RECORDS: u32 = 4096;
/// The switch's clock less ours: some minutes, so that mixing them up shows.
pub const CLOCK_OFFSET_US: i64 = 777_000_000;
pub const BASE_SEQ: Seq = Seq(0xffff_fff0);
pub const BASE_ACK: Seq = Seq(1_000_000);

/// Puts this thread, and what it opens from now on, into a network namespace of its own.
pub fn enter_new_netns() {
    // SAFETY: only the network namespace is unshared; no memory or file table is.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("root makes network namespaces");
}

pub fn key(id: u8) -> Key {
    Key::new(KeyId(id), [id.wrapping_add(0x40); 32])
}

/// The key of the control channel in the agent's tests.
pub fn control_key() -> Key {
    key(1)
}

pub fn ring() -> KeyRing {
    KeyRing::new(vec![key(1), key(7)]).expect("two keys")
}

pub fn tag_key() -> TagKey {
    key(1).tag_key()
}

pub fn vip() -> Vip {
    Vip { address: VIP.into(), port: PORT }
}

pub fn switch_now() -> Micros {
    Micros(clock::monotonic_us().checked_add_signed(CLOCK_OFFSET_US).expect("small"))
}

/// Loads the programs with the settings of a backend that is ready, as of two seconds ago.
pub fn ready_programs(interface: u32) -> Loaded {
    let programs = Loaded::new(Programs::load(RECORDS, None).expect("root loads BPF programs"));
    make_ready(programs.maps(), interface);
    programs
}

pub fn make_ready(maps: &Maps, interface: u32) {
    maps.set_keys(&ring()).expect("writing keys");
    maps.set_vips(&[vip()]).expect("writing VIPs");
    maps.set_settings(&Settings {
        clock_offset_us: CLOCK_OFFSET_US,
        records_since_us: clock::monotonic_us() - 2_000_000,
        flags: SETTING_CLOCK_KNOWN | SETTING_READY | SETTING_SWITCH_KNOWN,
        records_capacity: RECORDS,
        address: HOST.octets(),
        switch_address: SWITCH.octets(),
        interface,
        key_id: 1,
        ..Settings::default()
    })
    .expect("writing settings");
}

/// Opens a map of the programs this process loaded last by its name, at most 15 bytes of it: those that no code of the
/// agent opens.
pub fn map_of_programs(name: &str) -> Option<MapHandle> {
    std::fs::read_dir("/proc/self/fdinfo")
        .expect("procfs")
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok()))
        .filter_map(|id: u32| Some((id, MapHandle::from_map_id(id).ok()?)))
        .filter(|(_, map)| map.name() == name)
        .max_by_key(|(id, _)| *id)
        .map(|(_, map)| map)
}

/// Takes or returns all the locks of records, as a processor would that stands still with them.
pub fn hold_record_locks(held: bool) {
    let locks = map_of_programs("record_locks").expect("the programs have locks");
    let mut value = vec![0; usize::try_from(locks.value_size()).expect("small")];
    value[..4].copy_from_slice(&u32::from(held).to_ne_bytes());
    for entry in 0..locks.max_entries() {
        locks.update(&entry.to_ne_bytes(), &value, MapFlags::ANY).expect("writable");
    }
}

/// Says in which window of freshness this is, by the backend's clock, and stays out of the end of it: what the caller
/// does at once, it does in the same.
pub fn this_window() -> u64 {
    let length = FRESHNESS_PAST.0 + FRESHNESS_FUTURE.0;
    loop {
        let now = clock::monotonic_us();
        if now % length < length - 500_000 {
            return now / length;
        }
        std::thread::sleep(std::time::Duration::from_micros(length - now % length));
    }
}

/// Writes how many records were made, and when.
pub fn set_window(window: &Window) {
    let map = map_of_programs("window").expect("the programs have it");
    map.update(&0u32.to_ne_bytes(), window.as_bytes(), MapFlags::ANY).expect("writable");
}

/// Fills the memory of used generations as far as connections may fill it; handoffs are refused from here on.
pub fn fill_records() {
    let total = u64::from(RECORDS / 2);
    set_window(&Window { epoch: this_window(), total, ..Window::default() });
}

/// Changes the flags of the settings.
pub fn set_flags(maps: &Maps, change: impl Fn(u32) -> u32) {
    let mut settings = maps.settings().expect("readable");
    settings.flags = change(settings.flags);
    maps.set_settings(&settings).expect("writable");
}

/// A client's connection that is being handed off.
#[derive(Clone, Copy)]
pub struct Client {
    pub tuple: FourTuple,
    pub generation: Generation,
    pub kind: MessageType,
    pub issued: Micros,
    pub seq: Seq,
    pub ack: Seq,
    pub control: TcpControl,
    pub destination_mac: Mac,
    pub negotiated: Negotiated,
    /// TSval of the segment, TSecr being what the switch's SYN-ACK said.
    pub timestamps: Option<(u32, u32)>,
}

pub const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

impl Client {
    /// A base segment with a request, handed off now.
    pub fn new(port: u16) -> Self {
        let now = switch_now();
        Self {
            tuple: FourTuple { client: CLIENT.into(), client_port: port, vip: VIP.into(), vip_port: PORT },
            generation: Generation(now.0),
            kind: MessageType::Handoff,
            issued: now,
            seq: BASE_SEQ,
            ack: BASE_ACK,
            control: TcpControl::Psh,
            destination_mac: NO_MAC,
            negotiated: Negotiated {
                mss: 1376,
                wscale: Some(WindowScale { send: 9, receive: 7 }),
                sack: true,
                timestamps: true,
                ecn: false,
            },
            timestamps: Some((5_000_000, 9_000_000)),
        }
    }

    pub fn header(&self) -> Header {
        Header {
            kind: self.kind,
            negotiated: self.negotiated,
            key_id: KeyId(1),
            base_seq: BASE_SEQ,
            base_ack: BASE_ACK,
            tsval: 5_000_000,
            tsecr: 9_000_000,
            detail: Detail::None,
            lcore: 3,
            generation: self.generation,
            issued: self.issued,
        }
    }

    pub fn path(&self) -> Path {
        Path {
            source_mac: SWITCH_MAC,
            destination_mac: self.destination_mac,
            source: SWITCH,
            destination: HOST,
            port: 0xc123,
        }
    }

    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let ack = (self.control != TcpControl::Syn).then_some(self.ack);
        let segment =
            Segment { seq: self.seq, ack, control: self.control, timestamps: self.timestamps, payload };
        client_packet(&self.tuple, &segment).expect("IPv4")
    }

    /// The segment, in a handoff message.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        wrapped(&self.path(), &self.header(), &self.tuple, &tag_key(), &self.packet(payload))
    }

    /// The question whether the connection lives at the backend, asked for a packet with the client's numbers.
    pub fn question(&self) -> Vec<u8> {
        let header = Header {
            kind: MessageType::WhoHas,
            base_seq: self.seq,
            base_ack: self.ack,
            tsval: 0,
            tsecr: 0,
            ..self.header()
        };
        wrapped(&self.path(), &header, &self.tuple, &tag_key(), &self.asking_packet())
    }

    /// The packet in a question: an acknowledgment without options.
    pub fn asking_packet(&self) -> Vec<u8> {
        Self { control: TcpControl::None, timestamps: None, ..*self }.packet(b"")
    }

    /// The segment without a tunnel.
    pub fn plain_frame(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::from(self.destination_mac);
        frame.extend_from_slice(&SWITCH_MAC);
        frame.extend_from_slice(&[8, 0]);
        frame.extend_from_slice(&self.packet(payload));
        frame
    }
}

/// Returns the counters that differ, with by how much.
pub fn changes(before: &Counters, after: &Counters) -> Vec<(&'static str, u64)> {
    before
        .iter()
        .zip(after.iter())
        .filter(|((_, old), (_, new))| old != new)
        .map(|((counter, old), (_, new))| (counter.name, new - old))
        .collect()
}
