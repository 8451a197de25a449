//! The three descriptions of one layout agree: the C types as compiled, their Rust counterparts, and the wire format of
//! `handoff_proto`. Reads the compiled object; needs neither root nor BPF.

use std::mem::offset_of;
use std::path::Path;

use handoff_agent::bpf::abi::{
    COUNTERS, FlowKey, KEY_SELF_TEST, KEYS_ENTRIES, KeyEntry, RECORD_SELF_TEST, RECORD_SPOKEN, Record,
    RecordState, SETTING_CLOCK_KNOWN, SETTING_READY, SETTING_SELF_TEST, SETTING_SWITCH_KNOWN, Session,
    Settings, Sockets, Traffic, VipKey, Window,
};
use handoff_proto::control::VIPS_MAX;
use handoff_proto::header::{Detail, HEADER_BYTES, LCORE_ANY, MAGIC, TAGGED_BYTES, VERSION};
use handoff_proto::tcp::{TcpState, WSCALE_MAX};
use handoff_proto::tls::SESSION_ID_BYTES_MAX;
use handoff_proto::{FRESHNESS_FUTURE, FRESHNESS_PAST, HANDOFF_PORT, MessageType};
use libbpf_rs::btf::types::Struct;
use libbpf_rs::btf::{Btf, HasSize as _};

fn object() -> Btf<'static> {
    Btf::from_path(Path::new(env!("OUT_DIR")).join("handoff.bpf.o")).expect("the object has BTF")
}

/// Asserts that a C struct has exactly these fields at these offsets, and this size.
#[track_caller]
fn assert_layout(btf: &Btf<'_>, name: &str, size: usize, fields: &[(&str, usize)]) {
    let found: Struct<'_> = btf.type_by_name(name).unwrap_or_else(|| panic!("no struct {name}"));
    assert_eq!(found.size(), size, "struct {name}");
    let members: Vec<(String, usize)> = found
        .iter()
        .map(|member| {
            let bits = match member.attr {
                libbpf_rs::btf::types::MemberAttr::Normal { offset } => offset,
                libbpf_rs::btf::types::MemberAttr::BitField { offset, .. } => offset,
            };
            let bytes = usize::try_from(bits / 8).expect("small");
            (member.name.expect("named").to_string_lossy().into_owned(), bytes)
        })
        .collect();
    let want: Vec<(String, usize)> = fields.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
    assert_eq!(members, want, "struct {name}");
}

macro_rules! layout {
    ($btf:expr, $name:literal, $type:ty, $($field:ident),+) => {
        assert_layout($btf, $name, size_of::<$type>(), &[$((stringify!($field), offset_of!($type, $field))),+])
    };
}

/// A header of the BPF programs, as text.
fn header(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bpf").join(name);
    std::fs::read_to_string(path).expect("part of the source")
}

/// The value of an enumerator in `intf.h`, as it is written: a number, or one shifted by another.
#[track_caller]
fn constant(name: &str) -> u64 {
    let text = header("intf.h");
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(&format!("{name} = ")));
    let value = line.and_then(|line| line.split(',').next()).unwrap_or_else(|| panic!("no {name}"));
    let number = |text: &str| text.trim().parse::<u64>().expect("a number");
    match value.split_once("<<") {
        Some((one, shift)) => number(one) << number(shift),
        None => number(value),
    }
}

#[test]
fn values_of_maps_have_one_layout() {
    let btf = &object();
    layout!(
        btf,
        "settings",
        Settings,
        clock_offset_us,
        records_since_us,
        flags,
        records_capacity,
        address,
        switch_address,
        self_test_client,
        interface,
        self_test_interface,
        key_id
    );
    layout!(btf, "tag_key", KeyEntry, k0, k1, valid, zero);
    layout!(btf, "vip_key", VipKey, address, port, zero);
    layout!(btf, "record", Record, generation, changed_us, state, detail, tries, flags, asked_us);
    layout!(btf, "traffic", Traffic, bytes_in, packets_in, bytes_out, packets_out, answers, answer_us);
    layout!(btf, "session", Session, vip, length, zero, id);
    layout!(btf, "sockets", Sockets, open, namespace, zero);
    layout!(btf, "window", Window, epoch, total, start, start_before, report_second, reports);
    let flow = [("client", 0), ("vip", 16), ("client_port", 32), ("vip_port", 34), ("zero", 36)];
    assert_layout(btf, "flow_key", size_of::<FlowKey>(), &flow);
    let counters: Struct<'_> = btf.type_by_name("counters").expect("struct counters");
    assert_eq!(counters.size(), COUNTERS.len() * size_of::<u64>());
}

#[test]
fn the_header_is_that_of_the_protocol() {
    let fields = [
        ("magic", 0),
        ("version", 4),
        ("type", 5),
        ("flags", 6),
        ("wscale", 8),
        ("key_id", 9),
        ("mss", 10),
        ("base_seq", 12),
        ("base_ack", 16),
        ("tsval", 20),
        ("tsecr", 24),
        ("detail", 28),
        ("lcore", 30),
        ("reserved", 31),
        ("generation", 32),
        ("issued", 40),
        ("tag", TAGGED_BYTES),
    ];
    assert_layout(&object(), "handoff_header", HEADER_BYTES, &fields);
}

#[test]
fn every_counter_is_explained_and_has_a_name_of_its_own() {
    for (position, counter) in COUNTERS.iter().enumerate() {
        assert!(counter.text.len() > 10, "{counter:?}");
        assert!(COUNTERS[..position].iter().all(|earlier| earlier.name != counter.name), "{counter:?}");
    }
    let written = header("counters.h").lines().filter(|line| line.trim_start().starts_with("X(")).count();
    assert_eq!(COUNTERS.len(), written);
}

/// The value of a `#define` in a header, as it is written.
#[track_caller]
fn defined(file: &str, name: &str) -> u64 {
    let text = header(file);
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("#define {name} ")));
    let value = line.unwrap_or_else(|| panic!("no {name}")).split_whitespace().next().expect("a value");
    match value.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).expect("a number"),
        None => value.trim_end_matches('L').parse().expect("a number"),
    }
}

#[test]
fn constants_are_those_of_the_protocol() {
    for (name, value) in [
        ("TYPE_HANDOFF", MessageType::Handoff),
        ("TYPE_FORWARD", MessageType::Forward),
        ("TYPE_GONE", MessageType::Gone),
        ("TYPE_REFUSED", MessageType::Refused),
        ("TYPE_WHO_HAS", MessageType::WhoHas),
        ("TYPE_MINE", MessageType::Mine),
        ("TYPE_ICMP", MessageType::Icmp),
        ("TYPE_LAST", MessageType::Icmp),
    ] {
        assert_eq!(constant(name), u64::from(value as u8), "{name}");
    }
    for (name, value) in [
        ("DETAIL_NO_LISTENER", Detail::NoListener),
        ("DETAIL_QUEUE_FULL", Detail::QueueFull),
        ("DETAIL_NOT_READY", Detail::NotReady),
        ("DETAIL_KERNEL_REFUSED", Detail::KernelRefused),
        ("DETAIL_RECORDS_FULL", Detail::RecordsFull),
        ("DETAIL_OCCUPIED", Detail::Occupied),
        ("DETAIL_OLD_GENERATION", Detail::OldGeneration),
        ("DETAIL_NO_SOCKET", Detail::NoSocket),
    ] {
        assert_eq!(constant(name), u64::from(value.to_wire()), "{name}");
    }
    for (name, value) in [
        ("RECORD_ASSIGNED", RecordState::Assigned),
        ("RECORD_BORN", RecordState::Born),
        ("RECORD_REFUSED", RecordState::Refused),
        ("RECORD_KILLED", RecordState::Killed),
        ("RECORD_HEALING", RecordState::Healing),
    ] {
        assert_eq!(constant(name), u64::from(value as u32), "{name}");
    }
    for (name, value) in [
        ("SETTING_CLOCK_KNOWN", SETTING_CLOCK_KNOWN),
        ("SETTING_READY", SETTING_READY),
        ("SETTING_SWITCH_KNOWN", SETTING_SWITCH_KNOWN),
        ("SETTING_SELF_TEST", SETTING_SELF_TEST),
        ("RECORD_SELF_TEST", RECORD_SELF_TEST.into()),
        ("RECORD_SPOKEN", RECORD_SPOKEN.into()),
    ] {
        assert_eq!(constant(name), u64::from(value), "{name}");
    }
    assert_eq!(defined("intf.h", "HANDOFF_PORT"), u64::from(HANDOFF_PORT));
    assert_eq!(defined("intf.h", "HANDOFF_MAGIC"), u64::from(u32::from_be_bytes(MAGIC)));
    assert_eq!(defined("intf.h", "LCORE_ANY"), u64::from(LCORE_ANY));
    assert_eq!(defined("intf.h", "HANDOFF_VERSION"), u64::from(VERSION));
    assert_eq!(defined("intf.h", "FRESHNESS_PAST_US"), FRESHNESS_PAST.0);
    assert_eq!(defined("intf.h", "FRESHNESS_FUTURE_US"), FRESHNESS_FUTURE.0);
    assert_eq!(defined("intf.h", "WSCALE_MAX"), u64::from(WSCALE_MAX));
    assert_eq!(defined("intf.h", "KEY_SELF_TEST"), u64::from(KEY_SELF_TEST));
    assert_eq!(defined("intf.h", "KEYS_ENTRIES"), u64::from(KEYS_ENTRIES));
    assert_eq!(defined("intf.h", "VIPS_MAX"), VIPS_MAX as u64);
    assert_eq!(defined("intf.h", "SESSION_ID_BYTES_MAX"), SESSION_ID_BYTES_MAX as u64);
}

#[test]
fn states_of_sockets_are_the_kernels() {
    for (state, value) in [
        (TcpState::Established, libbpf_sys::BPF_TCP_ESTABLISHED),
        (TcpState::SynSent, libbpf_sys::BPF_TCP_SYN_SENT),
        (TcpState::SynReceived, libbpf_sys::BPF_TCP_SYN_RECV),
        (TcpState::FinWait1, libbpf_sys::BPF_TCP_FIN_WAIT1),
        (TcpState::FinWait2, libbpf_sys::BPF_TCP_FIN_WAIT2),
        (TcpState::TimeWait, libbpf_sys::BPF_TCP_TIME_WAIT),
        (TcpState::CloseWait, libbpf_sys::BPF_TCP_CLOSE_WAIT),
        (TcpState::LastAck, libbpf_sys::BPF_TCP_LAST_ACK),
        (TcpState::Closing, libbpf_sys::BPF_TCP_CLOSING),
    ] {
        assert_eq!(state as u32, value, "{state:?}");
    }
    for other in [libbpf_sys::BPF_TCP_CLOSE, libbpf_sys::BPF_TCP_LISTEN, libbpf_sys::BPF_TCP_NEW_SYN_RECV] {
        assert_eq!(TcpState::from_wire(u16::try_from(other).expect("small")), None);
    }
}
