//! After a start: a request that looks new may have been handed off in the switch's former life. Its owner is asked for first.

use baton_core::flow::State;
use baton_core::{DropReason, Event, Micros, Snapshot, Verdict};

use crate::common::client::{Client, get, len};
use crate::common::packets::{ACK, RST, read_message};
use crate::common::world::{World, settings, snapshot};
use crate::support::{
    BEFORE, FORWARD, HANDOFF, INTERVAL, Socket, TIME_WAIT, ask, ask_held, denial, expect_head,
    learning_world, questions, stranger,
};

fn connected(world: &mut World) -> Client {
    let mut client = Client::new();
    world.connect(&mut client);
    client
}

/// Where the one handoff among `frames` went.
fn handoff_backend(world: &World, client: &Client) -> usize {
    let flow = world.flow(client.tuple()).expect("a flow");
    assert_eq!(flow.state, State::Unconfirmed);
    usize::from(flow.backend.0)
}

#[test]
fn a_request_nobody_has_is_handed_off_as_soon_as_all_have_said_so() {
    let mut world = learning_world();
    let client = connected(&mut world);
    let head = get("/files/a");
    let asked = ask_held(&mut world, &client.data(0, &head));
    for question in &asked[..3] {
        let outcome = world.give(&denial(question).frame());
        assert_eq!((outcome.verdict, outcome.sent.frames.len()), (Verdict::Absorb, 0));
        let again = world.give(&denial(question).frame());
        assert_eq!((again.verdict, again.sent.frames.len()), (Verdict::Absorb, 0), "told twice");
    }
    let outcome = world.give(&denial(&asked[3]).frame());
    expect_head(&outcome.sent.frames, &client, HANDOFF, handoff_backend(&world, &client), &head);
    assert_eq!((world.event(Event::Handoffs), world.event(Event::FlowsAdopted)), (1, 0));
    // Answers to questions of before come to nothing now: the handoff may be on its way still.
    world.expect_drop(&denial(&asked[0]).frame(), DropReason::AnswerGone);
    world.expect_drop(&denial(&asked[1]).frame(), DropReason::AnswerGone);
    assert_eq!(world.switch.flow_count(), 1);
}

#[test]
fn a_denial_that_comes_when_the_flow_is_established_resets_nobody() {
    let mut world = learning_world();
    let mut client = connected(&mut world);
    let head = get("/files/a");
    let asked = ask_held(&mut world, &client.data(0, &head));
    asked.iter().for_each(|question| drop(world.give(&denial(question).frame())));
    let backend = handoff_backend(&world, &client);
    client.read = 100;
    world.give(&client.ack(len(&head)));
    world.expect_drop(&denial(&asked[backend]).frame(), DropReason::AnswerGone);
    assert_eq!(world.flow(client.tuple()).map(|flow| flow.state), Some(State::Established));
}

#[test]
fn a_request_somebody_has_goes_there_and_nowhere_else() {
    let mut world = learning_world();
    let client = connected(&mut world);
    let head = get("/files/a");
    let asked = ask_held(&mut world, &client.data(0, &head));
    world.expect_drop(&client.data(0, &head), DropReason::UnknownFlow);
    let outcome = world.give(&Socket::of(&asked[1]).mine(&asked[1]).frame());
    assert_eq!(outcome.verdict, Verdict::Absorb);
    expect_head(&outcome.sent.frames, &client, FORWARD, 1, &head);
    assert_eq!(read_message(&outcome.sent.frames[0]).generation, BEFORE);
    assert_eq!((world.event(Event::Handoffs), world.event(Event::FlowsAdopted)), (0, 1));
    // The others' denials come late, and change nothing.
    for question in [&asked[0], &asked[2], &asked[3]] {
        world.expect_drop(&denial(question).frame(), DropReason::AnswerGone);
    }
    let again = client.data(0, &head);
    world.give(&again).expect_direct(&again, 1);
}

#[test]
fn an_owner_that_lacks_the_request_does_not_turn_its_client_back() {
    let mut world = learning_world();
    let client = connected(&mut world);
    let head = get("/files/a");
    let asked = ask_held(&mut world, &client.data(0, &head));
    let owner = Socket::of(&asked[1]);
    assert_eq!(owner.rcv_nxt, client.isn.wrapping_add(1), "nothing of it");
    world.give(&owner.mine(&asked[1]).frame());
    world.give(&client.rst(len(&head)));
    assert_eq!(world.event(Event::FinUnbelieved), 0, "it stands behind what the client has sent");
    assert_eq!(world.flow(client.tuple()).map(|flow| flow.state), Some(State::Closing));
}

#[test]
fn a_younger_owner_gets_the_request_as_well() {
    let mut world = learning_world();
    let client = connected(&mut world);
    let head = get("/files/a");
    let asked = ask_held(&mut world, &client.data(0, &head));
    world.give(&Socket::of(&asked[1]).mine(&asked[1]).frame());
    let younger = Socket { generation: BEFORE + 1, ..Socket::of(&asked[2]) };
    let outcome = world.give(&younger.mine(&asked[2]).frame());
    expect_head(&outcome.sent.frames, &client, FORWARD, 2, &head);
}

#[test]
fn a_request_nobody_speaks_for_is_handed_off_after_three_questions() {
    let mut world = learning_world();
    let client = connected(&mut world);
    let head = get("/files/a");
    ask_held(&mut world, &client.data(0, &head));
    for _ in 0..2 {
        assert_eq!(questions(&world.pass(INTERVAL)).len(), 4);
    }
    let sent = world.pass(INTERVAL);
    expect_head(&sent, &client, HANDOFF, handoff_backend(&world, &client), &head);
    assert_eq!((world.event(Event::Handoffs), world.event(Event::QuestionsSent)), (1, 12));
}

#[test]
fn a_socket_of_an_earlier_connection_does_not_claim_a_request() {
    let mut world = learning_world();
    let client = connected(&mut world);
    let asked = ask_held(&mut world, &client.data(0, &get("/files/a")));
    let fitting = Socket::of(&asked[0]);
    // Its client chose a later initial sequence number since, and not by much.
    let resting = Socket { rcv_nxt: fitting.rcv_nxt.wrapping_sub(1), state: TIME_WAIT, ..fitting };
    let other = Socket { snd_nxt: fitting.snd_nxt.wrapping_sub(1), ..fitting };
    for (socket, question) in [resting, other, resting].into_iter().zip(&asked) {
        assert_eq!(world.give(&socket.mine(question).frame()).verdict, Verdict::Absorb);
        assert_eq!(world.flow(client.tuple()).map(|flow| flow.state), Some(State::Asking));
    }
    // To the request that waits it is as good as a denial: with the last one, nobody is left to wait for.
    let outcome = world.give(&denial(&asked[3]).frame());
    expect_head(&outcome.sent.frames, &client, HANDOFF, handoff_backend(&world, &client), &get("/files/a"));
}

#[test]
fn a_head_in_several_segments_is_asked_for_when_it_is_whole() {
    for claimed in [false, true] {
        let mut world = learning_world();
        let client = connected(&mut world);
        let head = get("/files/a");
        assert!(world.give(&client.data(0, &head[..10])).sent.frames.is_empty());
        let acknowledged = world.give(&client.data(10, &head[10..20]));
        assert_eq!(acknowledged.verdict, Verdict::Reply);
        let asked = ask_held(&mut world, &client.data(20, &head[20..]));
        assert_eq!(asked[0].base_seq, client.isn.wrapping_add(1));
        if claimed {
            let socket = Socket { rcv_nxt: client.isn.wrapping_add(11), ..Socket::of(&asked[0]) };
            let outcome = world.give(&socket.mine(&asked[0]).frame());
            expect_head(&outcome.sent.frames, &client, FORWARD, 0, &head);
        } else {
            let last = asked.iter().map(|question| world.give(&denial(question).frame())).last();
            let frames = last.expect("four").sent.frames;
            expect_head(&frames, &client, HANDOFF, handoff_backend(&world, &client), &head);
        }
    }
}

#[test]
fn a_forged_reset_does_not_throw_a_waiting_request_away() {
    let mut world = learning_world();
    let client = connected(&mut world);
    let head = get("/files/a");
    ask_held(&mut world, &client.data(0, &head));
    assert_eq!(world.give(&client.rst(0)).verdict, Verdict::Absorb);
    assert_eq!((world.switch.flow_count(), world.event(Event::FinUnbelieved)), (1, 1));
    let mut bad = client.segment(len(&head), RST | ACK, b"").frame();
    bad[51] ^= 1;
    world.expect_drop(&bad, DropReason::TcpChecksum);
    assert_eq!(world.give(&client.rst(len(&head))).verdict, Verdict::Absorb);
    assert_eq!(world.switch.flow_count(), 0, "its own one does");
}

#[test]
fn a_denial_to_an_earlier_question_does_not_count() {
    let mut world = learning_world();
    let mut client = Client::new();
    world.connect(&mut client);
    let early = ask(&mut world, &Client { isn: 77, ..stranger() }.ack(0));
    world.now = world.now.plus(Micros(1));
    let asked = ask_held(&mut world, &client.data(0, &get("/files/a")));
    for question in &asked[..3] {
        world.give(&denial(question).frame());
    }
    world.expect_drop(&denial(&early[3]).frame(), DropReason::AnswerUnexpected);
    assert_eq!(world.event(Event::Handoffs), 0);
    world.give(&denial(&asked[3]).frame());
    assert_eq!(world.event(Event::Handoffs), 1);
}

fn without_backends() -> Snapshot {
    let mut snapshot = snapshot();
    snapshot.backends.iter_mut().for_each(|backend| backend.usable = false);
    snapshot
}

#[test]
fn a_request_waits_for_the_first_backend_to_turn_up() {
    for turns_up in [true, false] {
        let mut world = World::just_started(0, settings(), without_backends());
        world.pass(INTERVAL);
        let client = connected(&mut world);
        let head = get("/files/a");
        let asked = ask_held(&mut world, &client.data(0, &head));
        asked
            .iter()
            .for_each(|question| assert!(world.give(&denial(question).frame()).sent.frames.is_empty()));
        questions(&world.pass(Micros::from_secs(1)));
        assert_eq!((world.event(Event::Errors503), world.event(Event::Handoffs)), (0, 0));
        if turns_up {
            world.apply(snapshot());
            let sent = world.pass(INTERVAL);
            expect_head(&sent, &client, HANDOFF, handoff_backend(&world, &client), &head);
        } else {
            world.pass(Micros::from_millis(2500));
            assert_eq!((world.event(Event::Errors503), world.event(Event::Handoffs)), (1, 0), "no longer");
        }
    }
}
