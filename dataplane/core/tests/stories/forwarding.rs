//! Flows that are known: confirmation, the way on, and the end.

use baton_core::flow::State;
use baton_core::{DropReason, Event, Micros, Settings, Verdict};

use crate::common::backend::sort;
use crate::common::client::{Client, Offer, USUAL, get, len};
use crate::common::packets::{ACK, FIN, PSH, RST, TcpFrame, read_tcp};
use crate::common::world::{
    Answer, BACKENDS, GATEWAY, SECRET, World, backend_of, is_authentic, settings, snapshot,
};

fn state(world: &World, client: &Client) -> Option<State> {
    world.flow(client.tuple()).map(|flow| flow.state)
}

#[test]
fn an_acknowledged_byte_of_the_backend_confirms_and_ends_the_tunnel() {
    let mut world = World::new();
    let (mut client, outcome) = world.request(Client::new(), "/files/a");
    let backend = backend_of(&outcome.message());
    let sent = len(&get("/files/a"));
    // An acknowledgment of the SYN-ACK alone says nothing about a socket.
    assert_eq!(world.give(&client.ack(sent)).message().kind, 1);
    assert_eq!(state(&world, &client), Some(State::Unconfirmed));
    client.read = 1;
    let ack = client.ack(sent);
    world.give(&ack).expect_direct(&ack, backend);
    assert_eq!(state(&world, &client), Some(State::Established));
    // Even a repeated request goes plainly now, and packets need no room for headers.
    let again = client.data(0, &get("/files/a"));
    let outcome = world.give_in(&again, 0, 0, false);
    outcome.expect_direct(&again, backend);
    assert_eq!((world.event(Event::Confirmed), world.event(Event::ForwardedDirect)), (1, 2));
}

#[test]
fn what_the_switch_does_not_understand_passes_a_confirmed_flow_untouched() {
    let mut world = World::new();
    let (client, sent, backend) = world.established(Client::new(), "/files/a");
    let mut strange = client.segment(sent, PSH | ACK | 0xc0, b"body");
    strange.options = [&strange.options[..], &[254, 6, 1, 2, 3, 4]].concat();
    let mut frame = strange.frame();
    world.give(&frame).expect_direct(&frame, backend);
    // Neither is the checksum its business: the backend's kernel looks at it.
    *frame.last_mut().expect("not empty") ^= 1;
    world.give(&frame).expect_direct(&frame, backend);
}

#[test]
fn a_backend_behind_the_router_keeps_the_tunnel() {
    let mut world = World::new();
    let (client, sent, backend) = world.established(Client::new(), "/routed/a");
    assert_eq!(backend, 2);
    let more = client.data(sent, b"more");
    let message = world.give(&more).message();
    assert_eq!((message.kind, backend_of(&message)), (2, 2), "FORWARD, by the gateway");
    assert_eq!(message.inner, more[14..]);
    assert!(is_authentic(&message, SECRET));
    assert_eq!(message.base_seq, client.isn.wrapping_add(1));
    assert_eq!((world.event(Event::ForwardedTunnel), world.event(Event::ForwardedDirect)), (2, 0));
}

#[test]
fn a_next_hop_that_falls_silent_is_no_longer_sent_to_until_it_answers_again() {
    let mut world = World::new();
    let (on_link, sent, _) = world.established(Client::at_port(1), "/files/a");
    let (routed, _, _) = world.established(Client::at_port(2), "/routed/a");
    world.silent = vec![BACKENDS[0], GATEWAY];
    world.pass(Micros::from_secs(30));
    let ack = on_link.ack(sent);
    world.give(&ack).expect_direct(&ack, 0);
    world.pass(Micros::from_secs(30));
    world.expect_drop(&ack, DropReason::NoNextHop);
    world.expect_drop(&routed.ack(sent), DropReason::NoNextHop);
    world.silent.clear();
    world.pass(Micros::from_secs(1));
    world.give(&ack).expect_direct(&ack, 0);
    assert_eq!(world.give(&routed.ack(sent)).message().kind, 2);
}

#[test]
fn a_fin_of_the_client_starts_the_closing_timer_and_is_passed_on() {
    let mut world = World::new();
    let (client, sent, backend) = world.established(Client::new(), "/files/a");
    let fin = client.fin(sent);
    world.give(&fin).expect_direct(&fin, backend);
    assert_eq!(state(&world, &client), Some(State::Closing));
    // It is repeated, the last acknowledgment comes, and each packet gives the flow its time again.
    world.pass(Micros::from_secs(9));
    world.give(&fin).expect_direct(&fin, backend);
    world.pass(Micros::from_secs(9));
    let ack = client.ack(sent + 1);
    world.give(&ack).expect_direct(&ack, backend);
    world.pass(Micros::from_millis(9_900));
    assert_eq!(world.switch.flow_count(), 1);
    world.pass(Micros::from_millis(2_700));
    assert_eq!((world.switch.flow_count(), world.event(Event::FlowsExpired)), (0, 1));
}

#[test]
fn a_fin_before_confirmation_keeps_the_header() {
    let mut world = World::new();
    let (mut client, _) = world.request(Client::new(), "/files/a");
    let sent = len(&get("/files/a"));
    assert_eq!(world.give(&client.fin(sent)).message().kind, 1);
    assert_eq!(state(&world, &client), Some(State::ClosingUnconfirmed));
    client.read = 5;
    let ack = client.ack(sent + 1);
    world.give(&ack).expect_direct(&ack, 0);
    assert_eq!(state(&world, &client), Some(State::Closing));
}

#[test]
fn a_fin_far_from_what_the_client_sent_is_passed_on_and_not_believed() {
    let mut world = World::new();
    let (client, sent, backend) = world.established(Client::new(), "/files/a");
    for at in [sent + 65_536, sent.wrapping_sub(65_536), sent + (1 << 31)] {
        let forged = client.fin(at);
        world.give(&forged).expect_direct(&forged, backend);
        assert_eq!(state(&world, &client), Some(State::Established));
    }
    assert_eq!(world.event(Event::FinUnbelieved), 3);
    let mut damaged = client.fin(sent);
    damaged[14 + 20 + 8] ^= 1;
    world.expect_drop(&damaged, DropReason::TcpChecksum);
    let good = client.fin(sent + 65_535);
    world.give(&good).expect_direct(&good, backend);
    assert_eq!(state(&world, &client), Some(State::Closing));
}

#[test]
fn a_reset_counts_only_at_exactly_the_next_sequence_number() {
    let mut world = World::new();
    let (client, sent, backend) = world.established(Client::new(), "/files/a");
    for at in [sent - 1, sent + 1, 0, sent + 100_000] {
        let forged = client.rst(at);
        world.give(&forged).expect_direct(&forged, backend);
        assert_eq!(state(&world, &client), Some(State::Established), "at {at}");
    }
    assert_eq!(world.event(Event::FinUnbelieved), 4);
    let reset = TcpFrame { flags: RST | ACK, ..client.segment(sent, RST, b"") }.frame();
    world.give(&reset).expect_direct(&reset, backend);
    assert_eq!(state(&world, &client), Some(State::Closing));
}

#[test]
fn the_position_of_the_client_is_followed_over_data_and_the_wrap() {
    let mut world = World::new();
    let (client, mut sent, backend) = world.established(Client::new(), "/files/a");
    for _ in 0..200 {
        let body = client.segment(sent, ACK, &[b'x'; 1364]).frame();
        world.give(&body).expect_direct(&body, backend);
        sent += 1364;
    }
    let reset = client.rst(sent);
    world.give(&reset).expect_direct(&reset, backend);
    assert_eq!(state(&world, &client), Some(State::Closing));
}

#[test]
fn an_upload_is_followed_over_a_loss_of_more_than_an_unscaled_window() {
    let upload = |client: Client| {
        let mut world = World::new();
        let (client, mut sent, backend) = world.established(client, "/files/a");
        for _ in 0..200 {
            world.give(&client.segment(sent, ACK, &[b'x'; 1364]).frame());
            sent += 1364;
        }
        sent += 300_000; // lost before the switch saw it; the client repeats only what it must
        let more = client.data(sent, b"more");
        world.give(&more).expect_direct(&more, backend);
        world.give(&client.fin(sent + 4));
        state(&world, &client)
    };
    assert_eq!(upload(Client::new()), Some(State::Closing));
    // A client that knows no window scaling cannot be so far ahead.
    let unscaled = Client::with(Offer { wscale: None, ..USUAL });
    assert_eq!(upload(unscaled), Some(State::Established));
}

#[test]
fn timers_run_from_the_last_packet_and_never_more_than_a_quarter_longer() {
    let timeouts = Settings { established_timeout: Micros::from_secs(100), ..settings() };
    for (timeout_s, wanted) in [
        (30, State::Unconfirmed),
        (100, State::Established),
        (10, State::ClosingUnconfirmed),
        (10, State::Closing),
    ] {
        for first_packet_ms in [0, 30, 77] {
            let mut world = World::with(timeouts.clone(), snapshot());
            world.pass(Micros::from_millis(first_packet_ms));
            let client = Client::new();
            let sent = len(&get("/files/a"));
            let client = match wanted {
                State::Unconfirmed | State::ClosingUnconfirmed => {
                    let (client, _) = world.request(client, "/files/a");
                    world.pass(Micros::from_secs(3));
                    let flags = if wanted == State::Unconfirmed { ACK } else { FIN | ACK };
                    assert_eq!(
                        world.give(&client.segment(sent, flags, b"").frame()).verdict,
                        Verdict::Forward
                    );
                    client
                }
                State::Established | State::Closing => {
                    let (client, _, _) = world.established(client, "/files/a");
                    world.pass(Micros::from_secs(3));
                    let flags = if wanted == State::Established { ACK } else { FIN | ACK };
                    assert_eq!(
                        world.give(&client.segment(sent, flags, b"").frame()).verdict,
                        Verdict::Forward
                    );
                    client
                }
                State::Asking | State::Unclaimed | State::Holding | State::Answered => {
                    unreachable!("told elsewhere")
                }
            };
            assert_eq!(state(&world, &client), Some(wanted));
            world.pass(Micros::from_millis(timeout_s * 1000 - 100));
            assert_eq!(world.switch.flow_count(), 1, "{wanted:?} lives for {timeout_s} s");
            world.pass(Micros::from_millis(timeout_s * 250 + 200));
            assert_eq!(world.switch.flow_count(), 0, "{wanted:?} is over after a quarter more");
            assert_eq!(world.event(Event::FlowsExpired), 1);
        }
    }
}

#[test]
fn a_held_head_and_an_answered_connection_have_timers_of_their_own() {
    for first_packet_ms in [0, 30, 77] {
        let mut world = World::new();
        world.pass(Micros::from_millis(first_packet_ms));
        let mut client = Client::new();
        world.connect(&mut client);
        assert_eq!(world.give(&client.data(0, b"GET /files/a")).verdict, Verdict::Absorb);
        world.pass(Micros::from_millis(9_900));
        assert_eq!(state(&world, &client), Some(State::Holding), "lives for 10 s");
        world.pass(Micros::from_millis(2_700));
        assert_eq!(state(&world, &client), Some(State::Answered), "is over after a quarter more");
        // The page came within the last 2.6 s.
        world.pass(Micros::from_millis(5_000 - 2_700));
        assert_eq!(state(&world, &client), Some(State::Answered), "lives for 5 s");
        world.pass(Micros::from_millis(1_250 + 2_700 + 200));
        assert_eq!(world.switch.flow_count(), 0, "is over after a quarter more");
    }
}

#[test]
fn after_its_flow_is_forgotten_a_client_is_asked_for_and_never_handed_off_again() {
    let mut world = World::new();
    let (client, sent, _) = world.established(Client::new(), "/files/a");
    world.give(&client.fin(sent));
    world.pass(Micros::from_secs(130)); // not the same epoch, but the cookie is still honoured
    assert_eq!(world.switch.flow_count(), 0);
    for (sought, late) in (1..).zip([client.data(sent, b"late"), client.ack(sent + 1), client.rst(sent + 1)])
    {
        let outcome = world.give(&late);
        assert_eq!(outcome.verdict, Verdict::Drop(DropReason::UnknownFlow));
        let (packets, questions) = sort(&outcome.sent.frames);
        assert!(packets.is_empty(), "nothing is handed off");
        assert_eq!(questions.len(), 4, "every backend is asked");
        assert_eq!((state(&world, &client), world.event(Event::OwnersSought)), (Some(State::Asking), sought));
        // Nobody has it: asked twice more. When its client goes on, it is told, where it will believe it. A RST is never answered.
        for question in &questions {
            assert_eq!(world.give(&Answer::of(question, 6).frame()).verdict, Verdict::Absorb);
        }
        let (packets, questions) = sort(&world.pass(Micros::from_secs(5)));
        assert_eq!((packets.len(), questions.len()), (0, 8));
        if sought < 3 {
            world.expect_drop(&late, DropReason::UnknownFlow);
            let told = world.pass(Micros::from_millis(200));
            let reset = read_tcp(&told[0]);
            assert_eq!((reset.flags, reset.seq), (RST, client.peer_isn.wrapping_add(1 + client.read)));
        }
        assert_eq!((world.switch.flow_count(), world.event(Event::FlowsUnowned)), (0, sought.min(2)));
    }
    assert_eq!(world.event(Event::Handoffs), 1);
}

#[test]
fn a_flood_of_finished_connections_leaves_nothing_behind() {
    let mut world = World::with(Settings { flow_count_max: 4096, ..settings() }, snapshot());
    for port in 0..2000 {
        let (client, sent, backend) = world.established(Client::at_port(1024 + port), "/files/a");
        let fin = client.fin(sent);
        world.give(&fin).expect_direct(&fin, backend);
    }
    assert_eq!(world.switch.flow_count(), 2000);
    // A burst of expiries is spread over turns of the burst loop: 64 in each.
    world.pass(Micros::from_millis(12_500 + 100 * (2000 / 64 + 1)));
    assert_eq!((world.switch.flow_count(), world.event(Event::FlowsExpired)), (0, 2000));
}
