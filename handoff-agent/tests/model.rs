//! What a model of a backend may rely on, pinned on the kernel: how a socket made by a handoff begins, what it answers,
//! and how it ends. docs/TESTING.md has the table of rules and tests.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use common::net::*;
use common::wire::*;
use common::*;
use handoff_agent::frame::{Reply, reply};
use handoff_proto::header::Detail;
use handoff_proto::tcp::TcpState;
use handoff_proto::{MessageType, Seq};
use smoltcp::wire::{Ipv4Packet, TcpControl, TcpOption, TcpPacket};

/// After REQUEST.
const CLIENT_NEXT: Seq = BASE_SEQ.add(18);

/// Asks what the backend has of the connection: its state, rcv_nxt and snd_nxt.
#[track_caller]
fn asked(wire: &Wire, client: &Client) -> (Detail, Seq, Seq) {
    wire.send(&client.question());
    let mine = wire.await_answer(client).header;
    assert_eq!(mine.kind, MessageType::Mine);
    (mine.detail, mine.base_seq, mine.base_ack)
}

/// The next segment without data that the server sends the client.
#[track_caller]
fn acknowledgment(wire: &Wire, client: &Client) -> Reply {
    let reply = wire.await_reply(client, "acknowledgment", |reply| reply.payload.is_empty());
    assert!(!reply.syn_fin_rst, "{reply:?}");
    reply
}

/// A plain segment of the client, which has seen all that the server said up to `ack`.
fn segment(client: &Client, seq: Seq, ack: Seq, control: TcpControl) -> Client {
    Client { seq, ack, control, ..*client }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_socket_begins_behind_the_data_of_its_base_segment() {
    let (wire, listener) = (Wire::new(), listen());
    let cases: [(&[u8], TcpControl, u32, TcpState); 4] = [
        (b"", TcpControl::None, 0, TcpState::Established),
        (b"G", TcpControl::None, 1, TcpState::Established),
        (REQUEST, TcpControl::Psh, 18, TcpState::Established),
        (REQUEST, TcpControl::Fin, 19, TcpState::CloseWait),
    ];
    for (port, (payload, control, taken, state)) in (47_001..).zip(cases) {
        println!("{} bytes, {control:?}", payload.len());
        let client = Client { control, ..wire.client(port) };
        wire.send(&client.frame(payload));
        let (mut stream, _) = accept(&listener);
        assert_reads(&mut stream, payload);
        assert_eq!(asked(&wire, &client), (Detail::State(state), BASE_SEQ.add(taken), BASE_ACK));
        if control == TcpControl::Fin {
            assert_eq!(stream.read(&mut [0; 1]).expect("an end"), 0);
        }
        // The server's first byte is that behind the switch's SYN-ACK.
        stream.write_all(b"hello").expect("connected");
        let reply = wire.await_reply(&client, "response", |reply| reply.payload == b"hello");
        assert_eq!((reply.seq, reply.ack), (BASE_ACK, BASE_SEQ.add(taken)));
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_comes_before_its_base_segment_is_lost_and_what_comes_again_is_not() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(47_010);
    let more = segment(&client, CLIENT_NEXT, BASE_ACK, TcpControl::Psh);
    wire.counted(&more.frame(b"more"), &[("received", 1), ("not_base", 1)]);
    assert_nothing_to_accept(&listener);
    let mut stream = established(&wire, &listener, &client);
    wire.counted(&more.frame(b"more"), &[("received", 1), ("delivered", 1)]);
    assert_reads(&mut stream, b"more");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_copy_of_the_base_segment_draws_an_acknowledgment_and_no_socket() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(47_020);
    let mut stream = established(&wire, &listener, &client);
    stream.write_all(b"hello").expect("connected");
    wire.await_reply(&client, "response", |reply| reply.payload == b"hello");
    for _ in 0..3 {
        wire.counted(&client.frame(REQUEST), &[("received", 1), ("delivered", 1)]);
        let reply = acknowledgment(&wire, &client);
        assert_eq!((reply.seq, reply.ack), (BASE_ACK.add(5), CLIENT_NEXT));
    }
    // Longer than the first, as a retransmission may be: what is new in it is taken.
    wire.counted(&client.frame(b"GET / HTTP/1.0\r\n\r\nand more"), &[("received", 1), ("delivered", 1)]);
    assert_reads(&mut stream, b"and more");
    assert_nothing_to_accept(&listener);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_socket_puts_segments_in_order_and_says_where_it_is() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(47_030);
    let mut stream = established(&wire, &listener, &client);
    let third = segment(&client, CLIENT_NEXT.add(6), BASE_ACK, TcpControl::Psh);
    wire.send(&third.frame(b"third"));
    assert_eq!(acknowledgment(&wire, &client).ack, CLIENT_NEXT);
    assert_eq!(asked(&wire, &client).1, CLIENT_NEXT, "MINE says what is whole");
    wire.send(&segment(&client, CLIENT_NEXT, BASE_ACK, TcpControl::Psh).frame(b"second"));
    assert_reads(&mut stream, b"secondthird");
    assert_eq!(asked(&wire, &client).1, CLIENT_NEXT.add(11));
    // A keepalive probe is one byte behind (RFC 9293, section 3.8.4).
    wire.send(&segment(&client, CLIENT_NEXT.add(10), BASE_ACK, TcpControl::None).plain_frame(b""));
    assert_eq!(acknowledgment(&wire, &client).ack, CLIENT_NEXT.add(11));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_reset_counts_at_rcv_nxt_alone_and_draws_no_answer() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(47_040);
    let mut stream = established(&wire, &listener, &client);
    let reset = |seq| segment(&client, seq, BASE_ACK, TcpControl::Rst).plain_frame(b"");
    // Within the window it draws a challenge (RFC 5961, section 3.2).
    wire.send(&reset(CLIENT_NEXT.add(1)));
    assert_eq!(acknowledgment(&wire, &client).ack, CLIENT_NEXT);
    wire.send(&segment(&client, CLIENT_NEXT, BASE_ACK, TcpControl::Psh).plain_frame(b"alive"));
    assert_reads(&mut stream, b"alive");
    wire.send(&reset(CLIENT_NEXT.add(5)));
    let error = stream.read(&mut [0; 1]).expect_err("reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    wire.assert_quiet(&client);
    wire.counted(&client.question(), &[("received", 1), ("asked", 1), ("asked_not_here", 1)]);
}

/// The response is written and the server's FIN acknowledged: what the kernel keeps of it still speaks for it.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn time_wait_answers_old_segments_with_where_it_ended() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(47_050);
    let mut stream = established(&wire, &listener, &client);
    stream.write_all(b"hello").expect("connected");
    wire.await_reply(&client, "response", |reply| reply.payload == b"hello");
    drop(stream);
    wire.await_reply(&client, "FIN", |reply| reply.syn_fin_rst && !reply.rst);
    let fin = segment(&client, CLIENT_NEXT, BASE_ACK.add(6), TcpControl::Fin);
    wire.send(&fin.plain_frame(b""));
    wire.await_reply(&client, "acknowledgment", |reply| reply.ack == CLIENT_NEXT.add(1));
    let end = (Detail::State(TcpState::TimeWait), CLIENT_NEXT.add(1), BASE_ACK.add(6));
    assert_eq!(asked(&wire, &client), end);
    // The client's FIN again, without a tunnel and in one; the handoff, from the beginning.
    for frame in [fin.plain_frame(b""), fin.frame(b""), client.frame(REQUEST)] {
        wire.send(&frame);
        let reply = acknowledgment(&wire, &client);
        assert_eq!((reply.ack, reply.seq), (CLIENT_NEXT.add(1), BASE_ACK.add(6)));
    }
    assert_eq!(asked(&wire, &client), end);
    assert_nothing_to_accept(&listener);
}

/// A process that closes without having read all is not polite: the client is reset (RFC 2525, section 2.17).
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_server_that_closes_with_bytes_unread_resets() {
    let (wire, listener) = (Wire::new(), listen());
    let client = wire.client(47_060);
    wire.send(&client.frame(REQUEST));
    let (stream, _) = accept(&listener);
    wire.await_reply(&client, "acknowledgment", |reply| reply.ack == CLIENT_NEXT);
    drop(stream);
    wire.await_reply(&client, "RST", |reply| reply.rst);
    wire.counted(&client.question(), &[("received", 1), ("asked", 1), ("asked_not_here", 1)]);
    // What the client had under way is told to the switch, and draws no second reset.
    let late = segment(&client, CLIENT_NEXT, BASE_ACK, TcpControl::Psh);
    wire.counted(&late.plain_frame(b"late"), &[("plain_no_socket", 1), ("plain_reported", 1)]);
    wire.assert_quiet(&client);
}

/// What a frame of the server's says.
struct Data {
    bytes: usize,
    window: u16,
    timestamps: Option<(u32, u32)>,
}

impl Data {
    fn read(frame: &[u8]) -> Self {
        let ip = Ipv4Packet::new_checked(&frame[14..]).expect("IPv4");
        let tcp = TcpPacket::new_checked(ip.payload()).expect("TCP");
        let mut rest = tcp.options();
        let mut timestamps = None;
        while !rest.is_empty() {
            let (after, option) = TcpOption::parse(rest).expect("whole options");
            if let TcpOption::TimeStamp { tsval, tsecr } = option {
                timestamps = Some((tsval, tsecr));
            }
            rest = after;
        }
        Self { bytes: tcp.payload().len(), window: tcp.window_len(), timestamps }
    }
}

/// Sends the client more than one segment, and returns those of the first flight.
fn flight(wire: &Wire, client: &Client, stream: &mut TcpStream) -> Vec<Data> {
    stream.write_all(&[7; 5_000]).expect("connected");
    let mut frames = Vec::<Data>::new();
    while frames.iter().map(|data| data.bytes).sum::<usize>() < 5_000 {
        frames.push(wire.await_frame("data", |frame| {
            let ours =
                reply(frame).is_ok_and(|reply| reply.tuple == client.tuple && !reply.payload.is_empty());
            ours.then(|| Data::read(frame))
        }));
    }
    frames
}

/// The server goes on with what the switch negotiated for it.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_socket_keeps_to_what_was_negotiated() {
    let (wire, listener) = (Wire::new(), listen());
    std::process::Command::new("ethtool")
        .args(["-K", "data0", "tso", "off", "gso", "off"])
        .status()
        .expect("ethtool");
    for (port, mss, timestamps) in [(47_070, 1376, true), (47_071, 1376, false), (47_072, 536, true)] {
        println!("{mss} {timestamps}");
        let mut client = wire.client(port);
        client.negotiated.mss = mss;
        client.negotiated.timestamps = timestamps;
        client.timestamps = client.timestamps.filter(|_| timestamps);
        let mut stream = established(&wire, &listener, &client);
        let frames = flight(&wire, &client, &mut stream);
        // The MSS counts options as payload (RFC 6691): 12 bytes of timestamps.
        let largest = usize::from(mss) - if timestamps { 12 } else { 0 };
        assert_eq!(frames.iter().map(|data| data.bytes).max(), Some(largest));
        for data in frames {
            // Scaled by what the switch announced, 7: room for a usual request, and not for much more.
            let window = u32::from(data.window) << 7;
            assert!((20_000..=70_000).contains(&window), "{window}");
            // It counts on from what the client echoed of the switch's clock, in milliseconds (RFC 7323).
            assert_eq!(data.timestamps.is_some(), timestamps);
            if let (Some((tsval, tsecr)), Some((sent, echoed))) = (data.timestamps, client.timestamps) {
                assert!(tsecr == sent && (echoed..echoed + 2_000).contains(&tsval), "{tsval} {tsecr}");
            }
        }
        stream.shutdown(Shutdown::Both).expect("connected");
    }
}
