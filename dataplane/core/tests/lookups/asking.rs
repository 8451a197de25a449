//! The search for an owner: repeated, bounded, and at last given up.

use baton_core::flow::State;
use baton_core::switch::Backend;
use baton_core::{DropReason, Event, Micros, Settings, Verdict};

use crate::common::client::{Client, get, len};
use crate::common::packets::{ACK, FIN, RST};
use crate::common::world::{World, backend_of, settings, snapshot};
use crate::support::{INTERVAL, Socket, ask, deny, expect_reset_at, learning_world, questions, stranger};

/// How long after the first segment of a connection that is nobody's its client may be reset.
const UNOWNED_AFTER: Micros = Micros::from_secs(5);

fn state(world: &World, client: &Client) -> Option<State> {
    world.flow(client.tuple()).map(|flow| flow.state)
}

/// Gives a segment of a connection that every backend denies, and lets the search come to its end.
fn search_in_vain(world: &mut World, client: &Client, frame: &[u8]) {
    let asked = ask(world, frame);
    deny(world, &asked);
    assert_eq!(questions(&world.pass(Micros::from_millis(300))).len(), 8, "asked twice more");
    assert_eq!(state(world, client), Some(State::Unclaimed));
}

/// How long a reset waits for what a later segment may have overtaken.
const REPRIEVE: Micros = Micros::from_millis(200);

/// Insists that a segment of `client` is answered, a moment later, with the RST that fits it.
fn expect_reset(world: &mut World, client: &Client, frame: &[u8]) {
    world.expect_drop(frame, DropReason::UnknownFlow);
    assert!(world.pass(REPRIEVE.since(Micros(1))).is_empty(), "too soon");
    let sent = world.pass(Micros(1));
    assert_eq!(sent.len(), 1);
    expect_reset_at(&sent[0], client, client.peer_isn.wrapping_add(1).wrapping_add(client.read));
}

#[test]
fn three_questions_that_all_deny_end_in_a_reset_when_the_client_goes_on() {
    let mut world = World::new();
    let client = Client { read: 5000, ..stranger() };
    let first = ask(&mut world, &client.ack(1000));
    deny(&mut world, &first);
    for turn in 2..=3 {
        let again = questions(&world.pass(INTERVAL));
        assert_eq!(again.len(), first.len(), "question {turn}");
        assert_eq!(again[0].inner[20..], first[0].inner[20..], "the same question");
        assert_eq!(again[0].issued, world.now.0);
        world.expect_drop(&client.ack(1000), DropReason::UnknownFlow);
    }
    // A client repeats its first segment before that.
    assert!(world.pass(Micros::from_millis(4_700)).is_empty());
    world.expect_drop(&client.ack(1000), DropReason::UnknownFlow);
    assert!(world.pass(INTERVAL).is_empty(), "nobody is reset who says nothing");
    // It has read on since: the RST fits this segment, not the first.
    let client = Client { read: 6000, ..client };
    expect_reset(&mut world, &client, &client.data(1000, b"more"));
    assert_eq!((world.event(Event::FlowsUnowned), world.event(Event::ResetsSent)), (1, 1));
    assert_eq!(world.switch.flow_count(), 0);
    assert!(world.pass(Micros::from_secs(1)).is_empty());
    ask(&mut world, &client.ack(1000)); // and from the beginning
}

#[test]
fn a_request_that_got_lost_is_served_though_a_later_acknowledgment_came() {
    // The client answered the copy of a SYN-ACK: by its numbers that is anybody's packet.
    let request = get("/files/a");
    for syn_again in [false, true] {
        let mut world = World::new();
        let mut client = Client::new();
        world.connect(&mut client);
        search_in_vain(&mut world, &client, &client.ack(len(&request)));
        if syn_again {
            world.give(&client.syn().frame()); // not so late that its answer would be another
        }
        world.pass(Micros::from_millis(5_700));
        let outcome = world.give(&client.data(0, &request));
        backend_of(&outcome.message());
        assert_eq!(state(&world, &client), Some(State::Unconfirmed));
        assert_eq!((world.event(Event::Handoffs), world.event(Event::ResetsSent)), (1, 0));
    }
}

#[test]
fn a_request_whose_second_segment_came_first_is_served() {
    let request = get("/files/a");
    for waited_ms in [100, 3_100, 6_700] {
        let mut world = World::new();
        let mut client = Client::new();
        world.connect(&mut client);
        let second = client.data(20, &request[20..]);
        search_in_vain(&mut world, &client, &second);
        world.pass(Micros::from_millis(waited_ms));
        assert_eq!(world.give(&client.data(0, &request[..20])).verdict, Verdict::Absorb);
        assert_eq!(state(&world, &client), Some(State::Holding));
        assert_eq!(world.give(&second).verdict, Verdict::Absorb);
        assert_eq!(state(&world, &client), Some(State::Unconfirmed));
        assert_eq!((world.event(Event::Handoffs), world.event(Event::ResetsSent)), (1, 0));
    }
}

#[test]
fn an_idle_client_is_answered_though_a_stray_packet_was_nobodys() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    search_in_vain(&mut world, &client, &Client { isn: 5_000_000, ..stranger() }.ack(0));
    world.pass(UNOWNED_AFTER);
    assert_eq!(world.give(&client.segment(u32::MAX, ACK, b"").frame()).reply().flags, ACK, "a probe");
    assert_eq!(world.give(&client.fin(0)).reply().flags, FIN | ACK);
    assert_eq!((world.event(Event::IdleFinsAnswered), world.event(Event::ResetsSent)), (1, 0));
}

#[test]
fn what_was_nobodys_does_not_end_what_its_client_opens_since() {
    // After the search, and while it goes on.
    for searched_ms in [6_000, 0] {
        let mut world = World::new();
        let asked = ask(&mut world, &Client { isn: 5_000_000, ..stranger() }.ack(0));
        deny(&mut world, &asked);
        world.pass(Micros::from_millis(searched_ms));
        let mut client = Client::new();
        world.connect(&mut client);
        world.pass(Micros::from_millis(7_000 - searched_ms));
        // Its first segment is lost, its second like any stranger's: asked for, not reset.
        let second = client.data(20, b"second");
        ask(&mut world, &second);
        world.pass(Micros::from_secs(2));
        world.expect_drop(&second, DropReason::UnknownFlow);
        assert_eq!(world.event(Event::ResetsSent), 0);
    }
}

#[test]
fn however_rarely_a_client_repeats_itself_it_is_reset_the_second_time() {
    let mut world = World::new();
    let client = stranger();
    search_in_vain(&mut world, &client, &client.data(0, b"again"));
    assert!(world.pass(Micros::from_secs(120)).is_empty());
    expect_reset(&mut world, &client, &client.data(0, b"again"));

    // One that says nothing any more is forgotten without a word.
    search_in_vain(&mut world, &client, &client.data(0, b"again"));
    assert!(world.pass(Micros::from_secs(157)).is_empty(), "125 s, and a quarter more at most");
    assert_eq!((world.switch.flow_count(), world.event(Event::FlowsExpired)), (0, 1));
    assert_eq!((world.event(Event::FlowsUnowned), world.event(Event::ResetsSent)), (1, 1));
}

#[test]
fn a_usable_backend_that_is_silent_may_have_it() {
    let mut world = World::new();
    let client = stranger();
    let first = ask(&mut world, &client.ack(0));
    deny(&mut world, &first[..1]);
    deny(&mut world, &first[2..]);
    assert_eq!(questions(&world.pass(Micros::from_secs(4))).len(), 8, "asked, and not reset");
    assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (0, 0));
    ask(&mut world, &client.ack(0)); // its next packet asks again

    // Of one that is not usable, nothing is awaited.
    let mut world = World::new();
    let first = ask(&mut world, &client.ack(0));
    deny(&mut world, &first[..3]);
    world.pass(UNOWNED_AFTER);
    expect_reset(&mut world, &client, &client.ack(0));

    // But it may turn up, be it with an answer,
    let mut world = World::new();
    let first = ask(&mut world, &client.ack(0));
    deny(&mut world, &first[..3]);
    world.pass(Micros::from_millis(400));
    assert_eq!(state(&world, &client), Some(State::Unclaimed));
    let late = Socket::of(&first[3]).mine(&first[3]);
    assert_eq!(world.give(&late.frame()).verdict, Verdict::Absorb);
    assert_eq!(state(&world, &client), Some(State::Established));

    // or to be asked first.
    let mut world = World::new();
    let first = ask(&mut world, &client.ack(0));
    deny(&mut world, &first[..3]);
    world.pass(UNOWNED_AFTER);
    let mut all_usable = snapshot();
    all_usable.backends[3].usable = true;
    world.apply(all_usable);
    let again = ask(&mut world, &client.ack(0));
    assert_eq!(world.give(&Socket::of(&again[3]).mine(&again[3]).frame()).verdict, Verdict::Absorb);
    assert_eq!(state(&world, &client), Some(State::Established));
}

#[test]
fn answers_are_judged_by_the_newest_packet() {
    // The first was anybody's invention, or of a connection long over.
    let mut world = World::new();
    let client = stranger();
    let asked = ask(&mut world, &Client { isn: client.isn ^ 1 << 31, ..client.clone() }.ack(0));
    world.expect_drop(&client.ack(0), DropReason::UnknownFlow);
    let fitting = Socket {
        rcv_nxt: client.isn.wrapping_add(1),
        snd_nxt: client.peer_isn.wrapping_add(1),
        ..Socket::of(&asked[1])
    };
    assert_eq!(world.give(&fitting.mine(&asked[1]).frame()).verdict, Verdict::Absorb);
    assert_eq!(world.flow(client.tuple()).map(|flow| flow.state), Some(State::Established));
}

#[test]
fn a_first_segment_that_was_overtaken_once_more_is_served() {
    // Its first segment is lost again and again, and the last burst arrives in another order.
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let (first, second) = (get("/files/a"), b"more of it");
    let second = client.data(len(&first), second);
    search_in_vain(&mut world, &client, &second);
    world.pass(UNOWNED_AFTER);
    world.expect_drop(&second, DropReason::UnknownFlow);
    world.expect_drop(&second, DropReason::UnknownFlow);
    world.pass(Micros::from_millis(199));
    world.give(&client.data(0, &first)).message();
    assert!(world.pass(Micros::from_secs(1)).is_empty(), "no reset for what is served");
    assert_eq!(world.event(Event::ResetsSent), 0);
    assert_eq!(state(&world, &client), Some(State::Unconfirmed));
}

#[test]
fn a_new_connection_or_a_reset_of_the_clients_own_makes_a_waiting_reset_void() {
    for frame in [stranger().syn().frame(), stranger().rst(0)] {
        let mut world = World::new();
        let client = stranger();
        search_in_vain(&mut world, &client, &client.ack(0));
        world.pass(UNOWNED_AFTER);
        world.expect_drop(&client.ack(0), DropReason::UnknownFlow);
        world.give(&frame);
        assert!(world.pass(Micros::from_secs(1)).is_empty());
        assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (0, 0));
    }
}

#[test]
fn where_too_many_resets_wait_clients_are_reset_at_once() {
    const WAITING_MAX: u16 = 1024;
    let mut world = World::with(Settings { flow_count_max: 2048, ..settings() }, snapshot());
    let clients: Vec<Client> = (1..=WAITING_MAX + 1).map(|port| Client { port, ..stranger() }).collect();
    for client in &clients {
        let asked = ask(&mut world, &client.ack(0));
        deny(&mut world, &asked);
    }
    world.pass(UNOWNED_AFTER);
    let (last, others) = clients.split_last().expect("some");
    for client in others {
        world.expect_drop(&client.ack(0), DropReason::UnknownFlow);
    }
    let outcome = world.give(&last.ack(0));
    assert_eq!(outcome.verdict, Verdict::Reply);
    assert_eq!(
        world.pass_by(REPRIEVE.plus(REPRIEVE), Micros::from_millis(1)).len(),
        usize::from(WAITING_MAX)
    );
    assert_eq!(
        (world.switch.flow_count(), world.event(Event::FlowsUnowned)),
        (0, u64::from(WAITING_MAX) + 1)
    );
}

#[test]
fn while_learning_nobody_is_reset() {
    let mut world = learning_world();
    let client = stranger();
    let asked = ask(&mut world, &client.ack(0));
    deny(&mut world, &asked);
    let sent = questions(&world.pass(Micros::from_millis(2900)));
    assert_eq!(sent.len(), 8, "two more questions at four backends");
    assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (1, 0));
}

#[test]
fn who_resets_is_not_reset() {
    for rst in [stranger().rst(0), stranger().segment(0, RST | ACK, b"").frame()] {
        let mut world = World::new();
        let asked = ask(&mut world, &rst);
        deny(&mut world, &asked);
        assert_eq!(questions(&world.pass(Micros::from_secs(4))).len(), 8);
        assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (0, 0));
    }
    // One that comes during the search counts as well.
    let mut world = World::new();
    let asked = ask(&mut world, &stranger().ack(0));
    deny(&mut world, &asked);
    world.expect_drop(&stranger().rst(0), DropReason::UnknownFlow);
    assert_eq!(questions(&world.pass(Micros::from_secs(4))).len(), 8);
    assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (0, 0));
    // And one that comes when the search is over ends the matter.
    search_in_vain(&mut world, &stranger(), &stranger().ack(0));
    world.pass(UNOWNED_AFTER);
    world.expect_drop(&stranger().rst(0), DropReason::UnknownFlow);
    assert_eq!((world.switch.flow_count(), world.event(Event::ResetsSent)), (0, 0));
}

#[test]
fn so_many_questions_a_second_and_no_more() {
    let more = (0..500u16).map(|host| {
        let [high, low] = host.to_be_bytes();
        Backend::at([10, 62, high, low].into())
    });
    let mut snapshot = snapshot();
    snapshot.backends.extend(more);
    let mut world = World::with(Settings { flow_count_max: 200, ..settings() }, snapshot);
    for port in 1..=100 {
        world.expect_drop(&Client { port, ..stranger() }.ack(0), DropReason::UnknownFlow);
    }
    assert_eq!(world.event(Event::QuestionsSent), 50_400, "the last that was begun is asked everywhere");
    let late = Client { port: 101, ..stranger() }.ack(0);
    world.expect_drop(&late, DropReason::AskLimit);
    assert_eq!((world.event(Event::QuestionsSent), world.switch.flow_count()), (50_400, 100));

    // Searches that cannot go on are given up; nobody is reset for want of a question.
    world.pass(Micros::from_millis(200));
    assert_eq!((world.event(Event::QuestionsSent), world.switch.flow_count()), (50_400, 0));
    assert_eq!((world.event(Event::ResetsSent), world.counters.drops(DropReason::AskLimit)), (0, 101));
    world.pass(Micros::from_secs(1));
    world.expect_drop(&late, DropReason::UnknownFlow);
    assert_eq!(world.event(Event::QuestionsSent), 50_904);
}

#[test]
fn a_full_table_asks_nothing_unless_a_flow_is_idle() {
    let mut world = World::with(Settings { flow_count_max: 1, ..settings() }, snapshot());
    let (client, _, _) = world.established(Client::new(), "/files/a");
    let outcome = world.give(&Client { port: 2, ..stranger() }.ack(0));
    assert_eq!(outcome.verdict, Verdict::Drop(DropReason::TableFull));
    assert!(outcome.sent.frames.is_empty());
    assert_eq!(world.event(Event::OwnersSought), 0);
    assert_eq!(world.flow(client.tuple()).expect("kept").state, State::Established);
    // What is idle can be asked for in turn; what is asked for gives way first.
    world.pass(Micros::from_secs(10));
    for port in 2..5 {
        ask(&mut world, &Client { port, ..stranger() }.ack(0));
        assert_eq!((world.switch.flow_count(), world.event(Event::FlowsEvicted)), (1, u64::from(port) - 1));
    }
}

#[test]
fn what_is_nobodys_gives_way_before_what_is_looked_for() {
    let mut world = World::with(Settings { flow_count_max: 2, ..settings() }, snapshot());
    let [sought, unclaimed, new] = [2, 3, 4].map(|port| Client { port, ..stranger() });
    search_in_vain(&mut world, &unclaimed, &unclaimed.ack(0));
    ask(&mut world, &sought.ack(0));
    ask(&mut world, &new.ack(0));
    let states = [&sought, &unclaimed, &new].map(|client| state(&world, client));
    assert_eq!(states, [Some(State::Asking), None, Some(State::Asking)]);
    assert_eq!(world.event(Event::FlowsEvicted), 1);
}

#[test]
fn a_new_connection_need_not_wait_for_a_stray_packet_of_an_old_one() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    ask(&mut world, &Client { isn: 5_000_000, ..stranger() }.ack(0));
    let outcome = world.give(&client.data(0, &get("/files/a")));
    backend_of(&outcome.message());
    assert_eq!(world.flow(client.tuple()).expect("new").state, State::Unconfirmed);
    assert_eq!((world.event(Event::FlowsReplaced), world.event(Event::Handoffs)), (1, 1));
    // Only with a good checksum.
    let mut world = World::new();
    world.connect(&mut client);
    ask(&mut world, &Client { isn: 5_000_000, ..stranger() }.ack(0));
    let mut bad = client.data(0, &get("/files/a"));
    bad[51] ^= 1;
    world.expect_drop(&bad, DropReason::TcpChecksum);
}

#[test]
fn where_no_backend_is_usable_nobody_is_reset() {
    // The switch was restarted, and its agents have not come back yet.
    let mut world = World::new();
    let mut nobody = snapshot();
    nobody.backends.iter_mut().for_each(|backend| backend.usable = false);
    world.apply(nobody);
    let client = stranger();
    let asked = ask(&mut world, &client.ack(0));
    deny(&mut world, &asked);
    world.pass(Micros::from_secs(8));
    ask(&mut world, &client.ack(0));
    assert_eq!((world.event(Event::FlowsUnowned), world.event(Event::ResetsSent)), (0, 0));
}
