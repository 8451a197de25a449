//! Frames nobody should send: each is dropped for its own reason, or left to the stack, and none is believed.
//!
//! Every message, cut at every byte; every value of every field. All of it under `BPF_PROG_TEST_RUN`, in a network
//! namespace of the test's own.

mod common;

use std::net::Ipv4Addr;

use common::bench::*;
use common::errors::{FRAGMENTATION_NEEDED, error, quoted, tunnelled};
use common::*;
use handoff_proto::MessageType;

/// Every kind of message a backend takes, each with the generation of the client.
fn kinds(client: &Client) -> [(MessageType, Vec<u8>); 4] {
    let forward = Client { kind: MessageType::Forward, ..*client };
    [
        (MessageType::Handoff, client.frame(REQUEST)),
        (MessageType::Forward, forward.frame(REQUEST)),
        (MessageType::WhoHas, client.question()),
        (MessageType::Icmp, tunnelled(client, &error(FRAGMENTATION_NEEDED, &quoted(client, 8)))),
    ]
}

/// Gives a message that was cut the lengths of what is left.
fn with_outer_lengths(cut: &[u8]) -> Vec<u8> {
    let total = u16::try_from(cut.len() - OUTER).expect("short");
    let cut = patched(cut, OUTER + 2, &total.to_be_bytes());
    patched(&cut, UDP + 4, &(total - 20).to_be_bytes())
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn no_kind_of_message_can_be_cut_anywhere() {
    let programs = bench();
    for (kind, frame) in kinds(&Client::new(33333)) {
        // The kernel runs no test on less than an Ethernet and an IPv4 header.
        for length in UDP..frame.len() {
            println!("{kind:?} {length}");
            let outcome = run(&programs, &frame[..length]);
            if length < HEADER {
                assert_eq!((outcome.verdict, outcome.counted), (NEXT, vec![]));
                continue;
            }
            assert_eq!(
                (outcome.verdict, outcome.counted),
                (DROP, vec![("received", 1), ("outer_length", 1)])
            );
            // By somebody who mends the lengths in front: what is inside no longer fits.
            let counter = match kind {
                _ if length < INNER + 40 => "truncated",
                MessageType::Icmp => "icmp_length",
                _ => "inner_length",
            };
            dropped(&programs, &with_outer_lengths(&frame[..length]), counter);
        }
    }
}

/// A client's packet may have any length, and who mends every length has made another packet of it, with the same tag.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_is_cut_with_every_length_mended_comes_back_as_it_is() {
    let programs = bench();
    let client = Client { kind: MessageType::Forward, ..Client::new(33333) };
    let frame = client.frame(REQUEST);
    for length in INNER + 40..frame.len() {
        let inner = u16::try_from(length - INNER).expect("short");
        let cut = patched(&with_outer_lengths(&frame[..length]), INNER + 2, &inner.to_be_bytes());
        let gone = answered(&programs, &client, &cut, "gone_no_socket");
        assert_eq!(gone.inner, cut[INNER..INNER + 40]);
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn lengths_that_lie_are_found_out() {
    let programs = bench();
    let client = Client::new(33333);
    for (kind, frame) in kinds(&client) {
        let fault = if kind == MessageType::Icmp { "icmp_length" } else { "inner_length" };
        let [outer, udp, inner] = [OUTER + 2, UDP + 4, INNER + 2].map(|at| [frame[at], frame[at + 1]]);
        for length in (0..300).chain([1480, 1500, 0x7fff, 0x8000, 0xfffe, 0xffff]).map(u16::to_be_bytes) {
            println!("{kind:?} {length:?}");
            for (at, right, fault) in [
                (OUTER + 2, outer, "outer_length"),
                (UDP + 4, udp, "outer_length"),
                (INNER + 2, inner, fault),
            ] {
                if length != right {
                    dropped(&programs, &patched(&frame, at, &length), fault);
                }
            }
        }
    }
}

/// What the header says of itself is judged before its tag, whatever message it is.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn every_value_of_every_field_of_the_header_is_judged() {
    const WSCALE: u16 = 1;
    let programs = bench();
    for (kind, frame) in kinds(&Client::new(33333)) {
        println!("{kind:?}");
        let judge = |at: usize, bytes: &[u8], counter| {
            dropped(&programs, &patched(&frame, HEADER + at, bytes), counter)
        };
        for byte in 0..4 {
            for bit in 0..8 {
                judge(byte, &[frame[HEADER + byte] ^ 1 << bit], "bad_magic");
            }
        }
        for version in (0..=255).filter(|version| *version != 1) {
            judge(4, &[version], "bad_version");
        }
        for other in (0..=255).filter(|other| *other != kind as u8) {
            let counter = match other {
                0 | 11.. => "unknown_type",
                3..=7 | 9 => "unsupported_type",
                // A known one, of which this has not the form; or else not the tag.
                8 if kind != MessageType::Icmp => "inner_length",
                10 => "icmp_not_error",
                _ if kind == MessageType::Icmp => "inner_not_tcp",
                _ => "bad_tag",
            };
            judge(5, &[other], counter);
        }
        let own = u16::from_be_bytes([frame[HEADER + 6], frame[HEADER + 7]]);
        for flags in (0..16).chain((4..16).map(|bit| 1 << bit)).filter(|flags| *flags != own) {
            let counter = if flags & !15 != 0 || flags & WSCALE == 0 { "bad_options" } else { "bad_tag" };
            judge(6, &flags.to_be_bytes(), counter);
        }
        for scales in (0..=255).filter(|scales| *scales != frame[HEADER + 8]) {
            let counter = if scales >> 4 > 14 || scales & 15 > 14 { "bad_options" } else { "bad_tag" };
            judge(8, &[scales], counter);
            // Without the flag both must be 0.
            let without = patched(&frame, HEADER + 6, &(own & !WSCALE).to_be_bytes());
            let counter = if scales == 0 { "bad_tag" } else { "bad_options" };
            dropped(&programs, &patched(&without, HEADER + 8, &[scales]), counter);
        }
        for id in (0..=255).filter(|id| *id != 1) {
            judge(9, &[id], if id == 7 { "bad_tag" } else { "unknown_key" });
        }
        for reserved in 1..=255 {
            judge(31, &[reserved], "bad_reserved");
        }
        for at in (10..31).chain(32..56) {
            judge(at, &[frame[HEADER + at] ^ 0x80], "bad_tag");
        }
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn every_value_of_the_clients_headers_is_judged() {
    let programs = bench();
    let client = Client::new(33333);
    for (kind, frame) in kinds(&client) {
        println!("{kind:?}");
        let icmp = kind == MessageType::Icmp;
        let judge = |at: usize, bytes: &[u8], counter| {
            dropped(&programs, &patched(&frame, INNER + at, bytes), counter)
        };
        for first in (0..=255).filter(|first| *first != 0x45) {
            judge(0, &[first], if first >> 4 == 4 { "inner_options" } else { "inner_not_ipv4" });
        }
        for protocol in (0..=255).filter(|protocol| *protocol != if icmp { 1 } else { 6 }) {
            judge(9, &[protocol], if icmp { "icmp_not_error" } else { "inner_not_tcp" });
        }
        for bit in (0..16).filter(|bit| ![14, 15].contains(bit)) {
            judge(6, &(1u16 << bit).to_be_bytes(), "inner_fragment");
        }
        for bit in 0..8 {
            for byte in 16..20 {
                let fault = if icmp { "icmp_quote" } else { "not_a_vip" };
                judge(byte, &[frame[INNER + byte] ^ 1 << bit], fault);
            }
            if !icmp {
                judge(20 + 2, &[frame[TCP + 2] ^ 1 << bit], "not_a_vip");
                judge(20 + 3, &[frame[TCP + 3] ^ 1 << bit], "not_a_vip");
            }
        }
        for syn in (0..=255).filter(|flags| flags & 2 != 0 && !icmp) {
            judge(20 + 13, &[syn], "inner_syn");
        }
    }
}

/// The reserved bit and don't-fragment make no fragment (RFC 791, section 3.1).
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_is_no_fragment_is_taken_for_none() {
    let programs = bench();
    let client = Client { kind: MessageType::Forward, ..Client::new(33333) };
    for flags in [0, 0x40, 0x80, 0xc0] {
        let frame = patched(&client.frame(REQUEST), INNER + 6, &[flags, 0]);
        answered(&programs, &client, &frame, "gone_no_socket");
        answered(
            &programs,
            &client,
            &patched(&client.frame(REQUEST), OUTER + 6, &[flags, 0]),
            "gone_no_socket",
        );
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn what_cannot_be_read_as_ours_is_left_to_the_stack() {
    let programs = bench();
    let client = Client::new(33333);
    let (message, plain) = (client.frame(REQUEST), client.plain_frame(b""));
    let elsewhere = Ipv4Addr::new(10, 60, 0, 101).octets();
    let cases = [
        ("a VLAN tag in the frame", patched(&message, 12, &[0x81, 0])),
        ("a length instead of a type", patched(&message, 12, &[0x05, 0xdc])),
        ("a header that would end behind the packet, UDP", patched(&message[..HEADER], OUTER, &[0x4f])),
        ("a header that would end behind the packet, TCP", patched(&plain[..60], OUTER, &[0x4f])),
        ("TCP without a whole header", plain[..UDP + 19].to_vec()),
        ("no TCP but its ports", plain[..UDP + 8].to_vec()),
        ("less than that", plain[..UDP + 7].to_vec()),
        ("TCP for no VIP", patched(&plain, OUTER + 16, &elsewhere)),
        ("a fragment for no VIP", patched(&patched(&plain, OUTER + 16, &elsewhere), OUTER + 6, &[0x20, 0])),
        ("broadcast", patched(&message, 0, &[0xff; 6])),
        ("multicast", patched(&message, 0, &[1, 0, 0x5e, 0, 0, 1])),
        ("SCTP", patched(&message, OUTER + 9, &[132])),
        ("a UDP port one off", patched(&message, UDP + 2, &7172u16.to_be_bytes())),
        ("a later fragment with another port where UDP has it", patched(&message, OUTER + 6, &[0x1f, 0xff])),
    ];
    for (what, frame) in cases {
        println!("{what}");
        let outcome = run(&programs, &frame);
        assert_eq!((outcome.verdict, outcome.counted, outcome.frame), (NEXT, vec![], frame));
    }
    // With options that are there, it is known for a message, and not taken.
    let mut options = [&message[..], &[0; 40]].concat();
    options.copy_within(UDP..message.len(), UDP + 40);
    dropped(&programs, &patched(&options, OUTER, &[0x4f]), "outer_options");
}

/// Shorter than a header is, it would have TCP or UDP begin within itself.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_header_of_another_length_is_never_believed() {
    let programs = bench();
    let client = Client::new(33333);
    let (message, plain) = (client.frame(REQUEST), client.plain_frame(REQUEST));
    for words in (0..16u8).filter(|words| *words != 5) {
        for frame in [&message, &plain] {
            // Whatever stands where ports would be: here, the VIP's port and that of handoffs.
            for port in [PORT, handoff_proto::HANDOFF_PORT] {
                let mut frame = patched(frame, OUTER, &[0x40 | words]);
                let at = OUTER + usize::from(words) * 4 + 2;
                if words < 5 && at != OUTER + 14 && at != OUTER + 18 {
                    frame = patched(&frame, at, &port.to_be_bytes());
                }
                let outcome = run(&programs, &frame);
                println!("{words} {port} {:?}", outcome.counted);
                assert!([NEXT, DROP].contains(&outcome.verdict), "neither answered nor delivered");
            }
        }
    }
}
