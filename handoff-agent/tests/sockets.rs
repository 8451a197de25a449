//! What a message comes to by the socket it meets: the lines of the table in docs/PROTOCOL.md that need a connection, or
//! what the kernel keeps of one. Real frames over a veth pair, in a network namespace of the test's own.

mod common;

use std::net::TcpListener;

use common::bench::{TCP, patched};
use common::net::*;
use common::wire::*;
use common::*;
use handoff_agent::bpf::Steering;
use handoff_agent::bpf::abi::{Record, RecordState, SETTING_READY};
use handoff_agent::frame::wrapped;
use handoff_agent::selftest::SelfTest;
use handoff_agent::sys::clock;
use handoff_agent::sys::netlink::Netlink;
use handoff_agent::sys::packet::PacketSocket;
use handoff_proto::header::Detail;
use handoff_proto::tcp::TcpState;
use handoff_proto::{Generation, Header, MessageType, Seq};
use smoltcp::wire::TcpControl;

/// After REQUEST.
const CLIENT_NEXT: Seq = BASE_SEQ.add(18);

/// Writes what is known of the client's 4-tuple, relative to its generation, as of now.
fn know(wire: &Wire, client: &Client, state: RecordState, relative: i64, detail: Detail, tries: u8) {
    let record = Record {
        generation: client.generation.0.wrapping_add_signed(relative),
        changed_us: clock::monotonic_us(),
        state: state as u32,
        detail: detail.to_wire(),
        tries,
        ..Record::default()
    };
    wire.programs.maps().set_record(&client.tuple, &record).expect("writable");
}

fn forget(wire: &Wire, client: &Client) {
    wire.programs.maps().forget(&client.tuple).expect("deletable");
}

/// The base segment of the client's connection, and segments that could not open one.
fn base(client: &Client) -> Vec<u8> {
    client.frame(REQUEST)
}

fn base_with_reset(client: &Client) -> Vec<u8> {
    Client { control: TcpControl::Rst, ..*client }.frame(b"")
}

fn base_with_other_ack(client: &Client) -> Vec<u8> {
    Client { ack: BASE_ACK.add(1), ..*client }.frame(REQUEST)
}

fn later(client: &Client) -> Vec<u8> {
    Client { seq: CLIENT_NEXT, control: TcpControl::None, ..*client }.frame(b"")
}

fn forward(client: &Client) -> Vec<u8> {
    Client { kind: MessageType::Forward, seq: CLIENT_NEXT, control: TcpControl::None, ..*client }.frame(b"")
}

/// What is sent, and what it is counted as beside `received`.
type Step = (fn(&Client) -> Vec<u8>, &'static str);

#[track_caller]
fn counts(wire: &Wire, client: &Client, (frame, counter): Step) {
    wire.counted(&frame(client), &[("received", 1), (counter, 1)]);
}

/// The record says whose socket it is; nothing of this ends it.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_living_socket_outlives_whatever_is_not_newer() {
    use RecordState::{Assigned, Born, Healing, Killed, Refused};
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(46_001);
    let mut stream = established(&wire, &listener, &client);
    let cases: [(RecordState, i64, Step); 14] = [
        (Assigned, 0, (later, "delivered")),
        (Born, 0, (base, "delivered")),
        (Born, 0, (base_with_other_ack, "delivered")),
        (Killed, 0, (later, "delivered")),
        (Refused, 0, (base, "refused_again")),
        (Refused, 0, (later, "refused_again")),
        (Healing, 0, (later, "not_base")),
        (Healing, 0, (base_with_reset, "not_base")),
        (Healing, 0, (base_with_other_ack, "not_base")),
        (Born, -5, (later, "not_base")),
        (Born, -5, (base_with_reset, "not_base")),
        (Refused, -5, (later, "not_base")),
        (Born, 5, (base, "gone_old_generation")),
        (Refused, 5, (later, "gone_old_generation")),
    ];
    for (state, relative, step) in cases {
        println!("{state:?} {relative} {}", step.1);
        know(&wire, &client, state, relative, Detail::QueueFull, 0);
        if (state, relative) == (Assigned, 0) {
            // That it lives is noted at the same time.
            wire.counted(&later(&client), &[("received", 1), ("delivered", 1), ("born", 1)]);
            continue;
        }
        counts(&wire, &client, step);
        counts(&wire, &client, (forward, "delivered")); // it is for the socket that lives, whoever it is
    }
    wire.send(&Client { seq: CLIENT_NEXT, kind: MessageType::Forward, ..client }.frame(b"alive"));
    assert_reads(&mut stream, b"alive");
    wire.assert_quiet(&client);
    assert_nothing_to_accept(&listener);
}

/// A newer handoff ends what an older one left, and what was refused for reasons that have nothing to do with a socket.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_was_refused_before_gives_way_unless_its_place_was_taken() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(46_010);
    let _old = established(&wire, &listener, &client);
    know(&wire, &client, RecordState::Refused, -5, Detail::Occupied, 0);
    counts(&wire, &client, (base, "refused_occupied"));
    assert_eq!(wire.await_answer(&client).header.detail, Detail::Occupied);
    know(&wire, &client, RecordState::Refused, -5, Detail::QueueFull, 0);
    wire.counted(&base(&client), &[("received", 2), ("assigned", 1), ("born", 1), ("healed", 1)]);
    let _new = accept(&listener);
}

/// A stale socket that does not end (a firewall may drop the reset) is given up on: the switch goes elsewhere.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn room_is_made_three_times_and_no_more() {
    let (wire, listener) = (Wire::new(), listen());
    for tries in 0..5u8 {
        println!("{tries} before");
        let client = wire.client(46_020 + u16::from(tries));
        let _old = established(&wire, &listener, &client);
        know(&wire, &client, RecordState::Healing, 0, Detail::None, tries);
        if tries < 3 {
            wire.counted(&base(&client), &[("received", 2), ("assigned", 1), ("born", 1), ("healed", 1)]);
            let _new = accept(&listener);
        } else {
            counts(&wire, &client, (base, "refused_occupied"));
            let refused = wire.await_answer(&client);
            assert_eq!((refused.header.detail, refused.inner), (Detail::Occupied, client.packet(REQUEST)));
        }
    }
}

/// No stale socket is ended for a handoff that could not take its place.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn room_is_made_only_where_it_can_be_used() {
    let (wire, listener) = (Wire::new(), listen());
    let maps = wire.programs.maps();
    let client = wire.client(46_030);
    let mut old = established(&wire, &listener, &client);
    let newer = Client { generation: Generation(client.generation.0 + 1), ..client };
    let born = || know(&wire, &client, RecordState::Born, 0, Detail::None, 0);

    set_flags(maps, |flags| flags & !SETTING_READY);
    counts(&wire, &newer, (base, "refused_not_ready"));
    set_flags(maps, |flags| flags | SETTING_READY);
    born();
    fill_records();
    counts(&wire, &newer, (base, "refused_records_full"));
    set_window(&handoff_agent::bpf::abi::Window::default());
    born();
    hold_record_locks(true);
    counts(&wire, &newer, (base, "overtaken"));
    hold_record_locks(false);

    wire.send(&Client { seq: CLIENT_NEXT, kind: MessageType::Forward, ..client }.frame(b"alive"));
    assert_reads(&mut old, b"alive");
    assert_nothing_to_accept(&listener);
    counts(&wire, &client, (base, "delivered"));
}

/// Later segments of a connection older than the records may be ahead of its socket, by less than any window.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_segment_may_be_ahead_of_its_socket_by_a_window() {
    const GIB: u32 = 1 << 30;
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(46_040);
    let mut stream = established(&wire, &listener, &client);
    wire.begin_records_without(&client);
    for (ahead, own) in [(0, true), (1_000, true), (GIB, true), (GIB + 1, false), (1 << 31, false)] {
        println!("{ahead}");
        let counter = if own { "delivered_unrecorded" } else { "refused_occupied" };
        let ahead = Client { seq: CLIENT_NEXT.add(ahead), control: TcpControl::None, ..client };
        wire.counted(&ahead.frame(b""), &[("received", 1), (counter, 1)]);
        forget(&wire, &client);
    }
    wire.send(&Client { seq: CLIENT_NEXT, kind: MessageType::Forward, ..client }.frame(b"alive"));
    assert_reads(&mut stream, b"alive");
}

/// A connection the server closed first: its socket is gone, and the kernel remembers it for a minute.
fn waiting(wire: &Wire, listener: &TcpListener, port: u16) -> Client {
    let client = wire.client(port);
    drop(established(wire, listener, &client));
    wire.await_reply(&client, "FIN", |reply| reply.syn_fin_rst && !reply.rst);
    let fin = Client { seq: CLIENT_NEXT, ack: BASE_ACK.add(1), control: TcpControl::Fin, ..client };
    wire.send(&fin.plain_frame(b""));
    wire.await_reply(&client, "acknowledgment", |reply| reply.ack == CLIENT_NEXT.add(1));
    wire.counted(&client.question(), &[("received", 1), ("asked", 1), ("asked_mine", 1)]);
    assert_eq!(wire.await_answer(&client).header.detail, Detail::State(TcpState::TimeWait));
    client
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_socket_in_time_wait_is_replaced_by_what_is_newer_alone() {
    use RecordState::{Assigned, Born, Healing, Killed, Refused};
    let (wire, listener) = (Wire::new(), listen());
    let client = waiting(&wire, &listener, 46_050);
    let cases: [(RecordState, i64, Step); 14] = [
        (Born, 0, (base, "delivered_time_wait")),
        (Born, 0, (later, "delivered_time_wait")),
        (Killed, 0, (base, "delivered_time_wait")),
        (Born, 5, (base, "delivered_time_wait")),
        (Refused, 5, (base, "delivered_time_wait")),
        (Refused, 0, (base, "refused_again")),
        (Refused, 0, (later, "refused_again")),
        (Born, -5, (later, "not_base")),
        (Born, -5, (base_with_reset, "not_base")),
        (Born, -5, (base_with_other_ack, "not_base")),
        (Refused, -5, (later, "not_base")),
        (Healing, 0, (later, "not_base")),
        (Healing, 0, (base_with_reset, "not_base")),
        (Assigned, 5, (later, "delivered_time_wait")),
    ];
    for (state, relative, step) in cases {
        println!("{state:?} {relative} {}", step.1);
        know(&wire, &client, state, relative, Detail::QueueFull, 0);
        counts(&wire, &client, step);
    }
    assert_nothing_to_accept(&listener);
    // One that makes room, for the second time.
    know(&wire, &client, Healing, 0, Detail::None, 1);
    wire.counted(&base(&client), &[("received", 2), ("assigned", 1), ("born", 1), ("healed", 1)]);
    let _new = accept(&listener);
}

/// Without a record, the numbers tell whether it is the handoff's own.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_strange_socket_in_time_wait_gives_way_to_a_handoff_and_to_nothing_else() {
    let (wire, listener) = (Wire::new(), listen());
    let client = waiting(&wire, &listener, 46_060);
    wire.begin_records_without(&client);
    counts(&wire, &client, (base, "delivered_unrecorded"));
    // Decided under these records, it would have one.
    let newer = Client { generation: Generation(switch_now().0 + 2_000_000), ..client };
    counts(&wire, &newer, (later, "delivered_time_wait"));
    counts(&wire, &newer, (base_with_reset, "delivered_time_wait"));
    counts(&wire, &newer, (base_with_other_ack, "delivered_time_wait"));
    assert_eq!(wire.state(&client), None);
    assert_nothing_to_accept(&listener);
    let mut settings = wire.programs.maps().settings().expect("readable");
    settings.records_since_us -= 2_000_000; // what is issued now is no longer too near the beginning
    wire.programs.maps().set_settings(&settings).expect("writable");
    wire.counted(&base(&newer), &[("received", 2), ("assigned", 1), ("born", 1), ("healed", 1)]);
    let _new = accept(&listener);
}

/// A client of the kernel's own, over an interface where no program looks: its handshake is under way.
fn begin_handshake(wire: &Wire, client: &Client) {
    let netlink = Netlink::open().expect("netlink");
    let index = |name: &str| netlink.interface(name).expect("readable").map(|found| (found.index, found.mac));
    if index("away0").is_none() {
        netlink.add_veth("away0", "away1").expect("root makes interfaces");
    }
    let ((away0, mac), (away1, _)) = (index("away0").expect("there"), index("away1").expect("there"));
    netlink.set_up(away0).expect("settable");
    netlink.set_up(away1).expect("settable");
    let syn = Client {
        seq: Seq(BASE_SEQ.0.wrapping_sub(1)),
        control: TcpControl::Syn,
        timestamps: None,
        destination_mac: mac,
        ..*client
    };
    PacketSocket::open(away1).expect("packet socket").send(&syn.plain_frame(b"")).expect("up");
    wire.await_reply(client, "SYN-ACK", |reply| reply.syn_fin_rst && reply.ack == BASE_SEQ);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_handshake_of_the_kernels_own_is_nobodys_but_its_own() {
    use RecordState::{Assigned, Born, Refused};
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(46_070);
    begin_handshake(&wire, &client);
    let cases: [(Option<(RecordState, i64)>, Step); 8] = [
        (None, (base, "refused_occupied")),
        (None, (forward, "gone_no_socket")),
        (Some((Born, -5)), (base, "refused_occupied")),
        (Some((Born, -5)), (forward, "gone_no_socket")),
        (Some((Born, 5)), (base, "gone_old_generation")),
        (Some((Refused, 0)), (base, "refused_again")),
        // Of a handoff that was taken, the handshake is what the kernel makes of it: it is for the kernel to judge.
        (Some((Assigned, 0)), (base_with_other_ack, "delivered")),
        (Some((Born, 0)), (base_with_reset, "delivered")),
    ];
    for (known, step) in cases {
        println!("{known:?} {}", step.1);
        match known {
            Some((state, relative)) => know(&wire, &client, state, relative, Detail::QueueFull, 0),
            None => forget(&wire, &client),
        }
        counts(&wire, &client, step);
    }
    assert_nothing_to_accept(&listener);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_forwarded_packet_never_reaches_the_listener() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(46_080);
    counts(&wire, &client, (forward, "gone_no_socket"));
    assert_eq!(wire.await_answer(&client).header.generation, client.generation);
    know(&wire, &client, RecordState::Born, 9, Detail::None, 0);
    counts(&wire, &client, (forward, "gone_no_socket"));
    assert_eq!(wire.await_answer(&client).header.generation.0, client.generation.0 + 9);
    wire.assert_quiet(&client);
    assert_nothing_to_accept(&listener);
}

/// Without a tunnel, too, it is the socket that counts; one in TIME_WAIT lets nobody begin anew.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn plain_segments_reach_connections_and_no_listener() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(46_090);
    let mut stream = established(&wire, &listener, &client);
    forget(&wire, &client);
    wire.send(&Client { seq: CLIENT_NEXT, ..client }.plain_frame(b"unrecorded"));
    assert_reads(&mut stream, b"unrecorded");
    assert_eq!(wire.state(&client), None);

    let client = waiting(&wire, &listener, 46_091);
    let fin = Client { seq: CLIENT_NEXT, ack: BASE_ACK.add(1), control: TcpControl::Fin, ..client };
    wire.send(&fin.plain_frame(b""));
    wire.await_reply(&client, "acknowledgment", |reply| reply.ack == CLIENT_NEXT.add(1));
    // Linux takes a SYN over TIME_WAIT for a new connection (RFC 6191): here the client is the switch's.
    let syn = Client { seq: CLIENT_NEXT.add(70_000), control: TcpControl::Syn, timestamps: None, ..client };
    wire.counted(&syn.plain_frame(b""), &[("plain_no_socket", 1)]);
    wire.assert_quiet(&client);
}

/// A tag the kernel takes off before the program looks: handoffs do not come over VLANs nobody configured.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_comes_with_a_vlan_tag_is_not_looked_at() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(46_100);
    let frame = client.frame(REQUEST);
    let tagged = [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
    let before = wire.programs.maps().counters().expect("readable");
    wire.send(&tagged);
    // What is sent after it has arrived: so has this.
    wire.send(&wire.client(46_101).frame(REQUEST));
    let _ = accept(&listener);
    let seen = changes(&before, &wire.programs.maps().counters().expect("readable"));
    assert!(seen.contains(&("received", 1)) && seen.contains(&("assigned", 1)), "{seen:?}");
    assert_eq!(wire.state(&client), None);
    assert_nothing_to_accept(&listener);
}

/// The question came before any segment left by the interface: the socket is there, and it is that of the handoff.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_socket_just_made_is_claimed_as_its_handoffs() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(46_110);
    let _stream = established(&wire, &listener, &client);
    for (relative, ask) in
        [(0, client.generation), (5, client.generation), (0, Generation(0)), (-5, client.generation)]
    {
        know(&wire, &client, RecordState::Assigned, relative, Detail::None, 0);
        let ask = Client { generation: ask, ..client };
        let noted = ask.generation.0 == client.generation.0 && relative == 0;
        let mut counts = vec![("received", 1), ("asked", 1), ("asked_mine", 1)];
        if noted {
            counts.push(("born", 1));
        }
        wire.counted(&ask.question(), &counts);
        let mine = wire.await_answer(&client);
        assert_eq!(mine.header.kind, MessageType::Mine);
        assert_eq!(mine.header.generation.0, client.generation.0.wrapping_add_signed(relative));
    }
}

/// The tag does not cover what the client's own checksum does; so the kernel takes the handoff, and TCP drops the packet.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_damaged_base_segment_makes_no_socket_and_keeps_none_from_coming() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(46_150);
    let frame = client.frame(REQUEST);
    let end = frame.len() - 1;
    let with_options_beyond_the_end = patched(&frame, TCP + 12, &[0xf0]);
    let with_a_header_too_short = patched(&frame, TCP + 12, &[0x40]);
    let with_another_byte = patched(&frame, end, &[frame[end] ^ 1]);
    let mut counter = "assigned";
    for damaged in [with_options_beyond_the_end, with_a_header_too_short, with_another_byte] {
        wire.counted(&damaged, &[("received", 1), (counter, 1)]);
        counter = "assigned_again";
    }
    assert_nothing_to_accept(&listener);
    let counters = wire.programs.maps().counters().expect("readable");
    assert_eq!(counters.value("born"), 0);
    let _stream = established(&wire, &listener, &client);
}

/// While a socket is being made, no copy of its handoff makes another: not even one that names other base numbers.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_handoff_with_other_numbers_of_the_same_generation_makes_nothing_new() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(46_120);
    let mut stream = established(&wire, &listener, &client);
    let other = Client { seq: CLIENT_NEXT.add(5_000), ..client };
    let header = Header { base_seq: other.seq, ..client.header() };
    let frame = wrapped(&other.path(), &header, &other.tuple, &tag_key(), &other.packet(REQUEST));
    wire.counted(&frame, &[("received", 1), ("delivered", 1)]);
    wire.send(&Client { seq: CLIENT_NEXT, kind: MessageType::Forward, ..client }.frame(b"alive"));
    assert_reads(&mut stream, b"alive");
    assert_nothing_to_accept(&listener);
}

/// Memory is kept for refusals where there is none left for connections; what is found full says so.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn with_full_records_only_new_connections_are_refused() {
    let (wire, listener) = (Wire::new(), listen());
    let known = wire.client(46_130);
    let mut stream = established(&wire, &listener, &known);
    fill_records();
    let client = wire.client(46_131);
    counts(&wire, &client, (base, "refused_records_full"));
    assert_eq!(wire.await_answer(&client).header.detail, Detail::RecordsFull);
    counts(&wire, &known, (base, "delivered"));
    wire.send(&Client { seq: CLIENT_NEXT, ..known }.frame(b"alive"));
    assert_reads(&mut stream, b"alive");
    assert_nothing_to_accept(&listener);
}

/// The agent's own handoff: through its own interface, program, key and clock, while the backend takes no other.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn the_self_test_makes_a_socket_of_a_backend_that_is_not_ready() {
    let (wire, listener) = (Wire::new(), listen());
    let maps = wire.programs.maps();
    let steering = Steering::new(maps, HOST, wire.data_index, 1, true).expect("writable");
    let test = SelfTest { programs: &wire.programs, steering: &steering, mac: wire.data_mac, address: HOST };
    let client = wire.client(46_140);
    for run in 1..=2 {
        test.run(&[vip()]).expect("the host is fit");
        let counters = maps.counters().expect("readable");
        let seen = ["self_test_assigned", "self_test_born"].map(|name| counters.value(name));
        assert_eq!(seen, [run, run]);
        assert_eq!(
            ["assigned", "born"].map(|name| counters.value(name)),
            [0, 0],
            "it counts as no connection"
        );
    }
    counts(&wire, &client, (base, "refused_not_ready"));
    drop(listener);
}
