//! Several lcores: what speaks of a flow without naming its lcore goes round until one has it.

use std::sync::Arc;

use baton_core::flow::State;
use baton_core::switch::Learned;
use baton_core::{Counters, DropReason, Entropy, Event, Frame, Lcore, Micros, Outbox, Switch, Verdict};

use crate::common::client::{Client, get, len};
use crate::common::packets::{ACK, PSH, read_message, read_tcp};
use crate::common::world::{
    BACKEND_MACS, BACKENDS, GATEWAY, ROUTER_MAC, START, SWITCH_MAC, backend_of, lcore, settings, snapshot,
};
use crate::icmp::{icmp_error, segment_of_vip};
use crate::support::{expect_reset_at, report};

#[derive(Default)]
struct Shelf(Vec<Vec<u8>>);

impl Outbox for Shelf {
    fn transmit(&mut self, frame: &[u8]) -> bool {
        self.0.push(frame.to_vec());
        true
    }

    fn share(&mut self, _: Learned) {}
}

/// The switches of a few lcores behind one port.
struct Row {
    switches: Vec<(Switch, Arc<Counters>)>,
    now: Micros,
}

impl Row {
    fn new(count: u8) -> Self {
        let now = START.plus(Micros::from_secs(5));
        let make = |number| {
            let counters = Arc::new(Counters::default());
            let place = Lcore { count, ..lcore(number) };
            let entropy = Entropy::from_seed(1);
            let (settings, snapshot) = (settings(), Arc::new(snapshot()));
            let mut switch = Switch::new(place, settings, snapshot, Arc::clone(&counters), entropy, START)
                .expect("settings that work");
            for (address, mac) in BACKENDS.into_iter().zip(BACKEND_MACS).chain([(GATEWAY, ROUTER_MAC)]) {
                let mac = smoltcp::wire::EthernetAddress(mac);
                switch.learn(Learned { address: address.into(), mac }, now);
            }
            (switch, counters)
        };
        Self { switches: (0..count).map(make).collect(), now }
    }

    fn give(&mut self, at: u8, frame: &[u8]) -> (Verdict, Vec<u8>, Vec<Vec<u8>>) {
        let mut buffer = vec![0; 128];
        buffer.extend(frame);
        buffer.resize(buffer.len() + 128, 0);
        let mut view = Frame::new(&mut buffer, 128, frame.len()).expect("inside");
        let mut shelf = Shelf::default();
        let verdict = self.switches[usize::from(at)].0.receive(&mut view, self.now, &mut shelf);
        (verdict, view.bytes().to_vec(), shelf.0)
    }

    /// Gives a frame to an lcore and on to whichever it is steered to; returns who saw it and what came of it.
    fn follow(&mut self, first: u8, frame: &[u8]) -> (Vec<u8>, Verdict, Vec<u8>, Vec<Vec<u8>>) {
        let (mut at, mut frame, mut seen) = (first, frame.to_vec(), vec![first]);
        loop {
            assert!(seen.len() <= self.switches.len() + 1, "an end: {seen:?}");
            let (verdict, after, sent) = self.give(at, &frame);
            match verdict {
                Verdict::Steer(next) => {
                    assert_eq!(frame[14..], after[14..], "only hardware addresses differ");
                    at = next;
                    frame = after;
                    seen.push(at);
                }
                _ => return (seen, verdict, after, sent),
            }
        }
    }

    /// A flow of this lcore, established; returns its client, how much that has sent, and its backend.
    fn established(&mut self, at: u8) -> (Client, u32, usize) {
        let mut client = Client::new();
        let (_, answer, _) = self.give(at, &client.syn().frame());
        client.take_syn_ack(&read_tcp(&answer));
        let head = get("/files/a");
        let (_, handoff, _) = self.give(at, &client.data(0, &head));
        client.read = 100;
        self.give(at, &client.ack(len(&head)));
        (client, len(&head), backend_of(&read_message(&handoff)))
    }

    fn steered(&self) -> u64 {
        self.switches.iter().map(|(_, counters)| counters.event(Event::Steered)).sum()
    }
}

#[test]
fn a_report_finds_the_lcore_of_its_flow_wherever_it_arrives() {
    for owner in 0..4 {
        for arrives_at in 0..4 {
            let mut row = Row::new(4);
            let (client, sent, backend) = row.established(owner);
            row.now = row.now.plus(Micros(1));
            let packet = client.segment(sent, PSH | ACK, b"x").frame();
            let report = report(backend, &packet, 0, row.now).frame();
            let (seen, verdict, _, resets) = row.follow(arrives_at, &report);
            assert_eq!((seen.last(), verdict), (Some(&owner), Verdict::Absorb), "{arrives_at}: {seen:?}");
            assert_eq!(resets.len(), 1);
            expect_reset_at(&resets[0], &client, client.peer_isn.wrapping_add(101));
            let states: Vec<State> =
                row.switches[usize::from(owner)].0.flows().map(|flow| flow.state).collect();
            assert_eq!(states, [State::Closing]);
        }
    }
}

#[test]
fn a_report_of_no_flow_at_all_goes_round_once() {
    for arrives_at in 0..4 {
        let mut row = Row::new(4);
        let report = report(0, &Client::new().ack(0), 0, row.now).frame();
        let (mut seen, verdict, _, sent) = row.follow(arrives_at, &report);
        assert_eq!((verdict, sent.len()), (Verdict::Drop(DropReason::AnswerGone), 0));
        assert_eq!(row.steered(), u64::try_from(seen.len()).expect("few") - 1);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [0, 1, 2, 3]);
    }
    let mut row = Row::new(1);
    let report = report(0, &Client::new().ack(0), 0, row.now).frame();
    assert_eq!(row.follow(0, &report).0, [0]);
}

#[test]
fn a_forged_report_goes_nowhere() {
    let mut row = Row::new(4);
    let (client, sent, backend) = row.established(2);
    let mut forged = report(backend, &client.ack(sent), 0, row.now);
    forged.flip = 1;
    let (seen, verdict, ..) = row.follow(0, &forged.frame());
    assert_eq!((&seen[..], verdict), (&[0][..], Verdict::Drop(DropReason::AnswerForged)));
}

#[test]
fn a_report_that_names_its_lcore_goes_nowhere_else() {
    let mut row = Row::new(4);
    let mut named = report(0, &Client::new().ack(0), 0, row.now);
    named.covered[30] = 2;
    let (seen, verdict, ..) = row.follow(1, &named.frame());
    assert_eq!((&seen[..], verdict), (&[1, 2][..], Verdict::Drop(DropReason::AnswerGone)));
}

#[test]
fn an_icmp_error_finds_the_lcore_of_its_flow_wherever_it_arrives() {
    for owner in 0..3 {
        for arrives_at in 0..3 {
            let mut row = Row::new(3);
            let (client, _, backend) = row.established(owner);
            let error = icmp_error(3, 4, &segment_of_vip(&client).packet(), 28);
            let (seen, verdict, frame, _) = row.follow(arrives_at, &error);
            assert_eq!((seen.last(), verdict), (Some(&owner), Verdict::Forward), "{arrives_at}: {seen:?}");
            assert_eq!((&frame[..6], &frame[6..12]), (&BACKEND_MACS[backend][..], &SWITCH_MAC[..]));
            assert_eq!(frame[12..], error[12..]);
        }
    }
}

#[test]
fn a_flood_of_icmp_errors_does_not_become_one_for_the_other_lcores() {
    let mut row = Row::new(3);
    let error = icmp_error(3, 4, &segment_of_vip(&Client::new()).packet(), 28);
    let verdicts: Vec<_> = (0..1001).map(|_| row.give(1, &error).0).collect();
    assert!(verdicts[..1000].iter().all(|verdict| *verdict == Verdict::Steer(0)));
    assert_eq!(verdicts[1000], Verdict::Drop(DropReason::IcmpUnowned));
    row.now = row.now.plus(Micros::from_secs(1));
    assert_eq!(row.give(1, &error).0, Verdict::Steer(0));
}
