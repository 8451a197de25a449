//! What every outcome must be, whatever was given.

use baton_core::{Event, Verdict};
use handoff_proto::{FourTuple, Tag};

use super::Scene;
use crate::common::backend::{FORWARD, HANDOFF, WHO_HAS, inner_of};
use crate::common::packets::{Ip, Message, be16, checksum, read_ipv4, read_message, read_tcp};
use crate::common::world::{
    BACKENDS, OTHER_VIP, Outcome, SECRET, SWITCH, SWITCH_MAC, VIP, inner_tuple, is_authentic, tag_key,
};

const ICMP: u8 = 10;
/// Bytes of an ARP packet in its frame.
const ARP_FRAME_BYTES: usize = 42;
/// Frames that may be sent beside one: a page or a head of 32 KB in segments of 536 bytes less options, and some.
const ASIDE_COUNT_MAX: usize = 32 * 1024 / 500 + 16;

/// Reads a frame to a backend in the tunnel; `None` if it is something else.
pub(super) fn message(frame: &[u8]) -> Option<Message> {
    let is_one = frame.get(12..14)? == [8, 0] && *frame.get(23)? == 17 && frame.get(26..30)? == SWITCH;
    is_one.then(|| read_message(frame))
}

impl Scene {
    /// Judges what became of `given`. `World` has compared the verdict with the counters already.
    pub(super) fn judge(&self, given: &[u8], outcome: &Outcome) {
        let frame = &outcome.frame;
        match outcome.verdict {
            Verdict::Forward => self.judge_forwarded(given, frame),
            Verdict::Reply => self.judge_reply(given, frame),
            Verdict::Steer(to) => assert_ne!(to, self.lcore.number, "steered to itself"),
            Verdict::Absorb | Verdict::Drop(_) => {}
        }
        let aside = &outcome.sent.frames;
        assert!(aside.len() <= ASIDE_COUNT_MAX, "{} frames for one", aside.len());
        aside.iter().for_each(|frame| self.judge_aside(frame));
        assert!(outcome.sent.shared.len() <= 1, "one frame teaches one address");
    }

    /// Nothing grows beyond its bound, and nothing is listed twice.
    pub(super) fn expect_bounds(&self) {
        let switch = &self.world.switch;
        assert!(switch.flow_count() <= self.settings.flow_count_max, "{} flows", switch.flow_count());
        let mut tuples: Vec<_> = switch.flows().map(|flow| flow.tuple.to_bytes()).collect();
        tuples.sort_unstable();
        tuples.dedup();
        assert_eq!(tuples.len(), switch.flow_count(), "a connection has two flows");
        assert!(switch.next_hops().count() <= BACKENDS.len() + 1, "a next hop of a stranger's");
    }

    fn expect_fits(&self, frame: &[u8]) {
        let packet = frame.len() - 14;
        assert!(packet <= usize::from(self.settings.mtu_bytes), "{packet} bytes beyond the MTU");
    }

    /// What goes on is what came: with other hardware addresses, or whole behind a header.
    fn judge_forwarded(&self, given: &[u8], frame: &[u8]) {
        self.expect_fits(frame);
        assert_eq!(frame[6..12], SWITCH_MAC);
        let packet = &given[14..14 + usize::from(be16(given, 16))];
        let Some(message) = message(frame) else {
            assert_eq!(&frame[14..], packet, "changed on its way");
            return;
        };
        self.judge_message(&message);
        if self.world.event(Event::Handoffs) > self.handoffs {
            // The segment that makes the socket: the backend's kernel must take it. Later ones it judges itself.
            let base = inner_of(&message);
            assert_eq!((message.kind, base.seq, base.ack), (HANDOFF, message.base_seq, message.base_ack));
        }
        if packet[9] == 17 {
            // A handoff that came back goes to another backend.
            assert_eq!(message.inner, packet[84..], "changed on its way back");
            assert!([HANDOFF, FORWARD].contains(&message.kind));
        } else {
            assert_eq!(message.inner, packet, "changed in the tunnel");
            assert_eq!(message.kind == ICMP, packet[9] == 1);
        }
    }

    fn judge_reply(&self, given: &[u8], frame: &[u8]) {
        // ARP answers whoever the question says asked (RFC 826), whatever hardware it came from.
        let sender = if be16(frame, 12) == 0x0806 { &given[22..28] } else { &given[6..12] };
        assert_eq!((&frame[..6], &frame[6..12]), (sender, &SWITCH_MAC[..]), "back to its sender");
        match be16(frame, 12) {
            0x0806 => judge_arp(frame, 2),
            0x0800 if frame[23] == 1 => {
                self.expect_fits(frame);
                let packet = &frame[14..];
                assert_eq!(usize::from(be16(packet, 2)), packet.len());
                assert_eq!(checksum(&packet[..20]), 0, "IPv4 header checksum of a ping's answer");
                assert_eq!((packet[20], checksum(&packet[20..])), (0, 0), "an echo reply with its checksum");
                assert_eq!((&packet[12..16], &packet[16..20]), (&given[30..34], &given[26..30]));
            }
            0x0800 => {
                self.expect_fits(frame);
                let segment = read_tcp(frame);
                assert_eq!((&segment.source[..], &segment.destination[..]), (&given[30..34], &given[26..30]));
            }
            other => panic!("an answer of ethertype {other:#06x}"),
        }
    }

    /// Judges a frame of the switch's own making that is no answer to its sender.
    pub(super) fn judge_aside(&self, frame: &[u8]) {
        if be16(frame, 12) == 0x0806 {
            return judge_arp(frame, 1);
        }
        self.expect_fits(frame);
        let (outer, _) = read_ipv4(frame);
        assert_eq!(outer.from, SWITCH_MAC);
        match outer.protocol {
            6 => {
                let segment = read_tcp(frame);
                assert!([VIP, OTHER_VIP].contains(&segment.source), "a client hears from a VIP alone");
            }
            17 => {
                let message = read_message(frame);
                self.judge_message(&message);
                if [HANDOFF, FORWARD].contains(&message.kind) {
                    inner_of(&message); // of the switch's own making: its checksums are right
                }
            }
            other => panic!("a frame of protocol {other}"),
        }
    }

    fn judge_message(&self, message: &Message) {
        assert_eq!(message.outer.source, SWITCH);
        assert!(
            BACKENDS.contains(&message.outer.destination),
            "{:?} is no backend",
            message.outer.destination
        );
        assert!(message.source_port >= 0xc000, "in the dynamic range");
        assert_eq!((message.lcore, message.detail), (self.lcore.number, 0));
        let times = self.since.0..=self.world.now.0;
        assert!(times.contains(&message.issued), "{} is not within {times:?}: stamped anew", message.issued);
        match message.kind {
            ICMP => {
                let quote = &message.inner[28..];
                let ip = |at: usize| Ip::try_from(&quote[at..at + 4]).expect("four bytes").into();
                let tuple = FourTuple {
                    client: ip(16),
                    client_port: be16(quote, 22),
                    vip: ip(12),
                    vip_port: be16(quote, 20),
                };
                assert!(Tag::from_bytes(message.tag).verify(&tag_key(SECRET), &message.covered, &tuple));
            }
            HANDOFF | FORWARD | WHO_HAS => {
                assert!(is_authentic(message, SECRET), "the tag of {message:?}");
                let vip = inner_tuple(&message.inner).vip;
                assert!([VIP, OTHER_VIP].map(Into::into).contains(&vip), "{vip} is no VIP");
            }
            other => panic!("type {other} is not the switch's to send"),
        }
    }
}

/// An ARP packet in the switch's name, of `operation` or an announcement.
fn judge_arp(frame: &[u8], operation: u16) {
    assert_eq!(frame.len(), ARP_FRAME_BYTES);
    assert_eq!(be16(frame, 20), operation);
    assert_eq!((&frame[6..12], &frame[22..28]), (&SWITCH_MAC[..], &SWITCH_MAC[..]));
    let sender: Ip = frame[28..32].try_into().expect("four bytes");
    assert!([SWITCH, VIP, OTHER_VIP].contains(&sender), "{sender:?} is not ours");
}
