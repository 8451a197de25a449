//! The codec of the handoff header against the plain one, and the tag against every flipped bit.

use core::net::{IpAddr, Ipv4Addr};

use handoff_proto::header::{HEADER_BYTES, TAGGED_BYTES};
use handoff_proto::{FourTuple, Header, HeaderError, Tag, TagKey};
use proptest::prelude::*;

use crate::plain::{BYTES, Fault, Plain};

/// Fields that a reader must look at, with their lengths in bits.
const JUDGED: [(&str, u32); 7] = [
    ("version", 8),
    ("type", 8),
    ("flags", 16),
    ("send", 4),
    ("receive", 4),
    ("detail", 16),
    ("reserved", 8),
];

/// Fewer cases where each one tries hundreds of things.
fn thorough() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.div_ceil(8), ..usual }
}

/// What a field of so many bits may say where limits lie: all small numbers, every single bit, all bits.
fn edges(bits: u32) -> impl Iterator<Item = u64> {
    let most = u64::MAX >> (64 - bits);
    (0..=17).chain((0..bits).map(|bit| 1 << bit)).chain([most]).map(move |value| value & most)
}

prop_compose! {
    /// A header with nothing wrong in it.
    fn good()(
        (kind, which, flags) in (1..=10u64, 0..9usize, 0..16u64),
        shifts in [0..=14u64, 0..=14u64],
        (key_id, mss, lcore) in any::<(u8, u16, u8)>(),
        numbers in any::<[u32; 4]>(),
        times in any::<[u64; 2]>(),
    ) -> Plain {
        let states = [1, 2, 3, 4, 5, 6, 8, 9, 11];
        let detail = if kind == 9 { states[which] } else { [0, 1, 2, 3, 4, 5, 6, 7, 8][which] };
        let shifts = if flags & 1 == 1 { shifts } else { [0, 0] };
        Plain::default()
            .with("magic", 0x4254_4f4e).with("version", 1).with("type", kind).with("flags", flags)
            .with("send", shifts[0]).with("receive", shifts[1])
            .with("key id", key_id.into()).with("MSS", mss.into())
            .with("base_seq", numbers[0].into()).with("base_ack", numbers[1].into())
            .with("TSval", numbers[2].into()).with("TSecr", numbers[3].into())
            .with("detail", detail).with("lcore", lcore.into())
            .with("generation", times[0]).with("issue time", times[1])
    }
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 0x80 >> (bit % 8);
}

/// A header of ours in plain numbers, but for the tag.
fn in_numbers(header: &Header) -> Plain {
    let negotiated = &header.negotiated;
    let flag = |set: bool, value: u64| if set { value } else { 0 };
    let flags = flag(negotiated.wscale.is_some(), 1)
        + flag(negotiated.sack, 2)
        + flag(negotiated.timestamps, 4)
        + flag(negotiated.ecn, 8);
    let (send, receive) = negotiated.wscale.map_or((0, 0), |scale| (scale.send, scale.receive));
    Plain::default()
        .with("magic", 0x4254_4f4e)
        .with("version", 1)
        .with("type", u64::from(header.kind as u8))
        .with("flags", flags)
        .with("send", send.into())
        .with("receive", receive.into())
        .with("key id", header.key_id.0.into())
        .with("MSS", negotiated.mss.into())
        .with("base_seq", header.base_seq.0.into())
        .with("base_ack", header.base_ack.0.into())
        .with("TSval", header.tsval.into())
        .with("TSecr", header.tsecr.into())
        .with("detail", header.detail.to_wire().into())
        .with("lcore", header.lcore.into())
        .with("generation", header.generation.0)
        .with("issue time", header.issued.0)
}

fn fault(error: HeaderError) -> Fault {
    match error {
        HeaderError::Truncated(_) => Fault::Length,
        HeaderError::Magic(_) => Fault::Magic,
        HeaderError::Version(_) => Fault::Version,
        HeaderError::Type(_) => Fault::Type,
        HeaderError::Detail(_) => Fault::Detail,
        HeaderError::Options { .. } => Fault::Options,
        HeaderError::Reserved(_) => Fault::Reserved,
    }
}

fn tuple(addresses: [u32; 2], ports: [u16; 2]) -> FourTuple {
    let [client, vip] = addresses.map(|address| IpAddr::V4(Ipv4Addr::from(address)));
    FourTuple { client, client_port: ports[0], vip, vip_port: ports[1] }
}

/// Both readers take the bytes and read the same, or both refuse them and ours names a fault that is one.
fn agree(bytes: &[u8; BYTES]) -> Result<(), TestCaseError> {
    let plain = Plain::read(bytes).expect("long enough");
    let faults = plain.faults();
    match Header::parse(bytes) {
        Ok((header, tag)) => {
            prop_assert_eq!(&faults, &[], "taken: {:?}", plain);
            prop_assert_eq!(u64::from_be_bytes(tag.to_bytes()), plain.get("tag"));
            prop_assert_eq!(in_numbers(&header).with("tag", plain.get("tag")), plain);
        }
        Err(error) => prop_assert!(faults.contains(&fault(error)), "{error}, where there is {faults:?}"),
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_we_write_the_plain_reader_reads_and_no_part_of_it_is_a_header(
        good in good(), addresses: [u32; 2], ports: [u16; 2], key: [u8; 16],
    ) {
        let (header, _) = Header::parse(&good.write()).expect("nothing wrong in it");
        let written = header.emit(&tuple(addresses, ports), &TagKey(key));
        let plain = Plain::read(&written).expect("whole");
        prop_assert_eq!(plain.with("tag", 0), good);
        for length in 0..HEADER_BYTES {
            prop_assert_eq!(Header::parse(&written[..length]).err(), Some(HeaderError::Truncated(length)));
        }
    }
}

proptest! {
    #![proptest_config(thorough())]

    #[test]
    fn both_readers_agree_on_every_field_and_on_what_is_refused(
        good in good(), tag: u64, noise: u64, wrong in prop::array::uniform2(0..BYTES * 8),
    ) {
        let good = good.with("tag", tag);
        agree(&good.write())?;
        for (field, bits) in JUDGED {
            for value in edges(bits).chain([noise >> (64 - bits)]) {
                agree(&good.clone().with(field, value).write())?;
            }
        }
        for bit in 0..BYTES * 8 {
            let mut bytes = good.write();
            flip(&mut bytes, bit);
            agree(&bytes)?;
        }
        let mut bytes = good.write();
        wrong.into_iter().for_each(|bit| flip(&mut bytes, bit));
        agree(&bytes)?;
    }

    /// A header says what it says for one connection under one key: no bit of header, tag, 4-tuple or key may differ.
    #[test]
    fn no_single_flipped_bit_authenticates(good in good(), addresses: [u32; 2], ports: [u16; 2], key: [u8; 16]) {
        let (header, _) = Header::parse(&good.write()).expect("nothing wrong in it");
        let written = header.emit(&tuple(addresses, ports), &TagKey(key));
        let verifies = |bytes: &[u8; HEADER_BYTES], tuple: &FourTuple, key: [u8; 16]| {
            let tag = Tag::from_bytes(*bytes.last_chunk().expect("eight bytes"));
            tag.verify(&TagKey(key), bytes.first_chunk::<TAGGED_BYTES>().expect("48 bytes"), tuple)
        };
        prop_assert!(verifies(&written, &tuple(addresses, ports), key));
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = written;
            flip(&mut bytes, bit);
            prop_assert!(!verifies(&bytes, &tuple(addresses, ports), key), "bit {} of the header", bit);
        }
        for bit in 0..128 {
            let mut other = key;
            flip(&mut other, bit);
            prop_assert!(!verifies(&written, &tuple(addresses, ports), other), "bit {} of the key", bit);
        }
        for which in 0..2 {
            for bit in 0..32 {
                let mut others = addresses;
                others[which] ^= 1 << bit;
                prop_assert!(!verifies(&written, &tuple(others, ports), key), "bit {} of address {}", bit, which);
            }
            for bit in 0..16 {
                let mut others = ports;
                others[which] ^= 1 << bit;
                prop_assert!(!verifies(&written, &tuple(addresses, others), key), "bit {} of port {}", bit, which);
            }
        }
    }
}
