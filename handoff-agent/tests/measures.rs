//! What VIPs receive and send, how fast their servers answer, and how many connections they have: by what the kernel and the
//! programs make of it.

mod common;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::bench::*;
use common::net::*;
use common::wire::*;
use common::*;
use handoff_agent::bpf::abi::{RECORD_SELF_TEST, Record, Traffic};
use handoff_agent::bpf::{Maps, PROGRAM_EGRESS, PROGRAM_INGRESS, watch_sockets};
use handoff_agent::load::{LoadMeter, Servers, Tree, begin_counting};
use handoff_agent::sys::clock;
use handoff_proto::control::AcceptQueue;
use handoff_proto::{MessageType, Vip};
use libbpf_rs::ProgramInput;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketAddrV4, SocketType, bind, connect, ipproto, socket};
use smoltcp::wire::{Ipv4Packet, TcpPacket};

const THINKS: Duration = Duration::from_millis(60);

fn traffic(maps: &Maps) -> Traffic {
    maps.traffic(vip()).expect("readable").expect("served")
}

/// Reads the traffic until it is as wanted.
#[track_caller]
fn await_traffic(wire: &Wire, what: &str, wanted: impl Fn(&Traffic) -> bool) -> Traffic {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = traffic(wire.programs.maps());
        if wanted(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what}: {seen:?}");
        thread::yield_now();
    }
}

/// The client goes on, behind so many bytes it said.
fn more(client: &Client, said: u32, kind: MessageType, payload: &[u8]) -> Vec<u8> {
    Client { seq: BASE_SEQ.add(said), kind, issued: switch_now(), ..*client }.frame(payload)
}

fn respond(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("connected");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn an_answer_takes_from_the_last_byte_of_the_request_to_the_first_of_the_response() {
    let wire = Wire::new();
    let listener = listen();
    let client = wire.client(50_001);
    // Frames that end within the IPv4 header are nobody's, and keep nothing from coming.
    let short = client.plain_frame(b"");
    [20, 30].into_iter().for_each(|length| wire.send(&short[..length]));
    let mut stream = established(&wire, &listener, &client);
    thread::sleep(THINKS);
    respond(&mut stream, b"first");
    let first = await_traffic(&wire, "an answer", |seen| seen.answers == 1);
    let thought = u64::try_from(THINKS.as_micros()).expect("small");
    assert!((thought..2_000_000).contains(&first.answer_us), "{first:?}");
    assert_eq!((first.bytes_in, first.bytes_out), (18, 5));
    // What follows is the same answer.
    respond(&mut stream, b"and more");
    let second = await_traffic(&wire, "more bytes", |seen| seen.bytes_out == 13);
    assert_eq!((second.answers, second.answer_us), (1, first.answer_us));

    // An upload in two parts: the server is not made slow by a client that takes its time.
    let times = [MessageType::Handoff, MessageType::Forward].map(|kind| {
        let said = if kind == MessageType::Handoff { 18 } else { 26 };
        let before = traffic(wire.programs.maps());
        wire.send(&more(&client, said, kind, b"half"));
        assert_reads(&mut stream, b"half");
        thread::sleep(THINKS);
        let asked = Instant::now();
        wire.send(&more(&client, said + 4, kind, b"rest"));
        assert_reads(&mut stream, b"rest");
        respond(&mut stream, b"done");
        let after = await_traffic(&wire, "an answer", |seen| seen.answers == before.answers + 1);
        assert_eq!(after.bytes_in, before.bytes_in + 8);
        (after.answer_us - before.answer_us, asked.elapsed().as_micros())
    });
    assert!(times.iter().all(|(took, at_most)| u128::from(*took) <= *at_most), "{times:?}");

    // The same without a tunnel, as the packets of a confirmed flow come.
    let before = traffic(wire.programs.maps());
    wire.send(&Client { seq: BASE_SEQ.add(34), ack: BASE_ACK, ..client }.plain_frame(b"plain"));
    assert_reads(&mut stream, b"plain");
    respond(&mut stream, b"done");
    let after = await_traffic(&wire, "an answer", |seen| seen.answers == before.answers + 1);
    assert_eq!((after.bytes_in, after.packets_in), (before.bytes_in + 5, before.packets_in + 1));
}

/// A server that pushes, or a client that keeps it waiting, is not slow to answer.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn whoever_speaks_long_after_being_asked_does_not_answer() {
    let programs = bench();
    let maps = programs.maps();
    let client = Client::new(40_000);
    let reply = reply_frame(&client, b"pushed");
    for (ago_us, answers) in [(0, 0), (29_000_000, 1), (31_000_000, 0)] {
        let asked_us = if ago_us == 0 { 0 } else { clock::monotonic_us() - ago_us };
        maps.set_record(&client.tuple, &Record { generation: 1, state: 2, asked_us, ..Record::default() })
            .expect("writable");
        let before = traffic(maps);
        for frame in [reply_frame(&client, b""), reply.clone(), reply.clone()] {
            assert_eq!(run_in(&programs, PROGRAM_EGRESS, &frame).verdict, NEXT);
        }
        let after = traffic(maps);
        assert_eq!(after.answers - before.answers, answers, "asked {ago_us} us ago");
        let took = after.answer_us - before.answer_us;
        assert!(answers == 0 || (ago_us..ago_us + 1_000_000).contains(&took), "{took}");
        let record = maps.record(&client.tuple).expect("readable").expect("there");
        assert_eq!(record.asked_us, 0, "an acknowledgment is no answer, the first byte is");
    }
}

/// The agent's own connection is no client's, whichever way its packets go.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_servers_say_to_the_self_test_is_not_counted() {
    let programs = bench();
    let maps = programs.maps();
    let client = Client::new(40_000);
    for (flags, packets) in [(RECORD_SELF_TEST, 0), (0, 2)] {
        maps.set_record(&client.tuple, &Record { generation: 1, state: 2, flags, ..Record::default() })
            .expect("writable");
        let before = traffic(maps);
        for payload in [&b""[..], b"220 ready\r\n"] {
            run_in(&programs, PROGRAM_EGRESS, &reply_frame(&client, payload));
        }
        assert_eq!(traffic(maps).packets_out - before.packets_out, packets, "flags {flags}");
    }
}

/// A frame of the server.
fn reply_frame(client: &Client, payload: &[u8]) -> Vec<u8> {
    let turned = handoff_proto::FourTuple {
        client: client.tuple.vip,
        client_port: client.tuple.vip_port,
        vip: client.tuple.client,
        vip_port: client.tuple.client_port,
    };
    Client { tuple: turned, seq: BASE_ACK.add(9), ..*client }.plain_frame(payload)
}

/// Runs a frame of which the kernel says that it stands for several.
fn run_merged(programs: &handoff_agent::bpf::Programs, frame: &[u8], segments: u32) {
    // `struct __sk_buff` of linux/bpf.h, up to and with gso_segs.
    let mut context = [0; 168];
    context[164..].copy_from_slice(&segments.to_ne_bytes());
    let input =
        ProgramInput { data_in: Some(frame), context_in: Some(&mut context), ..ProgramInput::default() };
    programs.program(PROGRAM_EGRESS).expect("there").test_run(input).expect("the kernel runs it");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn packets_are_those_on_the_wire_and_bytes_those_of_tcp() {
    let programs = bench();
    let client = Client::new(40_000);
    let counted = |act: &dyn Fn()| {
        let before = traffic(programs.maps());
        act();
        let after = traffic(programs.maps());
        assert_eq!((after.bytes_in, after.packets_in), (before.bytes_in, before.packets_in));
        (after.bytes_out - before.bytes_out, after.packets_out - before.packets_out)
    };
    let frame = reply_frame(&client, &[7; 1_000]);
    let runs = |frame: &[u8]| counted(&|| drop(run_in(&programs, PROGRAM_EGRESS, frame)));
    assert_eq!(runs(&frame), (1_000, 1));
    assert_eq!(counted(&|| run_merged(&programs, &frame, 3)), (1_000, 3));
    assert_eq!(runs(&reply_frame(&client, b"")), (0, 1));
    // More than 64 KiB at once: the length in the IPv4 header is 0 then.
    assert_eq!(runs(&patched(&frame, OUTER + 2, &[0, 0])), (1_000, 1));
    // Lengths that contradict each other are nobody's bytes.
    assert_eq!(runs(&patched(&frame, OUTER + 2, &[0, 39])), (0, 1));
    assert_eq!(runs(&patched(&frame, OUTER + 20 + 12, &[0xf0])), (1_000 + 12 - 40, 1), "longer TCP options");
    // IPv4 options.
    let mut options = frame.clone();
    options.splice(OUTER + 20..OUTER + 20, [1, 1, 1, 0]);
    let total = u16::try_from(options.len() - OUTER).expect("short").to_be_bytes();
    let options = patched(&patched(&options, OUTER, &[0x46]), OUTER + 2, &total);
    assert_eq!(runs(&options), (1_000, 1));
    assert_eq!(runs(&options[..OUTER + 24 + 16]), (0, 0), "cut short");
    for (what, frame) in [
        ("another port", patched(&frame, OUTER + 20, &[0, 81])),
        ("another address", patched(&frame, OUTER + 15, &[101])),
        ("UDP", patched(&frame, OUTER + 9, &[17])),
        ("IPv6", patched(&frame, 12, &[0x86, 0xdd])),
        ("a RST without ACK", patched(&frame, OUTER + 20 + 13, &[4])),
    ] {
        assert_eq!(runs(&frame), (0, 0), "{what}");
    }
    let tcp = TcpPacket::new_unchecked(Ipv4Packet::new_unchecked(&frame[OUTER..]).payload()).header_len();
    assert_eq!(tcp, 32, "or the arithmetic above is of another frame");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_meets_no_socket_is_no_traffic() {
    let programs = bench();
    let before = traffic(programs.maps());
    let client = Client::new(40_000);
    run(&programs, &client.frame(REQUEST));
    run(&programs, &client.plain_frame(b"more"));
    run_in(&programs, PROGRAM_INGRESS, &client.plain_frame(b"more"));
    assert_eq!(traffic(programs.maps()), before);
}

/// VIPs come and go with configurations; what was counted stays with those that stay.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn each_vip_is_counted_by_itself_and_keeps_what_was_counted() {
    let programs = bench();
    let maps = programs.maps();
    let at = |last: u8, port| Vip { address: Ipv4Addr::new(10, 60, 0, last).into(), port };
    let [web, shop, files] = [vip(), at(100, 443), at(7, 80)];
    let client = Client::new(40_000);
    let frame = reply_frame(&client, &[7; 100]);
    let say = || {
        run_in(&programs, PROGRAM_EGRESS, &frame); // of web
        run_in(&programs, PROGRAM_EGRESS, &patched(&frame, OUTER + 20, &443u16.to_be_bytes())); // of shop
        run_in(&programs, PROGRAM_EGRESS, &patched(&frame, OUTER + 20, &443u16.to_be_bytes()));
    };
    let packets = |vip| maps.traffic(vip).expect("readable").map(|traffic| traffic.packets_out);
    maps.set_vips(&[shop, web]).expect("writable");
    say();
    assert_eq!([packets(web), packets(shop), packets(files)], [Some(1), Some(2), None]);
    maps.set_vips(&[files, web, shop]).expect("writable");
    assert_eq!([packets(web), packets(shop), packets(files)], [Some(1), Some(2), Some(0)]);
    say();
    maps.set_vips(&[web, files]).expect("writable");
    assert_eq!([packets(web), packets(shop), packets(files)], [Some(2), None, Some(0)]);
    say();
    maps.set_vips(&[shop, files, web]).expect("writable");
    assert_eq!(
        [packets(web), packets(shop), packets(files)],
        [Some(3), Some(0), Some(0)],
        "shop begins anew"
    );
    // As many as there may be.
    let all: Vec<Vip> = (0..64).map(|number| at(1, 1_000 + number)).collect();
    maps.set_vips(&all).expect("writable");
    assert!(all.iter().all(|vip| packets(*vip) == Some(0)));
}

fn waiting(count: u16) -> Vec<TcpStream> {
    let connect = |_| TcpStream::connect((VIP, PORT)).expect("on lo");
    (0..count).map(connect).collect()
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn connections_are_counted_as_they_open_and_close_and_those_of_before_are_known() {
    let wire = Wire::new();
    let maps = wire.programs.maps();
    let listener: TcpListener = listen();
    let before = waiting(2);
    begin_counting(maps).expect("writable");
    let watch = watch_sockets(&wire.programs).expect("attachable");
    let servers = Servers::new(Tree::host(), None, vec![vip()]);
    let mut load = LoadMeter::new(maps, &servers, "data0", vec![vip()], true);
    let mut read = || {
        thread::sleep(Duration::from_millis(60)); // asked at once, it says what it said
        load.read()
    };
    let first = read();
    assert_eq!(first.established, Some(2), "what was there before");
    assert_eq!(first.accept_queue, Some(AcceptQueue { length: 2, limit: 128 }));
    // Handed off, not accepted yet: it counts, for it needs its server.
    let client = wire.client(50_001);
    let stream = established(&wire, &listener_of(&listener, 2), &client);
    assert_eq!(read().established, Some(3));
    // A client on this host, as a probe is, that resets: it is open on its own side, too, but at no VIP's port.
    for probe in waiting(2) {
        set_socket_linger(&probe, Some(Duration::ZERO)).expect("settable");
        drop(probe);
    }
    assert_eq!(read().established, Some(3));
    // The same VIP in another network namespace is somebody else's.
    let elsewhere = thread::spawn(|| {
        let net = Net::new();
        net.add_address("lo", VIP);
        (listen(), waiting(4))
    })
    .join()
    .expect("a namespace of its own");
    assert_eq!(read().established, Some(3));
    drop(elsewhere);
    drop(stream);
    drop(before);
    assert_eq!(read().established, Some(0));
    // Each end of those gave its port back while it closed. On this host the clients' ends have the VIP's address, too.
    let again = waiting(3);
    assert_eq!(read().established, Some(3));
    drop(again);
    assert_eq!(read().established, Some(0));
    // A dump says the same.
    drop(watch);
    let mut listing = LoadMeter::new(maps, &servers, "data0", vec![vip()], false);
    assert_eq!(listing.read().established, Some(0));
}

/// A connection over MPTCP has two sockets: its own, and one of TCP for each path.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_connection_over_mptcp_counts_once() {
    let wire = Wire::new();
    let maps = wire.programs.maps();
    let mptcp = || socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP)).expect("a socket");
    let address = SocketAddrV4::new(VIP, PORT);
    let listener = mptcp();
    bind(&listener, &address).expect("a free namespace");
    rustix::net::listen(&listener, 5).expect("bound");
    begin_counting(maps).expect("writable");
    let _watch = watch_sockets(&wire.programs).expect("attachable");
    let client = mptcp();
    connect(&client, &address).expect("on lo");
    let _accepted = rustix::net::accept(&listener).expect("one waits");
    assert_eq!(maps.sockets().expect("readable").open, 1);
}

/// The listener, when those that wait have been accepted and forgotten; they stay open at their clients.
fn listener_of(listener: &TcpListener, count: usize) -> TcpListener {
    for _ in 0..count {
        std::mem::forget(accept(listener).0);
    }
    listener.try_clone().expect("open")
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn the_load_of_a_host_is_told_with_what_can_be_known_of_it() {
    let wire = Wire::new();
    let maps = wire.programs.maps();
    let listener = listen();
    let servers = Servers::new(Tree::host(), None, vec![vip()]);
    let mut load = LoadMeter::new(maps, &servers, "data0", vec![vip()], false);
    let first = load.read();
    assert_eq!(first, load.read(), "asked again at once");
    assert_eq!((first.cpu_busy_permille, first.rate, first.response), (None, None, None), "no time went by");
    assert_eq!((first.established, first.born), (Some(0), Some(0)));
    assert_eq!(first.traffic.map(|traffic| traffic.bytes_out), Some(0));
    assert_eq!(first.server_cpu_permille, None, "nobody has looked whose listener it is");
    let client = wire.client(50_001);
    let mut stream = established(&wire, &listener, &client);
    respond(&mut stream, &[7; 4_000]);
    await_traffic(&wire, "an answer", |seen| seen.bytes_out >= 4_000);
    thread::sleep(Duration::from_millis(60));
    let later = load.read();
    assert_eq!((later.established, later.born), (Some(1), Some(1)));
    let response = later.response.expect("answered");
    assert!(response.count == 1 && response.mean_us < 2_000_000, "{response:?}");
    let rate = later.rate.expect("time went by");
    assert!(rate.bytes_per_s > 4_018 / 2 && rate.packets_per_s >= 1, "{rate:?}");
    assert!(later.cpu_busy_permille.is_some_and(|share| share <= 1_000), "{later:?}");
    assert!(later.tx_bytes > first.tx_bytes && first.tx_bytes.is_some(), "{later:?}");
    // No interface, no numbers of it.
    let mut load = LoadMeter::new(maps, &servers, "data9", vec![vip()], false);
    assert_eq!((load.read().rx_bytes, load.read().tx_bytes), (None, None));
}

/// What a group used is a share of what it may use. On a host whose processors cannot be counted, nobody knows that.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_share_of_an_unknown_number_of_processors_is_not_told() {
    let wire = Wire::new();
    let dir = std::env::temp_dir().join(format!("agt-measures-{}", std::process::id()));
    let (group, proc) = (dir.join("group"), dir.join("proc"));
    [&group, &proc].into_iter().for_each(|dir| std::fs::create_dir_all(dir).expect("writable"));
    let uses = |used_us: u64| {
        std::fs::write(group.join("cpu.stat"), format!("usage_usec {used_us}\n")).expect("writable");
    };
    uses(0);
    let servers = Servers::new(Tree::below(&dir), Some(group.clone()), vec![vip()]);
    servers.look(&[]);
    let mut load = LoadMeter::new(wire.programs.maps(), &servers, "data0", vec![vip()], false);
    let mut share = |used_us| {
        uses(used_us);
        thread::sleep(Duration::from_millis(60)); // asked at once, it says what it said
        load.read().server_cpu_permille
    };
    assert_eq!([share(1_000), share(2_000)], [None, None], "there is no proc/stat");
    std::fs::write(proc.join("stat"), "cpu  1 0 1 1 1 0 0 0 0 0\ncpu0 1\ncpu1 1\n").expect("writable");
    assert_eq!(share(3_000), None, "not since before");
    assert_eq!(share(u64::MAX / 2), Some(1_000));
    std::fs::remove_dir_all(&dir).expect("ours");
}
