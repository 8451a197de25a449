//! A backend says that it has a connection: whom the switch believes, and what it does then.

use baton_core::flow::State;
use baton_core::ids::BackendIndex;
use baton_core::{DropReason, Event, Micros, Verdict};

use crate::common::client::{Client, get, len};
use crate::common::packets::{FIN, Message, RST, TcpFrame, read_message};
use crate::common::world::{Answer, World, backend_of};
use crate::support::{
    BEFORE, ESTABLISHED, FORWARD, INTERVAL, MINE, Socket, TIME_WAIT, WHO_HAS, ask, questions, stranger,
};

fn state_of(world: &World, client: &Client) -> Option<(State, BackendIndex)> {
    world.flow(client.tuple()).map(|flow| (flow.state, flow.backend))
}

/// Asks for a stranger's connection and lets a backend claim it.
fn adopted(backend: usize, adjust: impl FnOnce(Socket) -> Socket) -> (World, Client) {
    let mut world = World::new();
    let client = stranger();
    let asked = ask(&mut world, &client.ack(0));
    let mine = adjust(Socket::of(&asked[backend])).mine(&asked[backend]);
    assert_eq!(world.give(&mine.frame()).verdict, Verdict::Absorb);
    (world, client)
}

fn at_port(mut segment: TcpFrame, seq: u32) -> Vec<u8> {
    segment.seq = seq;
    segment.frame()
}

#[test]
fn a_connection_that_was_found_goes_on_by_hardware_address() {
    let (mut world, client) = adopted(1, |socket| socket);
    assert_eq!(state_of(&world, &client), Some((State::Established, BackendIndex(1))));
    let next = client.data(0, b"more of an upload");
    world.give(&next).expect_direct(&next, 1);
    assert_eq!((world.event(Event::FlowsAdopted), world.event(Event::Confirmed)), (1, 0));
    assert!(world.pass(Micros::from_secs(1)).is_empty(), "no more questions");
    // As good as any other: it lives as long.
    world.pass(Micros::from_secs(890));
    assert_eq!(world.switch.flow_count(), 1);
}

#[test]
fn a_connection_that_was_found_behind_a_router_goes_on_in_the_tunnel() {
    let (mut world, client) = adopted(2, |socket| socket);
    let next = client.data(0, b"more of an upload");
    let message = world.give(&next).message();
    assert_eq!((message.kind, backend_of(&message), message.generation), (FORWARD, 2, BEFORE));
    assert_eq!(message.inner, next[14..]);
}

#[test]
fn what_ends_a_found_connection_is_believed_where_its_backend_stands() {
    // How far the backend is beyond the packet that asked, which came late or early; where the end is said to be.
    for (name, flags, beyond, distance, believed) in [
        ("RST exactly there", RST, 1000, 0, true),
        ("RST where the late asking packet stood", RST, 1000, -1000, false),
        ("RST one further on", RST, 1000, 1, false),
        ("RST exactly there, in front of the asking packet", RST, -1000, 0, true),
        ("RST where the early asking packet stood", RST, -1000, 1000, false),
        ("FIN exactly there", FIN, 1000, 0, true),
        ("FIN far on in an upload", FIN, 1000, 10_000_000, true),
        ("FIN in another connection", FIN, 1000, 100_000_000, false),
        ("FIN far back", FIN, 1000, -100_000_000, false),
    ] {
        let (mut world, client) =
            adopted(0, |socket| Socket { rcv_nxt: socket.rcv_nxt.wrapping_add_signed(beyond), ..socket });
        let rcv_nxt = client.isn.wrapping_add(1).wrapping_add_signed(beyond);
        let seq = rcv_nxt.wrapping_add_signed(distance);
        let end = at_port(client.segment(0, flags | 0x10, b""), seq);
        world.give(&end).expect_direct(&end, 0);
        let expected = if believed { State::Closing } else { State::Established };
        assert_eq!(state_of(&world, &client), Some((expected, BackendIndex(0))), "{name}");
        assert_eq!(world.event(Event::FinUnbelieved), u64::from(!believed), "{name}");
    }
}

#[test]
fn a_connection_whose_client_has_finished_is_closing_when_found() {
    for (state, expected) in [
        (ESTABLISHED, State::Established),
        (4, State::Established), // FIN_WAIT1
        (5, State::Established), // FIN_WAIT2
        (TIME_WAIT, State::Closing),
        (8, State::Closing),  // CLOSE_WAIT
        (9, State::Closing),  // LAST_ACK
        (11, State::Closing), // CLOSING
    ] {
        let (world, client) = adopted(0, |socket| Socket { state, ..socket });
        assert_eq!(state_of(&world, &client), Some((expected, BackendIndex(0))), "state {state}");
    }
}

#[test]
fn a_socket_with_other_numbers_is_not_the_owner() {
    const FAR: i32 = 1 << 26;
    for (received, sent, fits) in [
        (0, 0, true),
        (FAR, FAR, true),
        (-FAR, 0, true), // the packet that asked came ahead of others
        (FAR + 1, 0, false),
        (-FAR - 1, 0, false),
        (0, FAR + 1, false),
        (0, -1, false), // nobody acknowledges what was not sent
        (i32::MIN, 0, false),
        (0, i32::MIN, false),
    ] {
        let mut world = World::new();
        let client = stranger();
        let asked = ask(&mut world, &client.ack(0));
        let socket = Socket::of(&asked[0]);
        let other = Socket {
            rcv_nxt: socket.rcv_nxt.wrapping_add_signed(received),
            snd_nxt: socket.snd_nxt.wrapping_add_signed(sent),
            ..socket
        };
        let outcome = world.give(&other.mine(&asked[0]).frame());
        let expected = if fits { Verdict::Absorb } else { Verdict::Drop(DropReason::AnswerUnexpected) };
        assert_eq!(outcome.verdict, expected, "{received}, {sent}");
        let state = if fits { State::Established } else { State::Asking };
        assert_eq!(state_of(&world, &client).map(|(state, _)| state), Some(state), "{received}, {sent}");
    }
}

#[test]
fn what_a_reset_acknowledges_does_not_matter() {
    let mut world = World::new();
    let client = stranger();
    let asked = ask(&mut world, &TcpFrame { ack: 0, ..client.segment(0, RST, b"") }.frame());
    let socket = Socket { snd_nxt: client.peer_isn, ..Socket::of(&asked[1]) };
    assert_eq!(world.give(&socket.mine(&asked[1]).frame()).verdict, Verdict::Absorb);
    let again = client.rst(0);
    world.give(&again).expect_direct(&again, 1); // the server's next segment makes the client repeat it
}

#[test]
fn of_two_owners_the_younger_counts_whoever_answers_first() {
    for younger_first in [true, false] {
        let mut world = World::new();
        let client = stranger();
        let asked = ask(&mut world, &client.ack(0));
        let older = Socket::of(&asked[0]).mine(&asked[0]).frame();
        let younger = Socket { generation: BEFORE + 1, ..Socket::of(&asked[2]) }.mine(&asked[2]).frame();
        if younger_first {
            assert_eq!(world.give(&younger).verdict, Verdict::Absorb);
            world.expect_drop(&older, DropReason::AnswerUnexpected);
        } else {
            assert_eq!(world.give(&older).verdict, Verdict::Absorb);
            assert_eq!(world.give(&younger).verdict, Verdict::Absorb);
        }
        assert_eq!(state_of(&world, &client), Some((State::Established, BackendIndex(2))));
        assert_eq!(world.give(&client.ack(0)).message().generation, BEFORE + 1);
        assert_eq!(world.event(Event::FlowsAdopted), 1);
    }
}

#[test]
fn a_second_owner_must_fit_as_well_and_nobody_takes_what_was_not_sought() {
    let (mut world, client) = adopted(0, |socket| socket);
    let question = ask(&mut World::new(), &client.ack(0)).swap_remove(1);
    let younger = Socket { generation: BEFORE + 1, ..Socket::of(&question) };
    let elsewhere = Socket { snd_nxt: younger.snd_nxt ^ 1 << 31, ..younger };
    world.expect_drop(&elsewhere.mine(&question).frame(), DropReason::AnswerUnexpected);
    assert_eq!(state_of(&world, &client), Some((State::Established, BackendIndex(0))));

    let mut world = World::new();
    let (client, sent, backend) = world.established(Client::new(), "/files/a");
    let question = ask(&mut World::new(), &Client { peer_isn: client.peer_isn, ..stranger() }.ack(sent));
    let question = &question[1 - backend];
    let younger = Socket { generation: u64::MAX >> 2, ..Socket::of(question) };
    world.expect_drop(&younger.mine(question).frame(), DropReason::AnswerUnexpected);
    assert_eq!(world.flow(client.tuple()).map(|flow| usize::from(flow.backend.0)), Some(backend));
}

#[test]
fn strangers_forgers_and_latecomers_are_not_believed() {
    let mut world = World::new();
    let client = stranger();
    let asked = ask(&mut world, &client.ack(0));
    let mine = Socket::of(&asked[0]).mine(&asked[0]);
    let not_ours = Answer { outer_source: [10, 60, 0, 77], ..mine.clone() };
    world.expect_drop(&not_ours.frame(), DropReason::AnswerUnexpected);
    world.expect_drop(&Answer { flip: 1, ..mine.clone() }.frame(), DropReason::AnswerForged);
    let mut without_state = mine.clone();
    without_state.covered[29] = 0;
    world.expect_drop(&without_state.frame(), DropReason::AnswerMalformed);
    let mut stale = mine.clone();
    let long_ago = world.now.0 - handoff_proto::FRESHNESS_PAST.0 - 1;
    stale.covered[40..48].copy_from_slice(&long_ago.to_be_bytes());
    world.expect_drop(&stale.frame(), DropReason::AnswerStale);
    assert_eq!(state_of(&world, &client).map(|(state, _)| state), Some(State::Asking));
    assert_eq!(world.give(&mine.frame()).verdict, Verdict::Absorb, "and this one is");
    world.expect_drop(&Socket::of(&asked[0]).mine(&asked[1]).frame(), DropReason::AnswerUnexpected);
    let nobody = ask(&mut World::new(), &Client { port: 2, ..stranger() }.ack(0));
    world.expect_drop(&Socket::of(&nobody[0]).mine(&nobody[0]).frame(), DropReason::AnswerUnexpected);
}

#[test]
fn a_late_answer_does_not_claim_the_connection_that_came_since() {
    // The old connection's question is on its way while a new one takes its place: handed off, or asked for in turn.
    let mut world = World::new();
    let old = stranger();
    let asked = ask(&mut world, &old.ack(0));
    world.pass(Micros::from_millis(10));
    let (client, outcome) = world.request(Client { isn: 9_000_000, ..Client::new() }, "/files/a");
    let backend = backend_of(&outcome.message());
    let elsewhere = &asked[1 - backend];
    let seq = client.isn.wrapping_add(1);
    let fitting = Socket {
        rcv_nxt: seq,
        snd_nxt: client.peer_isn.wrapping_add(1),
        generation: u64::MAX >> 2,
        state: ESTABLISHED,
    };
    world.expect_drop(&fitting.mine(elsewhere).frame(), DropReason::AnswerUnexpected);
    assert_eq!(world.flow(client.tuple()).map(|flow| usize::from(flow.backend.0)), Some(backend));

    let mut world = World::new();
    let asked = ask(&mut world, &old.ack(0));
    world.pass(Micros::from_secs(4)); // given up
    let again = ask(&mut world, &old.ack(0));
    let mut late = Socket::of(&asked[0]).mine(&asked[0]);
    late.covered[40..48].copy_from_slice(&(world.now.0 - 1).to_be_bytes()); // asked just before
    world.expect_drop(&late.frame(), DropReason::AnswerUnexpected);
    assert_eq!(state_of(&world, &old).map(|(state, _)| state), Some(State::Asking));
    assert_eq!(world.give(&Socket::of(&again[0]).mine(&again[0]).frame()).verdict, Verdict::Absorb);
}

#[test]
fn the_socket_a_handoff_is_to_replace_does_not_stand_for_the_new_one() {
    // A head in two pieces: the switch acknowledged it, owes it to the backend, and asks for it.
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let head = get("/files/a");
    world.give(&client.data(0, &head[..10]));
    let outcome = world.give(&client.data(10, &head[10..]));
    let handoff = read_message(outcome.sent.frames.last().expect("handed off"));
    let is_question = |message: &Message| message.kind == WHO_HAS;
    let messages = |frames: Vec<Vec<u8>>| frames.iter().map(|frame| read_message(frame)).collect::<Vec<_>>();
    let question = messages(world.pass(INTERVAL)).into_iter().find(is_question).expect("asked");
    assert_eq!(question.outer.destination, handoff.outer.destination);
    let complete = client.isn.wrapping_add(1).wrapping_add(len(&head));
    let answer =
        |generation| Socket { rcv_nxt: complete, generation, ..Socket::of(&question) }.mine(&question);
    world.expect_drop(&answer(handoff.generation - 1).frame(), DropReason::AnswerUnexpected);
    let repeated = messages(world.pass(Micros::from_millis(500)));
    assert!(repeated.iter().any(|message| !message.inner[40..].is_empty()), "still owed");
    let mine = answer(handoff.generation);
    assert_eq!(mine.covered[5], MINE);
    assert_eq!(world.give(&mine.frame()).verdict, Verdict::Absorb);
    assert!(questions(&world.pass(Micros::from_secs(20))).is_empty(), "owed no more");
}
