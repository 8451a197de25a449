//! The Rust side of `intf.h`: values of the maps, byte for byte.
//!
//! `tests/abi.rs` compares these with the types in the compiled object.

use std::net::{IpAddr, Ipv6Addr};

use handoff_proto::tls::SESSION_ID_BYTES_MAX;
use handoff_proto::{FourTuple, TagKey, Vip};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// One counter of the BPF programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name, as in `counters.h`.
    pub name: &'static str,
    /// What it says.
    pub text: &'static str,
}

/// All counters, in the order of the `counters` map.
pub const COUNTERS: &[Counter] = include!(concat!(env!("OUT_DIR"), "/counters.rs"));

/// The key id under which the self-test's own key stands.
pub const KEY_SELF_TEST: u32 = 256;
/// Entries of the `keys` map.
pub const KEYS_ENTRIES: u32 = 257;

/// The clock offset is known.
pub const SETTING_CLOCK_KNOWN: u32 = 1 << 0;
/// New connections are taken.
pub const SETTING_READY: u32 = 1 << 1;
/// The switch's address is known.
pub const SETTING_SWITCH_KNOWN: u32 = 1 << 2;
/// A self-test runs.
pub const SETTING_SELF_TEST: u32 = 1 << 3;

/// Instead of a time: the programs that fill the records are not attached yet. It is later than any handoff, so that
/// none is taken.
pub const RECORDS_NOT_BEGUN: u64 = u64::MAX >> 1;

/// `struct settings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, FromBytes, Immutable)]
pub struct Settings {
    /// The switch's clock less `CLOCK_MONOTONIC`, microseconds.
    pub clock_offset_us: i64,
    /// `CLOCK_MONOTONIC` from when on the records have every handoff, microseconds; [`RECORDS_NOT_BEGUN`] before.
    pub records_since_us: u64,
    /// `SETTING_*`.
    pub flags: u32,
    /// Entries of the `records` map.
    pub records_capacity: u32,
    /// This host on the data network, network byte order.
    pub address: [u8; 4],
    /// The switch on the data network, network byte order.
    pub switch_address: [u8; 4],
    /// Source of the self-test's packets, network byte order.
    pub self_test_client: [u8; 4],
    /// Index of the data interface.
    pub interface: u32,
    /// Index of the interface the self-test is answered on.
    pub self_test_interface: u32,
    /// Id of the key that issues.
    pub key_id: u32,
}

/// `struct tag_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, FromBytes, Immutable)]
pub struct KeyEntry {
    /// The key's first 8 bytes, little-endian.
    pub k0: u64,
    /// The key's last 8 bytes, little-endian.
    pub k1: u64,
    /// 1 if the entry holds a key.
    pub valid: u32,
    /// Padding made visible.
    pub zero: u32,
}

impl KeyEntry {
    /// Makes the entry of a key.
    pub fn of(key: &TagKey) -> Self {
        let half = |range: std::ops::Range<usize>| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&key.0[range]);
            u64::from_le_bytes(bytes)
        };
        Self { k0: half(0..8), k1: half(8..16), valid: 1, zero: 0 }
    }
}

/// `struct vip_key`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoBytes, FromBytes, Immutable)]
pub struct VipKey {
    /// The address, IPv4 as IPv4-mapped IPv6.
    pub address: [u8; 16],
    /// The port, network byte order; 0 stands for the address at any port.
    pub port: [u8; 2],
    /// Padding made visible.
    pub zero: [u8; 2],
}

impl VipKey {
    /// Makes the key of a VIP.
    pub fn of(vip: Vip) -> Self {
        let address = match vip.address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Self { address, port: vip.port.to_be_bytes(), zero: [0; 2] }
    }

    /// Returns the VIP.
    pub fn vip(&self) -> Vip {
        let address = Ipv6Addr::from(self.address).to_canonical();
        Vip { address, port: u16::from_be_bytes(self.port) }
    }
}

/// `struct flow_key`: the canonical form of a 4-tuple.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, FromBytes, Immutable)]
pub struct FlowKey(pub [u8; 40]);

impl FlowKey {
    /// Makes the key of a 4-tuple.
    pub fn of(tuple: &FourTuple) -> Self {
        Self(tuple.to_bytes())
    }
}

/// What became of the highest generation of a 4-tuple: `enum record_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RecordState {
    /// The kernel accepted the handoff.
    Assigned = 1,
    /// Its socket was seen.
    Born = 2,
    /// Bounced to the switch.
    Refused = 3,
    /// Given up; reserved.
    Killed = 4,
    /// An older socket was reset to make room.
    Healing = 5,
}

/// A record of the self-test's own connection.
pub const RECORD_SELF_TEST: u8 = 1 << 0;
/// A record of a connection whose server has sent its first bytes.
pub const RECORD_SPOKEN: u8 = 1 << 1;

/// `struct record`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, FromBytes, Immutable)]
pub struct Record {
    /// The highest generation used.
    pub generation: u64,
    /// `CLOCK_MONOTONIC` when that was, microseconds.
    pub changed_us: u64,
    /// [`RecordState`] as a number.
    pub state: u32,
    /// `handoff_proto::header::Detail` of a refusal.
    pub detail: u16,
    /// Heals or repeated queueing so far.
    pub tries: u8,
    /// `RECORD_*`.
    pub flags: u8,
    /// `CLOCK_MONOTONIC` when the client's last bytes came that no answer followed yet, microseconds; 0 for none.
    pub asked_us: u64,
}

/// `struct traffic`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, FromBytes, Immutable)]
pub struct Traffic {
    /// TCP payload of clients.
    pub bytes_in: u64,
    /// Packets of clients.
    pub packets_in: u64,
    /// TCP payload of servers.
    pub bytes_out: u64,
    /// Packets of servers.
    pub packets_out: u64,
    /// First bytes of the server after bytes of the client.
    pub answers: u64,
    /// How long these took, microseconds, summed.
    pub answer_us: u64,
}

impl Traffic {
    /// Returns both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self {
            bytes_in: self.bytes_in.wrapping_add(other.bytes_in),
            packets_in: self.packets_in.wrapping_add(other.packets_in),
            bytes_out: self.bytes_out.wrapping_add(other.bytes_out),
            packets_out: self.packets_out.wrapping_add(other.packets_out),
            answers: self.answers.wrapping_add(other.answers),
            answer_us: self.answer_us.wrapping_add(other.answer_us),
        }
    }
}

/// `struct session`: what the `sessions` ring gives.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, FromBytes, Immutable)]
pub struct Session {
    /// Where the server listens.
    pub vip: VipKey,
    /// Bytes of the id.
    pub length: u8,
    /// Padding made visible.
    pub zero: [u8; 3],
    /// The id, and zeros behind it.
    pub id: [u8; SESSION_ID_BYTES_MAX],
}

/// `struct sockets`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, FromBytes, Immutable)]
pub struct Sockets {
    /// Established connections at the VIPs, since counting began.
    pub open: i64,
    /// Inode number of the network namespace whose sockets count; 0 for none.
    pub namespace: u32,
    /// Padding made visible.
    pub zero: u32,
}

/// `struct window`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoBytes, FromBytes, Immutable)]
pub struct Window {
    /// Which window of freshness this is.
    pub epoch: u64,
    /// Records made so far.
    pub total: u64,
    /// `total` when the epoch began.
    pub start: u64,
    /// `total` when the epoch before it began.
    pub start_before: u64,
    /// The second `reports` counts.
    pub report_second: u64,
    /// Reports on plain packets in that second.
    pub reports: u64,
}

const _: () = {
    assert!(size_of::<Settings>() == 48);
    assert!(size_of::<KeyEntry>() == 24);
    assert!(size_of::<VipKey>() == 20);
    assert!(size_of::<FlowKey>() == 40);
    assert!(size_of::<Record>() == 32);
    assert!(size_of::<Traffic>() == 48);
    assert!(size_of::<Session>() == 56);
    assert!(size_of::<Sockets>() == 16);
    assert!(size_of::<Window>() == 48);
};
