//! What the switch acknowledged it owes: heads on their way to a backend that may not have them yet.

use baton_core::flow::State;
use baton_core::{DropReason, Event, Micros, Settings, Verdict};

use super::heads::{connected, cut, expect_kept, expect_stream, handed, hold_and_send, long_request};
use crate::common::backend::{FORWARD, HANDOFF, MINE, inner_of, mine, sort};
use crate::common::client::{Client, get, len};
use crate::common::packets::{ACK, FIN, Message, PSH, RST, read_tcp};
use crate::common::page::REFUSED_BY_ALL;
use crate::common::world::{Answer, World, backend_of, settings, snapshot};

const MILLISECOND: Micros = Micros::from_millis(1);

/// A head in three segments, of which the first two are acknowledged, handed off; what went out.
fn owed(world: &mut World, client: &Client, request: &[u8]) -> Vec<Message> {
    let at = request.len() / 3;
    let frames = [
        client.data(0, &request[..at]),
        client.data(len(&request[..at]), &request[at..2 * at]),
        client.data(len(&request[..2 * at]), &request[2 * at..]),
    ];
    hold_and_send(world, &frames)
}

/// Messages, each with the milliseconds since the watch began.
type Timed = Vec<(u64, Message)>;

/// Lets time pass; returns what went to backends: packets and questions.
fn watch(world: &mut World, millis: u64) -> (Timed, Timed) {
    let (mut packets, mut questions) = (Vec::new(), Vec::new());
    for at in 1..=millis {
        let (sent, asked) = sort(&world.pass_by(MILLISECOND, MILLISECOND));
        packets.extend(sent.into_iter().map(|message| (at, message)));
        questions.extend(asked.into_iter().map(|message| (at, message)));
    }
    (packets, questions)
}

fn question(world: &mut World) -> Message {
    let (_, mut questions) = watch(world, 30);
    assert_eq!(questions.len(), 1, "asked once, 20 ms after");
    questions.remove(0).1
}

#[test]
fn a_head_is_repeated_with_longer_and_longer_pauses_and_at_last_the_client_is_told() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = get("/files/a");
    let first = owed(&mut world, &client, &request);
    let (packets, questions) = watch(&mut world, 18_990);
    let times: Vec<u64> = packets.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [200, 600, 1400, 3000, 6200, 12_600]);
    for (_, message) in &packets {
        expect_stream(std::slice::from_ref(message), &client, &request);
        assert_eq!((message.generation, &message.inner), (first[0].generation, &first[0].inner));
        assert_eq!((message.kind, backend_of(message)), (HANDOFF, backend_of(&first[0])));
    }
    let asked: Vec<u64> = questions.iter().map(|(at, _)| *at).collect();
    assert_eq!(asked, [20, 200, 600, 1400, 3000, 6200, 12_600]);
    assert!(
        questions.iter().all(|(_, asked)| asked.outer == first[0].outer),
        "only its own backend is asked"
    );
    let sent = world.pass_by(Micros::from_millis(20), MILLISECOND);
    let reset = read_tcp(&sent[0]);
    assert_eq!((sent.len(), reset.flags, reset.seq), (1, RST, client.peer_isn.wrapping_add(1)));
    assert_eq!((world.event(Event::HeadsLost), world.event(Event::HeldRepeated)), (1, 6));
    assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (0, 1));
}

#[test]
fn a_client_that_has_finished_is_owed_its_head_no_less() {
    // Timers of closing and unconfirmed flows are shorter than the debt may last.
    let brief = Settings { unconfirmed_timeout: Micros::from_secs(2), ..settings() };
    for fin in [0, FIN] {
        let mut world = World::with(brief.clone(), snapshot());
        let client = connected(&mut world);
        let request = get("/files/a");
        expect_kept(&world.give(&client.data(0, &request[..10])), true);
        expect_kept(&world.give(&client.data(10, &request[10..20])), false);
        handed(&world.give(&client.segment(20, PSH | ACK | fin, &request[20..]).frame()));
        let (packets, _) = watch(&mut world, 18_990);
        assert_eq!(packets.len(), 6);
        assert!(packets.iter().all(|(_, message)| inner_of(message).flags & FIN == fin));
        assert_eq!(world.pass(Micros::from_secs(1)).len(), 1);
        assert_eq!((world.event(Event::HeadsLost), world.event(Event::FlowsExpired)), (1, 0));
    }
}

#[test]
fn a_backend_that_has_the_head_is_left_alone() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = get("/files/a");
    let first = owed(&mut world, &client, &request);
    let asked = question(&mut world);
    assert_eq!((asked.generation, backend_of(&asked)), (first[0].generation, backend_of(&first[0])));
    let answer = mine(&asked, client.isn.wrapping_add(1 + len(&request)));
    let outcome = world.give(&answer);
    assert_eq!((outcome.verdict, outcome.sent.frames.len()), (Verdict::Absorb, 0));
    let (packets, questions) = watch(&mut world, 25_000);
    assert_eq!((packets.len(), questions.len()), (0, 0));
    assert_eq!((world.event(Event::HeldRepeated), world.event(Event::HeadsLost)), (0, 0));
    assert_eq!(world.flow(client.tuple()).expect("still there").state, State::Unconfirmed);
}

#[test]
fn of_a_head_that_arrived_in_part_the_rest_is_repeated_at_once_and_later() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = long_request(4000);
    owed(&mut world, &client, &request);
    let asked = question(&mut world);
    let expect_rest = |messages: &[Message], taken: u32| {
        let mut at = taken;
        for message in messages {
            let inner = inner_of(message);
            assert_eq!(inner.seq, client.isn.wrapping_add(1 + at));
            assert_eq!(inner.payload, request[usize::try_from(at).expect("small")..][..inner.payload.len()]);
            at += len(&inner.payload);
        }
        assert_eq!(at, len(&request), "up to the end");
    };
    for taken in [1, 1364, 4000] {
        let outcome = world.give(&mine(&asked, client.isn.wrapping_add(1 + taken)));
        expect_rest(&handed(&outcome), taken);
    }
    // An answer that comes late tells less than is known.
    expect_rest(&handed(&world.give(&mine(&asked, client.isn.wrapping_add(1 + 1364)))), 4000);
    let (packets, questions) = watch(&mut world, 600);
    assert_eq!(packets.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [180, 580]);
    packets.iter().for_each(|(_, message)| expect_rest(std::slice::from_ref(message), 4000));
    let last = &questions.last().expect("asked each time").1;
    world.give(&mine(last, client.isn.wrapping_add(1 + len(&request))));
    let (packets, questions) = watch(&mut world, 20_000);
    assert_eq!((packets.len(), questions.len()), (0, 0));
}

#[test]
fn an_answer_about_another_connection_or_another_handoff_covers_nothing() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = get("/files/a");
    owed(&mut world, &client, &request);
    let asked = question(&mut world);
    let end = client.isn.wrapping_add(1 + len(&request));
    // Of a socket that the 4-tuple had before: its generation is older, or its numbers are others.
    let mut older = asked.clone();
    older.covered[39] = older.covered[39].wrapping_sub(1);
    let generation = u64::from_be_bytes(older.covered[32..40].try_into().expect("eight"));
    assert_ne!(generation, asked.generation);
    world.expect_drop(&mine(&older, end), DropReason::AnswerUnexpected);
    for next in
        [client.isn, end.wrapping_add(65_536), end.wrapping_add(1 << 31), client.isn.wrapping_sub(5000)]
    {
        let outcome = world.give(&mine(&asked, next));
        assert!(outcome.sent.frames.is_empty());
    }
    let (packets, _) = watch(&mut world, 200);
    assert_eq!(packets.len(), 1, "still owed");
    expect_stream(&[packets[0].1.clone()], &client, &request);
}

#[test]
fn a_head_refused_goes_whole_to_the_next_backend() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = long_request(4000);
    let first = owed(&mut world, &client, &request);
    assert!(first.len() > 2);
    // The first backend had part of it when it refused: nothing of that counts for the second.
    let asked = question(&mut world);
    world.give(&mine(&asked, client.isn.wrapping_add(1 + 2000)));
    let second = handed(&world.give(&Answer::refused(&first[0]).frame()));
    expect_stream(&second, &client, &request);
    assert_eq!((backend_of(&first[0]), backend_of(&second[0])), (0, 1));
    assert!(second[0].generation > first[0].generation);
    // The other packets the first sends back: they are on their way already.
    for bounced in &first[1..] {
        let outcome = world.give(&Answer::refused(bounced).frame());
        assert_eq!((outcome.verdict, outcome.sent.frames.len()), (Verdict::Absorb, 0));
    }
    assert_eq!(world.event(Event::HandoffsRetried), 1);
    let (packets, questions) = watch(&mut world, 200);
    expect_stream(&packets.iter().map(|(_, message)| message.clone()).collect::<Vec<_>>(), &client, &request);
    assert!(questions.iter().all(|(_, asked)| backend_of(asked) == 1));
    // Refused by the second as well, the client is told, and nothing more goes anywhere.
    let outcome = world.give(&Answer::refused(&second[0]).frame());
    outcome.expect_page(&client, len(&request), REFUSED_BY_ALL);
    assert_eq!(world.event(Event::HandoffsRefused), 1 + u64::try_from(first.len()).expect("few"));
    let frames = world.pass_by(Micros::from_millis(4_000), MILLISECOND);
    assert!(frames.iter().all(|frame| frame[23] == 6), "only the page");
}

#[test]
fn a_client_that_was_not_acknowledged_frees_the_place_by_confirming() {
    let mut world = World::new();
    let mut client = connected(&mut world);
    let request = get("/files/a");
    expect_kept(&world.give(&client.data(0, &request[..10])), true);
    let sent = handed(&world.give(&client.data(10, &request[10..])));
    client.read = 1;
    let ack = client.ack(len(&request));
    world.give(&ack).expect_direct(&ack, backend_of(&sent[0]));
    let (packets, questions) = watch(&mut world, 25_000);
    assert_eq!((packets.len(), questions.len()), (0, 0));
}

#[test]
fn a_client_that_was_acknowledged_is_owed_the_rest_even_when_the_backend_speaks() {
    // A server may speak before it has read all: only its own word covers the head.
    let mut world = World::new();
    let mut client = connected(&mut world);
    let request = long_request(2000);
    let sent = owed(&mut world, &client, &request);
    client.read = 25; // 100 Continue
    let ack = client.ack(len(&request));
    world.give(&ack).expect_direct(&ack, backend_of(&sent[0]));
    assert_eq!(world.flow(client.tuple()).expect("a flow").state, State::Established);
    let (packets, questions) = watch(&mut world, 200);
    assert_eq!(packets.len(), 2);
    assert!(packets.iter().all(|(_, message)| message.kind == FORWARD), "no new socket");
    let answer = mine(&questions[0].1, client.isn.wrapping_add(1 + len(&request)));
    assert_eq!(world.give(&answer).verdict, Verdict::Absorb);
    assert_eq!(watch(&mut world, 25_000).0.len(), 0);
}

#[test]
fn a_client_that_resets_is_owed_nothing() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = get("/files/a");
    owed(&mut world, &client, &request);
    world.give(&client.rst(len(&request) + 9));
    assert_eq!(watch(&mut world, 200).0.len(), 1, "that one was forged");
    assert_eq!(world.give(&client.rst(len(&request))).message().kind, HANDOFF, "the backend learns it");
    let (packets, questions) = watch(&mut world, 25_000);
    assert_eq!((packets.len(), questions.len()), (0, 0));
    assert_eq!((world.event(Event::HeadsLost), world.event(Event::ResetsSent)), (0, 0));
}

#[test]
fn a_flow_with_a_debt_is_not_given_up_for_a_new_one() {
    let mut world = World::with(Settings { flow_count_max: 1, ..settings() }, snapshot());
    let client = connected(&mut world);
    let request = get("/files/a");
    expect_kept(&world.give(&client.data(0, &request[..10])), true);
    expect_kept(&world.give(&client.data(10, &request[10..20])), false);
    handed(&world.give(&client.segment(20, FIN | ACK, &request[20..]).frame()));
    world.pass(Micros::from_secs(5));
    let (other, outcome) = world.request(Client::at_port(2), "/files/a");
    outcome.expect_reset(&other);
    assert_eq!(world.event(Event::FlowsEvicted), 0);
}

#[test]
fn a_head_that_is_owed_does_not_give_way_to_another() {
    let mut world = World::new();
    for mut client in (1..=4).map(Client::at_port) {
        world.connect(&mut client);
        owed(&mut world, &client, &get("/files/a"));
    }
    world.pass(Micros::from_secs(2)); // long enough for an unfinished head to give way
    let mut hasty = Client::at_port(5);
    world.connect(&mut hasty);
    world.expect_drop(&hasty.data(0, b"GET /fil"), DropReason::HoldsFull);
    assert_eq!((world.event(Event::HoldsEvicted), world.event(Event::ResetsSent)), (0, 0));
    assert_eq!(world.switch.held_count(), 4);
}

#[test]
fn what_the_client_sends_behind_its_head_goes_on_at_once() {
    let mut world = World::new();
    let client = connected(&mut world);
    let request = get("/files/a");
    let first = owed(&mut world, &client, &request);
    let body = client.data(len(&request), b"body");
    let message = world.give(&body).message();
    assert_eq!((&message.inner[..], message.generation), (&body[14..], first[0].generation));
    let again = client.data(0, &request);
    assert_eq!(world.give(&again).message().inner, again[14..], "so does what it repeats");
}

#[test]
fn what_is_repeated_is_no_older_than_what_the_client_sent_since() {
    // The client's first byte, repeated, made the socket with a newer TSval than all the switch has kept: the rest must
    // not come with an older one (RFC 7323, section 5).
    let mut world = World::new();
    let client = connected(&mut world);
    let request = get("/files/a");
    owed(&mut world, &client, &request);
    let later = Client { clock: client.clock + 700, ..client.clone() };
    let stamps = |clock: &Client| Some((clock.clock + 7, client.echo));
    assert_eq!(inner_of(&world.give(&later.data(0, &request[..1])).message()).stamps, stamps(&later));
    let asked = question(&mut world);
    let rest = handed(&world.give(&mine(&asked, client.isn.wrapping_add(2))));
    assert_eq!((rest.len(), inner_of(&rest[0]).stamps), (1, stamps(&later)));
    // Not every number is the client's: one far off is nobody's clock.
    let forged = Client { clock: client.clock + (1 << 30), ..client.clone() };
    world.give(&forged.data(len(&request) + 1, b"x"));
    world.give(&forged.ack(u32::MAX));
    let rest = handed(&world.give(&mine(&asked, client.isn.wrapping_add(2))));
    assert_eq!(inner_of(&rest[0]).stamps, stamps(&later));
}

#[test]
fn a_head_that_changes_after_it_was_handed_off_is_dropped() {
    // In one segment.
    let mut world = World::new();
    let (client, outcome) = world.request(Client::at_port(1), "/files/a");
    let whole = get("/files/a");
    let other = get("/files/b");
    assert_eq!(outcome.message().kind, HANDOFF);
    world.expect_drop(&client.data(0, &other), DropReason::HeadChanged);
    world.expect_drop(&client.data(5, &other[5..]), DropReason::HeadChanged);
    world.expect_drop(&client.data(0, &whole[..10]), DropReason::HeadChanged); // nobody can tell
    let grown = client.data(0, &[&whole[..], b"body"].concat());
    assert_eq!(world.give(&grown).message().inner, grown[14..], "it grew behind the head");
    // In several, of which the backend may lack any.
    let mut client = Client::at_port(2);
    world.connect(&mut client);
    owed(&mut world, &client, &whole);
    for (at, bytes) in [(0, &other[..]), (5, &other[5..]), (11, b"b"), (12, b"!")] {
        world.expect_drop(&client.data(at, bytes), DropReason::HeadChanged);
    }
    for frame in cut(&client, &whole, 7) {
        assert_eq!(world.give(&frame).message().inner, frame[14..]);
    }
    assert_eq!(world.counters.drops(DropReason::HeadChanged), 7);
    // Confirmed, it is between client and backend.
    let (client, _, backend) = world.established(Client::at_port(3), "/files/a");
    let changed = client.data(0, &other);
    world.give(&changed).expect_direct(&changed, backend);
}

#[test]
fn an_answer_nobody_waits_for_is_harmless() {
    let mut world = World::new();
    let (_, outcome) = world.request(Client::new(), "/files/a");
    let handoff = outcome.message();
    let outcome = world.give(&Answer::of(&handoff, MINE).frame());
    assert_eq!((outcome.verdict, outcome.sent.frames.len()), (Verdict::Absorb, 0));
}
