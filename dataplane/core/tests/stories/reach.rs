//! How the switch is reached: ARP, ping, and next hops.

use core::net::IpAddr;

use baton_core::{DropReason, Event, Micros, Verdict};
use smoltcp::wire::EthernetAddress;

use crate::common::client::Client;
use crate::common::packets::{arp, checksum, icmp_echo, read_ipv4};
use crate::common::world::{
    BACKEND_MACS, BACKENDS, BROADCAST, GATEWAY, OTHER_VIP, ROUTER_MAC, SWITCH, SWITCH_MAC, VIP, World,
    settings, snapshot,
};

const STRANGER: [u8; 4] = [10, 60, 0, 77];
const STRANGER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 77];

#[test]
fn whoever_asks_for_a_vip_or_the_switch_is_answered() {
    let mut world = World::new();
    for address in [VIP, OTHER_VIP, SWITCH] {
        for to in [BROADCAST, SWITCH_MAC] {
            let question = arp(1, (STRANGER, STRANGER_MAC), (address, [0; 6]), to);
            let padded = [question, vec![0; 18]].concat();
            let outcome = world.give(&padded);
            assert_eq!(outcome.verdict, Verdict::Reply);
            let expected = arp(2, (address, SWITCH_MAC), (STRANGER, STRANGER_MAC), STRANGER_MAC);
            assert_eq!(outcome.frame, expected);
        }
    }
    assert_eq!(world.event(Event::ArpRequestsAnswered), 6);
}

#[test]
fn a_probe_for_a_vip_is_answered_too() {
    // RFC 5227, section 2.1.1: the sender has no address yet. An answer tells it that this one is taken.
    let mut world = World::new();
    let outcome = world.give(&arp(1, ([0; 4], STRANGER_MAC), (VIP, [0; 6]), BROADCAST));
    assert_eq!(outcome.frame, arp(2, (VIP, SWITCH_MAC), ([0; 4], STRANGER_MAC), STRANGER_MAC));
}

#[test]
fn arp_among_others_is_dropped_and_our_own_does_not_answer_itself() {
    let mut world = World::new();
    let other = arp(1, (STRANGER, STRANGER_MAC), ([10, 60, 0, 78], [0; 6]), BROADCAST);
    world.expect_drop(&other, DropReason::ArpOther);
    let reply = arp(2, (STRANGER, STRANGER_MAC), (SWITCH, SWITCH_MAC), SWITCH_MAC);
    world.expect_drop(&reply, DropReason::ArpOther);
    let own = arp(1, (VIP, SWITCH_MAC), (VIP, [0; 6]), BROADCAST);
    world.expect_drop(&own, DropReason::ArpOther);
}

#[test]
fn another_host_that_claims_our_address_is_counted_and_not_answered() {
    let mut world = World::new();
    for address in [VIP, OTHER_VIP, SWITCH] {
        for operation in [1, 2] {
            let claim = arp(operation, (address, STRANGER_MAC), (address, [0; 6]), BROADCAST);
            world.expect_drop(&claim, DropReason::AddressConflict);
        }
    }
}

/// `World::give_in` compares what was counted as sent with what was sent.
#[test]
fn an_announcement_there_is_no_buffer_for_does_not_count_as_sent() {
    let mut world = World::new();
    let claim = arp(1, (VIP, STRANGER_MAC), (VIP, [0; 6]), BROADCAST);
    let outcome = world.give_in(&claim, 128, 128, true);
    assert_eq!(outcome.verdict, Verdict::Drop(DropReason::AddressConflict));
    assert_eq!(world.event(Event::TransmitFailed), 1);
}

#[test]
fn arp_that_is_none_is_malformed() {
    let mut world = World::new();
    let good = arp(1, (STRANGER, STRANGER_MAC), (VIP, [0; 6]), BROADCAST);
    for (at, value) in [(15, 6), (17, 1), (18, 8), (19, 16), (21, 3), (21, 0), (22, 1)] {
        let mut bad = good.clone();
        bad[at] = value; // hardware type, protocol, both lengths, operation, a multicast sender
        world.expect_drop(&bad, DropReason::Malformed);
    }
    for length in 14..good.len() {
        world.expect_drop(&good[..length], DropReason::Malformed);
    }
}

#[test]
fn at_start_every_address_is_announced_three_times_a_second_apart() {
    let mut world = World::just_started(0, settings(), snapshot());
    let mut times = Vec::new();
    for _ in 0..60 {
        let announced: Vec<Vec<u8>> =
            world.poll().frames.into_iter().filter(|frame| frame[28..32] == frame[38..42]).collect();
        if !announced.is_empty() {
            let expected = [VIP, OTHER_VIP, SWITCH]
                .map(|address| arp(1, (address, SWITCH_MAC), (address, [0; 6]), BROADCAST));
            assert_eq!(announced, expected);
            times.push(world.now.since(crate::common::world::START));
        }
        world.now = world.now.plus(Micros::from_millis(100));
    }
    assert_eq!(times, [0, 1, 2].map(Micros::from_secs));
    assert_eq!(world.event(Event::ArpAnnouncements), 9);
}

#[test]
fn next_hops_are_asked_for_until_they_answer_then_every_ten_seconds() {
    let mut world = World::just_started(0, settings(), snapshot());
    let mut asked = Vec::new();
    let question = arp(1, (SWITCH, SWITCH_MAC), (BACKENDS[0], [0; 6]), BROADCAST);
    for tenth in 0..400u64 {
        for frame in world.poll().frames {
            if frame == question {
                asked.push(tenth);
                if asked.len() == 3 {
                    let reply = arp(2, (BACKENDS[0], BACKEND_MACS[0]), (SWITCH, SWITCH_MAC), SWITCH_MAC);
                    let outcome = world.give(&reply);
                    assert_eq!(outcome.verdict, Verdict::Absorb);
                    let news = outcome.sent.shared[0];
                    assert_eq!((news.address.octets(), news.mac.0), (BACKENDS[0], BACKEND_MACS[0]));
                }
            }
        }
        world.now = world.now.plus(Micros::from_millis(100));
    }
    // Answered at 1.0 s; asked again at 11.0 s, then twice a second while no answer comes.
    assert_eq!(asked[..5], [0, 5, 10, 110, 115]);
    assert_eq!(world.event(Event::ArpLearned), 1);
    let known: Vec<_> = world.switch.next_hops().filter(|(_, mac)| mac.is_some()).collect();
    assert_eq!(known, [(BACKENDS[0].into(), Some(EthernetAddress(BACKEND_MACS[0])))], "for 45 s");
    world.pass(Micros::from_secs(7));
    world.silent = BACKENDS.to_vec();
    world.pass(Micros::from_secs(50));
    assert_eq!(world.switch.next_hop_of(baton_core::ids::BackendIndex(0)), None);
}

#[test]
fn a_backend_that_moves_is_followed_and_told_to_the_other_lcores() {
    let mut world = World::new();
    let learned = world.event(Event::ArpLearned);
    let moved = arp(1, (BACKENDS[0], STRANGER_MAC), (BACKENDS[0], [0; 6]), BROADCAST);
    let outcome = world.give(&moved);
    assert_eq!((outcome.verdict, outcome.sent.shared.len()), (Verdict::Absorb, 1));
    assert_eq!(world.event(Event::ArpLearned), learned + 1);
    let mac = EthernetAddress(STRANGER_MAC);
    assert_eq!(world.switch.next_hop_of(baton_core::ids::BackendIndex(0)), Some(mac));
    let mut sibling = World::just_started(1, settings(), snapshot());
    sibling.switch.learn(outcome.sent.shared[0], sibling.now);
    assert_eq!(sibling.switch.next_hop_of(baton_core::ids::BackendIndex(0)), Some(mac));
}

#[test]
fn only_the_first_lcore_asks_but_all_forget_who_fell_silent() {
    let mut sibling = World::just_started(1, settings(), snapshot());
    let news =
        baton_core::switch::Learned { address: BACKENDS[0].into(), mac: EthernetAddress(BACKEND_MACS[0]) };
    sibling.switch.learn(news, sibling.now);
    assert!(sibling.pass(Micros::from_secs(40)).is_empty());
    assert_eq!(sibling.event(Event::ArpRequestsSent), 0);
    assert!(sibling.switch.next_hop_of(baton_core::ids::BackendIndex(0)).is_some());
    sibling.pass(Micros::from_secs(10));
    assert_eq!(sibling.switch.next_hop_of(baton_core::ids::BackendIndex(0)), None);
}

#[test]
fn backends_elsewhere_are_reached_by_the_gateway() {
    let world = World::new();
    let gateway = Some(EthernetAddress(ROUTER_MAC));
    assert_eq!(world.switch.next_hop_of(baton_core::ids::BackendIndex(2)), gateway);
    let asked: Vec<[u8; 4]> = world.switch.next_hops().map(|(address, _)| address.octets()).collect();
    assert_eq!(asked, [BACKENDS[0], BACKENDS[1], GATEWAY, BACKENDS[3]]);
}

#[test]
fn a_backend_that_is_configured_elsewhere_is_reached_there() {
    let mut world = World::new();
    let mut news = snapshot();
    news.backends[0].address = IpAddr::from(BACKENDS[3]);
    world.apply(news);
    let (_, outcome) = world.request(Client::new(), "/files/a");
    let message = outcome.message();
    assert_eq!((message.outer.destination, message.outer.to), (BACKENDS[3], BACKEND_MACS[3]));
}

#[test]
fn a_ping_is_answered_with_its_own_bytes() {
    let mut world = World::new();
    for address in [VIP, OTHER_VIP, SWITCH] {
        for payload in [&b""[..], b"odd", &[7; 1472]] {
            let ping = icmp_echo([10, 50, 0, 11], address, SWITCH_MAC, ROUTER_MAC, payload);
            let outcome = world.give(&[ping.clone(), vec![0; 4]].concat());
            assert_eq!(outcome.verdict, Verdict::Reply);
            let (ip, message) = read_ipv4(&outcome.frame);
            assert_eq!((ip.source, ip.destination, ip.protocol), (address, [10, 50, 0, 11], 1));
            assert_eq!((ip.to, ip.from), (ROUTER_MAC, SWITCH_MAC));
            assert_eq!((message[0], message[1], checksum(message)), (0, 0, 0));
            assert_eq!(message[4..], ping[14 + 20 + 4..], "identifier, sequence number and data");
        }
    }
}

#[test]
fn other_icmp_and_damaged_pings_are_dropped() {
    let mut world = World::new();
    let ping = icmp_echo([10, 50, 0, 11], VIP, SWITCH_MAC, ROUTER_MAC, b"data");
    for (at, value, reason) in [
        (34, 3, DropReason::IcmpOther),
        (34, 0, DropReason::IcmpOther),
        (35, 1, DropReason::IcmpOther),
        (36, 0xff, DropReason::IcmpOther),
    ] {
        let mut other = ping.clone();
        other[at] = value;
        world.expect_drop(&other, reason);
    }
    let elsewhere = icmp_echo([10, 50, 0, 11], STRANGER, SWITCH_MAC, ROUTER_MAC, b"data");
    world.expect_drop(&elsewhere, DropReason::NotVip);
}
