//! The handoff header against vectors from a second implementation (`tests/vectors/README.md`), and against everything
//! a header must not be.

use core::hash::Hasher as _;
use std::net::IpAddr;

use handoff_proto::header::{Detail, HEADER_BYTES, LCORE_ANY, TAGGED_BYTES, TUNNEL_BYTES_V4};
use handoff_proto::keys::Key;
use handoff_proto::tcp::{TcpState, WindowScale};
use handoff_proto::{
    FourTuple, Generation, HANDOFF_PORT, Header, HeaderError, KeyId, MessageType, Micros, Negotiated, Seq,
    Tag,
};
use proptest::prelude::*;
use serde::Deserialize;

/// Where the header lies in a frame: behind Ethernet, IPv4 and UDP.
const HEADER_AT: usize = 14 + 20 + 8;
const INNER_AT: usize = 14 + TUNNEL_BYTES_V4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    #[serde(rename = "note")]
    _note: String,
    siphash: Vec<SipHashVector>,
    keys: Vec<KeyVector>,
    messages: Vec<MessageVector>,
    tags: Vec<TagVector>,
}

#[derive(Deserialize)]
struct SipHashVector {
    length: u8,
    output: String,
}

#[derive(Deserialize)]
struct KeyVector {
    secret: String,
    tag_key: String,
    cookie_key: String,
    control_psk: String,
}

#[derive(Deserialize)]
struct MessageVector {
    name: String,
    secret: usize,
    client: IpAddr,
    client_port: u16,
    vip: IpAddr,
    vip_port: u16,
    header: Fields,
    inner_bytes: usize,
    frame: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(rename = "type")]
    kind: String,
    wscale: Option<(u8, u8)>,
    sack: bool,
    timestamps: bool,
    ecn: bool,
    mss: u16,
    key_id: u8,
    base_seq: u32,
    base_ack: u32,
    tsval: u32,
    tsecr: u32,
    detail: u16,
    lcore: u8,
    generation: u64,
    issued: u64,
}

#[derive(Deserialize)]
struct TagVector {
    secret: usize,
    client: IpAddr,
    client_port: u16,
    vip: IpAddr,
    vip_port: u16,
    covered: String,
    tag: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors/handoff.json")).expect("the vectors' own form")
}

fn hex<const N: usize>(text: &str) -> [u8; N] {
    bytes(text).try_into().expect("as long as the field")
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn kind(name: &str) -> MessageType {
    match name {
        "handoff" => MessageType::Handoff,
        "forward" => MessageType::Forward,
        "kill" => MessageType::Kill,
        "killed" => MessageType::Killed,
        "busy" => MessageType::Busy,
        "gone" => MessageType::Gone,
        "refused" => MessageType::Refused,
        "who-has" => MessageType::WhoHas,
        "mine" => MessageType::Mine,
        "icmp" => MessageType::Icmp,
        other => panic!("no type {other}"),
    }
}

impl Vectors {
    fn key(&self, at: usize) -> Key {
        Key::new(KeyId(0), hex(&self.keys[at].secret))
    }
}

impl MessageVector {
    fn tuple(&self) -> FourTuple {
        FourTuple {
            client: self.client,
            client_port: self.client_port,
            vip: self.vip,
            vip_port: self.vip_port,
        }
    }

    fn header(&self) -> Header {
        let fields = &self.header;
        let kind = kind(&fields.kind);
        Header {
            kind,
            negotiated: Negotiated {
                mss: fields.mss,
                wscale: fields.wscale.map(|(send, receive)| WindowScale { send, receive }),
                sack: fields.sack,
                timestamps: fields.timestamps,
                ecn: fields.ecn,
            },
            key_id: KeyId(fields.key_id),
            base_seq: Seq(fields.base_seq),
            base_ack: Seq(fields.base_ack),
            tsval: fields.tsval,
            tsecr: fields.tsecr,
            detail: Detail::from_wire(kind, fields.detail).expect("a known detail"),
            lcore: fields.lcore,
            generation: Generation(fields.generation),
            issued: Micros(fields.issued),
        }
    }
}

#[test]
fn our_siphash_is_that_of_the_paper() {
    let key: [u8; 16] = core::array::from_fn(|at| u8::try_from(at).expect("small"));
    let vectors = vectors().siphash;
    assert_eq!(vectors.len(), 16);
    for SipHashVector { length, output } in vectors {
        let mut hash = siphasher::sip::SipHasher24::new_with_key(&key);
        hash.write(&(0..length).collect::<Vec<u8>>());
        assert_eq!(hash.finish().to_le_bytes(), hex(&output), "{length} bytes");
    }
    // Aumasson and Bernstein, appendix A: the same, once more, from the paper itself.
    let mut hash = siphasher::sip::SipHasher24::new_with_key(&key);
    hash.write(&(0..15).collect::<Vec<u8>>());
    assert_eq!(hash.finish(), 0xa129_ca61_49be_45e5);
}

#[test]
fn keys_are_derived_as_the_document_says() {
    let vectors = vectors();
    for (at, expected) in vectors.keys.iter().enumerate() {
        let key = vectors.key(at);
        assert_eq!(key.tag_key().0, hex(&expected.tag_key));
        assert_eq!(key.cookie_key(), hex(&expected.cookie_key));
        assert_eq!(key.control_psk(), hex(&expected.control_psk));
    }
}

#[test]
fn every_message_is_written_and_read_to_the_byte() {
    let vectors = vectors();
    for vector in &vectors.messages {
        let name = &vector.name;
        let frame = bytes(&vector.frame);
        assert_eq!(frame[36..38], HANDOFF_PORT.to_be_bytes(), "{name}");
        assert_eq!(frame.len(), INNER_AT + vector.inner_bytes, "{name}");
        let on_the_wire = &frame[HEADER_AT..INNER_AT];
        let key = vectors.key(vector.secret).tag_key();
        assert_eq!(vector.header().emit(&vector.tuple(), &key), on_the_wire, "{name}");

        let (header, tag) = Header::parse(&frame[HEADER_AT..]).expect("well formed");
        assert_eq!(header, vector.header(), "{name}");
        let covered: [u8; TAGGED_BYTES] = on_the_wire[..TAGGED_BYTES].try_into().expect("48 bytes");
        assert!(tag.verify(&key, &covered, &vector.tuple()), "{name}");
        assert!(!tag.verify(&vectors.key(1 - vector.secret).tag_key(), &covered, &vector.tuple()), "{name}");
    }
}

#[test]
fn every_type_and_every_refusal_has_a_vector() {
    let vectors = vectors();
    for value in 1..=10 {
        let kind = MessageType::from_wire(value).expect("a known type");
        assert!(vectors.messages.iter().any(|vector| vector.header().kind == kind), "{kind:?}");
    }
    let has = |detail| vectors.messages.iter().any(|vector| vector.header().detail == detail);
    for value in 0..=8 {
        assert!(has(Detail::from_wire(MessageType::Gone, value).expect("known")), "detail {value}");
    }
    for (state, value) in STATES {
        assert_eq!(Detail::from_wire(MessageType::Mine, value), Some(Detail::State(state)));
        assert!(has(Detail::State(state)), "{state:?}");
    }
    let any = |vector: &MessageVector| {
        vector.header().kind == MessageType::Gone && vector.header.lcore == LCORE_ANY
    };
    assert!(vectors.messages.iter().any(any), "what answers no message names no lcore");
}

/// The kernel's numbers (`linux/tcp_states.h`), without those of sockets that are of no connection.
const STATES: [(TcpState, u16); 9] = [
    (TcpState::Established, 1),
    (TcpState::SynSent, 2),
    (TcpState::SynReceived, 3),
    (TcpState::FinWait1, 4),
    (TcpState::FinWait2, 5),
    (TcpState::TimeWait, 6),
    (TcpState::CloseWait, 8),
    (TcpState::LastAck, 9),
    (TcpState::Closing, 11),
];

#[test]
fn tags_cover_either_family_and_tell_client_from_vip() {
    let vectors = vectors();
    for vector in &vectors.tags {
        let key = vectors.key(vector.secret).tag_key();
        let TagVector { client, client_port, vip, vip_port, .. } = *vector;
        let tuple = FourTuple { client, client_port, vip, vip_port };
        let covered = hex(&vector.covered);
        assert_eq!(Tag::of(&key, &covered, &tuple).to_bytes(), hex(&vector.tag), "{tuple}");
        assert!(Tag::from_bytes(hex(&vector.tag)).verify(&key, &covered, &tuple));
    }
}

/// The first message: a frame, its key and its 4-tuple.
fn first() -> (MessageVector, handoff_proto::TagKey) {
    let mut vectors = vectors();
    let key = vectors.key(0).tag_key();
    (vectors.messages.remove(0), key)
}

#[test]
fn every_truncation_is_told_with_its_length() {
    let (vector, _) = first();
    let frame = bytes(&vector.frame);
    for length in 0..HEADER_BYTES {
        let error = Header::parse(&frame[HEADER_AT..HEADER_AT + length]).err();
        assert_eq!(error, Some(HeaderError::Truncated(length)));
    }
    assert!(Header::parse(&frame[HEADER_AT..INNER_AT]).is_ok());
}

#[test]
fn every_flipped_bit_fails_verification() {
    let (vector, key) = first();
    let frame = bytes(&vector.frame);
    let good: [u8; HEADER_BYTES] = frame[HEADER_AT..INNER_AT].try_into().expect("56 bytes");
    for bit in 0..HEADER_BYTES * 8 {
        let mut changed = good;
        changed[bit / 8] ^= 1 << (bit % 8);
        let covered = *changed.first_chunk().expect("48 bytes");
        let tag = Tag::from_bytes(*changed.last_chunk().expect("eight bytes"));
        assert!(!tag.verify(&key, &covered, &vector.tuple()), "bit {bit}");
    }
    // And of the 4-tuple, which the header does not carry.
    let covered = *good.first_chunk().expect("48 bytes");
    let tag = Tag::from_bytes(*good.last_chunk().expect("eight bytes"));
    let flip = |address: IpAddr, bit: u32| match address {
        IpAddr::V4(v4) => IpAddr::from((v4.to_bits() ^ 1 << bit).to_be_bytes()),
        IpAddr::V6(_) => unreachable!("the first vector is IPv4"),
    };
    let tuple = vector.tuple();
    for bit in 0..32 {
        assert!(!tag.verify(&key, &covered, &FourTuple { client: flip(tuple.client, bit), ..tuple }));
        assert!(!tag.verify(&key, &covered, &FourTuple { vip: flip(tuple.vip, bit), ..tuple }));
    }
    for bit in 0..16 {
        let client_port = tuple.client_port ^ 1 << bit;
        let vip_port = tuple.vip_port ^ 1 << bit;
        assert!(!tag.verify(&key, &covered, &FourTuple { client_port, ..tuple }));
        assert!(!tag.verify(&key, &covered, &FourTuple { vip_port, ..tuple }));
    }
    assert!(tag.verify(&key, &covered, &tuple));
}

#[test]
fn generations_are_ordered_across_the_wrap() {
    let last = Generation(u64::MAX);
    assert!(Generation(0).newer_than(last) && !last.newer_than(Generation(0)));
    assert!(!last.newer_than(last), "an equal one is not newer");
    assert_eq!(Generation::next(Some(last), Micros(u64::MAX)), Generation(0));
    let half = Generation(1 << 63);
    assert!(!half.newer_than(Generation(0)) && half.newer_than(Generation(1)), "the far half lies behind");
}

#[test]
fn every_impossible_field_is_told() {
    let (vector, _) = first();
    let good = bytes(&vector.frame)[HEADER_AT..INNER_AT].to_vec();
    let with = |changes: &[(usize, u8)]| {
        let mut changed = good.clone();
        for (at, value) in changes {
            changed[*at] = *value;
        }
        Header::parse(&changed).err()
    };
    let options = |flags, wscale| Some(HeaderError::Options { flags, wscale });
    assert_eq!(with(&[]), None);
    assert_eq!(with(&[(0, b'b')]), Some(HeaderError::Magic(*b"bTON")));
    assert_eq!(with(&[(3, b'M')]), Some(HeaderError::Magic(*b"BTOM")));
    for version in [0, 2, 255] {
        assert_eq!(with(&[(4, version)]), Some(HeaderError::Version(version)));
    }
    for kind in (11..=255).chain([0]) {
        assert_eq!(with(&[(5, kind)]), Some(HeaderError::Type(kind)));
    }
    for bit in 4..16 {
        let flags = 0x0007u16 | 1 << bit;
        let [high, low] = flags.to_be_bytes();
        assert_eq!(with(&[(6, high), (7, low)]), options(flags, 0x97), "flag {bit}");
    }
    for wscale in [0xf7, 0x9f, 0xff, 0xf0, 0x0f] {
        assert_eq!(with(&[(8, wscale)]), options(0x0007, wscale));
    }
    for wscale in [0x10, 0x01, 0x97] {
        assert_eq!(with(&[(7, 0x06), (8, wscale)]), options(0x0006, wscale), "shifts without their flag");
    }
    assert_eq!(with(&[(7, 0x06), (8, 0)]), None);
    assert_eq!(with(&[(8, 0xee)]), None, "14 and 14");
    for detail in [9u16, 255, 256, 0xffff] {
        let [high, low] = detail.to_be_bytes();
        assert_eq!(with(&[(28, high), (29, low)]), Some(HeaderError::Detail(detail)));
    }
    for detail in [0u16, 7, 10, 12, 13, 14, 256 + 1, 0xffff] {
        let [high, low] = detail.to_be_bytes();
        let mine = MessageType::Mine as u8;
        assert_eq!(with(&[(5, mine), (28, high), (29, low)]), Some(HeaderError::Detail(detail)));
    }
    assert_eq!(with(&[(30, LCORE_ANY)]), None);
    for reserved in [1, 0x80, 255] {
        assert_eq!(with(&[(31, reserved)]), Some(HeaderError::Reserved(reserved)));
    }
}

fn shifts() -> impl Strategy<Value = Option<WindowScale>> {
    prop::option::of((0..=14u8, 0..=14u8).prop_map(|(send, receive)| WindowScale { send, receive }))
}

fn types_and_details() -> impl Strategy<Value = (MessageType, Detail)> {
    (1..=10u8, 0..9usize).prop_map(|(kind, which)| {
        let kind = MessageType::from_wire(kind).expect("a known type");
        let detail = match kind {
            MessageType::Mine => Detail::State(STATES[which].0),
            _ => Detail::from_wire(kind, u16::try_from(which).expect("small")).expect("a known detail"),
        };
        (kind, detail)
    })
}

prop_compose! {
    fn headers()(
        (kind, detail) in types_and_details(),
        wscale in shifts(),
        (mss, sack, timestamps, ecn) in any::<(u16, bool, bool, bool)>(),
        (key_id, lcore) in any::<(u8, u8)>(),
        (base_seq, base_ack, tsval, tsecr) in any::<(u32, u32, u32, u32)>(),
        (generation, issued) in any::<(u64, u64)>(),
    ) -> Header {
        Header {
            kind,
            negotiated: Negotiated { mss, wscale, sack, timestamps, ecn },
            key_id: KeyId(key_id),
            base_seq: Seq(base_seq),
            base_ack: Seq(base_ack),
            tsval,
            tsecr,
            detail,
            lcore,
            generation: Generation(generation),
            issued: Micros(issued),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(header in headers(), client: [u8; 4], client_port: u16, secret: [u8; 32]) {
        let tuple = FourTuple {
            client: IpAddr::from(client),
            client_port,
            vip: IpAddr::from([10, 60, 0, 100]),
            vip_port: 80,
        };
        let key = Key::new(KeyId(1), secret).tag_key();
        let emitted = header.emit(&tuple, &key);
        let (parsed, tag) = Header::parse(&emitted).expect("our own");
        prop_assert_eq!(parsed, header);
        prop_assert!(tag.verify(&key, emitted.first_chunk().expect("48 bytes"), &tuple));
    }

    /// Whatever is taken for a header is one: written again, it is the same bytes.
    #[test]
    fn what_is_read_is_what_was_there(mut noise in prop::collection::vec(any::<u8>(), 0..80), like_ours: bool) {
        if like_ours && noise.len() >= HEADER_BYTES {
            noise[..5].copy_from_slice(b"BTON\x01");
            noise[5] %= 12;
            noise[6] = 0;
            noise[7] &= 0x1f;
            noise[8] &= 0xee;
            noise[28] = 0;
            noise[31] &= 1;
        }
        if let Ok((header, _)) = Header::parse(&noise) {
            let (vector, key) = first();
            prop_assert_eq!(&header.emit(&vector.tuple(), &key)[..TAGGED_BYTES], &noise[..TAGGED_BYTES]);
        }
    }

    #[test]
    fn generations_are_ordered_serially(last: u64, now: u64) {
        let next = Generation::next(Some(Generation(last)), Micros(now));
        prop_assert!(next.newer_than(Generation(last)));
        prop_assert!(!Generation(last).newer_than(next));
        if Generation(now).newer_than(Generation(last)) {
            prop_assert_eq!(next, Generation(now));
        } else {
            prop_assert_eq!(next, Generation(last.wrapping_add(1)));
        }
        prop_assert_eq!(Generation::next(None, Micros(now)), Generation(now));
    }
}
