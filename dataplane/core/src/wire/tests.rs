use core::net::IpAddr;

use handoff_proto::{FourTuple, Seq};
use proptest::prelude::*;
use smoltcp::wire::TcpControl;

use super::*;
use crate::frame::Frame;

/// 10.50.0.11:33333 to 10.60.0.100:80; written by a second implementation, as is all hex here.
const SYN: &str = "4500002c00004000400625f00a32000b0a3c00648235005001020304000000006002faf001ce0000020405b4";
const DATA: &str = "4500002b00004000400625f10a32000b0a3c00648235005000000001000000025018faf0822e0000474554";
const SYN_ACK: &str = "4500003c00004000400625e00a3c00640a32000b00508235aabbccdd01020305a012ffffda37000002040560030307\
                       0402080a112233445566778800";
const FIN_ACK: &str = "4500003400004000400625e80a3c00640a32000b00508235aabbccdd010203058011ffff64ab0000080a00000007000000090000";
const RST: &str = "4500002800004000400625f40a3c00640a32000b00508235aabbccdd0000000050040000a0e50000";
/// A router at 10.9.8.7 tells 10.60.0.100 that its packet of 1500 bytes to 10.50.0.11:33333 needs a next hop's MTU of 1300;
/// it quotes the IP header and eight bytes (RFC 1191).
const TOO_LARGE: &str = "450000380000400040011e160a0908070a3c00640304fdc800000514450005dc000040003f0621400a3c00640a32000b\
                         00508235aabbccdd";
const ETHERNET: &str = "0200000000010200000000fe0800";
const ETHERNET_BACK: &str = "0200000000fe0200000000010800";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn frame(packet: &str) -> Vec<u8> {
    [hex(ETHERNET), hex(packet)].concat()
}

fn read(frame: &[u8]) -> Result<(Ipv4, Segment), Fault> {
    let ip = Ipv4::parse(frame)?;
    Ok((ip, Segment::parse(frame, &ip)?))
}

fn tuple() -> FourTuple {
    FourTuple {
        client: IpAddr::from([10, 50, 0, 11]),
        client_port: 33_333,
        vip: IpAddr::from([10, 60, 0, 100]),
        vip_port: 80,
    }
}

/// Puts the answer to the SYN in place of it and returns the frame.
fn answered(answer: &TcpAnswer) -> Vec<u8> {
    let syn = frame(SYN);
    let mut buffer = [syn.clone(), vec![0xee; 40]].concat();
    let mut view = Frame::new(&mut buffer, 0, syn.len()).expect("inside");
    let (_, segment) = read(view.bytes()).expect("well formed");
    answer_tcp(&mut view, &segment, answer).expect("room");
    view.bytes().to_vec()
}

#[test]
fn an_ethernet_header_is_read() {
    let ethernet = Ethernet::parse(&frame(SYN)).expect("long enough");
    assert_eq!(ethernet.destination, MacAddress([2, 0, 0, 0, 0, 1]));
    assert_eq!(ethernet.source, MacAddress([2, 0, 0, 0, 0, 0xfe]));
    for (kind, expected) in [([8, 0], Carries::Ipv4), ([8, 6], Carries::Arp), ([0x86, 0xdd], Carries::Other)]
    {
        let mut other = frame(SYN);
        other[12..14].copy_from_slice(&kind);
        assert_eq!(Ethernet::parse(&other).map(|ethernet| ethernet.carries), Ok(expected));
    }
    for length in 0..ETHERNET_BYTES {
        assert_eq!(Ethernet::parse(&frame(SYN)[..length]), Err(Fault::Malformed));
    }
}

#[test]
fn a_segment_is_read_field_by_field() {
    let data = frame(DATA);
    let (ip, segment) = read(&data).expect("well formed");
    assert_eq!((ip.total_bytes, ip.protocol), (43, Protocol::Tcp));
    assert_eq!((IpAddr::V4(ip.source), IpAddr::V4(ip.destination)), (tuple().client, tuple().vip));
    assert_eq!(segment.tuple, tuple());
    assert_eq!((segment.seq, segment.ack), (Seq(1), Seq(2)));
    assert_eq!(segment.flags, Flags { ack: true, ..Flags::default() });
    assert_eq!((segment.timestamps, segment.payload_at, segment.payload_bytes), (None, 54, 3));
    assert_eq!((segment.payload(&data), segment.end()), (&b"GET"[..], Seq(4)));
    assert!(Segment::checksum_holds(&data, &ip));
    let (_, syn) = read(&frame(SYN)).expect("well formed");
    assert_eq!((syn.flags, syn.end()), (Flags { syn: true, ..Flags::default() }, Seq(0x0102_0305)));
}

#[test]
fn every_flipped_bit_of_a_segment_is_seen_by_its_checksum() {
    let data = frame(DATA);
    let ip = Ipv4::parse(&data).expect("well formed");
    for at in 34..data.len() {
        for bit in 0..8 {
            let mut flipped = data.clone();
            flipped[at] ^= 1 << bit;
            assert!(!Segment::checksum_holds(&flipped, &ip), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn every_truncation_is_malformed() {
    for whole in [frame(SYN), frame(DATA), frame(FIN_ACK)] {
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), Err(Fault::Malformed), "{length} bytes");
            assert!(!Segment::checksum_holds(&whole[..length.min(53)], &Ipv4::parse(&whole).expect("good")));
        }
    }
}

#[test]
fn impossible_flags_are_told() {
    for (flags, possible) in [
        (0x00, false), // none
        (0x08, false), // PSH alone
        (0x01, false), // FIN alone
        (0x03, false), // SYN and FIN
        (0x06, false), // SYN and RST
        (0x32, false), // urgent
        (0x30, false),
        (0x02, true),
        (0x04, true),
        (0x10, true),
        (0x11, true),
        (0x14, true),
        (0x15, true),
        (0xc2, true),
    ] {
        let mut changed = frame(DATA);
        changed[47] = flags;
        let expected = if possible { None } else { Some(Fault::TcpFlags) };
        assert_eq!(read(&changed).err(), expected, "flags {flags:#04x}");
    }
}

/// Puts the right Internet checksum (RFC 1071) at an offset of what it covers.
fn mend_checksum(bytes: &mut [u8], at: usize) {
    bytes[at..at + 2].fill(0);
    let words =
        bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    bytes[at..at + 2].copy_from_slice(&(!u16::try_from(folded).expect("folded")).to_be_bytes());
}

fn with_options(options: &[u8]) -> Vec<u8> {
    let mut changed = frame(SYN)[..54].to_vec();
    changed[46] = u8::try_from(5 + options.len() / 4).expect("at most 40 bytes") << 4;
    changed.extend(options);
    let total = u16::try_from(changed.len() - 14).expect("short").to_be_bytes();
    changed[16..18].copy_from_slice(&total);
    mend_checksum(&mut changed[14..34], 10);
    changed
}

#[test]
fn timestamps_are_found_in_every_layout() {
    let stamps = Some(Timestamps { value: 0x0102_0304, echo: 0x0506_0708 });
    for (options, expected) in [
        (&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8][..], stamps),
        (&[8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1], stamps),
        (&[1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 0], stamps),
        (&[254, 4, 9, 9, 1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8], stamps),
        (&[5, 10, 0, 0, 0, 1, 0, 0, 0, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8], stamps),
        (&[0, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8], None), // behind the end
        (&[1, 1, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8], None),
        (&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8, 10], None),
        (&[254, 0, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8], None),
        (&[], None),
    ] {
        let (_, segment) = read(&with_options(options)).expect("well formed");
        assert_eq!(segment.timestamps, expected, "{options:?}");
    }
}

#[test]
fn a_syn_is_read_option_by_option() {
    let all = [2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 200];
    let expected = SynOptions {
        mss: Some(1460),
        window_scale: Some(200),
        sack_permitted: true,
        tsval: Some(0x0102_0304),
    };
    assert_eq!(SynOptions::parse(&with_options(&all)), Ok(expected));
    assert_eq!(SynOptions::parse(&with_options(&[])), Ok(SynOptions::default()));
    let twice = [2, 4, 5, 0xb4, 2, 4, 2, 24];
    let last = SynOptions { mss: Some(536), ..SynOptions::default() };
    assert_eq!(SynOptions::parse(&with_options(&twice)), Ok(last));
    for bad in [[2, 4, 5, 5, 3, 3, 7, 2], [1, 1, 1, 1, 1, 1, 1, 8], [4, 3, 0, 0, 0, 0, 0, 0]] {
        assert_eq!(SynOptions::parse(&with_options(&bad)), Err(Fault::TcpOptions), "{bad:?}");
    }
}

#[test]
fn answers_are_written_to_the_byte() {
    let syn_ack = TcpAnswer {
        window: 0xffff,
        mss: Some(1376),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 0x1122_3344, echo: 0x5566_7788 }),
        ..TcpAnswer::new(Seq(0xaabb_ccdd), Some(Seq(0x0102_0305)), TcpControl::Syn)
    };
    let fin_ack = TcpAnswer {
        window: 0xffff,
        timestamps: Some(Timestamps { value: 7, echo: 9 }),
        ..TcpAnswer::new(Seq(0xaabb_ccdd), Some(Seq(0x0102_0305)), TcpControl::Fin)
    };
    let rst = TcpAnswer::new(Seq(0xaabb_ccdd), None, TcpControl::Rst);
    for (answer, packet) in [(syn_ack, SYN_ACK), (fin_ack, FIN_ACK), (rst, RST)] {
        assert_eq!(answered(&answer), [hex(ETHERNET_BACK), hex(packet)].concat(), "{answer:?}");
    }
    let agreed = answered(&TcpAnswer { ece: true, ..syn_ack });
    assert_eq!(agreed[47], 0x52, "ECE, ACK, SYN");
    assert!(Segment::checksum_holds(&agreed, &Ipv4::parse(&agreed).expect("good")));
}

#[test]
fn an_answer_without_room_is_an_error() {
    let mut buffer = frame(SYN);
    let length = buffer.len();
    let mut view = Frame::new(&mut buffer, 0, length).expect("inside");
    let (_, segment) = read(view.bytes()).expect("well formed");
    let answer = TcpAnswer {
        mss: Some(1376),
        window_scale: Some(7),
        ..TcpAnswer::new(Seq(1), Some(Seq(2)), TcpControl::Syn)
    };
    assert!(answer_tcp(&mut view, &segment, &answer).is_err());
    assert_eq!(view.bytes(), frame(SYN));
}

#[test]
fn a_reset_fits_the_segment_it_answers() {
    let (_, data) = read(&frame(DATA)).expect("well formed");
    let with = |flags: Flags| reset_for(&Segment { flags, ..data });
    let ack = Flags { ack: true, ..Flags::default() };
    assert_eq!(with(ack), TcpAnswer::new(Seq(2), None, TcpControl::Rst));
    let syn = Flags { syn: true, ..Flags::default() };
    assert_eq!(with(syn), TcpAnswer::new(Seq(0), Some(Seq(5)), TcpControl::Rst));
}

#[test]
fn only_the_hardware_addresses_change_on_the_way_to_another_hop() {
    let mut buffer = frame(DATA);
    let length = buffer.len();
    let mut view = Frame::new(&mut buffer, 0, length).expect("inside");
    redirect(&mut view, MacAddress([1; 6]), MacAddress([2; 6]));
    assert_eq!(view.bytes(), [&[2; 6][..], &[1; 6], &frame(DATA)[12..]].concat());
}

/// Changes a byte of the ICMP error and mends its checksum.
fn error_with(at: usize, value: u8) -> Vec<u8> {
    let mut changed = frame(TOO_LARGE);
    changed[at] = value;
    mend_checksum(&mut changed[34..], 2);
    changed
}

#[test]
fn an_icmp_error_says_whose_packet_it_quotes() {
    assert_eq!(quoted_by_icmp_error(&frame(TOO_LARGE)), Some(tuple()));
    for (name, at, value, is_about) in [
        ("as it is", 34, 3, true),
        ("time exceeded", 34, 11, true),
        ("parameter problem", 34, 12, true),
        ("echo reply", 34, 0, false),
        ("echo request", 34, 8, false),
        ("redirect", 34, 5, false),
        ("source quench", 34, 4, false),
        ("no type at all", 34, 99, false),
        ("more fragments follow", 48, 0x20, true), // the first one has the ports
        ("a later fragment", 49, 1, false),
        ("options", 42, 0x46, false),
        ("IPv6", 42, 0x65, false),
        ("UDP", 51, 17, false),
    ] {
        let expected = is_about.then(tuple);
        assert_eq!(quoted_by_icmp_error(&error_with(at, value)), expected, "{name}");
    }
}

#[test]
fn every_flipped_bit_of_an_icmp_error_is_seen_by_its_checksum() {
    let error = frame(TOO_LARGE);
    for at in 34..error.len() {
        for bit in 0..8 {
            let mut flipped = error.clone();
            flipped[at] ^= 1 << bit;
            assert_eq!(quoted_by_icmp_error(&flipped), None, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_quote_with_less_than_both_ports_is_none() {
    for length in 0..frame(TOO_LARGE).len() {
        let mut cut = frame(TOO_LARGE)[..length].to_vec();
        if length >= 38 {
            mend_checksum(&mut cut[34..], 2);
        }
        let expected = (length >= 42 + 20 + 4).then(tuple);
        assert_eq!(quoted_by_icmp_error(&cut), expected, "{length} bytes");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_an_icmp_error_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), keep in 0..70usize) {
        let mut changed = frame(TOO_LARGE);
        changed.truncate(keep);
        changed.extend(bytes);
        let _ = quoted_by_icmp_error(&changed);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), keep in 0..54usize) {
        let mut changed = frame(DATA);
        let from = keep.min(changed.len());
        changed.truncate(from);
        changed.extend(bytes);
        let _ = Ethernet::parse(&changed);
        let _ = SynOptions::parse(&changed);
        let ip = Ipv4::parse(&frame(DATA)).expect("good");
        let _ = Segment::checksum_holds(&changed, &ip);
        if let Ok((_, segment)) = read(&changed) {
            prop_assert!(segment.payload_at + segment.payload(&changed).len() == changed.len());
        }
        let length = changed.len();
        let mut view = Frame::new(&mut changed, 0, length).expect("inside");
        answer_echo(&mut view);
    }
}
