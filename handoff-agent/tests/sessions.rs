//! Which TLS sessions are learned of what a server says first: ServerHellos into the egress program, sessions out of the ring.

mod common;

use common::bench::*;
use common::tls::*;
use common::*;
use handoff_agent::bpf::abi::{RECORD_SELF_TEST, Record};
use handoff_agent::bpf::{Maps, NamedSession, PROGRAM_EGRESS, SessionRing};
use handoff_agent::frame::{Segment, client_packet};
use handoff_proto::{FourTuple, Seq, TlsSessionId};

const NAMED: &[(&str, u64)] = &[("sessions_named", 1)];
const UNNAMED: &[(&str, u64)] = &[("sessions_unnamed", 1)];
const UNREAD: &[(&str, u64)] = &[("sessions_unread", 1)];

/// A segment of the server, `from` bytes behind its first one.
fn reply(client: &Client, from: u32, payload: &[u8]) -> Vec<u8> {
    let FourTuple { client: address, client_port, vip, vip_port } = client.tuple;
    let back = FourTuple { client: vip, client_port: vip_port, vip: address, vip_port: client_port };
    let segment = Segment {
        seq: BASE_ACK.add(from),
        ack: Some(Seq(7)),
        control: smoltcp::wire::TcpControl::Psh,
        timestamps: Some((1, 2)),
        payload,
    };
    let mut frame = vec![2; 12];
    frame.extend_from_slice(&[8, 0]);
    frame.extend_from_slice(&client_packet(&back, &segment).expect("IPv4"));
    frame
}

/// A connection whose server has said nothing yet.
fn open(maps: &Maps, client: &Client) {
    let record = Record { generation: 1, state: 2, ..Record::default() };
    maps.set_record(&client.tuple, &record).expect("writable");
}

/// Lets the server say something first; returns what that was counted as, and the ids learned.
fn learned(
    programs: &handoff_agent::bpf::Programs,
    payload: &[u8],
) -> (Vec<(&'static str, u64)>, Vec<Vec<u8>>) {
    let client = Client::new(40_000);
    open(programs.maps(), &client);
    let outcome = run_in(programs, PROGRAM_EGRESS, &reply(&client, 0, payload));
    assert_eq!(outcome.verdict, NEXT, "nothing is ever held up");
    let ring = SessionRing::new(programs.maps()).expect("readable");
    let fetched = ring.take(10).expect("readable");
    assert!(fetched.iter().all(|session| session.vip == vip()), "{fetched:?}");
    (outcome.counted, fetched.iter().map(|session| session.id.as_bytes().to_vec()).collect())
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_named_session_is_learned_whatever_else_the_hello_says() {
    let programs = bench();
    let with = |extensions| ServerHello { extensions, ..ServerHello::named(32) };
    let many = |count| Some(vec![extension(65_000, &[1; 3]); count]);
    let renewing = || with(Some(vec![extension(35, &[])]));
    let certificate = message(11, &[7; 900]);
    for (what, hello, said) in [
        ("as nginx says it", ServerHello::named(32), ServerHello::named(32).record()),
        ("an id of one byte", ServerHello::named(1), ServerHello::named(1).record()),
        ("no extensions", with(None), with(None).record()),
        ("an empty list of extensions", with(Some(vec![])), with(Some(vec![])).record()),
        ("as many extensions as are read", with(many(32)), with(many(32)).record()),
        (
            "TLS 1.0",
            ServerHello { version: [3, 1], ..ServerHello::named(32) },
            ServerHello { version: [3, 1], ..ServerHello::named(32) }.record(),
        ),
        (
            "the client's own id, repeated with a ticket that is renewed (RFC 5077, section 3.4)",
            renewing(),
            renewing().record(),
        ),
        ("more records behind it", ServerHello::named(32), {
            [ServerHello::named(32).record(), record(&certificate), record(&message(14, &[]))].concat()
        }),
        ("more messages in its record", ServerHello::named(32), {
            record(&[ServerHello::named(32).message(), certificate.clone()].concat())
        }),
        ("a record that goes on in the next segment", ServerHello::named(32), {
            let whole = record(&[ServerHello::named(32).message(), certificate].concat());
            whole[..whole.len() - 500].to_vec()
        }),
    ] {
        assert_eq!(learned(&programs, &said), (NAMED.to_vec(), vec![hello.id]), "{what}");
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_names_no_session_to_come_back_to_is_counted_and_not_learned() {
    let programs = bench();
    let with =
        |extensions: Vec<Vec<u8>>| ServerHello { extensions: Some(extensions), ..ServerHello::named(32) };
    let ticket =
        ServerHello { id: vec![], extensions: Some(vec![extension(35, &[])]), ..ServerHello::named(0) };
    let mut last = usual_extensions();
    last.push(supported_versions());
    for (what, hello) in [
        ("tickets (RFC 5077)", ticket),
        ("TLS 1.3, which repeats the client's id", with(vec![supported_versions(), extension(51, &[9; 36])])),
        ("TLS 1.3, told last", with(last)),
        ("TLS 1.3, told behind much else", {
            let mut late = vec![extension(65_000, &[]); 31];
            late.push(supported_versions());
            with(late)
        }),
    ] {
        assert_eq!(learned(&programs, &hello.record()), (UNNAMED.to_vec(), vec![]), "{what}");
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_cannot_be_read_is_counted_and_not_learned() {
    let programs = bench();
    let good = ServerHello::named(32);
    let whole = good.record();
    let extensions_at = 5 + 4 + 2 + 32 + 1 + 32 + 3;
    let long_id = ServerHello { id: vec![9; 33], ..good.clone() };
    let two_records = {
        let (first, rest) = (&good.message()[..60], &good.message()[60..]);
        [record(first), record(rest)].concat()
    };
    let grown = |at: usize, by: u8| patched(&whole, at, &[whole[at] + by]);
    for (what, said) in [
        ("an id of 33 bytes", long_id.record()),
        ("an id of 255 bytes in a hello that is shorter", patched(&whole, 43, &[255])),
        (
            "an id that leaves no room for the rest",
            patched(&record(&message(2, &good.body()[..70])), 43, &[33]),
        ),
        ("two records", two_records),
        ("two records, the second beginning within an extension", {
            let hello = ServerHello { extensions: Some(vec![extension(65_000, &[1; 20])]), ..good.clone() };
            let whole = hello.message();
            let (first, rest) = whole.split_at(whole.len() - 10);
            [record(first), record(rest)].concat()
        }),
        ("a message longer than its record", grown(8, 1)),
        ("a message shorter than its extensions", patched(&whole, 8, &[whole[8] - 1])),
        ("a message that ends within the id", record(&message(2, &good.body()[..40]))),
        ("a message that ends behind the id", record(&message(2, &good.body()[..67]))),
        ("a message with one byte of extensions", record(&message(2, &good.body()[..71]))),
        ("extensions longer than the message", grown(extensions_at + 1, 1)),
        ("extensions shorter than the message", patched(&whole, extensions_at + 1, &[0])),
        ("an extension longer than all of them", patched(&whole, extensions_at + 4, &[0xff, 0xff])),
        ("an extension cut short", {
            let torn = ServerHello { extensions: Some(vec![vec![0, 23, 0]]), ..good.clone() };
            torn.record()
        }),
        ("more extensions than are read", {
            let many = vec![extension(65_000, &[]); 33];
            ServerHello { extensions: Some(many), ..good.clone() }.record()
        }),
        ("SSL 3.0", ServerHello { version: [3, 0], ..good.clone() }.record()),
        ("a version nobody speaks", ServerHello { version: [3, 4], ..good.clone() }.record()),
        ("another major version", ServerHello { version: [2, 3], ..good.clone() }.record()),
    ] {
        assert_eq!(learned(&programs, &said), (UNREAD.to_vec(), vec![]), "{what}");
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn of_every_truncation_only_the_whole_hello_is_learned() {
    let programs = bench();
    let hello = ServerHello::named(32);
    let whole = hello.record();
    for length in 0..=whole.len() {
        let (counted, ids) = learned(&programs, &whole[..length]);
        let want = match length {
            0..6 => &[], // may be anything
            _ if length < whole.len() => UNREAD,
            _ => NAMED,
        };
        assert_eq!((&counted[..], ids.len()), (want, usize::from(want == NAMED)), "{length} bytes");
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_is_no_server_hello_is_none_of_its_business() {
    let programs = bench();
    let hello = ServerHello::named(32);
    for (what, said) in [
        ("HTTP", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx".to_vec()),
        ("an alert", patched(&hello.record(), 0, &[21])),
        ("a HelloRequest", record(&message(0, &[]))),
        ("a ClientHello", record(&message(1, &hello.body()))),
        ("a record of another major version", patched(&hello.record(), 1, &[2])),
    ] {
        assert_eq!(learned(&programs, &said), (vec![], vec![]), "{what}");
    }
}

/// An IPv4 header that promises more than there is: of another program's making, for no stack sends such.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn lengths_are_not_believed_beyond_the_frame() {
    let programs = bench();
    let client = Client::new(40_000);
    let whole = ServerHello::named(32).record();
    for length in [6, 30, 43, 44, 60, 76, 78, 79, 81, 85] {
        open(programs.maps(), &client);
        let frame = patched(&reply(&client, 0, &whole[..length]), OUTER + 2, &1_400u16.to_be_bytes());
        let counted = run_in(&programs, PROGRAM_EGRESS, &frame).counted;
        assert_eq!(counted, UNREAD, "{length} bytes of {}", whole.len());
    }
    let ring = SessionRing::new(programs.maps()).expect("readable");
    assert_eq!(ring.take(100).expect("readable"), []);
}

/// Only the beginning of what a server says is looked at, and only of connections that were handed off.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_hello_counts_at_the_beginning_of_a_connection_handed_off() {
    let programs = bench();
    let maps = programs.maps();
    let ring = SessionRing::new(maps).expect("readable");
    let hello = ServerHello::named(5);
    let client = Client::new(40_000);
    let egress = |frame: &[u8]| run_in(&programs, PROGRAM_EGRESS, frame).counted;
    assert_eq!(egress(&reply(&client, 0, &hello.record())), [], "of no record");
    open(maps, &client);
    assert_eq!(egress(&reply(&client, 0, b"")), [], "an acknowledgment: nothing is said yet");
    assert_eq!(egress(&reply(&client, 0, b"220 ready\r\n")), []);
    assert_eq!(egress(&reply(&client, 11, &hello.record())), [], "behind something else, as STARTTLS has it");
    // Over two segments: neither is more than a part.
    open(maps, &client);
    let whole = hello.record();
    let (first, second) = whole.split_at(30);
    assert_eq!(egress(&reply(&client, 0, first)), UNREAD);
    assert_eq!(egress(&reply(&client, 30, second)), []);
    open(maps, &client);
    let frame = reply(&client, 0, &hello.record());
    assert_eq!(egress(&patched(&frame, OUTER + 20, &[0, 81])), [], "of another port");
    assert_eq!(egress(&frame), NAMED);
    assert_eq!(egress(&frame), [], "sent again");
    let of_self_test = Record { flags: RECORD_SELF_TEST, state: 2, ..Record::default() };
    maps.set_record(&client.tuple, &of_self_test).expect("writable");
    assert_eq!(egress(&frame), [], "the self-test's own");
    let id = TlsSessionId::new(&[1, 2, 3, 4, 5]).expect("five bytes");
    assert_eq!(ring.take(10).expect("readable"), [NamedSession { vip: vip(), id }]);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn sessions_nobody_fetches_are_bounded_and_what_is_lost_is_counted() {
    const COUNT: u64 = 1_500;
    let programs = bench();
    let client = Client::new(40_000);
    for number in 0..COUNT {
        open(programs.maps(), &client);
        let id = number.to_be_bytes().to_vec();
        let hello = ServerHello { id, ..ServerHello::named(8) };
        run_in(&programs, PROGRAM_EGRESS, &reply(&client, 0, &hello.record()));
    }
    let counters = programs.maps().counters().expect("readable");
    let (named, lost) = (counters.value("sessions_named"), counters.value("sessions_lost"));
    // 64 KiB, of which each takes 56 bytes and 8 of a header.
    assert_eq!((named, lost), (65_536 / 64 - 1, COUNT - named));
    let ring = SessionRing::new(programs.maps()).expect("readable");
    let first = ring.take(3).expect("readable");
    let numbers: Vec<_> = first.iter().map(|session| session.id.as_bytes().to_vec()).collect();
    assert_eq!(numbers, [0u64, 1, 2].map(|number| number.to_be_bytes().to_vec()), "no more than asked for");
    let rest = ring.take(10_000).expect("readable");
    assert_eq!(u64::try_from(rest.len()).expect("small"), named - 3, "those of the beginning, in order");
    assert_eq!(learned(&programs, &ServerHello::named(4).record()), (NAMED.to_vec(), vec![vec![1, 2, 3, 4]]));
}
