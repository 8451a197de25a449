//! A backend says that it has no socket for a packet: what that means in each state of the flow.

use baton_core::flow::State;
use baton_core::{DropReason, Event, Micros, Verdict};

use crate::common::client::{Client, get, len};
use crate::common::packets::{ACK, FIN, PSH, RST, TcpFrame, read_message};
use crate::common::world::{Answer, World, backend_of};
use crate::support::{INTERVAL, Socket, WHO_HAS, ask, denial, denial_at, expect_reset_at, report, stranger};

/// What becomes of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Forgotten,
    Reset,
}

fn check(world: &mut World, client: &Client, answer: &Answer, fate: Fate, name: &str) {
    let before = world.flow(client.tuple()).map(|flow| flow.state);
    let outcome = world.give(&answer.frame());
    let after = world.flow(client.tuple()).map(|flow| flow.state);
    match fate {
        Fate::Kept => {
            assert_eq!(outcome.verdict, Verdict::Drop(DropReason::AnswerGone), "{name}");
            assert_eq!(after, before, "{name}");
        }
        Fate::Forgotten => assert_eq!((outcome.verdict, after), (Verdict::Absorb, None), "{name}"),
        Fate::Reset => {
            assert_eq!(outcome.verdict, Verdict::Absorb, "{name}");
            assert!(matches!(after, Some(State::Closing | State::ClosingUnconfirmed)), "{name}: {after:?}");
        }
    }
    let resets = usize::from(fate == Fate::Reset);
    assert_eq!(outcome.sent.frames.len(), resets, "{name}");
    assert_eq!(world.event(Event::FlowsGone), u64::from(fate == Fate::Reset), "{name}");
    if fate == Fate::Reset {
        let quoted = u32::from_be_bytes(answer.inner[28..32].try_into().expect("four bytes"));
        expect_reset_at(&outcome.sent.frames[0], client, quoted);
        // The packet may have been an old one, and the client not believe it: further notices bring further RSTs.
        let again = world.give(&answer.frame());
        expect_reset_at(&again.sent.frames[0], client, quoted);
        assert_eq!((again.verdict, world.event(Event::FlowsGone)), (Verdict::Absorb, 1), "{name}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Owner,
    Another,
}

/// State of the flow; flags and payload of the packet; the generation known against the flow's, or none at all; who says so.
type Row = (State, u8, &'static [u8], Option<i64>, Source, Fate);

#[test]
fn the_decision_table_for_packets_of_flows_without_a_socket() {
    use Fate::{Forgotten, Kept, Reset};
    use Source::{Another, Owner};
    let rows: [Row; 25] = [
        (State::Established, ACK, b"", Some(0), Owner, Reset),
        (State::Established, PSH | ACK, b"x", Some(0), Owner, Reset),
        (State::Established, FIN | ACK, b"", Some(0), Owner, Reset),
        (State::Established, ACK, b"", None, Owner, Reset),
        (State::Established, RST | ACK, b"", Some(0), Owner, Kept),
        (State::Established, PSH | ACK, b"x", Some(-1), Owner, Forgotten),
        (State::Established, PSH | ACK, b"x", Some(1), Owner, Forgotten),
        (State::Established, PSH | ACK, b"x", Some(0), Another, Kept),
        (State::Established, PSH | ACK, b"x", Some(1), Another, Kept),
        (State::Closing, ACK, b"", Some(0), Owner, Kept),
        (State::Closing, PSH | ACK, b"x", Some(0), Owner, Reset),
        (State::Closing, FIN | ACK, b"", Some(0), Owner, Reset),
        (State::Closing, FIN | ACK, b"", None, Owner, Reset),
        (State::Closing, FIN | ACK, b"", Some(-1), Owner, Forgotten),
        (State::Closing, FIN | ACK, b"", Some(1), Owner, Forgotten),
        (State::Unconfirmed, ACK, b"", Some(0), Owner, Kept),
        (State::Unconfirmed, PSH | ACK, b"x", None, Owner, Kept),
        (State::Unconfirmed, PSH | ACK, b"x", Some(0), Owner, Reset),
        (State::Unconfirmed, PSH | ACK, b"x", Some(-1), Owner, Kept),
        (State::Unconfirmed, PSH | ACK, b"x", Some(1), Owner, Forgotten),
        (State::Unconfirmed, PSH | ACK, b"x", Some(0), Another, Kept),
        (State::ClosingUnconfirmed, ACK, b"", Some(0), Owner, Kept),
        (State::ClosingUnconfirmed, FIN | ACK, b"", None, Owner, Kept),
        (State::ClosingUnconfirmed, FIN | ACK, b"", Some(0), Owner, Reset),
        (State::ClosingUnconfirmed, FIN | ACK, b"", Some(1), Owner, Forgotten),
    ];
    for row in rows {
        let (state, flags, payload, against, from, fate) = row;
        let name = format!("{row:?}");
        let mut world = World::new();
        let (mut client, outcome) = world.request(Client::new(), "/files/a");
        let handoff = outcome.message();
        let backend = backend_of(&handoff);
        let sent = len(&get("/files/a"));
        if matches!(state, State::Established | State::Closing) {
            client.read = 100;
            world.give(&client.ack(sent));
        }
        if matches!(state, State::ClosingUnconfirmed | State::Closing) {
            world.give(&client.fin(sent));
        }
        assert_eq!(world.flow(client.tuple()).map(|flow| flow.state), Some(state), "{name}");
        let backend = match from {
            Owner => backend,
            Another => 1 - backend,
        };
        let generation = against.map_or(0, |against| handoff.generation.wrapping_add_signed(against));
        world.pass(Micros(1));
        let packet = client.segment(sent, flags, payload).frame();
        let report = report(backend, &packet, generation, world.now);
        check(&mut world, &client, &report, fate, &name);
    }
}

#[test]
fn a_tunnelled_packet_without_a_socket_resets_a_routed_client() {
    let mut world = World::new();
    let (client, sent, _) = world.established(Client::new(), "/routed/a");
    let message = world.give(&client.data(sent, b"more")).message();
    check(&mut world, &client, &denial(&message), Fate::Reset, "FORWARD");
}

#[test]
fn a_denial_says_nothing_while_the_handoff_is_on_its_way() {
    // The switch owes a head it has acknowledged, and asks for it: the question may overtake the handoff.
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let head = get("/files/a");
    world.give(&client.data(0, &head[..10]));
    world.give(&client.data(10, &head[10..20]));
    world.give(&client.data(20, &head[20..]));
    let sent = world.pass(INTERVAL);
    let question = sent.iter().map(|frame| read_message(frame)).find(|message| message.kind == WHO_HAS);
    let question = question.expect("asked for the head");
    check(&mut world, &client, &denial(&question), Fate::Kept, "unconfirmed");
    check(&mut world, &client, &denial_at(&question, 0), Fate::Kept, "unconfirmed, nothing known");
    // A client's acknowledgment may overtake the denial.
    client.read = 100;
    world.give(&client.ack(len(&head)));
    check(&mut world, &client, &denial(&question), Fate::Kept, "confirmed since");
}

#[test]
fn a_packet_of_an_earlier_connection_does_not_end_the_new_one() {
    let mut world = World::new();
    let (client, sent, backend) = world.established(Client::new(), "/files/a");
    let old = Client { isn: client.isn ^ 1 << 31, ..client.clone() };
    let late = report(backend, &old.ack(sent), 0, world.now);
    check(&mut world, &client, &late, Fate::Kept, "other sequence numbers");
    let old = Client { peer_isn: client.peer_isn.wrapping_sub(1000), ..client.clone() };
    let late = report(backend, &old.ack(sent), 0, world.now);
    check(&mut world, &client, &late, Fate::Kept, "an older acknowledgment");
    world.pass(Micros(1));
    let now = report(backend, &client.ack(sent), 0, world.now);
    check(&mut world, &client, &now, Fate::Reset, "its own");
}

#[test]
fn a_connection_that_was_found_by_a_reset_can_end_as_any_other() {
    let mut world = World::new();
    let client = stranger();
    // Without ACK, its acknowledgment number means nothing.
    let rst = TcpFrame { ack: client.peer_isn.wrapping_add(1_000_000), ..client.segment(0, RST, b"") };
    let asked = ask(&mut world, &rst.frame());
    let socket = Socket { snd_nxt: client.peer_isn.wrapping_add(1), ..Socket::of(&asked[0]) };
    world.give(&socket.mine(&asked[0]).frame());
    world.pass(Micros(1));
    let report = report(0, &client.data(0, b"x"), 0, world.now);
    check(&mut world, &client, &report, Fate::Reset, "found by a RST");
}

#[test]
fn who_has_no_flow_or_no_backend_yet_is_left_alone() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    for (name, path) in [("unknown", None), ("holding", Some("GET /files")), ("answered", Some("\0\r\n"))] {
        if let Some(bytes) = path {
            world.give(&client.data(0, bytes.as_bytes()));
        }
        let report = report(0, &client.data(100, b"x"), 0, world.now);
        check(&mut world, &client, &report, Fate::Kept, name);
        client.port += 1;
        world.connect(&mut client);
    }
}

#[test]
fn what_was_asked_before_the_first_segment_came_says_nothing_of_its_flow() {
    // A later packet overtakes the first data, by a little or within one burst: the switch asks for it, and all deny.
    for gap in [Micros(0), INTERVAL] {
        let mut world = World::new();
        let mut client = Client::new();
        world.connect(&mut client);
        let request = get("/files/a");
        let asked = ask(&mut world, &client.ack(len(&request)));
        world.pass(gap);
        let backend = backend_of(&world.give(&client.data(0, &request)).message());
        client.read = 100;
        assert_eq!(world.give(&client.ack(len(&request))).verdict, Verdict::Forward);
        // The denial of the backend that has the connection by now was on its way all the time, or comes again.
        check(&mut world, &client, &denial(&asked[backend]), Fate::Kept, "older than the flow");
        assert_eq!(world.flow(client.tuple()).map(|flow| flow.state), Some(State::Established));
    }
}
