use core::net::IpAddr;

use smoltcp::wire::EthernetAddress;

use super::*;
use crate::entropy::Entropy;
use crate::ids::HoldIndex;

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
        wanted: Wanted::NOTHING,
        counted: None,
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

/// The owner of bytes kept for a flow is told by its timer what to do with them, and asking goes by the timer, too.
#[test]
fn a_flow_with_bytes_kept_for_it_ends_in_time_though_others_need_room_all_the_while() {
    for state in [State::Asking, State::Unconfirmed, State::Established, State::Closing] {
        let mut table = table();
        let id = table.insert(flow(1, START), state).expect("room");
        table.get_mut(id).expect("inserted").hold = Some(HoldIndex(0));
        let mut now = START;
        while table.expired(now, &mut 64).is_none() {
            now = now.plus(Micros::from_millis(1));
            assert_eq!(table.evict(now), None, "something is kept for it");
            let latest = Micros(timeout(&SETTINGS, state).0 / 4 * 5).plus(Micros::from_millis(1));
            assert!(now.since(START) <= latest, "{state:?} lived for {:?}", now.since(START));
        }
        assert!(now.since(START) >= timeout(&SETTINGS, state), "{state:?}");
    }
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
