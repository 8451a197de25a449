//! Who gets a connection: what a VIP is inspected for, what rules answer, stickiness, classes and limits.

use std::sync::Arc;

use baton_core::ids::{BackendIndex, ClassIndex, PoolIndex, RuleIndex, VipIndex};
use baton_core::policy::balance::PolicySettings;
use baton_core::policy::{
    Action, Affinity, AnswerIndex, Class, Conditions, Content, HostMatch, Http, Load, Overload, PathMatch,
    Pool, Request, Rule, RuleAnswer, Rules,
};
use baton_core::switch::{Backend, Inspect, Why};
use baton_core::{DropReason, Event, Micros, Snapshot, Verdict};

use crate::common::client::{Client, get, len};
use crate::common::hello::hello;
use crate::common::packets::{ACK, FIN, PSH, RST, read_tcp};
use crate::common::page::{NO_BACKEND, NOT_TLS, OVERLOADED, read_to_fin, tsval};
use crate::common::world::{Answer, World, backend_of, settings, snapshot};

/// The usual world with one pool of backends 0 and 1 for everything.
fn one_pool(inspect: Inspect) -> Snapshot {
    let mut one = snapshot();
    one.pools = vec![Pool::of([BackendIndex(0), BackendIndex(1)])];
    one.rules = Rules::new(vec![Rule::to_pool(Conditions::default(), PoolIndex(0))]);
    one.vips.iter_mut().for_each(|service| service.inspect = inspect);
    one
}

fn world_of(snapshot: Snapshot) -> World {
    World::with(settings(), snapshot)
}

/// Connects a client of its own port, which sends `bytes`; returns it and which backend it got.
fn backend_for(world: &mut World, port: u16, bytes: &[u8]) -> usize {
    let mut client = Client::at_port(port);
    world.connect(&mut client);
    backend_of(&world.give(&client.data(0, bytes)).message())
}

fn with_cookie(value: &str) -> Vec<u8> {
    format!("GET /a HTTP/1.1\r\nHost: www.example.org\r\nCookie: theme=dark; ID={value}\r\n\r\n").into_bytes()
}

/// Tells the switch that each backend has so many connections, or nothing of it.
fn report(world: &mut World, connections: &[Option<u32>]) {
    let load = |connections| Load { reported: world.now, connections, ..Load::default() };
    let loads: Vec<Option<Load>> = connections.iter().map(|count| count.map(load)).collect();
    world.switch.take_loads(Arc::from(loads));
}

// --- what is looked at -------------------------------------------------------------------------------------

#[test]
fn without_inspection_the_first_bytes_go_to_a_backend_whatever_they_are() {
    let mut world = world_of(one_pool(Inspect::None));
    for (port, bytes) in
        (20_000..).zip([&b"\x00\x01\x02"[..], b"G", b"GET / HTTP/9.9\r\n\r\n", b"EHLO x\r\n"])
    {
        let mut client = Client::at_port(port);
        world.connect(&mut client);
        let segment = client.segment(0, PSH | ACK, bytes);
        let message = world.give(&segment.frame()).message();
        assert_eq!(message.inner, segment.packet(), "byte for byte");
        assert_eq!(backend_of(&message), usize::from(port % 2), "in turn");
    }
}

#[test]
fn without_inspection_a_client_nobody_serves_is_reset() {
    let mut nobody = one_pool(Inspect::None);
    nobody.backends.iter_mut().for_each(|backend| backend.usable = false);
    let mut world = world_of(nobody);
    let (client, outcome) = world.request(Client::new(), "/files/a");
    assert_eq!(outcome.verdict, Verdict::Absorb);
    let [reset] = &outcome.sent.frames[..] else { panic!("{:?}", outcome.sent) };
    let reset = read_tcp(reset);
    assert_eq!((reset.flags & RST, reset.destination_port, reset.payload.len()), (RST, client.port, 0));
    assert_eq!(world.counters.drops(DropReason::NoBackend), 1);
    assert_eq!(world.switch.flow_count(), 0);
}

/// Rules for server names: `a.example` goes to backend 0, everything else with a hello to 1.
fn by_name() -> Snapshot {
    let mut names = one_pool(Inspect::Tls);
    names.pools = vec![Pool::of([BackendIndex(0)]), Pool::of([BackendIndex(1)])];
    let named = Conditions {
        server_name: Some(HostMatch::new("a.example").expect("a name")),
        ..Conditions::default()
    };
    names.rules = Rules::new(vec![
        Rule::to_pool(named, PoolIndex(0)),
        Rule::to_pool(Conditions::default(), PoolIndex(1)),
    ]);
    names
}

#[test]
fn a_hello_goes_by_its_server_name_still_encrypted() {
    let mut world = world_of(by_name());
    for (port, name, backend) in [(1, Some("A.example"), 0), (2, Some("b.example"), 1), (3, None, 1)] {
        let mut client = Client::at_port(port);
        world.connect(&mut client);
        let segment = client.segment(0, PSH | ACK, &hello(name, &["h2", "http/1.1"], &[]));
        let message = world.give(&segment.frame()).message();
        assert_eq!((backend_of(&message), message.inner), (backend, segment.packet()));
    }
}

#[test]
fn a_hello_in_single_bytes_is_put_together_and_goes_on_as_it_came() {
    let mut world = world_of(by_name());
    let mut client = Client::new();
    world.connect(&mut client);
    let bytes = hello(Some("a.example"), &[], &[7; 32]);
    let (last, first) = bytes.split_last().expect("some");
    for (at, byte) in (0..).zip(first) {
        let outcome = world.give(&client.data(at, &[*byte]));
        assert!(
            matches!(outcome.verdict, Verdict::Absorb | Verdict::Reply),
            "byte {at}: {:?}",
            outcome.verdict
        );
        assert!(outcome.sent.frames.is_empty());
    }
    let outcome = world.give(&client.data(len(first), &[*last]));
    let message = crate::common::packets::read_message(&outcome.sent.frames[0]);
    assert_eq!(backend_of(&message), 0);
    assert!(message.inner.ends_with(&bytes), "the hello, whole");
}

#[test]
fn who_asks_for_http_where_tls_is_spoken_is_told_so() {
    let mut world = world_of(by_name());
    let (client, outcome) = world.request(Client::new(), "/files/a");
    outcome.expect_page(&client, len(&get("/files/a")), NOT_TLS);
    assert_eq!(world.counters.drops(DropReason::RequestNotTls), 1);
}

#[test]
fn tls_clients_that_cannot_be_served_get_an_alert_they_can_read() {
    for (break_it, bytes, description) in [
        // RFC 8446, section 6: decode_error, internal_error, unrecognized_name.
        ("the hello", [&[22, 3, 1, 0, 4, 2, 0, 0, 0][..]].concat(), 50),
        ("the backends", hello(Some("a.example"), &[], &[]), 80),
        ("the rules", hello(Some("a.example"), &[], &[]), 112),
    ] {
        let mut broken = by_name();
        match break_it {
            "the backends" => broken.backends.iter_mut().for_each(|backend| backend.usable = false),
            "the rules" => broken.rules = Rules::default(),
            _ => {}
        }
        let mut world = world_of(broken);
        let mut client = Client::new();
        world.connect(&mut client);
        let outcome = world.give(&client.data(0, &bytes));
        let told = read_to_fin(&outcome.sent.frames, &client, 0, len(&bytes), tsval(&client));
        assert_eq!(told, [21, 3, 3, 0, 2, 2, description], "{break_it}");
        assert_eq!(world.event(Event::Alerts), 1, "{break_it}");
    }
}

// --- rules that answer -------------------------------------------------------------------------------------

/// `/old/` is elsewhere, `/gone` gone, all else served.
fn answering() -> Snapshot {
    let mut answering = one_pool(Inspect::Http);
    let answer = |prefix: &str, answer| Rule {
        conditions: Conditions { path: Some(PathMatch::Prefix(prefix.into())), ..Conditions::default() },
        class: ClassIndex(0),
        action: Action::Answer(AnswerIndex(answer)),
    };
    answering.rules = Rules::new(vec![
        answer("/old/", 0),
        answer("/gone", 1),
        Rule::to_pool(Conditions::default(), PoolIndex(0)),
    ]);
    answering.answers = vec![
        RuleAnswer::Redirect { status: 308, location: "https://{host}{uri}".into() },
        RuleAnswer::Respond { status: 410, content_type: "text/html".into(), body: b"<p>gone</p>".to_vec() },
    ]
    .into();
    answering
}

#[test]
fn a_rule_redirects_or_answers_by_itself() {
    let mut world = world_of(answering());
    for (port, path, status, has) in [
        (
            1,
            "/old/x?y=1",
            "HTTP/1.1 308 Permanent Redirect\r\n",
            "\r\nLocation: https://www.example.org/old/x?y=1\r\n",
        ),
        (2, "/gone", "HTTP/1.1 410 Gone\r\n", "\r\n\r\n<p>gone</p>"),
    ] {
        let (client, outcome) = world.request(Client::at_port(port), path);
        let told = read_to_fin(&outcome.sent.frames, &client, 0, len(&get(path)), tsval(&client));
        let told = String::from_utf8(told).expect("text");
        assert!(told.starts_with(status) && told.contains(has), "{told}");
    }
    assert_eq!(world.event(Event::AnsweredByRule), 2);
    assert_eq!(world.switch.rule_hits(), [1, 1, 0]);
    assert_eq!(world.event(Event::Handoffs), 0);
}

#[test]
fn a_head_of_several_segments_is_answered_by_its_rule_too() {
    let mut world = world_of(answering());
    let mut client = Client::new();
    world.connect(&mut client);
    let request = get("/old/deep");
    let (first, second) = request.split_at(9);
    assert_eq!(world.give(&client.data(0, first)).verdict, Verdict::Absorb);
    let outcome = world.give(&client.data(9, second));
    let told = read_to_fin(&outcome.sent.frames, &client, 0, len(&request), tsval(&client));
    assert!(String::from_utf8_lossy(&told).contains("Location: https://www.example.org/old/deep\r\n"));
}

// --- stickiness --------------------------------------------------------------------------------------------

fn sticky(affinity: Affinity, inspect: Inspect) -> World {
    let mut sticky = one_pool(inspect);
    sticky.pools[0].affinity = Some(affinity);
    world_of(sticky)
}

#[test]
fn a_cookies_value_belongs_to_one_backend() {
    let mut world = sticky(Affinity::Cookie { name: "ID".into() }, Inspect::Http);
    let mut used = [0; 2];
    for value in 0..20 {
        let request = with_cookie(&format!("user{value}"));
        let places = [0, 1].map(|turn| backend_for(&mut world, 1_000 + value * 2 + turn, &request));
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
        used[places[0]] += 1;
    }
    assert!(used.iter().all(|count| *count > 2), "both are used: {used:?}");
    assert_eq!(world.event(Event::BoundByHash), 40);
    // Who has no such cookie yet is given to the backends in turn.
    let free = [1, 2].map(|port| backend_for(&mut world, port, &get("/a")));
    assert_ne!(free[0], free[1]);
}

#[test]
fn a_cookie_that_names_a_backend_leads_there_while_it_is_usable() {
    let labels = vec![("one".to_owned(), BackendIndex(0)), ("two".to_owned(), BackendIndex(1))];
    let affinity = Affinity::CookieRoute { name: "ID".into(), labels };
    let mut world = sticky(affinity, Inspect::Http);
    for (port, value, backend) in [(1, "x7.two", 1), (2, "x7.two", 1), (3, "a.b.one", 0), (4, "two", 1)] {
        assert_eq!(backend_for(&mut world, port, &with_cookie(value)), backend, "{value}");
    }
    assert_eq!(world.event(Event::BoundByRoute), 4);
    let unknown = [5, 6].map(|port| backend_for(&mut world, port, &with_cookie("x7.three")));
    assert_ne!(unknown[0], unknown[1], "in turn");
    // The named one is drained: its clients are served by another, the same for each.
    let mut drained = one_pool(Inspect::Http);
    drained.backends[1].usable = false;
    drained.pools[0].affinity = Some(Affinity::CookieRoute {
        name: "ID".into(),
        labels: vec![("one".to_owned(), BackendIndex(0)), ("two".to_owned(), BackendIndex(1))],
    });
    world.apply(drained);
    assert_eq!(backend_for(&mut world, 7, &with_cookie("x7.two")), 0);
}

#[test]
fn a_client_meets_the_same_backend_from_every_port() {
    let mut world = sticky(Affinity::Client, Inspect::Http);
    let places: Vec<usize> = (1..20).map(|port| backend_for(&mut world, port, &get("/a"))).collect();
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
}

#[test]
fn a_tls_session_goes_back_to_the_backend_that_made_it() {
    let mut world = sticky(Affinity::TlsSession, Inspect::Tls);
    let new = backend_for(&mut world, 1, &hello(None, &[], &[]));
    assert_eq!(world.event(Event::SessionsUnknown), 1);
    // Both backends have made a session for this client.
    let sessions = [[1; 32], [2; 32]];
    for (backend, session) in (0..).map(BackendIndex).zip(&sessions) {
        world.switch.learn_session(session, backend, world.now);
    }
    for (port, backend) in [(2, 0), (3, 1), (4, 0)] {
        assert_eq!(backend_for(&mut world, port, &hello(None, &[], &sessions[backend])), backend);
    }
    assert_eq!(world.event(Event::SessionsFound), 3);
    assert_eq!(backend_for(&mut world, 5, &hello(None, &[], &[9; 32])), new, "an unknown one: by the client");
}

// --- classes and limits ------------------------------------------------------------------------------------

#[test]
fn a_full_backend_gets_nothing_while_another_has_room() {
    let mut limited = one_pool(Inspect::Http);
    limited.backends[0].connections_max = Some(10);
    let mut world = world_of(limited);
    report(&mut world, &[Some(10), Some(500)]);
    let places: Vec<usize> = (1..10).map(|port| backend_for(&mut world, port, &get("/a"))).collect();
    assert_eq!(places, [1; 9]);
    // It has room again, for two: what was given since the report counts.
    world.now = world.now.plus(Micros::from_millis(100));
    report(&mut world, &[Some(8), Some(500)]);
    let places: Vec<usize> = (20..28).map(|port| backend_for(&mut world, port, &get("/a"))).collect();
    assert_eq!(places.iter().filter(|place| **place == 0).count(), 2, "{places:?}");
}

/// A report says what was open when it was written, and comes later.
#[test]
fn a_backend_is_as_full_as_this_lcore_knows_though_its_report_was_written_before() {
    let mut limited = one_pool(Inspect::Http);
    limited.backends[0].connections_max = Some(3);
    let mut world = world_of(limited);
    report(&mut world, &[Some(0), Some(0)]);
    let places: Vec<usize> = (1..9).map(|port| backend_for(&mut world, port, &get("/a"))).collect();
    assert_eq!(places.iter().filter(|place| **place == 0).count(), 3, "{places:?}");
    report(&mut world, &[Some(0), Some(0)]);
    assert!((20..24).all(|port| backend_for(&mut world, port, &get("/a")) == 1), "three are open there");
}

/// Short connections come and go many times between two reports.
#[test]
fn connections_that_are_over_fill_no_backend() {
    let mut limited = one_pool(Inspect::Http);
    limited.backends[0].connections_max = Some(3);
    limited.backends[1].usable = false;
    let mut world = world_of(limited);
    report(&mut world, &[Some(0), Some(0)]);
    for port in 1..=8 {
        let mut client = Client::at_port(port);
        world.connect(&mut client);
        let request = get("/a");
        let handoff = world.give(&client.data(0, &request)).message();
        assert_eq!(backend_of(&handoff), 0, "connection {port}: nobody is left of those before");
        let behind = u32::try_from(request.len()).expect("short");
        drop(world.give(&client.fin(behind)));
        // Longer than what is known of a pool's fullness is believed; all of it between two reports.
        world.now = world.now.plus(Micros::from_millis(12));
    }
}

#[test]
fn turns_of_a_backend_that_was_full_are_not_saved_up() {
    let mut limited = one_pool(Inspect::Http);
    limited.pools[0].policy = PolicySettings::WeightedRoundRobin;
    limited.backends[0].connections_max = Some(10);
    let mut world = world_of(limited);
    report(&mut world, &[Some(10), Some(0)]);
    assert!((1..31).all(|port| backend_for(&mut world, port, &get("/a")) == 1));
    world.now = world.now.plus(Micros::from_millis(100));
    report(&mut world, &[Some(0), Some(0)]);
    let places: Vec<usize> = (40..48).map(|port| backend_for(&mut world, port, &get("/a"))).collect();
    for pair in places.chunks(2) {
        assert_eq!(pair.iter().sum::<usize>(), 1, "one each of two: {places:?}");
    }
}

#[test]
fn turns_are_even_where_all_backends_are_full_and_one_is_guaranteed_its_rate() {
    let mut limited = one_pool(Inspect::Http);
    limited.pools[0].policy = PolicySettings::WeightedRoundRobin;
    limited.backends.iter_mut().for_each(|backend| backend.connections_max = Some(10));
    limited.classes = vec![Class { rate_per_s: Some(100), ..Class::default() }];
    let mut world = world_of(limited);
    report(&mut world, &[Some(10), Some(10)]);
    let places: Vec<usize> = (1..9).map(|port| backend_for(&mut world, port, &get("/a"))).collect();
    for pair in places.chunks(2) {
        assert_eq!(pair.iter().sum::<usize>(), 1, "one each of two: {places:?}");
    }
}

#[test]
fn without_a_report_an_lcore_goes_by_its_own_count() {
    let mut limited = one_pool(Inspect::Http);
    limited.backends.iter_mut().for_each(|backend| backend.connections_max = Some(6));
    let mut world = world_of(limited);
    let served = (1..20).filter(|port| {
        let mut client = Client::at_port(*port);
        world.connect(&mut client);
        let outcome = world.give(&client.data(0, &get("/a")));
        world.now = world.now.plus(Micros::from_millis(20));
        outcome.verdict == Verdict::Forward
    });
    assert_eq!(served.count(), 12, "six each");
    assert_eq!(world.counters.class(ClassIndex(0)), (12, 7));
}

#[test]
fn at_overload_the_lowest_class_is_refused_first_and_told_why() {
    let mut classes = one_pool(Inspect::Http);
    classes.classes = vec![Class::default(), Class { priority: 9, ..Class::default() }];
    classes.overload = Overload { begin_permille: 500 };
    classes.backends.iter_mut().for_each(|backend| backend.connections_max = Some(100));
    let gold = Conditions { path: Some(PathMatch::Prefix("/gold/".into())), ..Conditions::default() };
    classes.rules = Rules::new(vec![
        Rule { class: ClassIndex(1), ..Rule::to_pool(gold, PoolIndex(0)) },
        Rule::to_pool(Conditions::default(), PoolIndex(0)),
    ]);
    let mut world = world_of(classes);
    report(&mut world, &[Some(60), Some(60)]);
    let (client, outcome) = world.request(Client::at_port(1), "/lead/a");
    outcome.expect_page(&client, len(&get("/lead/a")), OVERLOADED);
    let (_, outcome) = world.request(Client::at_port(2), "/gold/a");
    assert_eq!(outcome.verdict, Verdict::Forward);
    assert_eq!(world.counters.class(ClassIndex(0)), (0, 1));
    assert_eq!(world.counters.class(ClassIndex(1)), (1, 0));
    assert_eq!(world.counters.drops(DropReason::Overload), 1);
    // The report grows old: nobody is refused by what is no longer known.
    world.now = world.now.plus(Micros::from_secs(1));
    let (_, outcome) = world.request(Client::at_port(3), "/lead/a");
    assert_eq!(outcome.verdict, Verdict::Forward);
}

#[test]
fn connections_are_counted_from_handoff_to_end_wherever_they_go() {
    let mut world = world_of(one_pool(Inspect::Http));
    let connections = |world: &World| [0, 1].map(|at| world.switch.tallies()[at].connections);
    let (client, sent, backend) = world.established(Client::at_port(1), "/files/a");
    assert_eq!(connections(&world)[backend], 1);
    let (_, outcome) = world.request(Client::at_port(2), "/files/a");
    assert_eq!(connections(&world), [1, 1]);
    // The second is refused, and goes where the first is.
    let message = world.give(&Answer::refused(&outcome.message()).frame()).message();
    assert_eq!((backend_of(&message), connections(&world)[backend]), (backend, 2));
    assert_eq!(world.give(&client.segment(sent, FIN | ACK, b"").frame()).verdict, Verdict::Forward);
    assert_eq!(connections(&world)[backend], 1, "a client that has finished is none");
    world.pass_by(Micros::from_secs(2_000), Micros::from_secs(1));
    assert_eq!((world.switch.flow_count(), connections(&world)), (0, [0, 0]));
}

// --- explanations ------------------------------------------------------------------------------------------

#[test]
fn what_is_explained_is_what_happens_next() {
    let mut world = world_of(answering());
    let ask = |path| {
        let content = Content::Http(Http {
            method: "GET",
            host: Some("www.example.org"),
            path,
            query: None,
            fields: &[],
        });
        Request { vip: VipIndex(0), client: Client::new().address.into(), content }
    };
    let before = world.switch.rule_hits().to_vec();
    for port in 1..6 {
        let told = world.switch.explain(&ask("/files/a"), world.now);
        assert_eq!(world.switch.explain(&ask("/files/a"), world.now), told, "asking changes nothing");
        assert_eq!((told.rule, told.pool, told.is_let_in), (Some(RuleIndex(2)), Some(PoolIndex(0)), true));
        let (backend, why) = told.chosen.expect("two are usable");
        assert!(matches!(why, Why::Policy(_)), "{why:?}");
        assert_eq!(backend_for(&mut world, port, &get("/files/a")), usize::from(backend.0));
    }
    assert_eq!(world.switch.rule_hits()[2], before[2] + 5, "explaining is no request");
    let told = world.switch.explain(&ask("/gone"), world.now);
    assert_eq!((told.answer, told.pool, told.chosen), (Some(AnswerIndex(1)), None, None));
}

#[test]
fn a_pool_without_backends_is_explained_and_refused() {
    let mut empty = one_pool(Inspect::Http);
    empty.backends.iter_mut().for_each(|backend| *backend = Backend { usable: false, ..*backend });
    let mut world = world_of(empty);
    let (client, outcome) = world.request(Client::new(), "/files/a");
    outcome.expect_page(&client, len(&get("/files/a")), NO_BACKEND);
}
