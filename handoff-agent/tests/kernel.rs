//! Handoffs over a veth pair into a real kernel: sockets appear in a listener's queue, or must not.
//!
//! Each test has a network namespace of its own, with the backend's interface `data0` and the switch's end of the wire.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

use common::net::*;
use common::wire::*;
use common::*;
use handoff_agent::bpf::abi::RecordState;
use handoff_agent::sys::netlink::Netlink;
use handoff_proto::header::Detail;
use handoff_proto::{Generation, MessageType};
use smoltcp::wire::TcpControl;

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_handoff_becomes_a_socket_of_the_listener() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(40_001);
    let mut stream = established(&wire, &listener, &client);
    assert_eq!(stream.local_addr().expect("bound"), SocketAddr::from((VIP, PORT)));
    assert_eq!(wire.state(&client), Some(RecordState::Born as u32));
    stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello").expect("connected");
    let response = wire.await_reply(&client, "response", |reply| !reply.payload.is_empty());
    assert_eq!((response.seq, response.ack), (BASE_ACK, BASE_SEQ.add(18)));
    assert_eq!(response.payload, b"HTTP/1.0 200 OK\r\n\r\nhello");
    let counters = wire.programs.maps().counters().expect("readable");
    let seen = ["received", "assigned", "born", "assigned_again", "unborn"].map(|name| counters.value(name));
    assert_eq!(seen, [1, 1, 1, 0, 0]);

    // The next segments: unconfirmed, confirmed, and without a tunnel.
    let next = Client { seq: BASE_SEQ.add(18), ack: BASE_ACK.add(24), ..client };
    wire.counted(&next.frame(b"one"), &[("received", 1), ("delivered", 1)]);
    let forward = Client { seq: next.seq.add(3), kind: MessageType::Forward, ..next };
    wire.counted(&forward.frame(b"two"), &[("received", 1), ("delivered", 1)]);
    wire.send(&Client { seq: next.seq.add(6), ..next }.plain_frame(b"three"));
    assert_reads(&mut stream, b"onetwothree");
    assert_nothing_to_accept(&listener);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn births_are_seen_though_answers_leave_by_another_interface() {
    let (wire, listener) = (Wire::new(), listen());
    let netlink = Netlink::open().expect("netlink");
    netlink.add_veth("away0", "away1").expect("root makes interfaces");
    let index = |name: &str| netlink.interface(name).expect("readable").expect("there").index;
    netlink.set_up(index("away0")).expect("settable");
    netlink.set_up(index("away1")).expect("settable");
    let elsewhere = Ipv4Addr::new(10, 50, 0, 77);
    netlink.add_host_route(elsewhere, index("away0")).expect("route");
    netlink.add_neighbour(index("away0"), elsewhere, ROUTER_MAC).expect("neighbour");

    // The client's next packet tells, whatever way it comes: unconfirmed, confirmed, or without a tunnel.
    for (port, way) in [(40_011, "handoff"), (40_012, "forward"), (40_013, "plain")] {
        let mut client = wire.client(port);
        client.tuple.client = elsewhere.into();
        wire.counted(&client.frame(REQUEST), &[("received", 1), ("assigned", 1)]);
        let _stream = accept(&listener);
        assert_eq!(wire.state(&client), Some(RecordState::Assigned as u32), "{way}");
        let next = Client { seq: BASE_SEQ.add(18), ..client };
        match way {
            "handoff" => wire.counted(&next.frame(b""), &[("received", 1), ("delivered", 1), ("born", 1)]),
            "forward" => {
                let forward = Client { kind: MessageType::Forward, ..next };
                wire.counted(&forward.frame(b""), &[("received", 1), ("delivered", 1), ("born", 1)]);
            }
            _ => wire.counted(&next.plain_frame(b""), &[("born", 1)]),
        }
        assert_eq!(wire.state(&client), Some(RecordState::Born as u32), "{way}");
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn every_mix_of_options_hands_off() {
    let (wire, listener) = (Wire::new(), listen());
    for mix in 0..16u16 {
        let mut client = wire.client(41_000 + mix);
        if mix & 1 != 0 {
            client.negotiated.wscale = None;
        }
        client.negotiated.sack = mix & 2 == 0;
        client.negotiated.ecn = mix & 4 != 0;
        if mix & 8 != 0 {
            client.negotiated.timestamps = false;
            client.timestamps = None;
        }
        client.negotiated.mss = if mix & 3 == 3 { 536 } else { 1376 };
        established(&wire, &listener, &client);
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_listener_on_ipv6_serves_as_well() {
    let wire = Wire::new();
    let listener = TcpListener::bind("[::]:80").expect("a free namespace");
    listener.set_nonblocking(true).expect("settable");
    let client = wire.client(40_001);
    wire.send(&client.frame(REQUEST));
    let (mut stream, peer) = accept(&listener);
    assert_eq!(peer.to_string(), "[::ffff:10.50.0.11]:40001");
    assert_reads(&mut stream, REQUEST);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_replayed_handoff_creates_nothing() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(40_002);
    let frame = client.frame(REQUEST);
    let stream = established(&wire, &listener, &client);
    wire.counted(&frame, &[("received", 1), ("delivered", 1)]);
    assert_nothing_to_accept(&listener);

    // The client resets: the socket is gone for good, the message is still fresh.
    let reset = Client { seq: BASE_SEQ.add(18), control: TcpControl::Rst, ..client };
    wire.counted(&reset.frame(b""), &[("received", 1), ("delivered", 1)]);
    wire.counted(&frame, &[("received", 1), ("gone_no_socket", 1)]);
    let gone = wire.await_answer(&client);
    assert_eq!((gone.header.kind, gone.header.generation), (MessageType::Gone, client.generation));
    wire.assert_quiet(&client);
    assert_nothing_to_accept(&listener);
    drop(stream);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn an_older_handoff_never_touches_a_newer_socket() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(40_003);
    let mut stream = established(&wire, &listener, &client);
    let older = Client { generation: Generation(client.generation.0 - 1), ..client };
    wire.counted(&older.frame(REQUEST), &[("received", 1), ("gone_old_generation", 1)]);
    let gone = wire.await_answer(&client);
    assert_eq!((gone.header.detail, gone.header.generation), (Detail::OldGeneration, client.generation));
    let next = Client { seq: BASE_SEQ.add(18), ..client };
    wire.send(&next.frame(b"still here"));
    assert_reads(&mut stream, b"still here");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_newer_handoff_replaces_a_stale_socket() {
    let (wire, listener) = (Wire::new(), listen());
    let old = wire.client(40_004);
    let mut stale = established(&wire, &listener, &old);
    let new = Client { generation: Generation(old.generation.0 + 1), ..old };
    // Not the base segment: neither delivered to the stale socket nor answered.
    let second = Client { seq: BASE_SEQ.add(18), ..new };
    wire.counted(&second.frame(b"second"), &[("received", 1), ("not_base", 1)]);

    let counts = [("received", 2), ("assigned", 1), ("born", 1), ("healed", 1)];
    wire.counted(&new.frame(REQUEST), &counts);
    let (mut fresh, _) = accept(&listener);
    assert_reads(&mut fresh, REQUEST);
    let error = stale.read(&mut [0; 1]).expect_err("reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    wire.assert_quiet(&new);
    assert_eq!(wire.state(&new), Some(RecordState::Born as u32));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_newer_handoff_replaces_a_socket_in_time_wait() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(40_005);
    let stream = established(&wire, &listener, &client);
    drop(stream); // the server closes first and has to wait
    wire.await_reply(&client, "FIN", |reply| reply.syn_fin_rst && !reply.rst);
    let fin = Client { seq: BASE_SEQ.add(18), ack: BASE_ACK.add(1), control: TcpControl::Fin, ..client };
    wire.counted(&fin.frame(b""), &[("received", 1), ("delivered", 1)]);
    // Its retransmission meets TIME_WAIT, whatever the type of the message.
    wire.counted(&fin.frame(b""), &[("received", 1), ("delivered_time_wait", 1)]);
    let forward = Client { kind: MessageType::Forward, ..fin };
    wire.counted(&forward.frame(b""), &[("received", 1), ("delivered_time_wait", 1)]);
    // So does the first handoff, replayed: the old socket acknowledges, no new one comes.
    wire.counted(&client.frame(REQUEST), &[("received", 1), ("delivered_time_wait", 1)]);
    assert_nothing_to_accept(&listener);

    let new = Client { generation: Generation(client.generation.0 + 7), ..client };
    let counts = [("received", 2), ("assigned", 1), ("born", 1), ("healed", 1)];
    wire.counted(&new.frame(REQUEST), &counts);
    let (mut fresh, _) = accept(&listener);
    assert_reads(&mut fresh, REQUEST);
    wire.assert_quiet(&new);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_live_socket_nothing_is_known_of_is_left_alone() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(40_006);
    let mut stream = established(&wire, &listener, &client);
    wire.programs.maps().forget(&client.tuple).expect("deletable");
    for (generation, counter) in [(1, "refused_occupied"), (1, "refused_again"), (2, "refused_occupied")] {
        let new = Client { generation: Generation(client.generation.0 + generation), ..client };
        wire.counted(&new.frame(REQUEST), &[("received", 1), (counter, 1)]);
        let bounced = wire.await_answer(&new);
        assert_eq!((bounced.header.kind, bounced.header.detail), (MessageType::Refused, Detail::Occupied));
        assert_eq!(bounced.inner, new.packet(REQUEST));
    }
    let next = Client { seq: BASE_SEQ.add(18), kind: MessageType::Forward, ..client };
    wire.send(&next.frame(b"alive"));
    assert_reads(&mut stream, b"alive");
    assert_nothing_to_accept(&listener);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_full_accept_queue_refuses() {
    let (wire, listener) = (Wire::new(), listen());
    rustix::net::listen(&listener, 1).expect("a shorter queue");
    // The kernel takes one more than the backlog.
    for port in [40_010, 40_011] {
        let client = wire.client(port);
        wire.send(&client.frame(REQUEST));
        wire.await_reply(&client, "acknowledgment", |reply| reply.ack == BASE_SEQ.add(18));
    }
    let client = wire.client(40_012);
    wire.counted(&client.frame(REQUEST), &[("received", 1), ("refused_queue_full", 1)]);
    let bounced = wire.await_answer(&client);
    assert_eq!((bounced.header.kind, bounced.header.detail), (MessageType::Refused, Detail::QueueFull));
    // Once refused, always refused: by now another backend has it.
    let _one = accept(&listener);
    wire.counted(&client.frame(REQUEST), &[("received", 1), ("refused_again", 1)]);
    let next = wire.client(40_013);
    wire.send(&next.frame(REQUEST));
    let _ = (accept(&listener), accept(&listener));
    assert_nothing_to_accept(&listener);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn an_mptcp_listener_is_refused_by_the_kernel() {
    const IPPROTO_MPTCP: i32 = 262;
    let wire = Wire::new();
    // SAFETY: a plain system call.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_MPTCP) };
    assert!(fd >= 0, "this kernel has MPTCP");
    // SAFETY: the descriptor was just made and nothing else owns it.
    let socket = unsafe { TcpListener::from_raw_fd(fd) };
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    rustix::net::bind(&socket, &address).expect("a free namespace");
    rustix::net::listen(&socket, 16).expect("bound");
    assert_eq!(socket.as_raw_fd(), fd);
    let client = wire.client(40_020);
    wire.counted(&client.frame(REQUEST), &[("received", 1), ("refused_kernel", 1)]);
    let bounced = wire.await_answer(&client);
    assert_eq!((bounced.header.detail, bounced.inner), (Detail::KernelRefused, client.packet(REQUEST)));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_socket_that_never_came_is_noticed_and_tried_again() {
    let (wire, listener) = (Wire::new(), listen());
    sysctl("conf/data0/rp_filter", "1"); // strict, and the client is routed elsewhere
    let netlink = Netlink::open().expect("netlink");
    let lo = netlink.interface("lo").expect("readable").expect("there");
    netlink.add_host_route(Ipv4Addr::new(10, 50, 0, 77), lo.index).expect("route");
    let mut client = wire.client(40_030);
    client.tuple.client = Ipv4Addr::new(10, 50, 0, 77).into();
    wire.counted(&client.frame(REQUEST), &[("received", 1), ("assigned", 1)]);
    wire.counted(&client.frame(REQUEST), &[("received", 1), ("assigned_again", 1)]);
    std::thread::sleep(Duration::from_millis(150)); // the client's retransmission
    wire.counted(&client.frame(REQUEST), &[("received", 1), ("assigned_again", 1), ("unborn", 1)]);
    assert_nothing_to_accept(&listener);
    assert_eq!(wire.state(&client), Some(RecordState::Assigned as u32));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_overtakes_its_handoff_waits_a_moment_and_no_longer() {
    let (wire, _listener) = (Wire::new(), listen());
    let client = Client { seq: BASE_SEQ.add(18), ..wire.client(40_031) };
    let record = handoff_agent::bpf::abi::Record {
        generation: client.generation.0,
        changed_us: handoff_agent::sys::clock::monotonic_us(),
        state: RecordState::Assigned as u32,
        ..Default::default()
    };
    wire.programs.maps().set_record(&client.tuple, &record).expect("writable");
    wire.counted(&client.frame(b"second"), &[("received", 65), ("requeued", 64), ("not_base", 1)]);
    wire.counted(&client.frame(b"second"), &[("received", 1), ("not_base", 1)]);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn plain_packets_without_a_socket_draw_no_reset_but_a_report() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(40_040);
    wire.counted(&client.plain_frame(b"data"), &[("plain_no_socket", 1), ("plain_reported", 1)]);
    let gone = wire.await_answer(&client);
    assert_eq!((gone.header.kind, gone.header.detail), (MessageType::Gone, Detail::NoSocket));
    assert_eq!(gone.inner, client.packet(b"data")[..40]);
    let syn = Client { control: TcpControl::Syn, timestamps: None, ..client };
    wire.counted(&syn.plain_frame(b""), &[("plain_no_socket", 1)]);
    wire.assert_quiet(&client);
    assert_nothing_to_accept(&listener);
}

fn shell(script: &str) {
    let output = std::process::Command::new("sh").args(["-ec", script]).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A network card delivers packets in batches: all of one pass the ingress program before the first reaches TCP. The
/// same is had here by polling the interface in a thread that cannot run while this one sends.
fn receive_in_batches() {
    shell("ethtool -K data0 gro on; ethtool -K wire0 tso off");
    shell("unshare -m sh -ec 'mount -t sysfs none /mnt; echo 1 > /mnt/class/net/data0/threaded'");
    let this = rustix::thread::gettid().as_raw_nonzero();
    shell(&format!(
        "taskset -p 1 {this}; chrt -f -p 50 {this}\n\
         for task in $(grep -l '^napi/data0-' /proc/[0-9]*/comm); do\n\
         task=${{task#/proc/}}; taskset -p 1 ${{task%/comm}} || true; done"
    ));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn segments_in_one_batch_with_their_handoff_wait_for_its_socket() {
    let (wire, listener) = (Wire::new(), listen());
    receive_in_batches();
    for port in 42_000..42_020 {
        let client = wire.client(port);
        let frames: Vec<Vec<u8>> = (0..6)
            .map(|number| Client { seq: BASE_SEQ.add(1_000 * number), ..client }.frame(&[7; 1_000]))
            .collect();
        frames.iter().for_each(|frame| wire.send(frame));
        std::thread::sleep(Duration::from_millis(2)); // lets the other thread run
        let (mut stream, _) = accept(&listener);
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("settable"); // less than a retransmission
        assert_reads(&mut stream, &[7; 6_000]);
    }
    let counters = wire.programs.maps().counters().expect("readable");
    assert!(counters.value("requeued") > 0, "no batch was received");
    assert_eq!(["assigned", "born", "delivered"].map(|name| counters.value(name)), [20, 20, 100]);
}

/// The kernel merges segments of one batch before the program sees them (GRO): one packet of any length, one report.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn merged_plain_segments_without_a_socket_are_told_of_as_one() {
    let (wire, _listener) = (Wire::new(), listen());
    receive_in_batches();
    let client = Client { control: TcpControl::None, ..wire.client(42_100) };
    for number in 0..6 {
        wire.send(&Client { seq: BASE_SEQ.add(1_000 * number), ..client }.plain_frame(&[7; 1_000]));
    }
    let gone = wire.await_answer(&client);
    assert_eq!((gone.header.kind, gone.header.base_seq), (MessageType::Gone, BASE_SEQ));
    assert_eq!(gone.inner.len(), 40);
    let merged = u16::from_be_bytes([gone.inner[2], gone.inner[3]]);
    assert!(merged > 2_000, "{merged} bytes: nothing was merged");
    let counters = wire.programs.maps().counters().expect("readable");
    let counted = ["plain_no_socket", "plain_reported", "internal"].map(|name| counters.value(name));
    assert!(counted[0] < 6 && counted == [counted[0], counted[0], 0], "{counted:?}");
}
