//! SYN cookies against what is documented: how options are rounded, for how long and for whom a cookie is good, and how often
//! one is good for somebody else.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::HashMap;

use baton_core::Micros;
use baton_core::cookie::{Cookie, CookieJar, EPOCH, Echo, Offer};
use handoff_proto::keys::Key;
use handoff_proto::tcp::WindowScale;
use handoff_proto::{FourTuple, KeyId, KeyRing, Negotiated, Seq};
use proptest::prelude::*;

const START: Micros = Micros(1_000 * EPOCH.0);

/// Fewer cases where each one tries hundreds of things.
fn thorough() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases.div_ceil(8), ..usual }
}

fn ring(keys: &[u8]) -> KeyRing {
    let keys = keys.iter().map(|byte| Key::new(KeyId(*byte), [*byte; 32])).collect();
    KeyRing::new(keys).expect("different ids")
}

fn jar(key: u8, window_scale: u8) -> CookieJar {
    CookieJar::new(&ring(&[key]), window_scale, START)
}

fn tuple(client: u32, client_port: u16) -> FourTuple {
    let client = IpAddr::V4(Ipv4Addr::from(client));
    FourTuple { client, client_port, vip: [10, 60, 0, 100].into(), vip_port: 80 }
}

fn echo(client_isn: Seq, cookie: &Cookie, offer: &Offer) -> Echo {
    Echo { client_isn, isn: cookie.isn, tsecr: offer.timestamps.then_some(cookie.tsval) }
}

/// What is left of an offer: the MSS rounded down to 536, 1300, 1440 or 1460 (`docs/PROTOCOL.md`, "MSS"), less than the
/// first or none taken for it (RFC 9293, section 3.7.1), shifts over 14 taken for 14 (RFC 7323, section 2.3).
fn kept(offer: &Offer, announced: u8) -> Negotiated {
    Negotiated {
        mss: match offer.mss {
            None | Some(0..1300) => 536,
            Some(1300..1440) => 1300,
            Some(1440..1460) => 1440,
            Some(1460..) => 1460,
        },
        wscale: offer
            .window_scale
            .map(|shift| WindowScale { send: if shift > 14 { 14 } else { shift }, receive: announced }),
        sack: offer.sack,
        timestamps: offer.timestamps,
        ecn: offer.ecn,
    }
}

fn offer() -> impl Strategy<Value = Offer> {
    let near = prop::sample::select(vec![0_u16, 536, 1300, 1440, 1460, u16::MAX]);
    let mss = prop_oneof![
        any::<u16>(),
        (near, 0..5_u16).prop_map(|(near, off)| near.wrapping_add(off).wrapping_sub(2)),
    ];
    let shift = prop_oneof![3 => 0..=15_u8, 1 => any::<u8>()];
    (prop::option::weighted(0.9, mss), prop::option::weighted(0.8, shift), any::<[bool; 3]>()).prop_map(
        |(mss, window_scale, [sack, timestamps, ecn])| Offer { mss, window_scale, sack, timestamps, ecn },
    )
}

fn tuples() -> impl Strategy<Value = FourTuple> {
    let address = || {
        prop_oneof![
            3 => any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
            1 => any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
        ]
    };
    (address(), any::<u16>(), address(), any::<u16>())
        .prop_map(|(client, client_port, vip, vip_port)| FourTuple { client, client_port, vip, vip_port })
}

#[test]
fn every_mss_there_is_is_rounded_as_documented_beside_all_other_options() {
    let jar = jar(1, 7);
    for mss in 0..=u16::MAX {
        let bits = mss % 8;
        let offer = Offer {
            mss: Some(mss),
            // None, and 0 to 15.
            window_scale: u8::try_from(mss / 8 % 17).expect("small").checked_sub(1),
            sack: bits & 1 != 0,
            timestamps: bits & 2 != 0,
            ecn: bits & 4 != 0,
        };
        let (tuple, isn) = (tuple(0x0a32_000b, 33_333), Seq(u32::from(mss)));
        let cookie = jar.issue(&tuple, isn, &offer);
        assert_eq!(jar.check(&tuple, &echo(isn, &cookie, &offer)), Some(kept(&offer, 7)), "{offer:?}");
    }
}

proptest! {
    #[test]
    fn any_offer_of_anybody_comes_back_rounded_as_documented(
        tuple in tuples(), isn: u32, offer in offer(), key: u8, announced in 0..=14_u8,
    ) {
        let jar = jar(key, announced);
        let cookie = jar.issue(&tuple, Seq(isn), &offer);
        prop_assert_eq!(cookie.window_scale, offer.window_scale.map(|_| announced));
        let echo = echo(Seq(isn), &cookie, &offer);
        prop_assert_eq!(jar.check(&tuple, &echo), Some(kept(&offer, announced)));
    }
}

fn flipped(address: IpAddr, bit: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) ^ 1 << (bit % 32))),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) ^ 1 << bit)),
    }
}

proptest! {
    #![proptest_config(thorough())]

    /// With timestamps: 56 bits of MAC, so that no run of this will meet one that is good by chance.
    #[test]
    fn whoever_differs_in_one_bit_is_refused(
        tuple in tuples(), isn: u32, offer in offer(), key in 1..=255_u8, announced in 0..=14_u8, by in 1..=14_u8,
    ) {
        let offer = Offer { timestamps: true, ..offer };
        let ours = jar(key, announced);
        let cookie = ours.issue(&tuple, Seq(isn), &offer);
        let good = echo(Seq(isn), &cookie, &offer);
        for bit in 0..128 {
            let client = FourTuple { client: flipped(tuple.client, bit), ..tuple };
            prop_assert_eq!(ours.check(&client, &good), None, "client, bit {}", bit);
            let vip = FourTuple { vip: flipped(tuple.vip, bit), ..tuple };
            prop_assert_eq!(ours.check(&vip, &good), None, "VIP, bit {}", bit);
        }
        for bit in 0..16 {
            let client = FourTuple { client_port: tuple.client_port ^ 1 << bit, ..tuple };
            prop_assert_eq!(ours.check(&client, &good), None, "client port, bit {}", bit);
            let vip = FourTuple { vip_port: tuple.vip_port ^ 1 << bit, ..tuple };
            prop_assert_eq!(ours.check(&vip, &good), None, "VIP port, bit {}", bit);
        }
        for bit in 0..32 {
            for wrong in [
                Echo { client_isn: Seq(isn ^ 1 << bit), ..good },
                Echo { isn: Seq(good.isn.0 ^ 1 << bit), ..good },
                Echo { tsecr: good.tsecr.map(|tsecr| tsecr ^ 1 << bit), ..good },
            ] {
                prop_assert_eq!(ours.check(&tuple, &wrong), None, "{:?} for {:?}", wrong, good);
            }
        }
        prop_assert_eq!(jar(key - 1, announced).check(&tuple, &good), None, "another key");
        // Who was told no shift can use any.
        let other = (announced + by) % 15;
        let expected = offer.window_scale.is_none().then(|| kept(&offer, other));
        prop_assert_eq!(jar(key, other).check(&tuple, &good), expected, "another shift");
    }
}

/// Issues cookies to 65,536 connections and counts the pairs of them that could use each other's.
///
/// A MAC of 24 bits is the same for two connections with a chance of 2^-24. There are 2^16 * (2^16 - 1) / 2 pairs, so 128
/// are to be expected; the number is nearly that of a Poisson process, whose deviation is the root of that, 11.3. Six
/// deviations are left to either side: a fair MAC is off by more once in hundreds of millions of keys, one of 23
/// bits, which 256 pairs share, by less once in ten thousand. The key is fixed, so a run tells as much as many.
fn pairs_that_share(connection: impl Fn(u16) -> (FourTuple, Seq)) {
    let jar = jar(1, 7);
    let offer = Offer { mss: Some(1460), window_scale: Some(7), sack: true, timestamps: false, ecn: false };
    let stamped = Offer { timestamps: true, ..offer };
    let mut stamps: HashMap<Seq, Vec<u32>> = HashMap::new();
    let mut halves_alike = 0;
    let mut holders: HashMap<Seq, Vec<u16>> = HashMap::new();
    let (mut pairs, mut strangers) = (0, 0);
    for number in 0..=u16::MAX {
        let (tuple, isn) = connection(number);
        let cookie = jar.issue(&tuple, isn, &offer);
        let earlier = holders.entry(cookie.isn).or_default();
        for other in earlier.iter() {
            pairs += 1;
            let (other, other_isn) = connection(*other);
            let taken = jar.check(&other, &echo(other_isn, &cookie, &offer));
            assert_eq!(taken, Some(kept(&offer, 7)), "the same cookie");
        }
        earlier.push(number);
        // With timestamps it is the same, but for 32 bits more, of which not even half are alike in any of those pairs.
        let cookie_stamped = jar.issue(&tuple, isn, &stamped);
        let earlier = stamps.entry(cookie_stamped.isn).or_default();
        for other in earlier.iter() {
            let differ = other ^ cookie_stamped.tsval;
            halves_alike += usize::from(differ >> 16 == 0 || differ & 0xffff == 0);
        }
        earlier.push(cookie_stamped.tsval);
        // The keys of two epochs count: 2^18 strangers, each with a chance of 2^-23: four are taken once in 10^7 runs.
        for next in 1..=4 {
            let (next, next_isn) = connection(number.wrapping_add(next));
            strangers += usize::from(jar.check(&next, &echo(next_isn, &cookie, &offer)).is_some());
        }
    }
    assert!(halves_alike < 2, "TSval hangs together with the ISN in {halves_alike} pairs");
    assert!(strangers < 4, "{strangers} strangers taken");
    assert!((60..=196).contains(&pairs), "{pairs} pairs share a cookie");
}

#[test]
fn one_in_2_24_client_isns_shares_a_cookie() {
    pairs_that_share(|number| (tuple(0x0a32_000b, 33_333), Seq(u32::from(number) << 12)));
}

#[test]
fn one_in_2_24_client_ports_shares_a_cookie() {
    pairs_that_share(|number| (tuple(0x0a32_000b, number), Seq(1)));
}

#[test]
fn one_in_2_24_client_addresses_shares_a_cookie() {
    pairs_that_share(|number| (tuple(0x0a32_0000 | u32::from(number), 33_333), Seq(1)));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many microseconds go by until the switch looks at the time again.
    Wait(u64),
    /// A client connects.
    Issue(FourTuple, u32, Offer),
    /// The operator sets another window shift.
    Shift(u8),
    /// The operator sets other keys, by number in [`RINGS`].
    Keys(usize),
}

/// Key files on the way from one key to the next, and two steps at once.
const RINGS: [&[u8]; 6] = [&[1], &[1, 2], &[2, 1], &[2], &[2, 3, 1], &[3]];

fn step() -> impl Strategy<Value = Step> {
    let second = 1_000_000_u64;
    prop_oneof![
        2 => (0..60 * second).prop_map(Step::Wait),
        2 => (0..3_u64).prop_map(|off| Step::Wait(EPOCH.0 - 1 + off)),
        2 => (0..140 * second).prop_map(Step::Wait),
        1 => (200 * second..600 * second).prop_map(Step::Wait),
        5 => (tuples(), any::<u32>(), offer())
            .prop_map(|(tuple, isn, offer)| Step::Issue(tuple, isn, Offer { timestamps: true, ..offer })),
        1 => (0..=14_u8).prop_map(Step::Shift),
        2 => (0..RINGS.len()).prop_map(Step::Keys),
    ]
}

/// A cookie given out.
struct Issued {
    tuple: FourTuple,
    offer: Offer,
    echo: Echo,
    /// The shift the client was told, any if it was told none.
    announced: u8,
    key: u8,
    at: Micros,
}

impl Issued {
    /// What the switch makes of it at `now` with the keys of `ring`.
    fn expected(&self, ring: &[u8], now: Micros) -> Option<Negotiated> {
        // "A cookie is honoured in its own epoch and the next."
        let is_in_time = now.0 / EPOCH.0 - self.at.0 / EPOCH.0 <= 1;
        (is_in_time && ring.contains(&self.key)).then(|| kept(&self.offer, self.announced))
    }
}

proptest! {
    /// However time passes, keys rotate and the window shift is set: a client is told what holds for it, and that is what
    /// its cookie says later.
    #[test]
    fn a_cookie_is_good_for_two_epochs_under_any_key_still_in_the_ring(
        begin in 0..EPOCH.0, steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut now = START.plus(Micros(begin));
        let (mut keys, mut shift) = (RINGS[0], 7);
        let mut jar = CookieJar::new(&ring(keys), shift, now);
        let mut issued: Vec<Issued> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(micros) => {
                    now = now.plus(Micros(micros));
                    jar.turn(now);
                }
                Step::Issue(tuple, isn, offer) => {
                    let cookie = jar.issue(&tuple, Seq(isn), &offer);
                    prop_assert_eq!(cookie.window_scale.is_some(), offer.window_scale.is_some());
                    issued.push(Issued {
                        tuple,
                        offer,
                        echo: echo(Seq(isn), &cookie, &offer),
                        announced: cookie.window_scale.unwrap_or(0),
                        key: keys[0],
                        at: now,
                    });
                }
                Step::Shift(other) => {
                    shift = other;
                    jar.set_window_scale(shift);
                }
                Step::Keys(which) => {
                    keys = RINGS[which];
                    jar.set_keys(&ring(keys));
                }
            }
            for one in &issued {
                let age = now.since(one.at);
                let taken = jar.check(&one.tuple, &one.echo);
                prop_assert_eq!(taken, one.expected(keys, now), "{:?} old", age);
                // "128 to 256 seconds" (`docs/LIMITS.md`).
                if taken.is_some() {
                    prop_assert!(age < Micros::from_secs(256));
                } else if keys.contains(&one.key) {
                    prop_assert!(age > Micros::from_secs(128));
                }
            }
        }
        // Another switch with the same key file takes them, too, unless it would scale windows otherwise than the client was told.
        let other = CookieJar::new(&ring(keys), shift, now);
        for one in &issued {
            let fits = one.offer.window_scale.is_none() || one.announced == shift;
            let expected = one.expected(keys, now).filter(|_| fits);
            prop_assert_eq!(other.check(&one.tuple, &one.echo), expected);
        }
    }
}
