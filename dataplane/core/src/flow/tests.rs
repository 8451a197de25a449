use core::net::IpAddr;
use std::collections::HashMap;

use proptest::prelude::*;
use smoltcp::wire::EthernetAddress;

use super::*;
use crate::entropy::Entropy;
use crate::ids::{HoldIndex, PoolIndex};

const CAPACITY: usize = 8;
const SETTINGS: FlowSettings = FlowSettings {
    count_max: CAPACITY,
    asking: Micros::from_millis(100),
    holding: Micros::from_millis(400),
    unconfirmed: Micros::from_millis(800),
    established: Micros::from_millis(2_000),
    closing: Micros::from_millis(1_200),
    answered: Micros::from_millis(600),
    unclaimed: Micros::from_millis(300),
};
/// Timeouts for the model: an established flow can be idle for longer than its eviction takes.
const SLOW: FlowSettings = FlowSettings {
    count_max: CAPACITY,
    asking: Micros::from_millis(1_000),
    holding: Micros::from_millis(4_000),
    unconfirmed: Micros::from_millis(8_000),
    established: Micros::from_millis(20_000),
    closing: Micros::from_millis(12_000),
    answered: Micros::from_millis(6_000),
    unclaimed: Micros::from_millis(3_000),
};
const START: Micros = Micros::from_secs(1_000);

fn tuple(port: u16) -> FourTuple {
    FourTuple {
        client: IpAddr::from([10, 50, 0, 11]),
        client_port: port,
        vip: IpAddr::from([10, 60, 0, 100]),
        vip_port: 80,
    }
}

fn flow(port: u16, now: Micros) -> Flow {
    let negotiated = Negotiated { mss: 1460, wscale: None, sack: true, timestamps: false, ecn: false };
    Flow {
        tuple: tuple(port),
        backend: BackendIndex(0),
        pool: PoolIndex(0),
        generation: Generation(now.0),
        base: Base { negotiated, seq: Seq(1), ack: Seq(2), tsval: 0, tsecr: 0 },
        hold: None,
        sent_until: Seq(1),
        client_mac: EthernetAddress([2; 6]),
        reopened: None,
        is_gone: false,
        head: None,
        refused_by: RefusedBy::default(),
        search: Search::default(),
        created: now,
        last_seen: now,
    }
}

fn table() -> FlowTable {
    FlowTable::new(&SETTINGS, &mut Entropy::from_seed(7))
}

#[test]
fn every_event_in_every_state() {
    use State::{
        Answered, Asking, Closing, ClosingUnconfirmed, Established, Holding, Unclaimed, Unconfirmed,
    };
    #[rustfmt::skip]
    let expected = [
        // from                Dispatch            Confirm       Finish              Reset                     Claim               Deny            Refuse
        (Asking,             [Some(Unconfirmed),   Some(Asking), Some(Asking),       None,                     Some(Established), Some(Unclaimed), Some(Answered)]),
        (Unclaimed,          [Some(Unclaimed),     Some(Unclaimed), Some(Unclaimed), None,                     Some(Established), Some(Unclaimed), Some(Unclaimed)]),
        (Holding,            [Some(Unconfirmed),   Some(Holding), Some(Holding),     None,                     Some(Holding), Some(Holding), Some(Answered)]),
        (Unconfirmed,        [Some(Unconfirmed),   Some(Established), Some(ClosingUnconfirmed), Some(ClosingUnconfirmed), Some(Unconfirmed), Some(Unconfirmed), Some(Answered)]),
        (Established,        [Some(Established),   Some(Established), Some(Closing), Some(Closing),            Some(Established), Some(Established), Some(Established)]),
        (ClosingUnconfirmed, [Some(ClosingUnconfirmed), Some(Closing), Some(ClosingUnconfirmed), Some(ClosingUnconfirmed), Some(ClosingUnconfirmed), Some(ClosingUnconfirmed), Some(Answered)]),
        (Closing,            [Some(Closing); 7]),
        (Answered,           [Some(Answered),      Some(Answered), Some(Answered),   None,                     Some(Answered), Some(Answered), Some(Answered)]),
    ];
    assert_eq!(expected.map(|(state, _)| state), State::ALL);
    for (state, row) in expected {
        assert_eq!(Event::ALL.map(|event| state.after(event)), row, "{state:?}");
    }
}

#[test]
fn what_is_confirmed_once_stays_so() {
    for state in State::ALL {
        for event in [Event::Dispatch, Event::Confirm, Event::Finish, Event::Reset] {
            if let Some(after) = state.after(event) {
                assert!(after.is_confirmed() || !state.is_confirmed(), "{state:?} {event:?}");
            }
        }
    }
}

#[test]
fn refusals_are_remembered_up_to_the_number_of_attempts() {
    let mut refused = RefusedBy::default();
    assert!(!refused.contains(BackendIndex(0)), "an empty list does not hold backend 0");
    for backend in 1..=4 {
        let may_retry = refused.note(BackendIndex(backend * 10));
        assert_eq!(may_retry, usize::from(backend) < ATTEMPTS_MAX);
        assert!(refused.contains(BackendIndex(backend * 10)));
    }
    assert!(!refused.note(BackendIndex(50)));
    assert!(!refused.contains(BackendIndex(50)), "no place is left");
}

#[test]
fn a_flow_polled_often_lives_for_its_timeout_and_at_most_a_quarter_more() {
    let step = Micros::from_millis(10);
    for (state, timeout) in [
        (State::Unclaimed, SETTINGS.unclaimed),
        (State::Holding, SETTINGS.holding),
        (State::Unconfirmed, SETTINGS.unconfirmed),
        (State::Established, SETTINGS.established),
        (State::ClosingUnconfirmed, SETTINGS.closing),
        (State::Closing, SETTINGS.closing),
    ] {
        for last_packet_ms in [0, 1, 99, 100, 101, 333, 1_000] {
            let mut table = table();
            let id = table.insert(flow(1, START), state).expect("room");
            let mut now = START;
            let last_seen = START.plus(Micros::from_millis(last_packet_ms));
            loop {
                if now <= last_seen
                    && let Some(flow) = table.get_mut(id)
                {
                    flow.last_seen = now; // packets until then
                }
                if let Some(over) = table.expired(now, &mut 64) {
                    assert_eq!(over, id);
                    break;
                }
                now = now.plus(step);
            }
            let seen = table.get(id).expect("not removed yet").0.last_seen;
            let age = now.since(seen);
            let longest = timeout.plus(Micros(timeout.0 / 4)).plus(step);
            assert!(age >= timeout && age <= longest, "{state:?} lived {age:?}, timeout {timeout:?}");
        }
    }
}

#[test]
fn looks_are_bounded_and_spread_over_calls() {
    let mut table = FlowTable::new(&FlowSettings { count_max: 100, ..SETTINGS }, &mut Entropy::from_seed(1));
    for port in 0..100 {
        table.insert(flow(port, START), State::Unconfirmed).expect("room");
    }
    // All are due for a look, none is over: a call with few looks changes the order of those, and no more.
    let look = START.plus(Micros::from_millis(200));
    for _ in 0..10 {
        let mut looks = 10;
        assert_eq!((table.expired(look, &mut looks), looks), (None, 0));
    }
    let end = START.plus(Micros::from_millis(800));
    let mut removed = 0;
    for _ in 0..200 {
        if let Some(id) = table.expired(end, &mut 1) {
            assert!(table.remove(id).is_some());
            removed += 1;
        }
    }
    assert_eq!((removed, table.len()), (100, 0));
}

#[test]
fn flows_that_are_over_and_flows_that_are_not_share_one_bound_of_looks() {
    let mut table = FlowTable::new(&FlowSettings { count_max: 100, ..SETTINGS }, &mut Entropy::from_seed(1));
    let end = START.plus(timeout(&SETTINGS, State::Unconfirmed));
    for port in 0..100 {
        let id = table.insert(flow(port, START), State::Unconfirmed).expect("room");
        if port % 2 == 0 {
            table.get_mut(id).expect("inserted").last_seen = end;
        }
    }
    let (mut looks, mut removed) = (10, 0);
    while let Some(id) = table.expired(end, &mut looks) {
        assert!(table.remove(id).is_some());
        removed += 1;
    }
    assert_eq!((looks, removed), (0, 5));
}

#[test]
fn a_full_table_says_so_and_takes_one_more_after_a_removal() {
    let mut table = table();
    let ids: Vec<FlowId> =
        (0..8).map(|port| table.insert(flow(port, START), State::Established).expect("room")).collect();
    assert_eq!(table.insert(flow(99, START), State::Established), Err(Full));
    assert_eq!(table.find(&tuple(99)), None);
    let soon = Micros(SETTINGS.established.0 - 1);
    assert_eq!(table.evict(START.plus(soon)), None, "established flows are not given up soon");
    assert_eq!(table.evict(START.plus(SETTINGS.established)), Some(ids[0]), "only when they have been idle");
    table.get_mut(ids[0]).expect("still there").hold = Some(HoldIndex(0));
    assert_eq!(table.evict(START.plus(Micros::from_secs(10))), Some(ids[1]), "and nothing is kept for them");
    assert_eq!(table.remove(ids[3]).map(|flow| flow.tuple), Some(tuple(3)));
    assert_eq!(table.remove(ids[3]), None, "removed once");
    assert!(table.insert(flow(99, START), State::Established).is_ok());
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u16, State),
    Remove(u16),
    Touch(u16),
    SetState(u16, State),
    Evict,
    /// Bytes of a flow are kept.
    Keep(u16),
    /// Time passes, and whatever is over is removed.
    Wait(u64),
}

const WAIT_MS_MAX: u64 = 1_200;

fn step() -> impl Strategy<Value = Step> {
    let port = 0..12u16;
    let state = prop::sample::select(&State::ALL[..]);
    prop_oneof![
        4 => (port.clone(), state.clone()).prop_map(|(port, state)| Step::Insert(port, state)),
        1 => port.clone().prop_map(Step::Remove),
        3 => port.clone().prop_map(Step::Touch),
        2 => (port, state).prop_map(|(port, state)| Step::SetState(port, state)),
        1 => Just(Step::Evict),
        1 => (0..12u16).prop_map(Step::Keep),
        3 => (1..=WAIT_MS_MAX).prop_map(Step::Wait),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Known {
    id: FlowId,
    state: State,
    last_seen: Micros,
    /// The later of the last packet and the last change of state.
    since: Micros,
    is_kept: bool,
}

const fn timeout(settings: &FlowSettings, state: State) -> Micros {
    match state {
        State::Asking => settings.asking,
        State::Unclaimed => settings.unclaimed,
        State::Holding => settings.holding,
        State::Unconfirmed => settings.unconfirmed,
        State::Established => settings.established,
        State::ClosingUnconfirmed | State::Closing => settings.closing,
        State::Answered => settings.answered,
    }
}

fn remove_all_over(table: &mut FlowTable, model: &mut HashMap<u16, Known>, now: Micros) {
    while let Some(id) = table.expired(now, &mut 64) {
        let flow = table.remove(id).expect("named just now");
        let known = model.remove(&flow.tuple.client_port).expect("in the model");
        assert_eq!(known.id, id);
        assert!(now.since(known.last_seen) >= timeout(&SLOW, known.state), "too early: {known:?} at {now:?}");
    }
    // Looking for one to give up puts those off that have something left to do.
    for known in model.values().filter(|known| !known.is_kept) {
        let longest = Micros(timeout(&SLOW, known.state).0 * 5 / 4).plus(Micros::from_millis(WAIT_MS_MAX));
        assert!(now.since(known.since) <= longest, "too late: {known:?} at {now:?}");
    }
}

proptest! {
    /// The table against a plain map and the rules in words.
    #[test]
    fn the_table_does_what_a_map_with_timers_does(steps in prop::collection::vec(step(), 1..300)) {
        let mut table = FlowTable::new(&SLOW, &mut Entropy::from_seed(7));
        let mut model: HashMap<u16, Known> = HashMap::new();
        let mut now = START;
        for step in steps {
            match step {
                Step::Insert(port, _) if model.contains_key(&port) => {}
                Step::Insert(port, state) => match table.insert(flow(port, now), state) {
                    Ok(id) => {
                        prop_assert!(model.len() < CAPACITY);
                        model.insert(port, Known { id, state, last_seen: now, since: now, is_kept: false });
                    }
                    Err(Full) => prop_assert_eq!(model.len(), CAPACITY),
                },
                Step::Remove(port) => {
                    if let Some(id) = table.find(&tuple(port)) {
                        prop_assert_eq!(table.remove(id).map(|flow| flow.tuple), Some(tuple(port)));
                        prop_assert!(model.remove(&port).is_some());
                    } else {
                        prop_assert!(!model.contains_key(&port));
                    }
                }
                Step::Touch(port) => if let Some(known) = model.get_mut(&port) {
                    table.get_mut(known.id).expect("in the model").last_seen = now;
                    (known.last_seen, known.since) = (now, now);
                },
                Step::SetState(port, state) => if let Some(known) = model.get_mut(&port) {
                    table.set_state(known.id, state, now);
                    (known.state, known.since) = (state, now);
                },
                Step::Evict => {
                    // In which order flows give way, and how long they must have been quiet.
                    let rank = |known: &Known| {
                        let (rank, quiet_s) = match known.state {
                            State::Unclaimed => (0, 0),
                            State::Asking => (1, 0),
                            State::Closing | State::ClosingUnconfirmed => (2, 1),
                            State::Established => (3, 10),
                            State::Unconfirmed => (4, 8), // no longer than its timeout
                            State::Holding | State::Answered => return None,
                        };
                        let is_quiet = now.since(known.last_seen) >= Micros::from_secs(quiet_s);
                        (is_quiet && !known.is_kept).then_some(rank)
                    };
                    let expected = model.values().filter_map(rank).min();
                    match table.evict(now) {
                        Some(id) => {
                            let flow = table.remove(id).expect("named just now");
                            let known = model.remove(&flow.tuple.client_port).expect("in the model");
                            prop_assert!(known.id == id && rank(&known) == expected, "{known:?}");
                        }
                        None => prop_assert_eq!(expected, None),
                    }
                }
                Step::Keep(port) => if let Some(known) = model.get_mut(&port) {
                    table.get_mut(known.id).expect("in the model").hold = Some(HoldIndex(port));
                    known.is_kept = true;
                },
                Step::Wait(ms) => {
                    now = now.plus(Micros::from_millis(ms));
                    remove_all_over(&mut table, &mut model, now);
                }
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.is_empty(), model.is_empty());
            for port in 0..12 {
                let known = model.get(&port);
                prop_assert_eq!(table.find(&tuple(port)), known.map(|known| known.id));
                if let Some(known) = known {
                    let (flow, state) = table.get(known.id).expect("found");
                    prop_assert_eq!((flow.tuple, state), (tuple(port), known.state));
                }
            }
            let mut listed: Vec<u16> = table.iter().map(|(flow, _)| flow.tuple.client_port).collect();
            listed.sort_unstable();
            let mut expected: Vec<u16> = model.keys().copied().collect();
            expected.sort_unstable();
            prop_assert_eq!(listed, expected);
        }
    }
}
