//! A handoff that comes late, twice, or from somebody who kept it: no request is run a second time, no connection ends.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Barrier;
use std::thread;

use common::bench::{bench, dropped, run};
use common::net::*;
use common::wire::*;
use common::*;
use handoff_agent::bpf::abi::{Record, RecordState, SETTING_CLOCK_KNOWN};
use handoff_agent::frame::wrapped;
use handoff_agent::sys::clock;
use handoff_agent::sys::packet::PacketSocket;
use handoff_proto::header::Detail;
use handoff_proto::{FRESHNESS_FUTURE, FRESHNESS_PAST, Generation, Header, MessageType, Micros};
use smoltcp::wire::TcpControl;

/// Client and server close, the client first, so that no TIME_WAIT is left.
fn closed(wire: &Wire, client: &Client, mut stream: TcpStream) {
    let fin = Client { seq: BASE_SEQ.add(18), control: TcpControl::Fin, ..*client };
    wire.send(&fin.plain_frame(b""));
    assert_eq!(stream.read(&mut [0; 1]).expect("an end"), 0);
    drop(stream);
    wire.await_reply(client, "FIN", |reply| reply.syn_fin_rst && !reply.rst);
    let last = Client { seq: BASE_SEQ.add(19), ack: BASE_ACK.add(1), control: TcpControl::None, ..*client };
    wire.send(&last.plain_frame(b""));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_copy_that_comes_after_the_end_opens_nothing() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(44_001);
    let frame = client.frame(REQUEST);
    let stream = established(&wire, &listener, &client);
    closed(&wire, &client, stream);
    wire.counted(&frame, &[("received", 1), ("gone_no_socket", 1)]);
    wire.pass(Micros::from_millis(1_000));
    wire.counted(&frame, &[("received", 1), ("gone_no_socket", 1)]);
    wire.pass(FRESHNESS_PAST);
    wire.counted(&frame, &[("received", 1), ("stale", 1)]);
    // Forgotten by then, or not: it does not depend on the memory.
    wire.programs.maps().forget(&client.tuple).expect("deletable");
    wire.counted(&frame, &[("received", 1), ("stale", 1)]);
    wire.assert_quiet(&client);
    assert_nothing_to_accept(&listener);
}

/// A server that resets at once, whose kernel says nothing before: the RST tells that there was a socket.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_connection_that_only_ever_said_reset_was_born() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(44_010);
    let stream = established(&wire, &listener, &client);
    let unborn = Record {
        generation: client.generation.0,
        changed_us: clock::monotonic_us(),
        state: RecordState::Assigned as u32,
        ..Record::default()
    };
    wire.programs.maps().set_record(&client.tuple, &unborn).expect("writable");
    let abort = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the pointer is to a `linger` of that size, which lives during the call.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const abort).cast(),
            libc::socklen_t::try_from(size_of_val(&abort)).expect("small"),
        )
    };
    assert_eq!(result, 0);
    drop(stream);
    wire.await_reply(&client, "RST", |reply| reply.rst);
    assert_eq!(wire.state(&client), Some(RecordState::Born as u32));
    wire.counted(&client.frame(REQUEST), &[("received", 1), ("gone_no_socket", 1)]);
    assert_nothing_to_accept(&listener);
}

/// The connection came here, went elsewhere and came back; then the first handoff comes once more.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn the_first_handoff_does_not_end_a_later_one() {
    let (wire, listener) = (Wire::new(), listen());
    let first = wire.client(44_020);
    let frame = first.frame(REQUEST);
    let _old = established(&wire, &listener, &first);
    let later = Client { generation: Generation(first.generation.0 + 2_000), ..first };
    wire.counted(&later.frame(REQUEST), &[("received", 2), ("assigned", 1), ("born", 1), ("healed", 1)]);
    let (mut stream, _) = accept(&listener);
    assert_reads(&mut stream, REQUEST);
    for _ in 0..3 {
        wire.counted(&frame, &[("received", 1), ("gone_old_generation", 1)]);
        let gone = wire.await_answer(&first);
        assert_eq!((gone.header.kind, gone.header.generation), (MessageType::Gone, later.generation));
    }
    stream.write_all(b"still here").expect("connected");
    wire.await_reply(&later, "response", |reply| reply.payload == b"still here");
    wire.send(&Client { seq: BASE_SEQ.add(18), ..later }.frame(b"and heard"));
    assert_reads(&mut stream, b"and heard");
    wire.assert_quiet(&later);
    assert_nothing_to_accept(&listener);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn copies_that_race_become_one_connection() {
    const ROUNDS: u16 = 300;
    let (wire, listener) = (Wire::new(), listen());
    rustix::net::listen(&listener, 1024).expect("a longer queue");
    sysctl_core("somaxconn", "1024");
    rustix::net::listen(&listener, 1024).expect("a longer queue");
    let index = handoff_agent::sys::netlink::Netlink::open()
        .and_then(|netlink| netlink.interface("wire0"))
        .expect("readable")
        .expect("there")
        .index;
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        for processor in 0..2 {
            let (barrier, wire) = (&barrier, &wire);
            scope.spawn(move || {
                pin_to(processor);
                let socket = PacketSocket::open(index).expect("packet socket");
                for round in 0..ROUNDS {
                    let client = Client { generation: Generation(7), ..wire.client(45_000 + round) };
                    let frame = client.frame(REQUEST);
                    barrier.wait();
                    socket.send(&frame).expect("the wire is up");
                }
            });
        }
    });
    let accepted: Vec<TcpStream> = (0..ROUNDS).map(|_| accept(&listener).0).collect();
    assert_nothing_to_accept(&listener);
    let counters = wire.programs.maps().counters().expect("readable");
    assert_eq!((counters.value("assigned"), counters.value("born")), (u64::from(ROUNDS), u64::from(ROUNDS)));
    assert_eq!(counters.sum("refused"), 0, "a copy that is refused would be run elsewhere");
    assert_eq!(counters.sum("gone"), 0, "nor is one denied that lives");
    drop(accepted);
}

fn sysctl_core(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/core/{name}"), value).expect("a sysctl of our own namespace");
}

/// Keeps this thread on a processor, if there is one of that number.
fn pin_to(processor: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(processor);
    let _ = rustix::thread::sched_setaffinity(None, &set); // on one processor they race all the same, less often
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_was_refused_stays_refused() {
    let wire = Wire::new();
    let client = wire.client(44_030);
    let frame = client.frame(REQUEST);
    wire.counted(&frame, &[("received", 1), ("refused_no_listener", 1)]);
    let listener = listen(); // by now another backend has the request
    for time in [0, 500, 1_000] {
        wire.pass(Micros::from_millis(time));
        wire.counted(&frame, &[("received", 1), ("refused_again", 1)]);
    }
    wire.pass(FRESHNESS_PAST);
    wire.counted(&frame, &[("received", 1), ("stale", 1)]);
    assert_nothing_to_accept(&listener);
}

/// A refusal has the switch go elsewhere: not while a copy accepted before may yet become a socket.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_copy_is_not_refused_while_the_first_is_being_born() {
    let programs = bench(); // nothing listens: a reason to refuse
    let maps = programs.maps();
    let client = Client::new(1001);
    let assigned = |ago_us| Record {
        generation: client.generation.0,
        changed_us: clock::monotonic_us() - ago_us,
        state: RecordState::Assigned as u32,
        ..Record::default()
    };
    maps.set_record(&client.tuple, &assigned(0)).expect("writable");
    dropped(&programs, &client.frame(REQUEST), "overtaken");
    let state = |client: &Client| maps.record(&client.tuple).expect("readable").map(|record| record.state);
    assert_eq!(state(&client), Some(RecordState::Assigned as u32));
    maps.set_record(&client.tuple, &assigned(150_000)).expect("writable");
    let outcome = run(&programs, &client.frame(REQUEST));
    assert_eq!(outcome.counted, [("received", 1), ("refused_no_listener", 1)]);
    assert_eq!(state(&client), Some(RecordState::Refused as u32));
}

/// The agent was exchanged for one with other records, while the client waits for the response.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_connection_older_than_the_records_keeps_its_packets() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(44_040);
    let mut stream = established(&wire, &listener, &client);
    wire.begin_records_without(&client);
    let own = [("received", 1), ("delivered_unrecorded", 1)];
    // The retransmission, stamped anew; what follows; an acknowledgment.
    wire.counted(&Client { issued: switch_now(), ..client }.frame(REQUEST), &own);
    let next = Client { seq: BASE_SEQ.add(18), ..client };
    wire.counted(&next.frame(b"more"), &own);
    assert_reads(&mut stream, b"more");
    stream.write_all(b"hello").expect("connected");
    wire.await_reply(&client, "response", |reply| reply.payload == b"hello");
    let ack = Client { seq: BASE_SEQ.add(22), ack: BASE_ACK.add(5), control: TcpControl::None, ..client };
    wire.counted(&ack.frame(b""), &own);
    // Before the agent has its clock, too.
    set_flags(wire.programs.maps(), |flags| flags & !SETTING_CLOCK_KNOWN);
    wire.counted(&client.frame(REQUEST), &own);
    set_flags(wire.programs.maps(), |flags| flags | SETTING_CLOCK_KNOWN);
    // And when it closed, as long as the kernel remembers it.
    drop(stream);
    wire.await_reply(&client, "FIN", |reply| reply.syn_fin_rst && !reply.rst);
    let fin = Client { ack: BASE_ACK.add(6), control: TcpControl::Fin, ..ack };
    wire.counted(&fin.frame(b""), &own);
    wire.await_reply(&client, "acknowledgment", |reply| reply.ack == BASE_SEQ.add(23));
    wire.counted(&fin.frame(b""), &own);
    wire.counted(&client.frame(REQUEST), &own);
    assert_eq!(wire.state(&client), None, "nothing is made of it but deliveries");
    wire.assert_quiet(&client);
    assert_nothing_to_accept(&listener);
}

/// What looks like such a connection and is none.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_strange_socket_older_than_the_records_is_left_alone() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(44_050);
    let mut stream = established(&wire, &listener, &client);
    wire.begin_records_without(&client);
    // Numbers of another connection: the base segment's are ahead of the socket, far behind it, or acknowledge what it
    // never sent. Ahead, a later segment may be.
    const GIB: u32 = 1 << 30;
    for (seq, ack) in [(19, 0), (GIB, 0), (1 << 31, 0), (0, 1), (0, 1 << 31)] {
        println!("{seq} {ack}");
        let other = Client { seq: BASE_SEQ.add(seq), ack: BASE_ACK.add(ack), ..client };
        let header = Header { base_seq: other.seq, base_ack: other.ack, ..client.header() };
        let frame = wrapped(&other.path(), &header, &other.tuple, &tag_key(), &other.packet(REQUEST));
        wire.counted(&frame, &[("received", 1), ("refused_occupied", 1)]);
        wire.programs.maps().forget(&client.tuple).expect("deletable");
    }
    // Decided when these records had begun: it would have made its socket under them.
    let since = wire.programs.maps().settings().expect("readable").records_since_us;
    let decided = since.checked_add_signed(CLOCK_OFFSET_US).expect("small") + FRESHNESS_FUTURE.0 + 1;
    let newer = Client { generation: Generation(decided), ..client };
    wire.counted(&newer.frame(REQUEST), &[("received", 1), ("refused_occupied", 1)]);
    assert_eq!(wire.await_answer(&newer).header.detail, Detail::Occupied);
    wire.send(&Client { seq: BASE_SEQ.add(18), kind: MessageType::Forward, ..client }.frame(b"alive"));
    assert_reads(&mut stream, b"alive");
    assert_nothing_to_accept(&listener);
}
