//! Next hops against what the room promises of each alone: when it is asked for, and how long its address is believed.

use core::net::Ipv4Addr;
use std::collections::BTreeMap;

use baton_core::Micros;
use baton_core::neighbor::{FORGET, HopIndex, Neighbors, REFRESH, RETRY};
use proptest::prelude::*;
use smoltcp::wire::EthernetAddress;

const START: Micros = Micros::from_secs(1_000);
/// Between two looks at what is due; the burst loop looks far more often.
const LOOK: Micros = Micros::from_millis(499);

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A snapshot names the address.
    Enter(u8),
    /// ARP says where the address is.
    Learn(u8, u8),
    /// So many milliseconds go by, in steps of the burst loop.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..6_u8).prop_map(Step::Enter),
        4 => (0..6_u8, 0..3_u8).prop_map(|(who, at)| Step::Learn(who, at)),
        3 => (1..600_u64).prop_map(Step::Wait),
        2 => (1..12_000_u64).prop_map(Step::Wait),
        1 => (30_000..60_000_u64).prop_map(Step::Wait),
    ]
}

fn address(who: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 60, 0, who)
}

fn mac(at: u8) -> EthernetAddress {
    EthernetAddress([2, 0, 0, 0, 0, at])
}

#[derive(Clone, Copy, Debug)]
struct Known {
    hop: HopIndex,
    /// The last thing ARP said, and when.
    answer: Option<(EthernetAddress, Micros)>,
    ask_at: Micros,
}

impl Known {
    /// The address that is surely believed at `now`, if one is.
    fn believed(&self, now: Micros) -> Option<EthernetAddress> {
        self.answer.filter(|(_, since)| now.since(*since) <= FORGET).map(|(mac, _)| mac)
    }
}

/// Asks as the burst loop does and compares with everybody's own time.
fn ask(
    neighbors: &mut Neighbors,
    model: &mut BTreeMap<Ipv4Addr, Known>,
    now: Micros,
) -> Result<(), TestCaseError> {
    let mut asked: Vec<Ipv4Addr> = core::iter::from_fn(|| neighbors.due(now)).take(20).collect();
    asked.sort_unstable();
    let due: Vec<Ipv4Addr> =
        model.iter().filter(|(_, known)| known.ask_at <= now).map(|(address, _)| *address).collect();
    prop_assert_eq!(&asked, &due, "each that is due, once");
    for address in due {
        model.entry(address).and_modify(|known| known.ask_at = now.plus(RETRY));
    }
    for (address, known) in model {
        let believed = neighbors.mac(known.hop);
        match known.answer {
            Some((mac, since)) if now.since(since) <= FORGET => prop_assert_eq!(believed, Some(mac)),
            // It is forgotten when it is asked for again, which is looked at every so often.
            Some((_, since)) if now.since(since) > FORGET.plus(RETRY).plus(LOOK) => {
                prop_assert_eq!(believed, None)
            }
            Some((mac, _)) => prop_assert!(believed.is_none_or(|believed| believed == mac)),
            None => prop_assert_eq!(believed, None, "{} never said where it is", address),
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn each_hop_is_asked_for_and_believed_as_if_it_were_alone(steps in prop::collection::vec(step(), 0..40)) {
        let mut neighbors = Neighbors::default();
        let mut model: BTreeMap<Ipv4Addr, Known> = BTreeMap::new();
        let mut now = START;
        for step in steps {
            match step {
                Step::Enter(who) => {
                    let hop = neighbors.entry(address(who), now);
                    let known = model.entry(address(who)).or_insert(Known { hop, answer: None, ask_at: now });
                    prop_assert_eq!(hop, known.hop, "made once");
                }
                Step::Learn(who, at) => {
                    let news = neighbors.learn(address(who), mac(at), now);
                    let before = model.get(&address(who)).map(|known| known.believed(now));
                    prop_assert_eq!(news.is_some(), before.is_some(), "strangers teach nothing");
                    if let (Some(news), Some(Some(believed))) = (news, before) {
                        prop_assert_eq!(news, believed != mac(at));
                    }
                    if let Some(known) = model.get_mut(&address(who)) {
                        known.answer = Some((mac(at), now));
                        known.ask_at = now.plus(REFRESH);
                    }
                }
                Step::Wait(millis) => {
                    let end = now.plus(Micros::from_millis(millis));
                    while now < end {
                        now = end.min(now.plus(LOOK));
                        ask(&mut neighbors, &mut model, now)?;
                    }
                }
            }
        }
        let listed: BTreeMap<_, _> = neighbors.iter().collect();
        prop_assert_eq!(listed.len(), neighbors.iter().count(), "nobody twice");
        prop_assert!(listed.keys().eq(model.keys()));
    }
}
