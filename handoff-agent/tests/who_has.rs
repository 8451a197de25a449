//! WHO-HAS: what a backend says of its connections, and that the question changes nothing.

mod common;

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use common::bench::*;
use common::net::*;
use common::wire::*;
use common::*;
use handoff_agent::bpf::abi::{Record, RecordState, SETTING_CLOCK_KNOWN};
use handoff_agent::sys::clock;
use handoff_agent::sys::netlink::Netlink;
use handoff_agent::sys::packet::PacketSocket;
use handoff_proto::header::Detail;
use handoff_proto::tcp::TcpState;
use handoff_proto::{FRESHNESS_PAST, Generation, MessageType, Micros, Seq};
use smoltcp::wire::TcpControl;

const RESPONSE: &[u8] = b"HTTP/1.0 200 OK\r\n\r\nhello";
/// After REQUEST and RESPONSE.
const CLIENT_NEXT: Seq = BASE_SEQ.add(18);
const SERVER_NEXT: Seq = BASE_ACK.add(24);

/// Asks, and reads the answer: same message, other type, detail, generation and numbers.
#[track_caller]
fn asked(wire: &Wire, client: &Client, counter: &str) -> handoff_proto::Header {
    wire.counted(&client.question(), &[("received", 1), ("asked", 1), (counter, 1)]);
    let answer = wire.await_answer(client);
    assert_eq!(answer.inner, client.asking_packet(), "the quote as it came");
    assert_eq!((answer.header.lcore, answer.header.issued), (client.header().lcore, client.issued));
    answer.header
}

#[track_caller]
fn assert_mine(wire: &Wire, client: &Client, state: TcpState, rcv_nxt: Seq, snd_nxt: Seq) {
    let mine = asked(wire, client, "asked_mine");
    assert_eq!((mine.kind, mine.detail), (MessageType::Mine, Detail::State(state)));
    assert_eq!((mine.base_seq, mine.base_ack), (rcv_nxt, snd_nxt), "{state:?}");
}

/// A connection with a request and a response.
fn answered_connection(wire: &Wire, listener: &TcpListener, client: &Client) -> TcpStream {
    let mut stream = established(wire, listener, client);
    stream.write_all(RESPONSE).expect("connected");
    wire.await_reply(client, "response", |reply| reply.payload == RESPONSE);
    stream
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_living_connection_tells_its_numbers() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(41_001);
    let mut stream = answered_connection(&wire, &listener, &client);
    // Whatever the switch remembers, or nothing: here is what the record says.
    for (generation, seq) in
        [(client.generation, BASE_SEQ), (Generation(0), CLIENT_NEXT), (Generation(1), Seq(5))]
    {
        let ask = Client { generation, seq, ..client };
        assert_mine(&wire, &ask, TcpState::Established, CLIENT_NEXT, SERVER_NEXT);
        let mine = asked(&wire, &ask, "asked_mine");
        assert_eq!(mine.generation, client.generation);
    }
    // A packet of the client further: one more byte.
    wire.send(&Client { seq: CLIENT_NEXT, ack: SERVER_NEXT, ..client }.frame(b"+"));
    assert_reads(&mut stream, b"+");
    assert_mine(&wire, &client, TcpState::Established, CLIENT_NEXT.add(1), SERVER_NEXT);
    // Of a socket no record speaks of, the generation is not known; nor if the record speaks of what was refused.
    wire.programs.maps().forget(&client.tuple).expect("deletable");
    assert_eq!(asked(&wire, &client, "asked_mine").generation, Generation(0));
    let refused = Record { generation: 7, state: RecordState::Refused as u32, ..Record::default() };
    wire.programs.maps().set_record(&client.tuple, &refused).expect("writable");
    assert_eq!(asked(&wire, &client, "asked_mine").generation, Generation(0));
    assert_nothing_to_accept(&listener);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_closing_connection_tells_its_state() {
    let (wire, listener) = (Wire::new(), listen());
    // The socket of a process, and what the kernel keeps of one whose process is gone.
    for (port, orphaned) in [(41_010, false), (41_011, true)] {
        let client = wire.client(port);
        let stream = answered_connection(&wire, &listener, &client);
        if orphaned {
            drop(stream);
        } else {
            stream.shutdown(Shutdown::Write).expect("connected");
            std::mem::forget(stream); // until the test ends
        }
        wire.await_reply(&client, "FIN", |reply| reply.syn_fin_rst && !reply.rst);
        assert_mine(&wire, &client, TcpState::FinWait1, CLIENT_NEXT, SERVER_NEXT.add(1));
        let ack = Client { seq: CLIENT_NEXT, ack: SERVER_NEXT.add(1), control: TcpControl::None, ..client };
        wire.send(&ack.plain_frame(b""));
        assert_mine(&wire, &client, TcpState::FinWait2, CLIENT_NEXT, SERVER_NEXT.add(1));
        let fin = Client { control: TcpControl::Fin, ..ack };
        wire.send(&fin.plain_frame(b""));
        wire.await_reply(&client, "acknowledgment", |reply| reply.ack == CLIENT_NEXT.add(1));
        assert_mine(&wire, &client, TcpState::TimeWait, CLIENT_NEXT.add(1), SERVER_NEXT.add(1));
        assert_eq!(asked(&wire, &client, "asked_mine").generation, client.generation);
    }
    // The client closes first.
    let client = wire.client(41_012);
    let stream = answered_connection(&wire, &listener, &client);
    let fin = Client { seq: CLIENT_NEXT, ack: SERVER_NEXT, control: TcpControl::Fin, ..client };
    wire.send(&fin.plain_frame(b""));
    wire.await_reply(&client, "acknowledgment", |reply| reply.ack == CLIENT_NEXT.add(1));
    assert_mine(&wire, &client, TcpState::CloseWait, CLIENT_NEXT.add(1), SERVER_NEXT);
    drop(stream);
    wire.await_reply(&client, "FIN", |reply| reply.syn_fin_rst && !reply.rst);
    assert_mine(&wire, &client, TcpState::LastAck, CLIENT_NEXT.add(1), SERVER_NEXT.add(1));
    let last =
        Client { seq: CLIENT_NEXT.add(1), ack: SERVER_NEXT.add(1), control: TcpControl::None, ..client };
    wire.send(&last.plain_frame(b""));
    let gone = asked(&wire, &client, "asked_not_here");
    assert_eq!((gone.kind, gone.detail), (MessageType::Gone, Detail::NoSocket));
    assert_eq!(gone.generation, client.generation, "the newest one known");
}

/// Both close at the same moment: each has the other's FIN before the acknowledgment of its own.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_connection_that_both_close_tells_its_state() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(41_013);
    drop(answered_connection(&wire, &listener, &client));
    wire.await_reply(&client, "FIN", |reply| reply.syn_fin_rst && !reply.rst);
    let fin = Client { seq: CLIENT_NEXT, ack: SERVER_NEXT, control: TcpControl::Fin, ..client };
    wire.send(&fin.plain_frame(b""));
    assert_mine(&wire, &client, TcpState::Closing, CLIENT_NEXT.add(1), SERVER_NEXT.add(1));
}

/// A host that connects from the VIP's address and port to a client: such a socket is no handoff's, but it is there.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_connection_the_host_began_itself_tells_its_state() {
    let wire = Wire::new();
    let client = wire.client(41_014);
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::NONBLOCK,
        None,
    )
    .expect("a socket");
    rustix::net::bind(&socket, &SocketAddr::from((VIP, PORT))).expect("a free namespace");
    let there = SocketAddr::new(client.tuple.client, client.tuple.client_port);
    assert_eq!(rustix::net::connect(&socket, &there), Err(rustix::io::Errno::INPROGRESS));
    let syn = wire.await_reply(&client, "SYN", |reply| reply.syn_fin_rst);
    assert_mine(&wire, &client, TcpState::SynSent, Seq(0), syn.seq.add(1));
    assert_eq!(asked(&wire, &client, "asked_mine").generation, Generation(0));
    // The client begins it as well, at the same moment (RFC 9293, section 3.5).
    let too = Client { control: TcpControl::Syn, timestamps: None, ..client };
    wire.send(&too.plain_frame(b""));
    wire.await_reply(&client, "SYN-ACK", |reply| reply.syn_fin_rst && reply.ack == BASE_SEQ.add(1));
    assert_mine(&wire, &client, TcpState::SynReceived, BASE_SEQ.add(1), syn.seq.add(1));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_question_opens_nothing() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(41_020); // its numbers are those of a base segment
    let gone = asked(&wire, &client, "asked_not_here");
    let want = handoff_proto::Header {
        kind: MessageType::Gone,
        detail: Detail::NoSocket,
        generation: Generation(0),
        tsval: 0,
        tsecr: 0,
        ..client.header()
    };
    assert_eq!(gone, want);
    assert_eq!(wire.state(&client), None);
    assert_nothing_to_accept(&listener);
    // Nor does it stand in the way of what comes then.
    established(&wire, &listener, &client);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_handshake_of_the_kernels_own_is_no_connection() {
    let (wire, _listener) = (Wire::new(), listen());
    // A SYN that comes where no program sees it.
    let netlink = Netlink::open().expect("netlink");
    netlink.add_veth("away0", "away1").expect("root makes interfaces");
    let [away0, away1] =
        ["away0", "away1"].map(|name| netlink.interface(name).expect("readable").expect("there"));
    netlink.set_up(away0.index).expect("settable");
    netlink.set_up(away1.index).expect("settable");
    let client = wire.client(41_030);
    let syn = Client { control: TcpControl::Syn, timestamps: None, destination_mac: away0.mac, ..client };
    PacketSocket::open(away1.index).expect("packet socket").send(&syn.plain_frame(b"")).expect("up");
    wire.await_reply(&client, "SYN-ACK", |reply| reply.syn_fin_rst && reply.ack == BASE_SEQ.add(1));
    assert_eq!(asked(&wire, &client, "asked_not_here").kind, MessageType::Gone);
}

/// The record decides whether there may be a socket in a moment.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn an_unborn_connection_is_not_denied() {
    use RecordState::{Assigned, Born, Healing, Killed, Refused};
    let programs = bench();
    let maps = programs.maps();
    let (now, earlier) = (0, 150_000);
    let cases = [
        // record, how long ago, generation asked for relative to it or none, is it denied
        (Assigned, now, Some(0), false),
        (Assigned, now, Some(-5), false),
        (Assigned, now, None, false),
        (Assigned, now, Some(5), true),
        (Assigned, earlier, Some(0), true),
        (Assigned, earlier, None, true),
        (Healing, now, Some(0), false),
        (Healing, now, None, false),
        (Healing, earlier, Some(0), true),
        (Born, now, Some(0), true),
        (Refused, now, Some(0), true),
        (Killed, now, Some(0), true),
    ];
    for (port, (state, ago_us, relative, denied)) in (2000..).zip(cases) {
        println!("{state:?} {ago_us} {relative:?} -> {denied}");
        let mut client = Client::new(port);
        let record = Record {
            generation: client.generation.0,
            changed_us: clock::monotonic_us() - ago_us,
            state: state as u32,
            ..Record::default()
        };
        maps.set_record(&client.tuple, &record).expect("writable");
        client.generation =
            relative.map_or(Generation(0), |by| Generation(record.generation.wrapping_add_signed(by)));
        let outcome = run(&programs, &client.question());
        if denied {
            assert_eq!(outcome.counted, [("received", 1), ("asked", 1), ("asked_not_here", 1)]);
            let gone = handoff_agent::frame::answer(&outcome.frame, &client.tuple, &tag_key()).expect("ours");
            assert_eq!((gone.header.kind, gone.header.detail), (MessageType::Gone, Detail::NoSocket));
            assert_eq!(gone.header.generation.0, record.generation);
        } else {
            assert_eq!(outcome.verdict, DROP);
            assert_eq!(outcome.counted, [("received", 1), ("asked", 1), ("asked_unborn", 1)]);
        }
        assert_eq!(maps.record(&client.tuple).expect("readable"), Some(record), "a question changes nothing");
    }
    // Who asks of none in particular means any: also one that would be older than 0, if 0 were a generation.
    let client = Client { generation: Generation(0), ..Client::new(1999) };
    let record = Record {
        generation: u64::MAX - 5,
        changed_us: clock::monotonic_us(),
        state: Assigned as u32,
        ..Record::default()
    };
    maps.set_record(&client.tuple, &record).expect("writable");
    let outcome = run(&programs, &client.question());
    assert_eq!(outcome.counted, [("received", 1), ("asked", 1), ("asked_unborn", 1)]);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_connection_that_is_being_replaced_is_not_claimed() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(41_040);
    let _stream = established(&wire, &listener, &client);
    let newer = client.generation.0 + 1;
    let healing = |ago_us| Record {
        generation: newer,
        changed_us: clock::monotonic_us() - ago_us,
        state: RecordState::Healing as u32,
        ..Record::default()
    };
    wire.programs.maps().set_record(&client.tuple, &healing(0)).expect("writable");
    wire.counted(&client.question(), &[("received", 1), ("asked", 1), ("asked_unborn", 1)]);
    // It never ended: then it is there, and not of the newer generation.
    wire.programs.maps().set_record(&client.tuple, &healing(150_000)).expect("writable");
    assert_mine(&wire, &client, TcpState::Established, CLIENT_NEXT, BASE_ACK);
    assert_eq!(asked(&wire, &client, "asked_mine").generation, Generation(0));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn only_the_switch_may_ask_and_only_now() {
    let programs = bench();
    let client = Client::new(1001);
    let frame = client.question();
    assert_eq!(frame.len(), INNER + 40);
    for at in (HEADER..HEADER + 56).chain(INNER + 12..INNER + 20).chain(TCP..TCP + 4) {
        let outcome = run(&programs, &patched(&frame, at, &[frame[at] ^ 1]));
        assert_eq!((outcome.verdict, outcome.counted.len()), (DROP, 2), "byte {at}: {:?}", outcome.counted);
        assert!(outcome.counted.iter().all(|(name, _)| !name.starts_with("asked")), "byte {at}");
    }
    let old =
        Client { issued: client.issued.since(FRESHNESS_PAST).since(Micros::from_millis(200)), ..client };
    dropped(&programs, &old.question(), "stale");
    // With options or data it is none: the answer would be longer than the question.
    for payload in [&b""[..], b"12345678"] {
        let ask = Client { kind: MessageType::WhoHas, ..client };
        dropped(&programs, &ask.frame(payload), "inner_length");
    }
    set_flags(programs.maps(), |flags| flags & !SETTING_CLOCK_KNOWN);
    dropped(&programs, &frame, "clock_unknown");
}
