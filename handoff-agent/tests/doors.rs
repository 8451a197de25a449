//! The programs beside the one at ingress: what leaves the host tells of births, and the self-test has a door of its own.

mod common;

use std::net::Ipv4Addr;

use common::bench::*;
use common::*;
use handoff_agent::bpf::abi::{
    RECORD_SELF_TEST, Record, RecordState, SETTING_CLOCK_KNOWN, SETTING_READY, SETTING_SELF_TEST,
};
use handoff_agent::bpf::{PROGRAM_EGRESS, PROGRAM_SELF_TEST};
use handoff_agent::frame::{Path, Segment, answer, client_packet, wrapped};
use handoff_agent::sys::clock;
use handoff_proto::header::Detail;
use handoff_proto::{FRESHNESS_PAST, FourTuple, Generation, Micros};
use smoltcp::wire::TcpControl;

/// What leaves the backend, and whether it tells of a birth.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_birth_is_told_by_a_segment_of_the_connection_alone() {
    use RecordState::{Assigned, Born, Healing, Refused};
    let programs = bench();
    let maps = programs.maps();
    let client = Client::new(1001);
    let segment = |source: Ipv4Addr, source_port, flags| {
        // From the backend's point of view: it is the VIP that sends.
        let tuple = FourTuple {
            client: source.into(),
            client_port: source_port,
            vip: CLIENT.into(),
            vip_port: client.tuple.client_port,
        };
        let segment = Segment {
            seq: BASE_ACK,
            ack: Some(BASE_SEQ),
            control: TcpControl::None,
            timestamps: None,
            payload: b"",
        };
        let mut frame = client.plain_frame(b"")[..OUTER].to_vec();
        frame.extend_from_slice(&client_packet(&tuple, &segment).expect("IPv4"));
        patched(&frame, UDP + 13, &[flags])
    };
    const ACK: u8 = 0x10;
    let ack = segment(VIP, PORT, ACK);
    let mut options = [&ack[..], &[0; 4]].concat();
    options.copy_within(UDP..ack.len(), UDP + 4);
    let cases = [
        ("an acknowledgment", Assigned, ack.clone(), true),
        ("FIN", Assigned, segment(VIP, PORT, 0x11), true),
        ("a reset of a socket has ACK", Assigned, segment(VIP, PORT, 0x14), true),
        ("a reset without ACK answers what met no socket", Assigned, segment(VIP, PORT, 0x04), false),
        ("IPv4 options", Assigned, patched(&options, OUTER, &[0x46]), true),
        ("another port", Assigned, segment(VIP, 81, ACK), false),
        ("another address", Assigned, segment(HOST, PORT, ACK), false),
        ("UDP", Assigned, patched(&ack, OUTER + 9, &[17]), false),
        ("IPv6", Assigned, patched(&ack, 12, &[0x86, 0xdd]), false),
        ("cut within TCP", Assigned, ack[..UDP + 19].to_vec(), false),
        ("cut behind the ports", Assigned, ack[..UDP + 8].to_vec(), false),
        ("cut within the ports", Assigned, ack[..UDP + 7].to_vec(), false),
        ("a header longer than the packet", Assigned, patched(&ack, OUTER, &[0x4f]), false),
        ("born before", Born, ack.clone(), false),
        ("refused", Refused, ack.clone(), false),
        ("another socket, which is being reset", Healing, ack.clone(), false),
    ];
    let birth = |what: &str, record: Record, frame: &[u8]| {
        println!("{what}");
        maps.set_record(&client.tuple, &record).expect("writable");
        let outcome = run_in(&programs, PROGRAM_EGRESS, frame);
        assert_eq!((outcome.verdict, &outcome.frame[..]), (NEXT, frame), "nothing is ever held back");
        let state = maps.record(&client.tuple).expect("readable").expect("there").state;
        (outcome.counted, state)
    };
    for (what, state, frame, born) in cases {
        let record = Record { generation: 5, state: state as u32, ..Record::default() };
        let (counted, after) = birth(what, record, &frame);
        let (want, expected) = if born { (vec![("born", 1)], Born) } else { (vec![], state) };
        assert_eq!((counted, after), (want, expected as u32));
    }
    let assigned = Record { generation: 5, state: Assigned as u32, ..Record::default() };
    let (counted, _) = birth("the self-test's own", Record { flags: RECORD_SELF_TEST, ..assigned }, &ack);
    assert_eq!(counted, [("self_test_born", 1)]);
    hold_record_locks(true);
    assert_eq!(birth("without the lock", assigned, &ack), (vec![], Assigned as u32));
    hold_record_locks(false);
    assert_eq!(birth("with it", assigned, &ack), (vec![("born", 1)], Born as u32));
    maps.forget(&client.tuple).expect("deletable");
    let outcome = run_in(&programs, PROGRAM_EGRESS, &ack);
    assert_eq!((outcome.verdict, outcome.counted), (NEXT, vec![]), "of which nothing is known");
}

const SELF_TEST_CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 2);

/// A message of the self-test, by its own key and the backend's clock.
fn self_test_frame(issued: Micros, key: u8) -> (Client, Vec<u8>) {
    let mut client = Client { issued, generation: Generation(issued.0), ..Client::new(7) };
    client.tuple.client = SELF_TEST_CLIENT.into();
    let path = Path { source: SELF_TEST_CLIENT, ..client.path() };
    let tag_key = common::key(key).tag_key();
    let frame = wrapped(&path, &client.header(), &client.tuple, &tag_key, &client.packet(REQUEST));
    (client, frame)
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn the_self_test_has_a_key_and_a_clock_of_its_own() {
    const KEY: u8 = 0x77;
    let programs = bench();
    let maps = programs.maps();
    let mut settings = maps.settings().expect("readable");
    settings.flags = SETTING_SELF_TEST; // neither ready nor with the switch's clock
    settings.self_test_client = SELF_TEST_CLIENT.octets();
    maps.set_settings(&settings).expect("writable");
    let now = || Micros(clock::monotonic_us());
    let (_, fresh) = self_test_frame(now(), KEY);
    let counted = |frame: &[u8], counters: &[&'static str]| {
        let outcome = run(&programs, frame);
        let want: Vec<_> = ["received"].iter().chain(counters).map(|name| (*name, 1)).collect();
        assert_eq!(outcome.counted, want);
        outcome
    };
    counted(&fresh, &["unknown_key", "self_test"]);
    maps.set_self_test_key(Some(&common::key(KEY).tag_key())).expect("writable");
    let (client, fresh) = self_test_frame(now(), KEY);
    let outcome = counted(&fresh, &["refused_no_listener", "self_test"]);
    let refused =
        answer(&outcome.frame, &client.tuple, &common::key(KEY).tag_key()).expect("tagged with that key");
    assert_eq!((outcome.verdict, refused.header.detail), (REDIRECT, Detail::NoListener));
    // The switch's key is none here, nor its clock.
    counted(&self_test_frame(now(), 1).1, &["bad_tag", "self_test"]);
    counted(&self_test_frame(switch_now(), KEY).1, &["future", "self_test"]);
    let stale = Micros(now().0 - FRESHNESS_PAST.0 - 1);
    counted(&self_test_frame(stale, KEY).1, &["stale", "self_test"]);
    // From anywhere else it is a message like others, and so it is when no self-test runs.
    let elsewhere = patched(&fresh, OUTER + 12, &SWITCH.octets());
    counted(&elsewhere, &["bad_tag"]);
    set_flags(maps, |_| SETTING_READY | SETTING_CLOCK_KNOWN);
    counted(&fresh, &["bad_tag"]);
}

/// The program at the agent's own interface passes what the self-test sends, and nothing else that may be there.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn nothing_but_the_self_test_comes_in_by_its_interface() {
    let programs = bench();
    let maps = programs.maps();
    let (_, frame) = self_test_frame(Micros(clock::monotonic_us()), 1);
    let verdict = |frame: &[u8]| {
        let outcome = run_in(&programs, PROGRAM_SELF_TEST, frame);
        assert_eq!(outcome.counted, []);
        outcome.verdict
    };
    let mut settings = maps.settings().expect("readable");
    settings.self_test_client = SELF_TEST_CLIENT.octets();
    maps.set_settings(&settings).expect("writable");
    assert_eq!(verdict(&frame), DROP, "none runs");
    set_flags(maps, |flags| flags | SETTING_SELF_TEST);
    assert_eq!(verdict(&frame), REDIRECT);
    for (what, frame) in [
        ("IPv6", patched(&frame, 12, &[0x86, 0xdd])),
        ("TCP", patched(&frame, OUTER + 9, &[6])),
        ("another source", patched(&frame, OUTER + 15, &[3])),
        ("too short", frame[..HEADER - 1].to_vec()),
    ] {
        assert_eq!(verdict(&frame), DROP, "{what}");
    }
}
