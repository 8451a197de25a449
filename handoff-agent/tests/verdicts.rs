//! Tables for the ingress program where it sees no socket: what is known, what comes in, and what comes out, to the byte.
//!
//! The frames that should come out are built by the Rust side. Each table runs under `BPF_PROG_TEST_RUN`, in a network
//! namespace of its own; `sockets.rs` has what needs a connection.

mod common;

use std::net::TcpListener;

use common::bench::*;
use common::*;
use handoff_agent::bpf::abi::{Record, RecordState, SETTING_CLOCK_KNOWN, Settings, Window};
use handoff_agent::frame::answer;
use handoff_agent::sys::clock;
use handoff_proto::header::Detail;
use handoff_proto::{Generation, Header, MessageType};
use smoltcp::wire::TcpControl;

/// What becomes of a frame.
enum Out {
    Drop,
    /// To the end of the queue, as it came.
    Again,
    Refused(Detail),
    /// With the generation of the record, or the message's, or none.
    Gone(Detail, Known),
}

enum Known {
    Recorded,
    Asked,
    Nothing,
}

/// One line of a table: what is known of the 4-tuple, which message comes, what counts beside `received`, what comes out.
struct Line {
    what: &'static str,
    /// State, generation relative to the message's, age in microseconds.
    known: Option<(RecordState, i64, u64)>,
    message: fn(&Client) -> Vec<u8>,
    counted: &'static [&'static str],
    out: Out,
}

fn base(client: &Client) -> Vec<u8> {
    client.frame(REQUEST)
}

fn later(client: &Client) -> Vec<u8> {
    Client { seq: BASE_SEQ.add(18), ..*client }.frame(b"more")
}

fn base_with_reset(client: &Client) -> Vec<u8> {
    Client { control: TcpControl::Rst, ..*client }.frame(b"")
}

fn base_with_other_ack(client: &Client) -> Vec<u8> {
    Client { ack: BASE_ACK.add(1), ..*client }.frame(REQUEST)
}

fn forward(client: &Client) -> Vec<u8> {
    Client { kind: MessageType::Forward, ..*client }.frame(REQUEST)
}

fn question(client: &Client) -> Vec<u8> {
    client.question()
}

const NOW: u64 = 0;
/// Longer than what overtook its handoff waits for it, shorter than a birth.
const A_MOMENT_AGO: u64 = 50_000;
/// Longer than a birth may take.
const LONG_AGO: u64 = 150_000;

fn check(programs: &handoff_agent::bpf::Programs, port: u16, line: &Line) {
    println!("{}", line.what);
    let client = Client::new(port);
    let record = line.known.map(|(state, relative, age_us)| Record {
        generation: client.generation.0.wrapping_add_signed(relative),
        changed_us: clock::monotonic_us() - age_us,
        state: state as u32,
        detail: Detail::QueueFull.to_wire(),
        ..Record::default()
    });
    if let Some(record) = &record {
        programs.maps().set_record(&client.tuple, record).expect("writable");
    }
    let frame = (line.message)(&client);
    let outcome = run(programs, &frame);
    let counted: Vec<_> = ["received"].iter().chain(line.counted).map(|name| (*name, 1)).collect();
    assert_eq!(outcome.counted, counted);

    let came = Header::parse(&frame[HEADER..]).expect("a header of ours").0;
    let (verdict, want) = match &line.out {
        Out::Drop => (DROP, frame),
        Out::Again => (REDIRECT, frame),
        Out::Refused(detail) => {
            let header = Header { kind: MessageType::Refused, detail: *detail, ..came };
            (REDIRECT, answer_frame(&client, &header, &frame[INNER..]))
        }
        Out::Gone(detail, known) => {
            let generation = match known {
                Known::Recorded => Generation(record.expect("a record").generation),
                Known::Asked => client.generation,
                Known::Nothing => Generation(0),
            };
            let header = Header { kind: MessageType::Gone, detail: *detail, generation, ..came };
            (REDIRECT, answer_frame(&client, &header, &frame[INNER..INNER + 40]))
        }
    };
    assert_eq!((outcome.verdict, outcome.frame), (verdict, want));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn without_a_socket_each_message_has_its_answer() {
    use RecordState::{Assigned, Born, Healing, Refused};
    const NO_SOCKET: Out = Out::Gone(Detail::NoSocket, Known::Recorded);
    let lines = [
        Line {
            what: "a base segment of which nothing is known",
            known: None,
            message: base,
            counted: &["refused_no_listener"],
            out: Out::Refused(Detail::NoListener),
        },
        Line {
            what: "a later segment of which nothing is known",
            known: None,
            message: later,
            counted: &["not_base"],
            out: Out::Drop,
        },
        Line {
            what: "a base segment that resets",
            known: None,
            message: base_with_reset,
            counted: &["not_creating"],
            out: Out::Drop,
        },
        Line {
            what: "a base segment with another acknowledgment than the header's",
            known: None,
            message: base_with_other_ack,
            counted: &["not_creating"],
            out: Out::Drop,
        },
        Line {
            what: "a base segment that resets what is being made",
            known: Some((Assigned, 0, NOW)),
            message: base_with_reset,
            counted: &["not_creating"],
            out: Out::Drop,
        },
        Line {
            what: "a base segment that resets what makes room",
            known: Some((Healing, 0, NOW)),
            message: base_with_reset,
            counted: &["not_creating"],
            out: Out::Drop,
        },
        Line {
            what: "what overtook its handoff",
            known: Some((Assigned, 0, NOW)),
            message: later,
            counted: &["requeued"],
            out: Out::Again,
        },
        Line {
            what: "what overtook a handoff that makes room",
            known: Some((Healing, 0, NOW)),
            message: later,
            counted: &["requeued"],
            out: Out::Again,
        },
        Line {
            what: "what is too late to have overtaken anything",
            known: Some((Assigned, 0, A_MOMENT_AGO)),
            message: later,
            counted: &["not_base"],
            out: Out::Drop,
        },
        Line {
            what: "a copy while the first is being born, and there is a reason to refuse",
            known: Some((Assigned, 0, A_MOMENT_AGO)),
            message: base,
            counted: &["overtaken"],
            out: Out::Drop,
        },
        Line {
            what: "a copy of one that was never born",
            known: Some((Assigned, 0, LONG_AGO)),
            message: base,
            counted: &["refused_no_listener"],
            out: Out::Refused(Detail::NoListener),
        },
        Line {
            what: "an older generation",
            known: Some((Born, 1, NOW)),
            message: later,
            counted: &["gone_old_generation"],
            out: Out::Gone(Detail::OldGeneration, Known::Recorded),
        },
        Line {
            what: "a segment of what is over",
            known: Some((Born, 0, NOW)),
            message: later,
            counted: &["gone_no_socket"],
            out: NO_SOCKET,
        },
        Line {
            what: "a segment of what was refused",
            known: Some((Refused, 0, NOW)),
            message: later,
            counted: &["refused_again"],
            out: Out::Refused(Detail::QueueFull),
        },
        Line {
            what: "a forwarded segment of which nothing is known",
            known: None,
            message: forward,
            counted: &["gone_no_socket"],
            out: Out::Gone(Detail::NoSocket, Known::Asked),
        },
        Line {
            what: "a forwarded segment of what is over",
            known: Some((Born, -5, LONG_AGO)),
            message: forward,
            counted: &["gone_no_socket"],
            out: NO_SOCKET,
        },
        Line {
            what: "a forwarded segment of what was refused",
            known: Some((Refused, 0, NOW)),
            message: forward,
            counted: &["gone_no_socket"],
            out: NO_SOCKET,
        },
        Line {
            what: "a question of which nothing is known",
            known: None,
            message: question,
            counted: &["asked", "asked_not_here"],
            out: Out::Gone(Detail::NoSocket, Known::Nothing),
        },
        Line {
            what: "a question about what is being born",
            known: Some((Assigned, 0, A_MOMENT_AGO)),
            message: question,
            counted: &["asked", "asked_unborn"],
            out: Out::Drop,
        },
        Line {
            what: "a question about what was never born",
            known: Some((Assigned, 0, LONG_AGO)),
            message: question,
            counted: &["asked", "asked_not_here"],
            out: NO_SOCKET,
        },
        Line {
            what: "a question about what makes room",
            known: Some((Healing, 3, NOW)),
            message: question,
            counted: &["asked", "asked_unborn"],
            out: Out::Drop,
        },
    ];
    let programs = bench();
    for (port, line) in (2000..).zip(&lines) {
        check(&programs, port, line);
    }
    // It is the same with a listener, but for handoffs that it could take. Under BPF_PROG_TEST_RUN the kernel takes none:
    // that is a reason to refuse, too.
    let _listener = TcpListener::bind("0.0.0.0:80").expect("a free namespace");
    let refused = |out: &Out| matches!(out, Out::Refused(Detail::NoListener));
    for (port, line) in (3000..).zip(lines.iter().filter(|line| !refused(&line.out))) {
        check(&programs, port, line);
    }
}

/// A processor that stands still with a lock: nothing may come of a handoff whose generation cannot be remembered.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn without_its_lock_no_record_is_written() {
    let programs = bench();
    let maps = programs.maps();
    let client = Client::new(1001);
    hold_record_locks(true);
    dropped(&programs, &client.frame(REQUEST), "overtaken"); // a refusal
    let listener = TcpListener::bind("0.0.0.0:80").expect("a free namespace");
    dropped(&programs, &client.frame(REQUEST), "overtaken"); // a connection
    assert_eq!(maps.record(&client.tuple).expect("readable"), None);
    drop(listener);
    hold_record_locks(false);
    answered(&programs, &client, &client.frame(REQUEST), "refused_no_listener");
}

/// Records are counted by windows of freshness: those of this one and of the one before still matter.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_was_remembered_in_the_window_before_still_counts() {
    let programs = bench();
    let full = u64::from(RECORDS / 2);
    let taken = ("refused_no_listener", Detail::NoListener);
    let refused = ("refused_records_full", Detail::RecordsFull);
    let epoch = this_window();
    let windows = [
        // how long ago the counted window was, made before it began, made in it, what becomes of the next handoff
        (0, 0, full - 1, taken),
        (0, 0, full, refused),
        (1, 0, full - 1, taken),
        (1, 0, full, refused),
        (1, 100, full, refused),
        (1, 101, full - 1, taken),
        (2, 0, full, taken), // all of them two windows ago: none still counts
    ];
    for (port, (ago, before, made, (counter, detail))) in (1001..).zip(windows) {
        println!("{ago} {before} {made} -> {counter}");
        let window = Window {
            epoch: epoch - ago,
            total: before + made,
            start: before,
            start_before: before,
            ..Window::default()
        };
        set_window(&window);
        let client = Client::new(port);
        let bounced = answered(&programs, &client, &client.frame(REQUEST), counter);
        assert_eq!(bounced.header.detail, detail);
        let after = programs.maps().window().expect("readable");
        assert_eq!(
            (after.epoch, after.total),
            (epoch, before + made + 1),
            "the test took too long, or it is miscounted"
        );
    }
}

/// Plain TCP for a VIP without a socket: what the switch is told, and what not.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn plain_segments_are_told_of_by_what_they_carry() {
    let programs = bench();
    let maps = programs.maps();
    let client = Client::new(1001);
    let segment = |control| Client { control, ..client }.plain_frame(b"");
    let told: &[_] = &["plain_no_socket", "plain_reported"];
    let untold: &[_] = &["plain_no_socket", "plain_unreported"];
    let silent: &[_] = &["plain_no_socket"];
    let ack = segment(TcpControl::None);
    let mut options = [&ack[..], &[0; 4]].concat();
    options.copy_within(UDP..ack.len(), UDP + 4);
    let cases = [
        ("an acknowledgment", ack.clone(), told),
        ("data", client.plain_frame(REQUEST), told),
        ("FIN", segment(TcpControl::Fin), told),
        ("no flag at all", patched(&ack, UDP + 13, &[0]), told),
        ("SYN", segment(TcpControl::Syn), silent),
        ("SYN and ACK", patched(&ack, UDP + 13, &[0x12]), silent),
        ("RST", segment(TcpControl::Rst), silent),
        ("RST and ACK", patched(&ack, UDP + 13, &[0x14]), silent),
        ("every flag", patched(&ack, UDP + 13, &[0xff]), silent),
        (
            "IPv4 options, of which the report would have to be longer",
            patched(&options, OUTER, &[0x46]),
            untold,
        ),
    ];
    let judge = |what: &str, frame: &[u8], counters: &[&'static str]| {
        println!("{what}");
        let counted: Vec<_> = counters.iter().map(|name| (*name, 1)).collect();
        let outcome = run(&programs, frame);
        let verdict = if counters == told { REDIRECT } else { DROP };
        assert_eq!((outcome.verdict, &outcome.counted), (verdict, &counted));
        (counters == told)
            .then(|| answer(&outcome.frame, &client.tuple, &tag_key()).expect("an answer of ours").header)
    };
    for (what, frame, counters) in cases {
        let header = judge(what, &frame, counters);
        assert!(header.is_none_or(|header| header.generation == Generation(0) && header.lcore == 255));
    }
    // The highest generation known is told.
    let known = Record { generation: 4711, state: RecordState::Refused as u32, ..Record::default() };
    maps.set_record(&client.tuple, &known).expect("writable");
    let header = judge("of a known connection", &ack, told);
    assert_eq!(header.map(|header| header.generation), Some(Generation(4711)));
    // Without a key to tag it with, or a clock to stamp it by, nothing is told.
    let ready = maps.settings().expect("readable");
    for (what, settings) in [
        ("a key that is not there", Settings { key_id: 9, ..ready }),
        ("a key that cannot be", Settings { key_id: 4711, ..ready }),
        ("no clock", Settings { flags: ready.flags & !SETTING_CLOCK_KNOWN, ..ready }),
    ] {
        maps.set_settings(&settings).expect("writable");
        judge(what, &ack, untold);
    }
}
