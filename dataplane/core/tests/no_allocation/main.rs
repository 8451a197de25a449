//! Proves that the packet path allocates nothing: every allocation while a switch looks at a frame is counted.

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "the stories use the rest of it")]
mod common;
#[path = "../balance/policies.rs"]
mod policies;
#[path = "../balance/pool.rs"]
#[expect(dead_code, reason = "the policies' own tests use the rest of it")]
mod pool;
mod rules;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use baton_core::http::{self, Body, Fed, Fields, Framing, Parsed};
use baton_core::policy::Load;
use baton_core::policy::balance::Ask;
use baton_core::switch::Learned;
use baton_core::{
    Counters, DropReason, Entropy, Event, Frame, Micros, Outbox, Settings, Switch, Verdict, tls,
};
use common::backend::mine;
use common::client::{BARE, Client, USUAL, get, len};
use common::packets::{ACK, FIN, arp, ethernet, icmp_echo, ipv4, read_message, read_tcp, udp};
use common::world::{
    Answer, BACKEND_MACS, BACKENDS, BROADCAST, GATEWAY, ROUTER_MAC, START, SWITCH, SWITCH_MAC, VIP, lcore,
    settings, snapshot,
};

thread_local! {
    /// Allocations of this thread while counting, `None` while not. Constant and without a destructor: reading it
    /// allocates nothing itself.
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Counting;

fn note() {
    COUNT.with(|count| count.set(count.get().map(|so_far| so_far + 1)));
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // Freeing on the packet path would show that something was allocated before.
        note();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(act: impl FnOnce() -> T) -> (T, u64) {
    COUNT.with(|count| count.set(Some(0)));
    let result = act();
    let counted = COUNT.with(Cell::take);
    (result, counted.expect("counting"))
}

/// An outbox that has its memory already.
struct Shelf {
    bytes: [[u8; 2048]; 40],
    lengths: [usize; 40],
    count: usize,
    shared: usize,
}

impl Shelf {
    fn frame(&self, at: usize) -> &[u8] {
        assert!(at < self.count, "{} frames", self.count);
        &self.bytes[at][..self.lengths[at]]
    }
}

impl Outbox for Shelf {
    fn transmit(&mut self, frame: &[u8]) -> bool {
        self.bytes[self.count][..frame.len()].copy_from_slice(frame);
        self.lengths[self.count] = frame.len();
        self.count += 1;
        true
    }

    fn share(&mut self, _: Learned) {
        self.shared += 1;
    }
}

struct Bench {
    switch: Switch,
    now: Micros,
    /// When the story begins.
    begun: Micros,
    shelf: Box<Shelf>,
    paths: usize,
    counters: Arc<Counters>,
}

impl Bench {
    /// A switch that has been running for a while.
    fn new() -> Self {
        let mut bench = Self::started();
        bench.pass("learning", 3_000, 500);
        bench.begun = bench.now;
        bench
    }

    /// A switch that has just started and knows its next hops.
    fn started() -> Self {
        let counters = Arc::new(Counters::default());
        let settings = Settings { flow_count_max: 8, ..settings() };
        let switch = Switch::new(
            lcore(0),
            settings,
            Arc::new(snapshot()),
            Arc::clone(&counters),
            Entropy::from_seed(1),
            START,
        )
        .expect("settings that work");
        let shelf = Box::new(Shelf { bytes: [[0; 2048]; 40], lengths: [0; 40], count: 0, shared: 0 });
        let mut bench = Self { switch, now: START, begun: START, shelf, paths: 0, counters };
        bench.poll("announcements and questions");
        for (address, mac) in BACKENDS.into_iter().zip(BACKEND_MACS).chain([(GATEWAY, ROUTER_MAC)]) {
            bench.give("an ARP reply", &arp(2, (address, mac), (SWITCH, SWITCH_MAC), SWITCH_MAC));
        }
        bench
    }

    /// Gives a frame and insists that nothing was allocated; returns the verdict and the frame afterwards.
    fn give(&mut self, what: &str, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let mut buffer = vec![0; 128 + frame.len() + 128];
        buffer[128..128 + frame.len()].copy_from_slice(frame);
        let mut view = Frame::new(&mut buffer, 128, frame.len()).expect("inside");
        let Self { switch, now, shelf, .. } = self;
        let (verdict, counted) = allocations(|| switch.receive(&mut view, *now, &mut **shelf));
        assert_eq!(counted, 0, "{what} ({verdict:?}) allocates");
        self.paths += 1;
        (verdict, view.bytes().to_vec())
    }

    fn poll(&mut self, what: &str) -> Vec<Vec<u8>> {
        self.shelf.count = 0;
        let Self { switch, now, shelf, .. } = self;
        let ((), counted) = allocations(|| switch.poll(*now, &mut **shelf));
        assert_eq!(counted, 0, "{what} allocates");
        let shelf = &self.shelf;
        (0..shelf.count).map(|at| shelf.bytes[at][..shelf.lengths[at]].to_vec()).collect()
    }

    /// Lets time pass, in steps.
    fn pass(&mut self, what: &str, millis: u64, step: u64) {
        for _ in 0..millis.div_ceil(step) {
            self.now = self.now.plus(Micros::from_millis(step));
            self.poll(what);
        }
    }

    fn connect(&mut self, client: &mut Client) {
        let (_, answer) = self.give("a SYN", &client.syn().frame());
        client.take_syn_ack(&read_tcp(&answer));
        self.give("the handshake's acknowledgment", &client.ack(0));
    }

    fn request(&mut self, client: &mut Client, path: &str) -> Vec<u8> {
        self.connect(client);
        let (verdict, frame) = self.give("a request", &client.data(0, &get(path)));
        assert_eq!(verdict, Verdict::Forward);
        frame
    }
}

#[test]
fn the_counter_counts() {
    let (vector, counted) = allocations(|| vec![1u8; 10]);
    assert!(counted >= 1);
    let ((), counted) = allocations(|| drop(vector));
    assert_eq!(counted, 1);
    let (sum, counted) = allocations(|| (0..10).sum::<u32>());
    assert_eq!((sum, counted), (45, 0));
}

#[test]
fn handshakes_and_idle_clients_allocate_nothing() {
    let mut bench = Bench::new();
    for offer in [USUAL, BARE] {
        let mut client = Client::with(offer);
        bench.connect(&mut client);
        bench.give("a keepalive probe", &client.segment(u32::MAX, ACK, b"").frame());
        bench.give("an idle FIN", &client.fin(0));
        let wrong = Client { peer_isn: client.peer_isn ^ 1 << 31, ..client };
        bench.give("data under a wrong cookie", &wrong.data(0, &get("/files/a")));
        bench.give("a RST", &wrong.rst(0));
    }
    assert_eq!(bench.counters.event(Event::SynAcks), 2);
}

#[test]
fn flows_allocate_nothing_from_request_to_end() {
    let mut bench = Bench::new();
    let mut client = Client::new();
    let sent = len(&get("/files/a"));
    bench.request(&mut client, "/files/a");
    bench.give("a repeated request", &client.data(0, &get("/files/a")));
    client.read = 10;
    bench.give("a confirmation", &client.ack(sent));
    bench.give("an upload", &client.data(sent, &[b'x'; 1364]));
    let mut again = Client { isn: client.isn.wrapping_add(1 << 20), read: 0, ..client.clone() };
    bench.connect(&mut again);
    bench.give("a reused 4-tuple", &again.data(0, &get("/files/b")));
    assert_eq!(bench.counters.event(Event::FlowsReplaced), 1);
    bench.give("a FIN", &again.segment(sent, FIN | ACK, b"").frame());
    let mut routed = Client::at_port(9);
    bench.request(&mut routed, "/routed/a");
    routed.read = 10;
    bench.give("a routed packet", &routed.ack(sent));
    bench.give("a RST", &routed.rst(sent));
    for seconds in [5, 10, 15, 20] {
        bench.now = bench.begun.plus(Micros::from_secs(seconds));
        bench.poll("expiry");
    }
    assert_eq!(bench.counters.event(Event::FlowsExpired), 1, "the routed one");
    bench.now = bench.begun.plus(Micros::from_secs(60));
    bench.poll("expiry");
}

#[test]
fn held_heads_allocate_nothing_up_to_their_limits() {
    let mut bench = Bench::new();
    let long = format!("GET /files/a HTTP/1.1\r\nHost: b\r\nCookie: {}\r\n\r\n", "c".repeat(15_000));
    let mut client = Client::new();
    bench.connect(&mut client);
    let mut pieces: Vec<(u32, &[u8])> = (0..).step_by(1364).zip(long.as_bytes().chunks(1364)).collect();
    pieces[1..].reverse(); // all behind a gap, as far as there is room for pieces apart
    for (at, piece) in pieces {
        bench.give("a piece of a head", &client.data(at, piece));
        bench.give("the same again", &client.data(at, piece));
    }
    bench.shelf.count = 0;
    for (at, piece) in (0..).step_by(1364).zip(long.as_bytes().chunks(1364)) {
        bench.give("a piece of a head, in order", &client.data(at, piece));
    }
    assert!(bench.counters.event(Event::Handoffs) == 1 && bench.counters.event(Event::HeadAcks) > 11);
    let mut endless = Client::at_port(2);
    bench.connect(&mut endless);
    for at in 0..=4096 {
        bench.shelf.count = 0;
        bench.give("a head byte by byte", &endless.data(at, b"G"));
    }
    let mut overlong = Client::at_port(3);
    bench.connect(&mut overlong);
    for at in 0..26 {
        bench.give("a head too long", &overlong.data(at * 1364, &[b'G'; 1364]));
    }
    assert_eq!(bench.counters.event(Event::Errors431), 2);
    let mut unfinished = Client::at_port(4);
    bench.connect(&mut unfinished);
    bench.give("the beginning of a head", &unfinished.data(0, b"GET "));
    bench.pass("the acknowledgment, the repetitions, the end of held heads", 30_000, 20);
    assert_eq!(bench.counters.event(Event::Errors408), 1);
    assert_eq!(bench.counters.event(Event::HeadsLost), 1);
    assert!(bench.counters.event(Event::HeldRepeated) > 60);
    assert!(bench.counters.event(Event::QuestionsSent) > 6);
}

#[test]
fn what_becomes_of_a_whole_head_allocates_nothing() {
    let mut bench = Bench::new();
    let mut client = Client::new();
    bench.connect(&mut client);
    let request = get("/files/a");
    bench.give("a piece", &client.data(0, &request[..9]));
    bench.give("another", &client.data(9, &request[9..20]));
    bench.shelf.count = 0;
    bench.give("the last", &client.data(20, &request[20..]));
    let handoff = read_message(bench.shelf.frame(0));
    bench.give("a piece again", &client.data(9, &request[9..20]));
    bench.give("a piece that changed", &client.data(9, b"!"));
    bench.shelf.count = 0;
    bench.give("a refusal", &Answer::refused(&handoff).frame());
    assert_eq!(bench.counters.event(Event::HandoffsRetried), 1);
    bench.pass("questions", 20, 10);
    let question = read_message(bench.shelf.frame(0));
    for taken in [10, len(&request)] {
        bench.give("an answer", &mine(&question, client.isn.wrapping_add(1 + taken)));
    }
    assert_eq!(bench.counters.event(Event::HeldRepeated), 1);
    bench.pass("nothing", 1_000, 100);
    assert_eq!(bench.counters.event(Event::HeldRepeated), 1);
}

#[test]
fn error_pages_allocate_nothing_from_the_first_byte_to_the_end() {
    let mut bench = Bench::new();
    let request = get("/nowhere");
    let sent = len(&request);
    for (port, offer) in (1..).zip([USUAL, BARE]) {
        let mut client = Client { port, ..Client::with(offer) };
        bench.connect(&mut client);
        bench.shelf.count = 0;
        bench.give("a request for nothing", &client.data(0, &request));
        let read = len(&read_tcp(bench.shelf.frame(0)).payload) + 1;
        bench.pass("a repetition", 200, 100);
        bench.give("more", &client.data(sent, b"more"));
        let reader = Client { read, ..client.clone() };
        bench.give("an acknowledgment", &reader.ack(sent + 4));
        bench.give("a FIN", &reader.fin(sent + 4));
        bench.give("a late FIN", &reader.fin(sent + 4));
        let mut again = Client { isn: client.isn.wrapping_add(1 << 20), ..client.clone() };
        bench.connect(&mut again);
        bench.give("a reused 4-tuple", &again.data(0, &request));
        bench.give("a RST", &again.rst(sent));
    }
    let mut silent = Client::at_port(9);
    bench.connect(&mut silent);
    bench.give("a request for nothing", &silent.data(0, &request));
    bench.pass("the end of a client that says nothing", 7_000, 100);
    assert_eq!((bench.counters.event(Event::Errors503), bench.counters.event(Event::ResetsSent)), (5, 1));
    assert_eq!((bench.counters.event(Event::PagesRepeated), bench.switch.flow_count()), (6, 0));
    // More pages than places.
    for port in 20..26 {
        let mut client = Client::at_port(port);
        bench.connect(&mut client);
        bench.give("a request for nothing", &client.data(0, &request));
    }
    assert_eq!(bench.counters.drops(DropReason::HoldsFull), 2);
}

#[test]
fn looking_for_owners_allocates_nothing() {
    let mut bench = Bench::new();
    let strangers: Vec<Client> =
        (1..=9).map(|port| Client { peer_isn: 7, ..Client::at_port(port) }).collect();
    let mut questions = Vec::new();
    for stranger in &strangers {
        bench.shelf.count = 0;
        bench.give("data of an unknown connection", &stranger.data(0, b"data"));
        assert_eq!(bench.shelf.count, 4, "all backends, though the first must give way to the last");
        questions.push((0..4).map(|at| read_message(bench.shelf.frame(at))).collect::<Vec<_>>());
    }
    let (last, question) = (&strangers[8], &questions[8][0]);
    bench.give("the same again", &last.data(0, b"data"));
    bench.give("a RST", &strangers[1].rst(4));
    for question in &questions[7] {
        bench.give("a denial by all", &Answer::of(question, 6).frame());
    }
    bench.give("an unknown RST", &Client::at_port(99).rst(4));
    bench.give("an answer", &mine(question, last.isn.wrapping_add(1)));
    bench.give("a denial", &Answer::of(question, 6).frame());
    bench.pass("the end of the search", 5_000, 50);
    let (verdict, _) = bench.give("what is nobody's", &strangers[7].data(0, b"data"));
    assert_eq!(verdict, Verdict::Drop(DropReason::UnknownFlow));
    bench.pass("a reset that waited", 200, 50);
    assert!(bench.counters.event(Event::OwnersSought) >= 9 && bench.counters.event(Event::FlowsEvicted) > 0);
    assert_eq!(bench.counters.event(Event::FlowsAdopted), 1);
    assert_eq!(bench.counters.event(Event::FlowsUnowned), 1);
    // A switch that has just started seeks the owner even of what looks new, and keeps the request.
    let mut young = Bench::started();
    let mut client = Client::new();
    young.connect(&mut client);
    young.give("a request", &client.data(0, &get("/files/a")));
    assert_eq!((young.counters.event(Event::OwnersSought), young.counters.event(Event::Handoffs)), (1, 0));
    young.pass("the handoff", 1_000, 50);
    assert_eq!(young.counters.event(Event::Handoffs), 1);
}

#[test]
fn refusals_allocate_nothing() {
    let mut bench = Bench::new();
    let mut client = Client::new();
    let first = read_message(&bench.request(&mut client, "/files/a"));
    let (_, second) = bench.give("a refusal", &Answer::refused(&first).frame());
    bench.give("a refusal by all", &Answer::refused(&read_message(&second)).frame());
    let message = read_message(&bench.request(&mut Client::at_port(2), "/files/a"));
    let forged = Answer { flip: 1, ..Answer::refused(&message) };
    bench.give("a forged refusal", &forged.frame());
    bench.give("a notice", &Answer::of(&message, 6).frame());
    let mut steered = Answer::refused(&message);
    steered.covered[30] = 3;
    assert_eq!(bench.give("another lcore's answer", &steered.frame()).0, Verdict::Steer(3));
    let none = ethernet(SWITCH_MAC, ROUTER_MAC, 0x0800, &ipv4([10, 0, 0, 1], SWITCH, 17, &udp(1, 7171, b"")));
    bench.give("an empty message", &none);
}

#[test]
fn requests_refused_and_a_full_table_allocate_nothing() {
    let mut bench = Bench::new();
    for (port, path) in (1..).zip(["/nowhere", "/dead/a", "/\0"]) {
        let mut client = Client::at_port(port);
        bench.connect(&mut client);
        let (verdict, _) = bench.give("a request nobody serves", &client.data(0, &get(path)));
        assert_eq!(verdict, Verdict::Absorb);
        assert_eq!(bench.give("its RST", &client.rst(len(&get(path)))).0, Verdict::Absorb);
    }
    for port in 100..108 {
        bench.request(&mut Client::at_port(port), "/files/a");
    }
    let mut late = Client::at_port(200);
    bench.connect(&mut late);
    bench.give("a request to a full table", &late.data(0, &get("/files/a")));
    assert_eq!(bench.switch.flow_count(), 8);
}

#[test]
fn arp_and_ping_allocate_nothing() {
    let mut bench = Bench::new();
    let stranger = ([10, 60, 0, 77], [2, 0, 0, 0, 9, 9]);
    bench.give("an ARP question", &arp(1, stranger, (VIP, [0; 6]), BROADCAST));
    bench.give("another's ARP question", &arp(1, stranger, ([10, 60, 0, 78], [0; 6]), BROADCAST));
    bench.give("a moved neighbor", &arp(1, (BACKENDS[0], [2; 6]), (BACKENDS[0], [0; 6]), BROADCAST));
    bench.give("a ping", &icmp_echo([10, 50, 0, 11], VIP, SWITCH_MAC, ROUTER_MAC, &[7; 1400]));
    bench.give("noise", &[0xff; 60]);
    for seconds in 1..60 {
        bench.now = bench.begun.plus(Micros::from_secs(seconds));
        bench.poll("questions");
    }
    assert_eq!(bench.counters.event(Event::ArpAnnouncements), 9);
}

#[test]
fn finding_a_requests_end_and_reading_a_hello_allocate_nothing() {
    let stream =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nA: b\r\n\r\n";
    let (ended, count) = allocations(|| {
        let mut room = Fields::default();
        let Parsed::Complete(head) = http::parse(stream, &mut room) else { return None };
        let (head, body) = stream.split_at(head.bytes);
        Some(Body::new(Framing::of(head).ok()?).feed(body))
    });
    assert_eq!((ended, count), (Some(Ok(Fed::Ended(23))), 0));

    // A hello with a server name, two protocols and nothing else, in two records.
    let extensions = b"\0\0\0\x06\0\x04\0\0\x01a\0\x10\0\x07\0\x05\x02h2\x01x";
    let head = [
        b"\x16\x03\x01\0\x05\x01\0\0\x40\x03\x16\x03\x01\0\x3f\x03".as_slice(),
        &[7; 32],
        b"\0\0\x02\x13\x01\x01\0\0\x15",
    ];
    let stream = [&head.concat()[..], extensions].concat();
    let mut scratch = [0; tls::HELLO_BYTES_MAX];
    let (protocols, count) = allocations(|| match tls::parse(&stream, &mut scratch) {
        tls::Parsed::Complete(hello) => hello.server_name.map(|_| hello.protocols.count()),
        _ => None,
    });
    assert_eq!((protocols, count), (Some(2), 0));
}

#[test]
fn decisions_of_every_policy_allocate_nothing() {
    let paths = [None, Some("/"), Some("/a/b/c"), Some("/c/d"), Some("/e/f/g/h")];
    for settings in policies::all() {
        let mut pool = pool::Pool::new(&settings, &[3; 70]);
        let ((), counted) = allocations(|| {
            for number in 0..3000_usize {
                let member = number * 31 % 70;
                match number % 5 {
                    0 => pool.usable[member] = !pool.usable[member],
                    1 => pool.report(member, Load { bytes_per_s: 7, ..Load::default() }),
                    2 => pool.now = pool.now.plus(Micros::from_millis(20)),
                    _ => {}
                }
                let bits = pool.bits();
                let path = paths[number % paths.len()];
                pool.try_give(Ask { key: bits % 300 * (u64::MAX / 300), entropy: bits, path, ..pool::ASK });
            }
        });
        assert_eq!(counted, 0, "{}", settings.name());
    }
}
