use handoff_proto::header::Detail;
use handoff_proto::{Generation, KeyId, MessageType, Negotiated, Seq, TagKey};
use proptest::prelude::*;

use super::*;

/// A client's packet: 10.50.0.11:33333 to 10.60.0.100:80, "GET". Written by a second implementation, as is all hex here.
const INNER: &str = "4500002b00004000400625f10a32000b0a3c00648235005000000001000000025018faf0822e0000474554";
/// The outer headers in front of 56 bytes of handoff header and those 43: 127 bytes in IPv4.
const OUTER: &str = "02000000010b02000000000108004500007f00004000401125eb0a3c00010a3c000bc1231c03006b0000";
const KEY: TagKey = TagKey([7; 16]);
const HEADROOM: usize = 100;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn outer() -> Outer {
    Outer {
        source_mac: EthernetAddress([2, 0, 0, 0, 0, 1]),
        destination_mac: EthernetAddress([2, 0, 0, 0, 1, 0x0b]),
        source: Ipv4Addr::new(10, 60, 0, 1),
        destination: Ipv4Addr::new(10, 60, 0, 11),
        source_port: 0xc123,
    }
}

fn header_bytes() -> [u8; HEADER_BYTES] {
    core::array::from_fn(|at| u8::try_from(at).expect("56 of them"))
}

fn tuple() -> FourTuple {
    FourTuple {
        client: IpAddr::from([10, 50, 0, 11]),
        client_port: 33_333,
        vip: IpAddr::from([10, 60, 0, 100]),
        vip_port: 80,
    }
}

fn header() -> Header {
    Header {
        kind: MessageType::Refused,
        negotiated: Negotiated { mss: 1460, wscale: None, sack: true, timestamps: false, ecn: false },
        key_id: KeyId(1),
        base_seq: Seq(1),
        base_ack: Seq(2),
        tsval: 0,
        tsecr: 0,
        detail: Detail::QueueFull,
        lcore: 3,
        generation: Generation(11),
        issued: Micros(1_000_000),
    }
}

/// The client's packet in an Ethernet frame as it came, with room in front.
fn with_frame<T>(act: impl FnOnce(&mut Frame<'_>) -> T) -> T {
    let frame = [hex("0200000000010200000000fe0800"), hex(INNER)].concat();
    let mut buffer = vec![0xee; HEADROOM];
    buffer.extend(&frame);
    buffer.extend([0xee; 10]);
    act(&mut Frame::new(&mut buffer, HEADROOM, frame.len()).expect("inside"))
}

/// A whole answer as a backend sends it.
fn answer_frame() -> Vec<u8> {
    [hex(OUTER), header().emit(&tuple(), &KEY).to_vec(), hex(INNER)].concat()
}

#[test]
fn wrapping_puts_exactly_these_bytes_in_front() {
    with_frame(|frame| {
        wrap(frame, &outer(), &header_bytes(), 127).expect("just fits");
        let expected = [hex(OUTER), header_bytes().to_vec(), hex(INNER)].concat();
        assert_eq!(frame.bytes(), expected);
        assert_eq!(frame.start(), HEADROOM - TUNNEL_BYTES_V4);
    });
}

#[test]
fn what_does_not_fit_leaves_the_frame_as_it_was() {
    with_frame(|frame| {
        let before = frame.bytes().to_vec();
        let error = wrap(frame, &outer(), &header_bytes(), 126);
        assert_eq!(error, Err(WrapError::TooLong { bytes: 127, mtu_bytes: 126 }));
        assert_eq!(frame.bytes(), before);
        frame.prepend(17).expect("headroom");
        let before = frame.bytes().to_vec();
        assert_eq!(wrap(frame, &outer(), &header_bytes(), 1500), Err(WrapError::NoRoom(NoRoom(1))));
        assert_eq!(frame.bytes(), before);
    });
}

#[test]
fn wrapping_again_replaces_the_headers_and_nothing_else() {
    with_frame(|frame| {
        wrap(frame, &outer(), &[0xaa; HEADER_BYTES], 1500).expect("fits");
        let elsewhere = Outer { destination: Ipv4Addr::new(10, 60, 0, 12), source_port: 1, ..outer() };
        rewrap(frame, &elsewhere, &[0xbb; HEADER_BYTES], 1500).expect("fits");
        rewrap(frame, &outer(), &header_bytes(), 127).expect("just fits");
        assert_eq!(frame.bytes(), [hex(OUTER), header_bytes().to_vec(), hex(INNER)].concat());
        let error = rewrap(frame, &outer(), &header_bytes(), 126);
        assert_eq!(error, Err(WrapError::TooLong { bytes: 127, mtu_bytes: 126 }));
    });
}

#[test]
fn an_answer_is_read_back_and_believed_under_its_key_only() {
    let answer = Answer::parse(&answer_frame()).expect("well formed");
    assert_eq!((answer.header, answer.tuple), (header(), tuple()));
    assert!(answer.is_authentic(&KEY));
    assert!(!answer.is_authentic(&TagKey([8; 16])));
}

#[test]
fn what_came_back_says_what_was_sent_though_its_payload_is_cut_off() {
    // With timestamps, "GET /" and FIN; then a RST without either.
    const FIN: &str = "4500003900004000400625e30a32000b0a3c006482350050000000050000000680110018000000000101080a00000007\
                       00000009474554202f";
    const RST: &str = "4500002800004000400625f40a32000b0a3c00648235005000000005000000065014001800000000";
    let read = |packet: &[u8]| {
        let udp_bytes = u16::try_from(8 + HEADER_BYTES + packet.len()).expect("short").to_be_bytes();
        let mut frame = [hex(OUTER), header().emit(&tuple(), &KEY).to_vec(), packet.to_vec()].concat();
        frame[38..40].copy_from_slice(&udp_bytes);
        let inner = Answer::parse(&frame).expect("well formed").inner;
        let payload = inner.payload(&frame).to_vec();
        (inner.seq, inner.ack, inner.payload_bytes, inner.fin, inner.rst, payload)
    };
    assert_eq!(read(&hex(INNER)), (Seq(1), Seq(2), 3, false, false, b"GET".to_vec()));
    assert_eq!(read(&hex(FIN)), (Seq(5), Seq(6), 5, true, false, b"GET /".to_vec()));
    assert_eq!(read(&hex(FIN)[..40]), (Seq(5), Seq(6), 5, true, false, Vec::new()));
    assert_eq!(read(&hex(RST)), (Seq(5), Seq(6), 0, false, true, Vec::new()));
    // Lengths that contradict each other, which no tag covers, are no reason to read beyond the frame.
    let mut long = hex(FIN);
    long[32] = 0xf0;
    assert_eq!(read(&long).5, b"");
    let mut short = hex(FIN);
    short[2..4].copy_from_slice(&[0, 30]);
    assert_eq!(read(&short).2, 0);
}

#[test]
fn the_tag_covers_every_byte_of_header_and_tuple() {
    let frame = answer_frame();
    let covered = (HEADER_AT..INNER_AT).chain(INNER_AT + 12..INNER_AT + 24);
    for at in covered {
        let mut flipped = frame.clone();
        flipped[at] ^= 1;
        if let Ok(answer) = Answer::parse(&flipped) {
            assert!(!answer.is_authentic(&KEY), "byte {at}");
        }
    }
}

#[test]
fn freshness_is_a_window_with_two_ends() {
    let answer = Answer::parse(&answer_frame()).expect("well formed");
    let window = Micros(500);
    for (now, fresh) in
        [(999_999, false), (1_000_000, true), (1_000_500, true), (1_000_501, false), (u64::MAX, false)]
    {
        assert_eq!(answer.is_fresh(Micros(now), window), fresh, "at {now}");
    }
}

#[test]
fn every_truncation_and_impossible_field_of_an_answer_is_an_error() {
    let frame = answer_frame();
    for length in 0..frame.len() {
        assert_eq!(Answer::parse(&frame[..length]).err(), Some(UnwrapError::Datagram), "{length} bytes");
    }
    // The same with a UDP length that fits.
    for length in 34..frame.len() {
        let mut cut = frame[..length].to_vec();
        if let Some(place) = cut.get_mut(38..40) {
            place.copy_from_slice(&u16::try_from(length - 34).expect("short").to_be_bytes());
        }
        let expected = match length {
            0..42 => Some(UnwrapError::Datagram),
            42..98 => Some(UnwrapError::Header(HeaderError::Truncated(length - 42))),
            98..138 => Some(UnwrapError::Inner),
            _ => None, // a quotation: both headers are enough
        };
        assert_eq!(Answer::parse(&cut).err(), expected, "{length} bytes");
    }
    for (at, value, expected) in [
        (37, 0x04, UnwrapError::Datagram), // another port
        (39, 0x6a, UnwrapError::Datagram), // UDP length one short
        (39, 0x6c, UnwrapError::Datagram), // and one long
        (39, 0x07, UnwrapError::Datagram),
        (INNER_AT, 0x46, UnwrapError::Inner),      // IP options
        (INNER_AT, 0x65, UnwrapError::Inner),      // IPv6
        (INNER_AT + 9, 0x11, UnwrapError::Inner),  // UDP
        (INNER_AT + 32, 0x40, UnwrapError::Inner), // a TCP header of 16 bytes
        (INNER_AT + 32, 0x00, UnwrapError::Inner),
        (HEADER_AT + 5, 11, UnwrapError::Header(HeaderError::Type(11))),
    ] {
        let mut changed = frame.clone();
        changed[at] = value;
        assert_eq!(Answer::parse(&changed).err(), Some(expected), "byte {at}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), front: bool) {
        let frame = if front { [hex(OUTER), bytes].concat() } else { bytes };
        let _ = Answer::parse(&frame).map(|answer| (answer.is_authentic(&KEY), answer.inner.payload(&frame).len()));
    }

    #[test]
    fn what_is_wrapped_comes_out_again(payload in prop::collection::vec(any::<u8>(), 0..1300)) {
        let mut buffer = vec![0; TUNNEL_BYTES_V4];
        buffer.extend(hex("0200000000010200000000fe0800"));
        buffer.extend(&hex(INNER)[..40]);
        buffer.extend(&payload);
        let length = buffer.len() - TUNNEL_BYTES_V4;
        let mut frame = Frame::new(&mut buffer, TUNNEL_BYTES_V4, length).expect("inside");
        let inner = frame.bytes()[14..].to_vec();
        wrap(&mut frame, &outer(), &header().emit(&tuple(), &KEY), 1500).expect("fits");
        let answer = Answer::parse(frame.bytes()).expect("our own");
        prop_assert!(answer.is_authentic(&KEY));
        prop_assert_eq!(answer.header, header());
        prop_assert_eq!(&frame.bytes()[INNER_AT..], &inner[..]);
    }
}
