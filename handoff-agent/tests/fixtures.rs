//! Frames into the ingress program, verdicts, counters and frames out of it: everything before the kernel makes a
//! socket. The program runs under `BPF_PROG_TEST_RUN`, in a network namespace of the test's own.

mod common;

use common::bench::*;
use common::*;
use handoff_agent::bpf::PROGRAM_INGRESS;
use handoff_agent::bpf::abi::{Record, RecordState, SETTING_CLOCK_KNOWN, SETTING_READY};
use handoff_agent::frame::answer;
use handoff_proto::header::Detail;
use handoff_proto::{FRESHNESS_FUTURE, FRESHNESS_PAST, Generation, MessageType, Micros, Seq};
use libbpf_rs::ProgramInput;
use smoltcp::wire::{Ipv4Packet, TcpControl};

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_is_not_for_baton_passes_untouched() {
    let programs = bench();
    let client = Client::new(33333);
    let frame = client.frame(REQUEST);
    let cases: [(&str, Vec<u8>); 8] = [
        ("ARP", patched(&frame, 12, &[8, 6])),
        ("IPv6", patched(&frame, 12, &[0x86, 0xdd])),
        ("ICMP", patched(&frame, OUTER + 9, &[1])),
        ("another UDP port", patched(&frame, UDP + 2, &[0, 53])),
        ("another destination", patched(&frame, OUTER + 16, &[10, 60, 0, 12])),
        ("another MAC address", patched(&frame, 0, &[2, 0, 0, 0, 0, 99])),
        ("a later fragment", patched(&frame, OUTER + 6, &[0, 100])),
        ("plain TCP to another port", patched(&client.plain_frame(b""), OUTER + 22, &[0, 81])),
    ];
    for (what, frame) in cases {
        let outcome = run(&programs, &frame);
        assert_eq!((outcome.verdict, outcome.counted), (NEXT, vec![]), "{what}");
        assert_eq!(outcome.frame, frame, "{what}");
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn each_fault_has_a_counter_of_its_own() {
    let programs = bench();
    let client = Client::new(33333);
    let frame = client.frame(REQUEST);
    let longer = |by: usize| [&frame[..], &vec![0; by]].concat();
    let total = u16::try_from(frame.len() - OUTER).expect("short");
    let cases: [(&str, Vec<u8>); 25] = [
        ("outer_options", {
            let mut options = patched(&longer(4), OUTER, &[0x46]);
            options.copy_within(UDP..UDP + 8, UDP + 4);
            options
        }),
        ("outer_fragment", patched(&frame, OUTER + 6, &[0x20, 0])),
        ("outer_length", patched(&frame, UDP + 4, &(total - 21).to_be_bytes())),
        ("outer_length", patched(&frame, OUTER + 2, &(total + 1).to_be_bytes())),
        ("bad_magic", patched(&frame, HEADER, b"BTOM")),
        ("bad_version", patched(&frame, HEADER + 4, &[2])),
        ("unknown_type", patched(&frame, HEADER + 5, &[0])),
        ("unknown_type", patched(&frame, HEADER + 5, &[11])),
        ("unsupported_type", patched(&frame, HEADER + 5, &[MessageType::Kill as u8])),
        ("unsupported_type", patched(&frame, HEADER + 5, &[MessageType::Refused as u8])),
        ("unsupported_type", patched(&frame, HEADER + 5, &[MessageType::Mine as u8])),
        ("bad_options", patched(&frame, HEADER + 6, &[0, 0x17])),
        ("bad_options", patched(&frame, HEADER + 8, &[0xf7])),
        ("bad_options", patched(&frame, HEADER + 8, &[0x9f])),
        ("bad_options", patched(&frame, HEADER + 6, &[0, 0x06])),
        ("bad_reserved", patched(&frame, HEADER + 31, &[1])),
        ("inner_not_ipv4", patched(&frame, INNER, &[0x65])),
        ("inner_options", patched(&frame, INNER, &[0x46])),
        ("inner_not_tcp", patched(&frame, INNER + 9, &[17])),
        ("inner_fragment", patched(&frame, INNER + 6, &[0x20, 0])),
        ("inner_fragment", patched(&frame, INNER + 6, &[0, 1])),
        ("inner_length", patched(&frame, INNER + 2, &(total - 83).to_be_bytes())),
        ("inner_syn", patched(&frame, TCP + 13, &[0x12])),
        ("not_a_vip", patched(&frame, INNER + 19, &[101])),
        ("unknown_key", patched(&frame, HEADER + 9, &[2])),
    ];
    for (counter, frame) in cases {
        println!("{counter}");
        dropped(&programs, &frame, counter);
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_frame_with_padding_behind_it_is_taken() {
    let programs = bench();
    let client = Client::new(33333);
    let frame = [&client.frame(REQUEST)[..], &[0; 9]].concat();
    answered(&programs, &client, &frame, "refused_no_listener");
}

/// Bytes the tag covers, and the client's port and address with them: nothing about them can be changed.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn each_flipped_bit_of_header_and_4_tuple_is_noticed() {
    let programs = bench();
    let client = Client::new(33333);
    let frame = client.frame(REQUEST);
    for at in (HEADER..HEADER + 56).chain(INNER + 12..INNER + 20).chain(TCP..TCP + 4) {
        for bit in 0..8 {
            let outcome = run(&programs, &patched(&frame, at, &[frame[at] ^ 1 << bit]));
            assert_eq!(outcome.verdict, DROP, "bit {bit} of byte {at}");
            assert_eq!(outcome.counted.len(), 2, "bit {bit} of byte {at}: {:?}", outcome.counted);
        }
    }
    assert_eq!(programs.maps().record(&client.tuple).expect("readable"), None);
    answered(&programs, &client, &frame, "refused_no_listener");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn every_truncation_is_dropped_or_none_of_ours() {
    let programs = bench();
    let frame = Client::new(33333).frame(REQUEST);
    // The kernel runs no test on less than an Ethernet and an IPv4 header.
    for length in UDP..frame.len() {
        let outcome = run(&programs, &frame[..length]);
        let seen = (outcome.verdict, &outcome.counted[..]);
        if length < HEADER {
            assert_eq!(seen, (NEXT, &[][..]), "{length} bytes");
        } else {
            assert_eq!(seen, (DROP, &[("received", 1), ("outer_length", 1)][..]), "{length} bytes");
        }
        // Cut by somebody who mends the outer lengths: what is inside no longer fits.
        let Ok(total) = u16::try_from(length - OUTER) else { continue };
        if length < HEADER {
            continue;
        }
        let mut cut = patched(&frame[..length], OUTER + 2, &total.to_be_bytes());
        cut[UDP + 4..UDP + 6].copy_from_slice(&(total - 20).to_be_bytes());
        dropped(&programs, &cut, if length < TCP + 20 { "truncated" } else { "inner_length" });
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn the_tag_is_that_of_the_named_key_and_the_very_4_tuple() {
    let programs = bench();
    let client = Client::new(33333);
    let other = Client { tuple: Client::new(33334).tuple, ..client };
    let packet = client.packet(REQUEST);
    let wrapped = |header, tuple, key| {
        handoff_agent::frame::wrapped(&client.path(), &header, &tuple, &common::key(key).tag_key(), &packet)
    };
    dropped(&programs, &wrapped(client.header(), other.tuple, 1), "bad_tag");
    dropped(&programs, &wrapped(client.header(), client.tuple, 7), "bad_tag");
    let seventh = handoff_proto::Header { key_id: handoff_proto::KeyId(7), ..client.header() };
    dropped(&programs, &wrapped(seventh, client.tuple, 1), "bad_tag");
    let outcome = run(&programs, &wrapped(seventh, client.tuple, 7));
    assert_eq!(outcome.counted, [("received", 1), ("refused_no_listener", 1)]);
    let bounced =
        answer(&outcome.frame, &client.tuple, &common::key(7).tag_key()).expect("tagged with key 7");
    assert_eq!(bounced.header.key_id.0, 7);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn only_fresh_messages_count() {
    let programs = bench();
    let now = switch_now();
    let margin = Micros::from_millis(200);
    let at = |port, issued| Client { issued, ..Client::new(port) };
    let old = now.since(FRESHNESS_PAST);
    dropped(&programs, &at(1001, old.since(margin)).frame(REQUEST), "stale");
    dropped(&programs, &at(1002, Micros(0)).frame(REQUEST), "stale");
    dropped(&programs, &at(1003, now.plus(FRESHNESS_FUTURE).plus(margin)).frame(REQUEST), "future");
    dropped(&programs, &at(1004, Micros(now.0 + (1 << 62))).frame(REQUEST), "future");
    for client in [at(1005, now.plus(FRESHNESS_FUTURE).since(margin)), at(1006, now)] {
        answered(&programs, &client, &client.frame(REQUEST), "refused_no_listener");
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn without_a_listener_the_very_packet_comes_back_and_again() {
    let programs = bench();
    let client = Client::new(33333);
    let frame = client.frame(REQUEST);
    for counter in ["refused_no_listener", "refused_again", "refused_again"] {
        let bounced = answered(&programs, &client, &frame, counter);
        assert_eq!(bounced.inner, client.packet(REQUEST));
        let want = handoff_proto::Header {
            kind: MessageType::Refused,
            detail: Detail::NoListener,
            ..client.header()
        };
        assert_eq!(bounced.header, want);
    }
    let record = programs.maps().record(&client.tuple).expect("readable").expect("remembered");
    assert_eq!((record.generation, record.state), (client.generation.0, RecordState::Refused as u32));

    // What follows the base segment goes where that goes.
    let second = Client { seq: BASE_SEQ.add(18), ..client };
    let bounced = answered(&programs, &client, &second.frame(b"more"), "refused_again");
    assert_eq!((bounced.header.detail, bounced.inner), (Detail::NoListener, second.packet(b"more")));
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_backend_that_is_not_ready_refuses() {
    let programs = bench();
    let maps = programs.maps();
    let refused = |port, why| {
        let client = Client::new(port);
        let bounced = answered(&programs, &client, &client.frame(REQUEST), "refused_not_ready");
        assert_eq!(
            (bounced.header.kind, bounced.header.detail),
            (MessageType::Refused, Detail::NotReady),
            "{why}"
        );
    };
    set_flags(maps, |flags| flags & !SETTING_READY);
    refused(1001, "the agent says so");
    set_flags(maps, |flags| (flags | SETTING_READY) & !SETTING_CLOCK_KNOWN);
    refused(1002, "the clock is unknown");
    let forward = Client { kind: MessageType::Forward, ..Client::new(1003) };
    dropped(&programs, &forward.frame(b""), "clock_unknown");
    make_ready(maps, 1);
    let mut settings = maps.settings().expect("readable");
    settings.records_since_us += 1_500_000;
    maps.set_settings(&settings).expect("writable");
    refused(1004, "the memory of used generations is younger than the message may be");
}

/// What is known of a 4-tuple, what comes, and what becomes of it when there is no socket.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn without_a_socket_the_record_decides() {
    use RecordState::{Assigned, Born, Healing, Killed, Refused};
    let programs = bench();
    let (old, same, new) = (-5i64, 0i64, 5i64);
    let cases = [
        // record, generation of the message relative to it, is it the base segment, counter, answer
        (None, same, false, "not_base", None),
        (None, same, true, "refused_no_listener", Some(Detail::NoListener)),
        (Some(Assigned), old, true, "gone_old_generation", Some(Detail::OldGeneration)),
        (Some(Assigned), old, false, "gone_old_generation", Some(Detail::OldGeneration)),
        (Some(Assigned), same, true, "refused_no_listener", Some(Detail::NoListener)),
        (Some(Assigned), new, true, "refused_no_listener", Some(Detail::NoListener)),
        (Some(Assigned), new, false, "not_base", None),
        (Some(Healing), same, true, "refused_no_listener", Some(Detail::NoListener)),
        (Some(Born), old, true, "gone_old_generation", Some(Detail::OldGeneration)),
        (Some(Born), same, true, "gone_no_socket", Some(Detail::NoSocket)),
        (Some(Born), same, false, "gone_no_socket", Some(Detail::NoSocket)),
        (Some(Born), new, true, "refused_no_listener", Some(Detail::NoListener)),
        (Some(Born), new, false, "not_base", None),
        (Some(Refused), old, true, "gone_old_generation", Some(Detail::OldGeneration)),
        (Some(Refused), same, true, "refused_again", Some(Detail::QueueFull)),
        (Some(Refused), same, false, "refused_again", Some(Detail::QueueFull)),
        (Some(Refused), new, true, "refused_no_listener", Some(Detail::NoListener)),
        (Some(Killed), same, true, "gone_no_socket", Some(Detail::NoSocket)),
        (Some(Killed), new, true, "refused_no_listener", Some(Detail::NoListener)),
    ];
    for (port, (state, relative, base, counter, detail)) in (2000..).zip(cases) {
        println!("{state:?} {relative} {base} -> {counter}");
        let mut client = Client::new(port);
        let known = client.generation;
        if let Some(state) = state {
            let record = Record {
                generation: known.0,
                changed_us: 0,
                state: state as u32,
                detail: Detail::QueueFull.to_wire(),
                ..Record::default()
            };
            programs.maps().set_record(&client.tuple, &record).expect("writable");
        }
        client.generation = Generation(known.0.wrapping_add_signed(relative));
        client.seq = if base { BASE_SEQ } else { BASE_SEQ.add(100) };
        let frame = client.frame(REQUEST);
        let Some(detail) = detail else {
            dropped(&programs, &frame, counter);
            continue;
        };
        let got = answered(&programs, &client, &frame, counter);
        assert_eq!(got.header.detail, detail);
        if counter.starts_with("gone") {
            assert_eq!((got.header.kind, got.header.generation), (MessageType::Gone, known));
            assert_eq!(got.inner, client.packet(REQUEST)[..40], "IPv4 and TCP headers, lengths as they were");
        } else {
            assert_eq!((got.header.kind, got.header.generation), (MessageType::Refused, client.generation));
            assert_eq!(got.inner, client.packet(REQUEST));
        }
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn generations_are_ordered_across_the_end_of_their_range() {
    let programs = bench();
    let record = |generation| Record { generation, state: RecordState::Born as u32, ..Record::default() };
    let mut client = Client::new(1001);
    client.generation = Generation(2);
    programs.maps().set_record(&client.tuple, &record(u64::MAX - 2)).expect("writable");
    answered(&programs, &client, &client.frame(REQUEST), "refused_no_listener");
    programs.maps().set_record(&client.tuple, &record(2)).expect("writable");
    client.generation = Generation(u64::MAX - 2);
    answered(&programs, &client, &client.frame(REQUEST), "gone_old_generation");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_base_segment_that_cannot_open_a_connection_does_not() {
    let programs = bench();
    let reset = Client { control: TcpControl::Rst, ..Client::new(1001) };
    dropped(&programs, &reset.frame(b""), "not_creating");
    let other_ack = Client { ack: BASE_ACK.add(1), ..Client::new(1002) };
    dropped(&programs, &other_ack.frame(REQUEST), "not_creating");
    let mut no_ack = Client::new(1003).frame(REQUEST);
    no_ack[TCP + 13] = 0x08;
    dropped(&programs, &no_ack, "not_creating");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_forwarded_packet_without_a_socket_is_told_to_the_switch() {
    let programs = bench();
    let client = Client { kind: MessageType::Forward, seq: Seq(77), ..Client::new(1001) };
    let gone = answered(&programs, &client, &client.frame(b"data"), "gone_no_socket");
    assert_eq!((gone.header.kind, gone.header.detail), (MessageType::Gone, Detail::NoSocket));
    assert_eq!(gone.header.generation, client.generation);
    assert_eq!(gone.inner, client.packet(b"data")[..40]);
    assert_eq!(programs.maps().record(&client.tuple).expect("readable"), None);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn plain_tcp_for_a_vip_never_reaches_the_listener() {
    let programs = bench();
    let listener = std::net::TcpListener::bind("0.0.0.0:80").expect("a free namespace");
    let counted = |frame: &[u8]| {
        let outcome = run(&programs, frame);
        (outcome.verdict, outcome.counted)
    };
    let client = Client { seq: Seq(4242), ..Client::new(1001) };
    let outcome = run(&programs, &client.plain_frame(&[7; 1000]));
    assert_eq!(outcome.counted, [("plain_no_socket", 1), ("plain_reported", 1)]);
    assert_eq!(outcome.verdict, REDIRECT);
    assert_eq!(outcome.frame[..6], SWITCH_MAC, "back to where it came from");
    let ip = Ipv4Packet::new_checked(&outcome.frame[14..]).expect("IPv4");
    assert_eq!((ip.src_addr(), ip.dst_addr()), (HOST, SWITCH));
    let gone = answer(&outcome.frame, &client.tuple, &tag_key()).expect("an answer of ours");
    assert_eq!((gone.header.kind, gone.header.detail), (MessageType::Gone, Detail::NoSocket));
    assert_eq!((gone.header.base_seq, gone.header.base_ack), (client.seq, client.ack));
    let age = switch_now().since(gone.header.issued);
    assert!(age > Micros(0) && age < Micros::from_millis(500), "stamped by the switch's clock: {age:?}");
    assert_eq!(gone.inner, client.packet(&[7; 1000])[..40]);

    let syn = Client { control: TcpControl::Syn, timestamps: None, ..client };
    assert_eq!(counted(&syn.plain_frame(b"")), (DROP, vec![("plain_no_socket", 1)]));
    let reset = Client { control: TcpControl::Rst, ..client };
    assert_eq!(counted(&reset.plain_frame(b"")), (DROP, vec![("plain_no_socket", 1)]));
    for fragment in [[0x20, 0], [0, 5]] {
        let frame = patched(&client.plain_frame(b""), OUTER + 6, &fragment);
        assert_eq!(counted(&frame), (DROP, vec![("plain_fragment", 1)]));
    }
    set_flags(programs.maps(), |_| SETTING_READY | SETTING_CLOCK_KNOWN);
    let unknown_switch = vec![("plain_no_socket", 1), ("plain_unreported", 1)];
    assert_eq!(counted(&client.plain_frame(b"")), (DROP, unknown_switch));
    drop(listener);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn reports_on_plain_packets_are_bounded() {
    let programs = bench();
    let frame = Client::new(1001).plain_frame(b"");
    let program = programs.program(PROGRAM_INGRESS).expect("there");
    for _ in 0..2_500 {
        program
            .test_run(ProgramInput { data_in: Some(&frame), ..ProgramInput::default() })
            .expect("the kernel runs it");
    }
    let counters = programs.maps().counters().expect("readable");
    let (reported, unreported) = (counters.value("plain_reported"), counters.value("plain_unreported"));
    assert_eq!(reported + unreported, 2_500);
    // 1,000 a second, and the run may cross into a second or third second.
    assert!(
        (1_000..=3_000).contains(&reported) && (unreported > 0 || reported > 2_000),
        "{reported} reported"
    );
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn the_records_never_take_more_than_they_must_remember() {
    let programs = bench();
    let _listener = std::net::TcpListener::bind("0.0.0.0:80").expect("a free namespace");
    let outcomes: Vec<_> = (1..=RECORDS)
        .map(|port| run(&programs, &Client::new(u16::try_from(port).expect("small")).frame(REQUEST)))
        .collect();
    let count = |name: &str| outcomes.iter().filter(|outcome| outcome.counted[1].0 == name).count();
    // Under BPF_PROG_TEST_RUN the kernel takes no connection, but the record is made before it is asked.
    let half = usize::try_from(RECORDS / 2).expect("small");
    assert_eq!(count("refused_kernel"), half);
    assert_eq!(count("refused_records_full"), half / 2);
    assert_eq!(count("records_full"), half / 2);
    assert!(outcomes.iter().rev().take(half / 2).all(|outcome| outcome.verdict == DROP));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.verdict == PASS).count(), 0);
}
