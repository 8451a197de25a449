//! TCP options: what a SYN offers, what the switch promises in return, and what reaches the backend of it.
//!
//! The input is a byte of switches, a length, the options of a SYN, and the options of a later segment.

use baton_core::wire::{Ipv4, Segment, SynOptions, Timestamps};
use baton_core::{DropReason, Verdict};

use crate::common::client::{Client, get};
use crate::common::packets::{ACK, CWR, ECE, PSH, TcpFrame, be16, be32, read_options};
use crate::common::world::World;
use crate::input::Input;

/// Longest list of options a TCP header has room for.
const OPTIONS_BYTES_MAX: usize = 40;
/// What a network of 1500 bytes leaves a segment beside outer IPv4, UDP, our header, IPv4 and TCP.
const MSS_ANNOUNCED: u16 = 1500 - 20 - 8 - 56 - 20 - 20;
/// The shift the switch announces.
const SHIFT: u8 = 7;

/// A list of options as RFC 9293, section 3.1, and those it names have it; read here by hand.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    mss: Option<u16>,
    shift: Option<u8>,
    sack: bool,
    stamps: Option<(u32, u32)>,
    /// Of several timestamps, the first.
    first_stamps: Option<(u32, u32)>,
    /// The list ends in what is no option.
    is_broken: bool,
}

/// Shakes hands with options the input chooses.
///
/// # Panics
/// Options that are read otherwise than by hand, a SYN-ACK that promises what was not offered, a handoff that says something
/// else than the handshake.
pub fn tcp_options(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (switches, count) = (input.byte(), usize::from(input.byte()));
    let options = padded(input.bytes(count.min(OPTIONS_BYTES_MAX)));
    let offered = read(&options);
    let wants_ecn = switches & 1 == 1;

    let mut world = World::new();
    let mut client = Client::new();
    client.offer.ecn = wants_ecn;
    let syn = TcpFrame { options, ..client.syn() }.frame();
    let outcome = world.give(&syn);
    let Ok(parsed) = SynOptions::parse(&syn) else {
        assert!(offered.is_broken, "refused: {offered:?}");
        assert_eq!(outcome.verdict, Verdict::Drop(DropReason::TcpOptions));
        return;
    };
    assert!(!offered.is_broken, "taken: {parsed:?}");
    let by_hand = (offered.mss, offered.shift, offered.sack, offered.stamps.map(|(value, _)| value));
    assert_eq!((parsed.mss, parsed.window_scale, parsed.sack_permitted, parsed.tsval), by_hand);

    let answer = outcome.reply();
    expect_promises(&answer, &offered, wants_ecn);
    client.take_syn_ack(&answer);
    client.offer.timestamps = offered.stamps.is_some();
    let outcome = world.give(&client.data(0, &get("/files/a")));
    let message = outcome.message();
    let flag = |set: bool, bit: u16| if set { bit } else { 0 };
    let flags = flag(offered.shift.is_some(), 1)
        | flag(offered.sack, 2)
        | flag(offered.stamps.is_some(), 4)
        | flag(wants_ecn, 8);
    assert_eq!(message.flags, flags, "{offered:?}");
    // RFC 7323, section 2.3: shifts over 14 mean 14.
    assert_eq!(message.wscale, offered.shift.map_or(0, |shift| shift.min(14) << 4 | SHIFT));
    let mss = offered.mss.unwrap_or(536);
    let step = [1460, 1440, 1300, 536].into_iter().find(|step| *step <= mss).unwrap_or(536);
    assert_eq!(message.mss, step, "the cookie's step at or below {mss}");

    later_segment(&mut world, &client, input.rest());
}

/// The SYN-ACK answers what was offered, and nothing else.
fn expect_promises(answer: &TcpFrame, offered: &Read, wants_ecn: bool) {
    assert_eq!(answer.flags & (ECE | CWR), if wants_ecn { ECE } else { 0 });
    let promised = read_options(&answer.options);
    let of = |kind: u8| {
        let mut all = promised.iter().filter(|(other, _)| *other == kind);
        (all.next().map(|(_, content)| content.as_slice()), all.next())
    };
    assert_eq!(of(2), (Some(&MSS_ANNOUNCED.to_be_bytes()[..]), None));
    assert_eq!(of(3), (offered.shift.map(|_| &[SHIFT][..]), None));
    assert_eq!(of(4), (offered.sack.then_some(&[][..]), None));
    let echo = of(8).0.map(|stamps| be32(stamps, 4));
    assert_eq!(echo, offered.stamps.map(|(value, _)| value), "TSecr is the client's TSval");
    let kinds = [Some(2), offered.shift.map(|_| 3), offered.sack.then_some(4), offered.stamps.map(|_| 8)];
    assert_eq!(promised.len(), kinds.iter().flatten().count(), "{promised:?}");
}

/// A segment of the connection, with any options: its timestamps are those a kernel finds, and it goes on as it came.
fn later_segment(world: &mut World, client: &Client, options: &[u8]) {
    let options = padded(&options[..options.len().min(OPTIONS_BYTES_MAX)]);
    let by_hand = read(&options).first_stamps.map(|(value, echo)| Timestamps { value, echo });
    let sent = u32::try_from(get("/files/a").len()).expect("short");
    let frame = TcpFrame { options, ..client.segment(sent, PSH | ACK, b"more") }.frame();
    let ip = Ipv4::parse(&frame).expect("a whole packet");
    assert_eq!(Segment::parse(&frame, &ip).map(|segment| segment.timestamps), Ok(by_hand));
    let outcome = world.give(&frame);
    assert_eq!(outcome.message().inner, frame[14..], "options we do not understand survive");
}

/// The list as it stands in a header: filled with end-of-list bytes to a multiple of four.
fn padded(options: &[u8]) -> Vec<u8> {
    let mut list = options.to_vec();
    list.resize(list.len().next_multiple_of(4), 0);
    list
}

fn read(options: &[u8]) -> Read {
    let mut list = Read::default();
    let mut rest = options;
    while let [kind, behind @ ..] = rest {
        let (content, next) = match (kind, behind) {
            (0, _) => break,
            (1, _) => {
                rest = behind;
                continue;
            }
            (_, [length, ..]) if (2..=rest.len()).contains(&usize::from(*length)) => {
                (&rest[2..usize::from(*length)], &rest[usize::from(*length)..])
            }
            _ => {
                list.is_broken = true;
                break;
            }
        };
        match (kind, content.len()) {
            (2, 2) => list.mss = Some(be16(content, 0)),
            (3, 1) => list.shift = Some(content[0]),
            (4, 0) => list.sack = true,
            // One to four blocks of eight bytes (RFC 2018, section 3).
            (5, 8 | 16 | 24 | 32) => {}
            (8, 8) => {
                let stamps = (be32(content, 0), be32(content, 4));
                list.stamps = Some(stamps);
                list.first_stamps.get_or_insert(stamps);
            }
            (2..=5, _) => {
                list.is_broken = true;
                break;
            }
            _ => {}
        }
        rest = next;
    }
    list
}
