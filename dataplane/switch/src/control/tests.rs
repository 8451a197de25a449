//! Agents' connections without sockets and without a clock: stories of one or more agents and a roster.

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use baton_core::policy::{BackendIndex, Conditions, Pool, PoolIndex, Rule, Rules, VipIndex};
use baton_core::switch::Service;
use handoff_proto::channel::{Channel, ChannelError};
use handoff_proto::control::{
    CONTROL_VERSION, FromAgent, FromSwitch, Load, REASON_BYTES_MAX, REASONS_MAX, REPORT_INTERVAL, Report,
    SESSIONS_MAX, SILENCE_MAX, Sessions, VIPS_MAX, VipHealth,
};
use handoff_proto::keys::Key;
use handoff_proto::{KeyId, KeyRing, Micros, TlsSessionId, Vip};

use super::*;

const SWITCH: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 60, 0, 1));
const WEB: Vip = Vip { address: IpAddr::V4(Ipv4Addr::new(10, 60, 0, 100)), port: 80 };
const SHOP: Vip = Vip { address: IpAddr::V4(Ipv4Addr::new(10, 60, 0, 100)), port: 8080 };
const START: Micros = Micros(1_763_711_747_000_000);

fn key(id: u8) -> Key {
    Key::new(KeyId(id), [id; 32])
}

/// Backend `one` is reached through both VIPs, `two` through WEB alone.
fn catalog() -> Arc<Catalog> {
    let vip = |name: &str, vip| NamedVip { name: name.to_owned(), service: Service::http(vip) };
    let backend = |name: &str, last| NamedBackend::new(name, Ipv4Addr::new(10, 60, 0, last));
    let pool = |name: &str, members: &[u16]| NamedPool {
        name: name.to_owned(),
        pool: Pool::of(members.iter().copied().map(BackendIndex)),
    };
    let rule = |vip: Option<u16>, pool| {
        let vip = vip.map(VipIndex);
        Rule::to_pool(Conditions { vip, ..Conditions::default() }, PoolIndex(pool))
    };
    Arc::new(Catalog {
        vips: vec![vip("web", WEB), vip("shop", SHOP)],
        backends: vec![backend("one", 11), backend("two", 12)],
        pools: vec![pool("all", &[0, 1]), pool("shop", &[0])],
        rules: Rules::new(vec![rule(Some(0), 0), rule(None, 1)]),
        ..Catalog::empty(KeyRing::new(vec![key(1), key(2)]).expect("a good ring"))
    })
}

fn hello(name: &str, last: u8) -> FromAgent {
    FromAgent::Hello {
        version: CONTROL_VERSION,
        name: name.to_owned(),
        address: IpAddr::from([10, 60, 0, last]),
        vips: vec![WEB, SHOP],
        release: "0.1.0".to_owned(),
        time: START.plus(Micros::from_millis(1_500)),
    }
}

fn health(vip: Vip, why: Option<&str>) -> VipHealth {
    VipHealth { vip, healthy: why.is_none(), why: why.map(str::to_owned) }
}

fn good_report(number: u64) -> Report {
    let health = vec![health(WEB, None), health(SHOP, None)];
    Report {
        number,
        ready: true,
        reasons: Vec::new(),
        health,
        load: Load { established: Some(number), ..Load::default() },
    }
}

/// An agent and its connection to the switch.
struct Agent {
    channel: Channel,
    session: Session,
}

impl Agent {
    /// Connects and authenticates.
    fn connect(id: u64, roster: &mut Roster, now: Micros) -> Self {
        let (channel, opening) = Channel::initiate(&key(2)).expect("randomness");
        let session = Session::accept(SessionId(id), catalog().keys.clone(), SWITCH, now);
        let mut agent = Self { channel, session };
        let mut out = Vec::new();
        agent.session.receive(&opening, now, roster, &mut out).expect("authentic");
        agent.channel.feed(&out);
        agent.channel.advance().expect("authentic");
        assert!(agent.channel.is_open());
        agent
    }

    /// Connects as a backend and is welcomed.
    fn welcomed(id: u64, name: &str, last: u8, roster: &mut Roster, now: Micros) -> Self {
        let mut agent = Self::connect(id, roster, now);
        let (answer, end) = agent.say(&hello(name, last), roster, now);
        let welcome = FromSwitch::Welcome { version: CONTROL_VERSION, address: SWITCH, time: now };
        assert_eq!((answer, end.is_none()), (Some(welcome), true));
        agent
    }

    /// Sends one message; returns the answer and why the connection ended, if it did.
    fn say(
        &mut self,
        message: &FromAgent,
        roster: &mut Roster,
        now: Micros,
    ) -> (Option<FromSwitch>, Option<End>) {
        let sealed = self.channel.seal(message).expect("open");
        let mut out = Vec::new();
        let end = self.session.receive(&sealed, now, roster, &mut out).err();
        self.channel.feed(&out);
        (self.channel.take().expect("authentic"), end)
    }

    fn report(&mut self, report: Report, roster: &mut Roster, now: Micros) -> Option<End> {
        self.say(&FromAgent::Report(report), roster, now).1
    }
}

fn usable(roster: &Roster) -> [bool; 2] {
    [roster.is_usable(BackendIndex(0)), roster.is_usable(BackendIndex(1))]
}

/// What `settle` returns: lines for the log, and which backends a new snapshot, if any, has usable.
fn settle(roster: &mut Roster) -> (Vec<String>, Option<Vec<bool>>) {
    let (changes, snapshot) = roster.settle();
    let lines = changes
        .iter()
        .map(|change| format!("{} {} {}", change.backend, change.usable, change.reasons.join("; ")));
    (
        lines.collect(),
        snapshot.map(|snapshot| snapshot.backends.iter().map(|backend| backend.usable).collect()),
    )
}

#[test]
fn a_backend_is_usable_from_its_first_good_report_until_silence() {
    let mut roster = Roster::new(catalog());
    assert_eq!(usable(&roster), [false, false]);
    let mut agent = Agent::welcomed(1, "one", 11, &mut roster, START);
    assert_eq!(settle(&mut roster), (vec![], None), "welcomed is not usable");

    let mut now = START;
    for number in 0..4 {
        now = now.plus(REPORT_INTERVAL);
        let (answer, end) = agent.say(&FromAgent::Report(good_report(number)), &mut roster, now);
        assert_eq!((answer, end.is_none()), (Some(FromSwitch::Time { number, time: now }), true));
        let news = settle(&mut roster);
        match number {
            0 => assert_eq!(news, (vec!["one true ".to_owned()], Some(vec![true, false]))),
            _ => assert_eq!(news, (vec![], None), "what stays the same is told once"),
        }
    }
    assert_eq!(agent.session.deadline(), now.plus(SILENCE_MAX));
    let end = agent.session.overdue(now.plus(SILENCE_MAX), &mut roster);
    assert!(matches!(end, End::Silent), "{end}");
    let why = "one false its agent fell silent; is the host or its management network down?".to_owned();
    assert_eq!(settle(&mut roster), (vec![why], Some(vec![false, false])));
    let described = &roster.describe(now)[0];
    assert_eq!((described.report_age_ms, described.clock_ahead_ms), (None, Some(1_500)));
}

#[test]
fn a_report_that_is_not_good_makes_unusable_at_once_and_says_why() {
    let agents_words = "a\nb\u{1b}[31m";
    let not_ready = Report { ready: false, reasons: vec![agents_words.to_owned()], ..good_report(1) };
    let wordless = Report { ready: false, ..good_report(1) };
    let unhealthy =
        Report { health: vec![health(WEB, None), health(SHOP, Some("refused"))], ..good_report(1) };
    let partial = Report { health: vec![health(WEB, None)], ..good_report(1) };
    for (report, why) in [
        (not_ready, "a b [31m"),
        (wordless, "its agent says that the host is not ready"),
        (unhealthy, "VIP shop (10.60.0.100:8080) is unhealthy: refused"),
        (partial, "VIP shop (10.60.0.100:8080) is missing from its agent's report"),
    ] {
        let mut roster = Roster::new(catalog());
        let mut agent = Agent::welcomed(1, "one", 11, &mut roster, START);
        assert!(agent.report(good_report(0), &mut roster, START).is_none());
        assert_eq!(settle(&mut roster).1, Some(vec![true, false]));
        assert!(agent.report(report.clone(), &mut roster, START).is_none());
        assert_eq!(settle(&mut roster), (vec![format!("one false {why}")], Some(vec![false, false])));
        assert!(agent.report(report, &mut roster, START).is_none());
        assert_eq!(settle(&mut roster), (vec![], None), "told once");
        assert!(agent.report(good_report(2), &mut roster, START).is_none());
        assert_eq!(settle(&mut roster).1, Some(vec![true, false]), "and back again");
    }
}

#[test]
fn only_the_vips_that_rules_lead_from_must_be_served_and_healthy() {
    let mut roster = Roster::new(catalog());
    let mut agent = Agent::welcomed(1, "two", 12, &mut roster, START);
    let report = Report { health: vec![health(WEB, None), health(SHOP, Some("refused"))], ..good_report(0) };
    assert!(agent.report(report, &mut roster, START).is_none());
    assert_eq!(usable(&roster), [false, true], "no rule leads from SHOP to backend two");

    let FromAgent::Hello { version, name, address, release, time, .. } = hello("one", 11) else {
        unreachable!()
    };
    let mut bare = Agent::connect(2, &mut roster, START);
    let (_, end) = bare.say(
        &FromAgent::Hello { version, name, address, release, time, vips: vec![WEB] },
        &mut roster,
        START,
    );
    assert!(end.is_none());
    assert!(
        bare.report(Report { health: vec![health(WEB, None)], ..good_report(0) }, &mut roster, START)
            .is_none()
    );
    let reasons = roster.describe(START).swap_remove(0).reasons;
    assert_eq!(
        reasons,
        ["its agent does not serve VIP shop (10.60.0.100:8080); add that [[vip]] to its agent.toml"]
    );
}

#[test]
fn the_newest_connection_of_a_backend_wins() {
    let mut roster = Roster::new(catalog());
    let mut old = Agent::welcomed(1, "one", 11, &mut roster, START);
    assert!(old.report(good_report(0), &mut roster, START).is_none());
    let mut new = Agent::welcomed(2, "one", 11, &mut roster, START);
    assert_eq!(usable(&roster), [false, false], "the new one has not reported yet");
    assert!(new.report(good_report(0), &mut roster, START).is_none());
    settle(&mut roster);

    let end = old.report(Report { ready: false, ..good_report(1) }, &mut roster, START);
    assert!(matches!(end, Some(End::Superseded)), "{end:?}");
    assert_eq!((usable(&roster), settle(&mut roster)), ([true, false], (vec![], None)));
    // However the old one ends, the new one stays.
    old.session.closed(START, &mut roster);
    old.session.overdue(START, &mut roster);
    assert_eq!(usable(&roster), [true, false]);
    new.session.closed(START, &mut roster);
    assert_eq!(settle(&mut roster).0, ["one false the connection of its agent ended"]);
}

#[test]
fn goodbye_takes_the_backend_out_at_once() {
    let mut roster = Roster::new(catalog());
    let mut agent = Agent::welcomed(1, "one", 11, &mut roster, START);
    assert!(agent.report(good_report(0), &mut roster, START).is_none());
    settle(&mut roster);
    let (answer, end) = agent.say(&FromAgent::Goodbye, &mut roster, START);
    assert!(answer.is_none() && matches!(end, Some(End::Left)));
    assert_eq!(
        settle(&mut roster),
        (vec!["one false its agent said goodbye".to_owned()], Some(vec![false, false]))
    );
}

#[test]
fn agents_that_do_not_belong_here_are_told_why_and_what_to_do() {
    let greeting = |version, name: &str, last, vip_count| FromAgent::Hello {
        version,
        name: name.to_owned(),
        address: IpAddr::from([10, 60, 0, last]),
        vips: vec![WEB; vip_count],
        release: String::new(),
        time: START,
    };
    for (message, told) in [
        (greeting(CONTROL_VERSION + 1, "one", 11, 1), "install the same release on both"),
        (greeting(CONTROL_VERSION, "three", 13, 1), "no [[backend]] of the switch is called \"three\""),
        (greeting(CONTROL_VERSION, "three", 13, 1), "(there: one, two)"),
        (
            greeting(CONTROL_VERSION, "one", 12, 1),
            "has address 10.60.0.11 in switch.toml, its agent says 10.60.0.12",
        ),
        (
            greeting(CONTROL_VERSION, "one", 11, VIPS_MAX + 1),
            "the agent serves 65 VIPs; at most 64 are allowed",
        ),
    ] {
        let mut roster = Roster::new(catalog());
        let mut agent = Agent::connect(1, &mut roster, START);
        let (answer, end) = agent.say(&message, &mut roster, START);
        let Some(FromSwitch::Turned { why }) = answer else { panic!("{answer:?}") };
        assert!(why.contains(told), "{why}");
        assert!(matches!(end, Some(End::Turned(_))), "{end:?}");
        assert_eq!(usable(&roster), [false, false]);
        // Operators are told beside the backend that was meant, if any: by its name, or else by its address.
        let shown: Vec<Vec<String>> =
            roster.describe(START).into_iter().map(|backend| backend.reasons).collect();
        let meant = shown
            .iter()
            .any(|reasons| reasons[0].starts_with("its agent is turned away: ") && reasons[0].contains(told));
        assert_eq!(meant, !why.contains("\"three\""), "{shown:?}");
        Agent::welcomed(2, "one", 11, &mut roster, START);
        assert_eq!(roster.describe(START).swap_remove(0).reasons, ["its agent has not reported yet"]);
    }
}

#[test]
fn backends_nobody_speaks_for_are_shown_with_who_fails_to_authenticate() {
    let mut roster = Roster::new(catalog());
    Agent::welcomed(1, "one", 11, &mut roster, START);
    let peer = IpAddr::from([10, 70, 0, 12]);
    roster.stranger(peer, START);
    let shown =
        |now: Micros| roster.describe(now).into_iter().map(|backend| backend.reasons).collect::<Vec<_>>();
    let [one, two] = &shown(START.plus(Micros::from_secs(9)))[..] else { panic!("two backends") };
    assert_eq!(one.len(), 1, "somebody speaks for it: {one:?}");
    assert!(two[1].starts_with("an agent at 10.70.0.12 does not authenticate"), "{two:?}");
    assert_eq!(shown(START.plus(Micros::from_secs(10)))[1].len(), 1, "not for ever");
}

#[test]
fn reports_beyond_their_limits_end_the_connection_and_long_words_are_cut() {
    let mut roster = Roster::new(catalog());
    let mut agent = Agent::welcomed(1, "one", 11, &mut roster, START);
    let wordy = Report { ready: false, reasons: vec!["ä".repeat(REASON_BYTES_MAX)], ..good_report(0) };
    assert!(agent.report(wordy, &mut roster, START).is_none());
    let reasons = roster.describe(START).swap_remove(0).reasons;
    assert_eq!(reasons, ["ä".repeat(REASON_BYTES_MAX / 2)]);

    for report in [
        Report { reasons: vec![String::new(); REASONS_MAX + 1], ..good_report(1) },
        Report { health: vec![health(WEB, None); VIPS_MAX + 1], ..good_report(1) },
    ] {
        let mut agent = Agent::welcomed(2, "one", 11, &mut roster, START);
        let (answer, end) = agent.say(&FromAgent::Report(report), &mut roster, START);
        assert!(matches!(answer, Some(FromSwitch::Turned { .. })), "{answer:?}");
        assert!(matches!(end, Some(End::Turned(Refusal::ReportTooLong { .. }))), "{end:?}");
        assert_eq!(usable(&roster), [false, false]);
    }
}

/// Sessions at a VIP, with ids of two bytes from a number on.
fn sessions(vip: Vip, first: u16, count: u16) -> FromAgent {
    let id = |number: u16| TlsSessionId::new(&number.to_be_bytes()).expect("two bytes");
    FromAgent::Sessions(Sessions { vip, ids: (first..first + count).map(id).collect() })
}

#[test]
fn learned_tls_sessions_wait_to_be_passed_on_and_keep_no_backend_alive() {
    let mut roster = Roster::new(catalog());
    let mut agent = Agent::welcomed(1, "one", 11, &mut roster, START);
    assert!(agent.report(good_report(0), &mut roster, START).is_none());
    let later = START.plus(REPORT_INTERVAL);
    let (answer, end) = agent.say(&sessions(SHOP, 7, 2), &mut roster, later);
    assert!(answer.is_none() && end.is_none(), "nothing answers them: {answer:?} {end:?}");
    agent.say(&sessions(WEB, 300, 1), &mut roster, later);
    let learned = |number: u16, vip| Learned {
        backend: BackendIndex(0),
        vip,
        id: TlsSessionId::new(&number.to_be_bytes()).expect("two bytes"),
    };
    assert_eq!(roster.take_learned(), [learned(7, SHOP), learned(8, SHOP), learned(300, WEB)]);
    assert_eq!(roster.take_learned(), [], "once");
    assert_eq!(agent.session.deadline(), START.plus(SILENCE_MAX), "without reports it is silent");

    // A newer connection speaks for the backend: what the older one learned may be of a server that is gone.
    let _newer = Agent::welcomed(2, "one", 11, &mut roster, later);
    let (_, end) = agent.say(&sessions(WEB, 1, 1), &mut roster, later);
    assert!(matches!(end, Some(End::Superseded)), "{end:?}");
    assert_eq!(roster.take_learned(), []);
}

#[test]
fn tls_sessions_nobody_takes_are_bounded_and_those_beyond_limits_end_the_connection() {
    let mut roster = Roster::new(catalog());
    let mut agent = Agent::welcomed(1, "one", 11, &mut roster, START);
    let full = u16::try_from(SESSIONS_MAX).expect("small");
    let messages = u16::try_from(LEARNED_MAX / SESSIONS_MAX).expect("small");
    for number in 0..=messages {
        let (_, end) = agent.say(&sessions(WEB, number * full, full), &mut roster, START);
        assert!(end.is_none(), "{end:?}");
    }
    let learned = roster.take_learned();
    assert_eq!((learned.len(), roster.learned_lost()), (LEARNED_MAX, SESSIONS_MAX as u64));
    assert_eq!(learned[0].id.as_bytes(), full.to_be_bytes(), "the oldest are lost");

    let strange = Vip { port: 81, ..WEB };
    for (message, why) in [
        (sessions(WEB, 0, full + 1), Refusal::TooManySessions(SESSIONS_MAX + 1)),
        (sessions(strange, 0, 1), Refusal::StrangeVip(strange)),
    ] {
        let mut agent = Agent::welcomed(2, "one", 11, &mut roster, START);
        let (answer, end) = agent.say(&message, &mut roster, START);
        assert_eq!(answer, Some(FromSwitch::Turned { why: why.to_string() }));
        assert!(matches!(end, Some(End::Turned(found)) if found == why));
        assert_eq!(roster.take_learned(), [], "nothing of it");
    }
}

#[test]
fn messages_out_of_turn_end_the_connection() {
    let mut roster = Roster::new(catalog());
    for message in [FromAgent::Report(good_report(0)), sessions(WEB, 0, 1), FromAgent::Goodbye] {
        let mut agent = Agent::connect(1, &mut roster, START);
        let (answer, end) = agent.say(&message, &mut roster, START);
        assert!(answer.is_none() && matches!(end, Some(End::OutOfTurn(_))), "{end:?}");
    }
    let mut agent = Agent::welcomed(2, "one", 11, &mut roster, START);
    assert!(agent.report(good_report(0), &mut roster, START).is_none());
    let (_, end) = agent.say(&hello("one", 11), &mut roster, START);
    assert!(matches!(end, Some(End::OutOfTurn("a hello"))), "{end:?}");
    assert_eq!(usable(&roster), [false, false], "its backend is out");
}

#[test]
fn whoever_does_not_know_the_key_gets_nowhere() {
    let mut roster = Roster::new(catalog());
    let accept = || Session::accept(SessionId(1), catalog().keys.clone(), SWITCH, START);
    let mut out = Vec::new();
    let (_, stranger) = Channel::initiate(&key(3)).expect("randomness");
    let end = accept().receive(&stranger, START, &mut roster, &mut out).expect_err("refused");
    assert!(matches!(end, End::Channel(ChannelError::UnknownKey(3))), "{end}");
    let (_, impostor) = Channel::initiate(&Key::new(KeyId(1), [9; 32])).expect("randomness");
    let end = accept().receive(&impostor, START, &mut roster, &mut out).expect_err("refused");
    assert!(matches!(end, End::Channel(ChannelError::Noise(_))), "{end}");
    let end = accept().receive(b"GET / HTTP/1.1\r\n", START, &mut roster, &mut out);
    assert!(end.is_ok(), "0x4745 bytes are still to come");
    assert!(out.is_empty(), "nothing is said to strangers");
}

#[test]
fn a_peer_that_dawdles_is_closed() {
    let mut roster = Roster::new(catalog());
    let mut agent = Agent::connect(1, &mut roster, START);
    assert_eq!(agent.session.deadline(), START.plus(OPENING_MAX), "authenticating does not extend it");
    assert!(matches!(agent.session.overdue(START.plus(OPENING_MAX), &mut roster), End::Slow));
}

#[test]
fn the_stream_may_be_cut_anywhere() {
    let mut roster = Roster::new(catalog());
    let mut agent = Agent::connect(1, &mut roster, START);
    let mut stream = agent.channel.seal(&hello("one", 11)).expect("open");
    stream.extend(agent.channel.seal(&FromAgent::Report(good_report(7))).expect("open"));
    let mut out = Vec::new();
    for byte in stream {
        agent.session.receive(&[byte], START, &mut roster, &mut out).expect("authentic");
    }
    assert_eq!(usable(&roster), [true, false]);
    agent.channel.feed(&out);
    assert!(matches!(agent.channel.take().expect("authentic"), Some(FromSwitch::Welcome { .. })));
    let last = FromSwitch::Time { number: 7, time: START };
    assert_eq!(agent.channel.take().expect("authentic"), Some(last));
}
