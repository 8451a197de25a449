//! Frames that are not what they should be.

use baton_core::{DropReason, Event, Micros, Verdict};
use proptest::prelude::*;

use crate::common::client::{Client, get, len};
use crate::common::packets::{
    ACK, PSH, RST, SYN, TcpFrame, arp, be16, checksum, ethernet, icmp_echo, ipv4, ipv4_with, udp,
};
use crate::common::world::{
    Answer, BACKENDS, BROADCAST, ROUTER_MAC, STARTED_PORTS, SWITCH, SWITCH_MAC, VIP, World,
};

fn around(packet: &[u8]) -> Vec<u8> {
    ethernet(SWITCH_MAC, ROUTER_MAC, 0x0800, packet)
}

#[test]
fn frames_for_other_hardware_addresses_or_protocols_are_not_ours() {
    let mut world = World::new();
    let syn = Client::new().syn();
    for to in [[2, 0, 0, 0, 0, 2], BROADCAST, [0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        world.expect_drop(&TcpFrame { to, ..syn.clone() }.frame(), DropReason::NotForUs);
    }
    for ethertype in [0x86dd, 0x8100, 0x88cc, 0x0000, 0x05dc] {
        let frame = ethernet(SWITCH_MAC, ROUTER_MAC, ethertype, &syn.packet());
        world.expect_drop(&frame, DropReason::NotForUs);
    }
}

#[test]
fn packets_that_are_not_for_a_vip_are_dropped() {
    let mut world = World::new();
    let client = Client::new();
    for (vip, vip_port) in [(VIP, 81), (SWITCH, 80), ([10, 60, 0, 102], 80), (BACKENDS[0], 80)] {
        let syn = Client { vip, vip_port, ..client.clone() }.syn();
        world.expect_drop(&syn.frame(), DropReason::NotVip);
    }
    let datagram = udp(53, 80, b"data");
    world.expect_drop(&around(&ipv4(client.address, VIP, 17, &datagram)), DropReason::NotVip);
    world.expect_drop(&around(&ipv4(client.address, VIP, 132, b"sctp")), DropReason::NotVip);
    // To the switch itself: only handoff messages.
    world.expect_drop(&around(&ipv4(client.address, SWITCH, 17, &datagram)), DropReason::AnswerMalformed);
}

#[test]
fn fragments_and_ip_options_are_dropped() {
    let mut world = World::new();
    let client = Client::new();
    let segment = client.syn().segment();
    for flags in [0x2000, 0x2001, 0x0001, 0x1fff, 0x6000] {
        let packet = ipv4_with(client.address, VIP, 6, flags, &[], &segment);
        world.expect_drop(&around(&packet), DropReason::IpFragment);
    }
    let packet = ipv4_with(client.address, VIP, 6, 0, &[1, 1, 1, 0], &segment);
    world.expect_drop(&around(&packet), DropReason::IpOptions);
    let packet = ipv4_with(client.address, VIP, 6, 0, &[], &segment);
    assert_eq!(world.give(&around(&packet)).verdict, Verdict::Reply, "it need not forbid fragmentation");
}

#[test]
fn sources_that_no_client_can_have_are_dropped() {
    let mut world = World::new();
    for address in [VIP, [0; 4], [255; 4], [224, 0, 0, 1], [239, 1, 2, 3], [127, 0, 0, 1]] {
        let syn = Client { address, ..Client::new() }.syn();
        world.expect_drop(&syn.frame(), DropReason::SourceInvalid);
    }
}

#[test]
fn a_frame_shorter_than_its_packet_is_malformed_at_every_cut() {
    let mut world = World::new();
    let client = Client::new();
    let (handed, outcome) = world.request(Client::at_port(7), "/files/a");
    let refusal = Answer::refused(&outcome.message()).frame();
    for whole in [client.syn().frame(), client.data(0, &get("/files/a")), refusal, handed.fin(0)] {
        for length in 0..whole.len() {
            world.expect_drop(&whole[..length], DropReason::Malformed);
        }
    }
    let ping = icmp_echo(client.address, VIP, SWITCH_MAC, ROUTER_MAC, b"data");
    for length in 0..ping.len() {
        world.expect_drop(&ping[..length], DropReason::Malformed);
    }
}

#[test]
fn packets_cut_short_with_matching_lengths_are_dropped_and_nothing_panics() {
    let mut world = World::new();
    let (client, outcome) = world.request(Client::new(), "/files/a");
    let request = client.segment(0, PSH | ACK, &get("/files/a")).segment();
    for length in 0..request.len() {
        let packet = ipv4(client.address, VIP, 6, &request[..length]);
        let verdict = world.give(&around(&packet)).verdict;
        let reason = if length < 32 { DropReason::Malformed } else { DropReason::TcpChecksum };
        assert_eq!(verdict, Verdict::Drop(reason), "{length} bytes of TCP");
    }
    let refusal = Answer::refused(&outcome.message()).frame();
    for length in 0..100 - 14 - 20 {
        let mut datagram = refusal[34..34 + length].to_vec();
        if length >= 8 {
            let bytes = u16::try_from(length).expect("short").to_be_bytes();
            datagram[4..6].copy_from_slice(&bytes);
        }
        let packet = ipv4(BACKENDS[0], SWITCH, 17, &datagram);
        world.expect_drop(&around(&packet), DropReason::AnswerMalformed);
    }
    let ping = icmp_echo(client.address, VIP, SWITCH_MAC, ROUTER_MAC, b"");
    for length in 0..8 {
        let packet = ipv4(client.address, VIP, 1, &ping[34..34 + length]);
        world.expect_drop(&around(&packet), DropReason::IcmpOther);
    }
}

#[test]
fn impossible_lengths_and_versions_are_malformed() {
    let mut world = World::new();
    let good = Client::new().syn().frame();
    let change = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame[24..26].copy_from_slice(&[0, 0]);
        let sum = checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    for first in [0x00, 0x40, 0x44, 0x4f, 0x55, 0x65, 0xf5] {
        let verdict = world.give(&change(14, first)).verdict;
        assert!(
            matches!(verdict, Verdict::Drop(DropReason::Malformed | DropReason::IpChecksum)),
            "{first:#x}"
        );
    }
    for total in 0..20 {
        world.expect_drop(&change(17, total), DropReason::Malformed);
    }
    for offset in 0..5u8 {
        world.expect_drop(&change(46, offset << 4), DropReason::Malformed);
    }
    let options_end = u8::try_from((good.len() - 34) / 4).expect("short");
    for offset in options_end + 1..16 {
        world.expect_drop(&change(46, offset << 4), DropReason::Malformed);
    }
    let mut damaged = good.clone();
    damaged[22] ^= 1; // time to live
    world.expect_drop(&damaged, DropReason::IpChecksum);
}

#[test]
fn every_single_damaged_byte_of_a_first_request_keeps_it_from_being_handed_off() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let request = client.data(0, &get("/files/a"));
    // Behind the source's hardware address, which nothing protects.
    for at in (0..6).chain(12..request.len()) {
        let mut damaged = request.clone();
        damaged[at] ^= 0x04;
        let verdict = world.give(&damaged).verdict;
        assert!(matches!(verdict, Verdict::Drop(_)), "byte {at}: {verdict:?}");
    }
    assert_eq!(world.switch.flow_count(), 0);
    assert_eq!(world.event(Event::Handoffs), 0);
}

/// Frames of every kind a switch in the middle of its life may be given.
fn samples(world: &mut World) -> Vec<Vec<u8>> {
    let (fresh, outcome) = world.request(Client::at_port(STARTED_PORTS), "/files/a");
    let (old, sent, _) = world.established(Client::at_port(STARTED_PORTS + 1), "/files/a");
    let mut holding = Client::at_port(STARTED_PORTS + 2);
    world.connect(&mut holding);
    world.give(&holding.data(0, b"GET /files/a HTT"));
    let mut idle = Client::at_port(STARTED_PORTS + 3);
    world.connect(&mut idle);
    vec![
        Client::new().syn().frame(),
        fresh.data(0, &get("/files/a")),
        fresh.fin(len(&get("/files/a"))),
        old.ack(sent),
        old.rst(sent),
        old.syn().frame(),
        holding.data(16, b"P/1.1\r\n\r\n"),
        holding.segment(16, RST | ACK, b"").frame(),
        idle.fin(0),
        idle.segment(u32::MAX, ACK, b"").frame(),
        idle.segment(0, SYN | ACK, b"").frame(),
        Answer::refused(&outcome.message()).frame(),
        arp(1, (BACKENDS[0], ROUTER_MAC), (VIP, [0; 6]), BROADCAST),
        icmp_echo([10, 50, 0, 11], VIP, SWITCH_MAC, ROUTER_MAC, b"data"),
    ]
}

/// Makes the IPv4 checksum right again, and the TCP one if asked, so that changes get past the first guard.
fn mend(frame: &mut [u8], tcp: bool) {
    if frame.len() < 34 || be16(frame, 12) != 0x0800 {
        return;
    }
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    if tcp && frame[23] == 6 && frame.len() >= 54 {
        frame[50..52].copy_from_slice(&[0, 0]);
        let length = u16::try_from(frame.len() - 34).expect("short").to_be_bytes();
        let summed = [&frame[26..34], &[0, 6], &length, &frame[34..]].concat();
        let sum = checksum(&summed);
        frame[50..52].copy_from_slice(&sum.to_be_bytes());
    }
}

proptest! {
    /// `World::give` checks at each step that a frame is counted exactly once.
    #[test]
    fn arbitrary_bytes_never_panic_and_are_counted_once(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
        to_us: bool,
    ) {
        let mut world = World::new();
        for mut frame in frames {
            if to_us && frame.len() >= 14 {
                frame[..6].copy_from_slice(&SWITCH_MAC);
                frame[12] = 8;
                frame[13] = if frame[13] & 1 == 0 { 0 } else { 6 };
            }
            world.give(&frame);
        }
    }

    #[test]
    fn changed_frames_never_panic_and_are_counted_once(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..200),
        cut in any::<prop::sample::Index>(),
        headroom in 0..130usize,
        tailroom in 0..60usize,
    ) {
        let mut world = World::new();
        let samples = samples(&mut world);
        for (which, at, value, care) in changes {
            let mut frame = which.get(&samples).clone();
            let position = at.index(frame.len());
            frame[position] = value;
            if care == 3 {
                frame.truncate(cut.index(frame.len() + 1));
            }
            if care > 0 {
                mend(&mut frame, care > 1);
            }
            world.give_in(&frame, headroom, tailroom, false);
            world.now = world.now.plus(Micros::from_millis(u64::from(value)));
            world.poll();
        }
    }
}
