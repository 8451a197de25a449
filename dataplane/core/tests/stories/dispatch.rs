//! From the first data to the handoff.

use baton_core::flow::State;
use baton_core::{DropReason, Event, Micros, Settings, Verdict};

use crate::common::client::{Client, get, len};
use crate::common::packets::{ACK, FIN, Message, Outer, PSH, be16, checksum};
use crate::common::page::{CUT_OFF, MALFORMED, NO_BACKEND, NO_RULE, TOO_LARGE};
use crate::common::world::{
    BACKEND_MACS, BACKENDS, GATEWAY, KEY_ID, SECRET, SWITCH, SWITCH_MAC, World, backend_of, is_authentic,
    settings, snapshot,
};

#[test]
fn the_first_data_is_handed_off_with_its_header_and_its_bytes_untouched() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let request = client.segment(0, PSH | ACK, &get("/files/a"));
    let outcome = world.give(&request.frame());
    let message = outcome.message();
    assert!(outcome.sent.frames.is_empty(), "one packet hands off");
    assert_eq!(message.inner, request.packet(), "byte for byte");
    assert!(is_authentic(&message, SECRET));
    let outer = Outer {
        to: BACKEND_MACS[0],
        from: SWITCH_MAC,
        source: SWITCH,
        destination: BACKENDS[0],
        protocol: 17,
    };
    let Message { source_port, covered, tag, inner, .. } = message.clone();
    assert_eq!(
        message,
        Message {
            outer,
            kind: 1,
            flags: 0b0111,
            wscale: 9 << 4 | 7,
            key_id: KEY_ID,
            mss: 1460,
            base_seq: client.isn.wrapping_add(1),
            base_ack: client.peer_isn.wrapping_add(1),
            tsval: client.clock + 7,
            tsecr: client.echo,
            detail: 0,
            lcore: 0,
            generation: world.now.0,
            issued: world.now.0,
            source_port,
            covered,
            tag,
            inner,
        }
    );
    let flow = world.flow(client.tuple()).expect("a flow");
    assert_eq!((flow.state, flow.backend.0), (State::Unconfirmed, 0));
    assert_eq!((flow.created, flow.last_seen), (world.now, world.now));
}

#[test]
fn padding_of_short_frames_is_not_handed_off() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let request = client.segment(0, PSH | ACK, &get("/files/a"));
    let padded = [request.frame(), vec![0xaa; 20]].concat();
    assert_eq!(world.give(&padded).message().inner, request.packet());
}

#[test]
fn the_tunnel_port_keeps_a_flow_together_and_spreads_flows() {
    let mut world = World::new();
    let mut ports = std::collections::BTreeSet::new();
    for number in 0..50 {
        let (client, outcome) = world.request(Client::at_port(20_000 + number), "/files/a");
        let port = outcome.message().source_port;
        let again = world.give(&client.data(0, &get("/files/a"))).message().source_port;
        assert_eq!(again, port);
        ports.insert(port);
    }
    assert!(ports.len() > 45, "{} of 50", ports.len());
}

#[test]
fn until_confirmed_every_packet_carries_the_header_newly_dated() {
    let mut world = World::new();
    let (client, outcome) = world.request(Client::new(), "/files/a");
    let first = outcome.message();
    let generation = first.generation;
    world.pass(Micros::from_millis(200));
    let request = get("/files/a");
    let later = Client { clock: client.clock + 200, ..client.clone() };
    for frame in [later.data(0, &request), later.ack(len(&request)), later.data(len(&request), b"more")] {
        let message = world.give(&frame).message();
        assert_eq!(message.inner, frame[14..]);
        assert!(is_authentic(&message, SECRET));
        assert_eq!((message.kind, message.generation, message.outer), (1, generation, first.outer));
        assert_eq!(message.issued, world.now.0);
        // The base segment's, whatever this packet has.
        assert_eq!((message.base_seq, message.base_ack), (first.base_seq, first.base_ack));
        assert_eq!((message.tsval, message.tsecr), (first.tsval, first.tsecr));
    }
    assert_eq!((world.event(Event::Handoffs), world.event(Event::HandoffPackets)), (1, 4));
    assert_eq!(world.switch.flow_count(), 1);
}

#[test]
fn a_damaged_packet_of_an_unconfirmed_flow_is_dropped() {
    let mut world = World::new();
    let (client, _) = world.request(Client::new(), "/files/a");
    let mut damaged = client.data(0, &get("/files/a"));
    *damaged.last_mut().expect("not empty") ^= 0x20;
    world.expect_drop(&damaged, DropReason::TcpChecksum);
}

#[test]
fn backends_of_a_pool_take_turns_and_rules_choose_the_pool() {
    let mut world = World::new();
    let mut chosen = Vec::new();
    for number in 0..4 {
        let (_, outcome) = world.request(Client::at_port(1000 + number), "/files/a");
        chosen.push(backend_of(&outcome.message()));
    }
    assert_eq!(chosen, [0, 1, 0, 1]);
    let (_, outcome) = world.request(Client::at_port(2000), "/routed/a");
    assert_eq!(backend_of(&outcome.message()), 2, "by the gateway's hardware address");
}

#[test]
fn requests_that_cannot_be_served_are_answered_for_a_named_reason() {
    let mut world = World::new();
    for (port, (bytes, reason, why)) in (1..).zip([
        (get("/nowhere"), DropReason::NoRule, NO_RULE),
        (get("/dead/a"), DropReason::NoBackend, NO_BACKEND),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), DropReason::RequestMalformed, MALFORMED),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(), DropReason::RequestMalformed, MALFORMED),
    ]) {
        let mut client = Client::at_port(port);
        world.connect(&mut client);
        let before = world.counters.drops(reason);
        world.give(&client.data(0, &bytes)).expect_page(&client, len(&bytes), why);
        assert_eq!(world.counters.drops(reason), before + 1, "{reason:?}");
        assert_eq!(world.flow(client.tuple()).expect("closing").state, State::Answered);
    }
    assert_eq!((world.event(Event::Errors503), world.event(Event::Errors400)), (2, 2));
    let mut client = Client::at_port(9);
    let mut world = World::new();
    world.connect(&mut client);
    let fields = format!("GET / HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(129)).into_bytes();
    world.give(&client.data(0, &fields)).expect_page(&client, len(&fields), TOO_LARGE);
    assert_eq!((world.counters.drops(DropReason::HeadTooLarge), world.event(Event::Errors431)), (1, 1));
}

#[test]
fn a_client_that_finishes_within_its_request_is_served_and_its_flow_ends_soon() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let request = get("/files/a");
    let message = world.give(&client.segment(0, PSH | ACK | FIN, &request).frame()).message();
    assert_eq!(message.kind, 1);
    assert_eq!(world.flow(client.tuple()).expect("a flow").state, State::ClosingUnconfirmed);
    client.read = 100;
    let ack = client.ack(len(&request) + 1);
    world.give(&ack).expect_direct(&ack, 0);
    assert_eq!(world.flow(client.tuple()).expect("a flow").state, State::Closing);
    world.pass(Micros::from_millis(12_600));
    assert_eq!(world.switch.flow_count(), 0, "not only when the timer of established flows runs out");
}

#[test]
fn a_request_that_ends_before_its_head_is_answered_with_400() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let outcome = world.give(&client.segment(0, FIN | ACK, b"GET /files/a HT").frame());
    outcome.expect_page(&client, 16, CUT_OFF);
    assert_eq!(world.counters.drops(DropReason::RequestMalformed), 1);
}

#[test]
fn a_backend_without_known_hardware_address_gets_nothing() {
    let mut world = World::just_started(0, settings(), snapshot());
    world.silent = vec![BACKENDS[0]];
    world.pass(Micros::from_secs(3)); // what runs already is learned of
    for number in 0..3 {
        let (_, outcome) = world.request(Client::at_port(1000 + number), "/files/a");
        assert_eq!(backend_of(&outcome.message()), 1, "the other one serves");
    }
    world.silent.clear();
    world.pass(Micros::from_secs(1));
    let (_, outcome) = world.request(Client::at_port(2000), "/files/a");
    assert_eq!(backend_of(&outcome.message()), 0);
}

#[test]
fn without_any_next_hop_a_request_is_refused_as_having_no_backend() {
    let mut world = World::just_started(0, settings(), snapshot());
    world.silent = [&BACKENDS[..], &[GATEWAY]].concat();
    world.pass(Micros::from_secs(3));
    let (client, outcome) = world.request(Client::new(), "/files/a");
    outcome.expect_page(&client, len(&get("/files/a")), NO_BACKEND);
    assert_eq!(world.counters.drops(DropReason::NoBackend), 1);
}

#[test]
fn a_backend_declared_unusable_gets_nothing_new_and_keeps_what_it_has() {
    let mut world = World::new();
    let (old, sent, backend) = world.established(Client::at_port(1), "/files/a");
    assert_eq!(backend, 0);
    let (young, _) = world.request(Client::at_port(2), "/files/a");
    let (fresh, outcome) = world.request(Client::at_port(3), "/files/a");
    assert_eq!(backend_of(&outcome.message()), 0);
    let mut news = snapshot();
    news.backends[0].usable = false;
    world.apply(news);
    for number in 0..4 {
        let (_, outcome) = world.request(Client::at_port(1000 + number), "/files/a");
        assert_eq!(backend_of(&outcome.message()), 1);
    }
    let more = old.data(sent, b"more");
    world.give(&more).expect_direct(&more, 0);
    assert_eq!(backend_of(&world.give(&fresh.data(0, &get("/files/a"))).message()), 0);
    assert_eq!(backend_of(&world.give(&young.data(0, &get("/files/a"))).message()), 1);
    world.apply(snapshot());
    let turns: Vec<usize> = (0..2)
        .map(|number| backend_of(&world.request(Client::at_port(3000 + number), "/files/a").1.message()))
        .collect();
    assert!(turns.contains(&0), "back in turn: {turns:?}");
}

#[test]
fn nothing_longer_than_the_mtu_is_sent() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let head = format!("GET /files/{} HTTP/1.1\r\n\r\n", "a".repeat(1500));
    let mut fits = client.segment(0, PSH | ACK, b"");
    // With timestamps a full segment has 12 bytes less than the MSS announced (RFC 6691, section 2).
    fits.payload = head.as_bytes()[..1376 - 12].to_vec();
    assert_eq!(fits.packet().len() + 84, 1500);
    fits.payload.splice(fits.payload.len() - 13.., *b" HTTP/1.1\r\n\r\n");
    let outcome = world.give(&fits.frame());
    assert_eq!((outcome.frame.len(), outcome.message().inner), (1514, fits.packet()));
    let more = client.segment(1364, ACK, &[b'x'; 1365]);
    world.expect_drop(&more.frame(), DropReason::TooLong);
}

#[test]
fn a_buffer_without_room_for_the_tunnel_or_the_answer_is_counted() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let request = client.data(0, &get("/files/a"));
    let outcome = world.give_in(&request, 83, 0, false);
    assert_eq!(outcome.verdict, Verdict::Drop(DropReason::NoHeadroom));
    let outcome = world.give_in(&request, 84, 0, false);
    assert_eq!(outcome.message().inner, request[14..], "84 bytes are enough");
    let syn = Client::with(crate::common::client::BARE).syn().frame();
    assert_eq!(world.give_in(&syn, 0, 3, false).verdict, Verdict::Drop(DropReason::NoHeadroom));
    assert_eq!(world.give_in(&syn, 0, 4, false).verdict, Verdict::Reply);
}

#[test]
fn a_full_table_gives_up_a_quiet_closing_flow_and_otherwise_refuses() {
    let mut world = World::with(Settings { flow_count_max: 3, ..settings() }, snapshot());
    let (leaving, sent, backend) = world.established(Client::at_port(1), "/files/a");
    world.established(Client::at_port(2), "/files/a");
    world.established(Client::at_port(3), "/files/a");
    let (client, outcome) = world.request(Client::at_port(4), "/files/a");
    outcome.expect_reset(&client);
    assert_eq!(world.counters.drops(DropReason::TableFull), 1);
    // A flow that is closing gives way, but not before it has been quiet for a second.
    let fin = leaving.fin(sent);
    world.give(&fin).expect_direct(&fin, backend);
    world.pass(Micros::from_millis(900));
    let (client, outcome) = world.request(Client::at_port(4), "/files/a");
    outcome.expect_reset(&client);
    world.pass(Micros::from_millis(200));
    let (newcomer, outcome) = world.request(Client::at_port(4), "/files/a");
    assert_eq!(outcome.message().kind, 1);
    assert_eq!(world.event(Event::FlowsEvicted), 1);
    assert_eq!(world.switch.flow_count(), 3);
    assert!(world.flow(leaving.tuple()).is_none());
    assert!(world.flow(newcomer.tuple()).is_some());
}

#[test]
fn the_outer_checksum_is_that_of_the_outer_header() {
    let mut world = World::new();
    let (_, outcome) = world.request(Client::new(), "/files/a");
    assert_eq!(checksum(&outcome.frame[14..34]), 0);
    assert_ne!(be16(&outcome.frame, 24), 0);
    assert_eq!(checksum(&outcome.message().inner[..20]), 0, "the inner one is still right, too");
}
