//! The handoff header and the tunnel around it: what one side writes, the other reads, and nothing else passes.
//!
//! The input is taken three times: as a datagram that came, as a header that came, and as the fields of one to be written.

use baton_core::Frame;
use baton_core::tunnel::{Answer, Outer, WrapError, rewrap, wrap};
use handoff_proto::header::{Detail, HEADER_BYTES, MAGIC, TAGGED_BYTES, TUNNEL_BYTES_V4, VERSION};
use handoff_proto::tcp::WindowScale;
use handoff_proto::{
    FourTuple, Generation, Header, HeaderError, KeyId, MessageType, Micros, Negotiated, Seq, TagKey,
};
use smoltcp::wire::EthernetAddress;

use crate::common::packets::{ACK, PSH, TcpFrame, ethernet, ipv4, read_message, udp};
use crate::common::world::{BACKEND_MACS, BACKENDS, ROUTER_MAC, SWITCH, SWITCH_MAC, VIP, inner_tuple};
use crate::input::Input;

const KEY: TagKey = TagKey([0x42; 16]);
const OTHER_KEY: TagKey = TagKey([0x43; 16]);
/// Of a client's packet, what has to come back.
const INNER_BYTES_MIN: usize = 40;

/// Reads and writes headers.
///
/// # Panics
/// A header that is read and not written again byte for byte, one that is written and not read again, a change to either that the
/// tag does not tell, a frame changed by what failed.
pub fn handoff_header(bytes: &[u8]) {
    header_that_came(bytes);
    datagram_that_came(bytes);
    let mut input = Input::new(bytes);
    let header = header_from(&mut input);
    header_to_be_written(&header, input.byte(), input.rest());
}

fn tuple() -> FourTuple {
    FourTuple { client: [10, 50, 0, 11].into(), client_port: 33_333, vip: VIP.into(), vip_port: 80 }
}

fn header_that_came(bytes: &[u8]) {
    match Header::parse(bytes) {
        Ok((header, tag)) => {
            let (tagged, _): (&[u8; TAGGED_BYTES], _) = bytes.split_first_chunk().expect("long enough");
            let emitted = header.emit(&tuple(), &KEY);
            assert_eq!(&emitted[..TAGGED_BYTES], tagged, "{header:?} is written otherwise than it was read");
            assert_eq!(tag.to_bytes(), bytes[TAGGED_BYTES..HEADER_BYTES]);
            let is_ours = tag.verify(&KEY, tagged, &tuple());
            assert_eq!(is_ours, bytes[TAGGED_BYTES..HEADER_BYTES] == emitted[TAGGED_BYTES..]);
        }
        Err(error) => {
            let is_short = bytes.len() < HEADER_BYTES;
            assert_eq!(matches!(error, HeaderError::Truncated(_)), is_short, "{error}");
            let is_ours = !is_short && bytes[..4] == MAGIC && bytes[4] == VERSION;
            assert_eq!(
                matches!(error, HeaderError::Magic(_) | HeaderError::Version(_) | HeaderError::Truncated(_)),
                !is_ours,
                "{error}"
            );
        }
    }
}

fn datagram_that_came(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(1400)];
    let frame = ethernet(
        SWITCH_MAC,
        BACKEND_MACS[0],
        0x0800,
        &ipv4(BACKENDS[0], SWITCH, 17, &udp(40_000, 7171, bytes)),
    );
    let Ok(answer) = Answer::parse(&frame) else { return };
    let (header, packet) = bytes.split_at(HEADER_BYTES);
    let (parsed, tag) = Header::parse(header).expect("what the tunnel took");
    assert_eq!(answer.header, parsed);
    assert!(packet.len() >= INNER_BYTES_MIN && packet[0] == 0x45 && packet[9] == 6);
    assert_eq!(answer.tuple, inner_tuple(packet));
    let tagged = header.first_chunk().expect("long enough");
    assert_eq!(answer.is_authentic(&KEY), tag.verify(&KEY, tagged, &answer.tuple));
    assert!(answer.inner.payload(&frame).len() <= packet.len() - INNER_BYTES_MIN);
}

/// Reads the fields of a header; any is possible.
fn header_from(input: &mut Input<'_>) -> Header {
    let kinds =
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(|wire| MessageType::from_wire(wire).expect("all of them"));
    let kind = input.choice(&kinds);
    let switches = input.byte();
    let details: Vec<Detail> = (0..12).filter_map(|wire| Detail::from_wire(kind, wire)).collect();
    let mut wide =
        || u64::from(input.number()) << 48 | u64::from(input.number()) << 32 | u64::from(input.number());
    let (generation, issued) = (wide(), wide());
    let mut number = || u32::from(input.number()) << 16 | u32::from(input.number());
    let (base_seq, base_ack, tsval, tsecr) = (Seq(number()), Seq(number()), number(), number());
    let shifts = input.byte();
    let wscale = WindowScale { send: (shifts >> 4).min(14), receive: (shifts & 0x0f).min(14) };
    Header {
        kind,
        negotiated: Negotiated {
            mss: input.number(),
            wscale: (switches & 1 == 1).then_some(wscale),
            sack: switches & 2 == 2,
            timestamps: switches & 4 == 4,
            ecn: switches & 8 == 8,
        },
        key_id: KeyId(input.byte()),
        base_seq,
        base_ack,
        tsval,
        tsecr,
        detail: input.choice(&details),
        lcore: input.byte(),
        generation: Generation(generation),
        issued: Micros(issued),
    }
}

fn header_to_be_written(header: &Header, bit: u8, payload: &[u8]) {
    let emitted = header.emit(&tuple(), &KEY);
    let (read, tag) = Header::parse(&emitted).expect("what was written");
    assert_eq!(read, *header);
    let tagged: &[u8; TAGGED_BYTES] = emitted.first_chunk().expect("a part of it");
    assert!(tag.verify(&KEY, tagged, &tuple()) && !tag.verify(&OTHER_KEY, tagged, &tuple()));
    let other = FourTuple { client_port: 33_334, ..tuple() };
    assert!(!tag.verify(&KEY, tagged, &other), "another connection's");
    for length in 0..HEADER_BYTES {
        assert_eq!(Header::parse(&emitted[..length]).err(), Some(HeaderError::Truncated(length)));
    }
    expect_damage_told(&emitted, bit);
    through_the_tunnel(header, &emitted, payload);
}

/// A bit of any byte changed on the way: no header any more, or one whose tag is wrong.
fn expect_damage_told(emitted: &[u8; HEADER_BYTES], bit: u8) {
    for at in 0..HEADER_BYTES {
        let mut damaged = *emitted;
        damaged[at] ^= 1 << (bit % 8);
        if let Ok((_, tag)) = Header::parse(&damaged) {
            let tagged = damaged.first_chunk().expect("a part of it");
            assert!(!tag.verify(&KEY, tagged, &tuple()), "bit {bit} of byte {at}");
        }
    }
}

fn through_the_tunnel(header: &Header, emitted: &[u8; HEADER_BYTES], payload: &[u8]) {
    let payload = &payload[..payload.len().min(1460)];
    let packet = TcpFrame {
        to: SWITCH_MAC,
        from: ROUTER_MAC,
        source: [10, 50, 0, 11],
        destination: VIP,
        source_port: 33_333,
        destination_port: 80,
        seq: header.base_seq.0,
        ack: header.base_ack.0,
        flags: PSH | ACK,
        options: Vec::new(),
        payload: payload.to_vec(),
    };
    let original = packet.frame();
    let outer = Outer {
        source_mac: EthernetAddress(SWITCH_MAC),
        destination_mac: EthernetAddress(BACKEND_MACS[0]),
        source: SWITCH.into(),
        destination: BACKENDS[0].into(),
        source_port: 0xc123,
    };
    for (headroom, mtu_bytes) in
        [(128, 1500), (TUNNEL_BYTES_V4, 1500), (TUNNEL_BYTES_V4 - 1, 1500), (128, 700)]
    {
        let mut buffer = [vec![0xee; headroom], original.clone()].concat();
        let mut frame = Frame::new(&mut buffer, headroom, original.len()).expect("inside");
        let bytes = original.len() - 14 + TUNNEL_BYTES_V4;
        match wrap(&mut frame, &outer, emitted, mtu_bytes) {
            Ok(()) => {
                assert!(bytes <= usize::from(mtu_bytes) && headroom >= TUNNEL_BYTES_V4);
                let message = read_message(frame.bytes());
                assert_eq!(
                    (&message.inner[..], &message.tag[..]),
                    (&original[14..], &emitted[TAGGED_BYTES..])
                );
                let answer = Answer::parse(frame.bytes()).expect("what was wrapped");
                assert_eq!((answer.header, answer.tuple), (*header, tuple()));
                assert!(answer.is_authentic(&KEY) && !answer.is_authentic(&OTHER_KEY));
                assert_eq!(answer.inner.payload(frame.bytes()), payload);
                assert_eq!((answer.inner.seq, answer.inner.payload_bytes), (header.base_seq, payload.len()));
                let before = frame.bytes().to_vec();
                rewrap(&mut frame, &outer, emitted, mtu_bytes).expect("it fitted once");
                assert_eq!(frame.bytes(), before);
            }
            Err(WrapError::TooLong { .. }) => {
                assert!(bytes > usize::from(mtu_bytes));
                assert_eq!(frame.bytes(), original, "changed, and not wrapped");
            }
            Err(WrapError::NoRoom(_)) => {
                assert!(headroom < TUNNEL_BYTES_V4);
                assert_eq!(frame.bytes(), original, "changed, and not wrapped");
            }
        }
    }
}
