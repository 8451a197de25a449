//! The handshake, which stores nothing.

use baton_core::{DropReason, Event, Micros, Verdict};

use crate::common::backend::sort;
use crate::common::client::{BARE, Client, Offer, USUAL, get, len};
use crate::common::packets::{ACK, CWR, ECE, FIN, PSH, RST, SYN, TcpFrame, URG, be32, read_options};
use crate::common::world::{KEY_ID, SWITCH_MAC, World, settings, snapshot};

const MSS_ANNOUNCED: u16 = 1500 - 84 - 40;

#[test]
fn a_syn_is_answered_with_every_option_it_offers_and_no_other() {
    let mut world = World::new();
    for number in 0..64u8 {
        let bit = |position: u8| number & 1 << position != 0;
        let offer = Offer {
            mss: bit(0).then_some(1460),
            wscale: bit(1).then_some(if bit(5) { 0 } else { 14 }),
            sack: bit(2),
            timestamps: bit(3),
            ecn: bit(4),
        };
        let client = Client::with(offer);
        let answer = world.give(&client.syn().frame()).reply();
        assert_eq!((answer.to, answer.from), (client.mac, SWITCH_MAC), "to the address it came from");
        assert_eq!((answer.source, answer.destination), (client.vip, client.address));
        assert_eq!((answer.source_port, answer.destination_port), (client.vip_port, client.port));
        assert_eq!(answer.ack, client.isn.wrapping_add(1));
        let ece = if offer.ecn { ECE } else { 0 };
        assert_eq!(answer.flags, SYN | ACK | ece, "{offer:?}: no CWR (RFC 3168, section 6.1.1)");
        let options = read_options(&answer.options);
        let content = |kind: u8| {
            let mut found =
                options.iter().filter(|(have, _)| *have == kind).map(|(_, content)| content.clone());
            let first = found.next();
            assert!(found.next().is_none(), "option {kind} twice");
            first
        };
        assert_eq!(content(2), Some(MSS_ANNOUNCED.to_be_bytes().to_vec()), "always announced");
        assert_eq!(content(3), offer.wscale.map(|_| vec![7]));
        assert_eq!(content(4), offer.sack.then(Vec::new));
        let echo = content(8).map(|stamps| be32(&stamps, 4));
        assert_eq!(echo, offer.timestamps.then_some(client.clock), "TSecr is the SYN's TSval");
        let known =
            1 + [offer.wscale.is_some(), offer.sack, offer.timestamps].iter().filter(|on| **on).count();
        assert_eq!(options.len(), known, "{options:?}");
    }
    assert_eq!(world.event(Event::SynAcks), 64);
    assert_eq!(world.switch.flow_count(), 0);
}

#[test]
fn half_of_an_ecn_request_is_none() {
    let mut world = World::new();
    for flags in [SYN | ECE, SYN | CWR] {
        let syn = TcpFrame { flags, ..Client::new().syn() };
        assert_eq!(world.give(&syn.frame()).reply().flags, SYN | ACK);
    }
}

#[test]
fn unknown_options_are_not_reflected() {
    let mut world = World::new();
    let client = Client::with(BARE);
    // TCP Fast Open (34), MPTCP capable (30), experimental (254), a SACK block, MD5 (19) with 16 bytes.
    for option in [
        vec![34, 2],
        vec![30, 4, 0, 0x81],
        vec![254, 4, 0xf9, 0x89],
        vec![5, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        vec![8, 4, 0, 0], // timestamps of another length are not timestamps
        [&[19, 18][..], &[0xab; 16]].concat(),
    ] {
        let syn = TcpFrame { options: option.clone(), ..client.syn() };
        let answer = world.give(&syn.frame()).reply();
        let kinds: Vec<u8> = read_options(&answer.options).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [2], "{option:?}");
    }
}

#[test]
fn options_that_cannot_be_read_are_dropped_and_those_behind_the_end_ignored() {
    let mut world = World::new();
    let client = Client::with(BARE);
    for options in [vec![2, 1, 0, 0], vec![2, 0, 0, 0], vec![99, 12, 0, 0], vec![2, 3, 5, 0]] {
        let syn = TcpFrame { options, ..client.syn() };
        world.expect_drop(&syn.frame(), DropReason::TcpOptions);
    }
    let syn = TcpFrame { options: vec![0, 4, 2, 0], ..client.syn() };
    assert_eq!(read_options(&world.give(&syn.frame()).reply().options).len(), 1);
}

#[test]
fn the_announced_mss_leaves_room_for_headers_and_tunnel_whatever_the_mtu() {
    for (mtu_bytes, announced) in [(1500u16, 1376u16), (9000, 8876), (660, 536)] {
        let settings = baton_core::Settings { mtu_bytes, ..settings() };
        let mut world = World::with(settings, snapshot());
        let answer = world.give(&Client::new().syn().frame()).reply();
        assert_eq!(read_options(&answer.options)[0], (2, announced.to_be_bytes().to_vec()));
    }
}

#[test]
fn a_handshake_stores_nothing_and_neither_do_ten_thousand_syns() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    assert_eq!(world.event(Event::IdleAcks), 1);
    for number in 0..10_000 {
        let client = Client { port: number, isn: u32::from(number) << 13, ..Client::new() };
        assert_eq!(world.give(&client.syn().frame()).verdict, Verdict::Reply);
    }
    assert_eq!(world.switch.flow_count(), 0);
    // The client from before the flood is served.
    assert_eq!(world.give(&client.data(0, &get("/files/a"))).message().base_seq, client.isn.wrapping_add(1));
}

#[test]
fn a_repeated_syn_gets_the_same_answer() {
    let mut world = World::new();
    let syn = Client::new().syn().frame();
    let first = world.give(&syn).frame;
    assert_eq!(world.give(&syn).frame, first);
}

#[test]
fn what_was_offered_arrives_in_the_handoff() {
    let mut world = World::new();
    for (offer, flags, wscale, mss) in [
        (USUAL, 0b0111, 0x97, 1460),
        (BARE, 0, 0, 536),
        (Offer { ecn: true, ..BARE }, 0b1000, 0, 536),
        (Offer { sack: true, ..BARE }, 0b0010, 0, 536),
        (Offer { timestamps: true, mss: Some(1452), ..BARE }, 0b0100, 0, 1440),
        (Offer { wscale: Some(0), mss: Some(1300), ..BARE }, 0b0001, 0x07, 1300),
        (Offer { wscale: Some(15), ..BARE }, 0b0001, 0xe7, 536),
        (Offer { wscale: Some(255), mss: Some(0), ..BARE }, 0b0001, 0xe7, 536),
        (Offer { mss: Some(9000), ..USUAL }, 0b0111, 0x97, 1460),
    ] {
        let (client, outcome) = world.request(Client::with(offer), "/files/a");
        let message = outcome.message();
        assert_eq!((message.flags, message.wscale, message.mss), (flags, wscale, mss), "{offer:?}");
        assert_eq!(message.key_id, KEY_ID);
        assert_eq!(message.base_ack, client.peer_isn.wrapping_add(1));
        let stamps = if offer.timestamps { (client.clock + 7, client.echo) } else { (0, 0) };
        assert_eq!((message.tsval, message.tsecr), stamps);
        world.pass(Micros::from_secs(40)); // the unconfirmed flow ends, and the 4-tuple is free again
        assert_eq!(world.switch.flow_count(), 0);
    }
}

#[test]
fn segments_no_client_may_send_are_dropped() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    for flags in [SYN | ACK, SYN | FIN, SYN | RST, 0, PSH, FIN, FIN | PSH | URG, ACK | URG] {
        world.expect_drop(&client.segment(0, flags, b"").frame(), DropReason::TcpFlags);
    }
    let mut syn = client.syn().frame();
    *syn.last_mut().expect("not empty") ^= 1;
    world.expect_drop(&syn, DropReason::TcpChecksum);
    world.expect_drop(&client.rst(0), DropReason::UnknownFlow);
}

#[test]
fn without_its_cookie_nothing_is_handed_off_and_whoever_may_have_it_is_asked() {
    for offer in [USUAL, BARE] {
        let request = get("/files/a");
        let mut world = World::new();
        let mut good = Client::with(offer);
        world.connect(&mut good);
        let mut sought = 0;
        let mut expect_sought = |world: &mut World, frame: &[u8]| {
            let outcome = world.give(frame);
            assert_eq!(outcome.verdict, Verdict::Drop(DropReason::UnknownFlow));
            let (packets, questions) = sort(&outcome.sent.frames);
            assert_eq!((packets.len(), questions.len()), (0, 4), "every backend is asked");
            sought += 1;
            assert_eq!((world.event(Event::OwnersSought), world.switch.flow_count()), (sought, 1));
            world.pass(Micros::from_secs(4)); // nobody says anything
            assert_eq!((world.event(Event::ResetsSent), world.switch.flow_count()), (0, 0));
        };
        for wrong in [
            Client { peer_isn: good.peer_isn ^ 1 << 31, ..good.clone() },
            Client { peer_isn: good.peer_isn ^ 1, ..good.clone() },
            Client { isn: good.isn ^ 1, ..good.clone() },
            Client { port: good.port ^ 1, ..good.clone() },
            Client { address: [10, 50, 0, 12], ..good.clone() },
            Client { vip: [10, 60, 0, 101], ..good.clone() },
            Client { offer: Offer { timestamps: !offer.timestamps, ..offer }, ..good.clone() },
        ] {
            for frame in [wrong.data(0, &request), wrong.fin(0), wrong.ack(0)] {
                expect_sought(&mut world, &frame);
            }
        }
        // The right cookie with other bytes in front: only the first segment may begin.
        expect_sought(&mut world, &good.data(1, &request));
        if offer.timestamps {
            let wrong = Client { echo: good.echo ^ 1, ..good.clone() };
            expect_sought(&mut world, &wrong.data(0, &request));
        }
        let mut damaged = good.data(0, &request);
        *damaged.last_mut().expect("not empty") ^= 1;
        world.expect_drop(&damaged, DropReason::TcpChecksum);
        assert_eq!((world.switch.flow_count(), world.event(Event::Handoffs)), (0, 0));
    }
}

#[test]
fn a_client_may_think_for_two_minutes_but_not_for_five() {
    for (pause_s, served) in [(0, true), (100, true), (120, true), (256, false), (300, false)] {
        let mut world = World::new();
        let mut client = Client::new();
        world.connect(&mut client);
        world.pass(Micros::from_secs(pause_s));
        let outcome = world.give(&client.data(0, &get("/files/a")));
        let expected = if served { Verdict::Forward } else { Verdict::Drop(DropReason::UnknownFlow) };
        assert_eq!(outcome.verdict, expected, "after {pause_s} s");
    }
}

#[test]
fn an_idle_client_that_leaves_is_answered_from_the_cookie() {
    for offer in [USUAL, BARE] {
        let mut world = World::new();
        let mut client = Client::with(offer);
        world.connect(&mut client);
        for _ in 0..2 {
            let answer = world.give(&client.fin(0)).reply(); // and again when the answer is lost
            assert_eq!(answer.flags, FIN | ACK);
            assert_eq!((answer.to, answer.from), (client.mac, SWITCH_MAC));
            assert_eq!(answer.seq, client.peer_isn.wrapping_add(1));
            assert_eq!(answer.ack, client.isn.wrapping_add(2), "the FIN is acknowledged");
            expect_stamps(&client, &answer);
        }
        client.read = 1; // our FIN
        assert_eq!(world.give(&client.ack(1)).verdict, Verdict::Absorb);
        assert_eq!((world.event(Event::IdleFinsAnswered), world.switch.flow_count()), (2, 0));
    }
}

#[test]
fn an_idle_clients_keepalive_probe_is_answered_from_the_cookie() {
    for offer in [USUAL, BARE] {
        let mut world = World::new();
        let mut client = Client::with(offer);
        world.connect(&mut client);
        for garbage in [&b""[..], b"\0"] {
            // One before the next byte: what the SYN had.
            let probe = client.segment(u32::MAX, ACK, garbage).frame();
            let answer = world.give(&probe).reply();
            assert_eq!(answer.flags, ACK);
            assert_eq!(answer.seq, client.peer_isn.wrapping_add(1));
            assert_eq!(answer.ack, client.isn.wrapping_add(1));
            expect_stamps(&client, &answer);
        }
        assert_eq!((world.event(Event::IdleProbesAnswered), world.switch.flow_count()), (2, 0));
        // A request of one byte is no probe.
        assert_eq!(world.give(&client.data(0, b"G")).verdict, Verdict::Absorb);
        assert_eq!(world.event(Event::HeadsHeld), 1);
    }
}

/// Answers from the cookie repeat the client's own echo: a clock of the switch would upset the backend's later.
fn expect_stamps(client: &Client, answer: &TcpFrame) {
    let options = read_options(&answer.options);
    if client.offer.timestamps {
        let stamps = [client.echo.to_be_bytes(), (client.clock + 7).to_be_bytes()].concat();
        assert_eq!(options, [(8, stamps)]);
    } else {
        assert!(options.is_empty());
    }
}

#[test]
fn switches_that_share_a_key_take_over_each_others_handshakes() {
    let mut first = World::new();
    let mut second = World::new();
    let mut client = Client::new();
    first.connect(&mut client);
    let request = get("/files/a");
    let message = second.give(&client.data(0, &request)).message();
    assert_eq!(message.inner.len(), 20 + 32 + request.len());
    assert_eq!(message.base_seq.wrapping_add(len(&request)), client.isn.wrapping_add(1 + len(&request)));
}
