use core::net::IpAddr;

use handoff_proto::keys::Key;
use handoff_proto::{KeyId, tcp};
use proptest::prelude::*;

use super::*;

const START: Micros = Micros::from_secs(1_000 * 128 + 60);
const CLIENT_ISN: Seq = Seq(0xffff_fff0);

fn tuple() -> FourTuple {
    FourTuple {
        client: IpAddr::from([10, 50, 0, 11]),
        client_port: 33_333,
        vip: IpAddr::from([10, 60, 0, 100]),
        vip_port: 80,
    }
}

fn ring(bytes: &[u8]) -> KeyRing {
    let keys = bytes.iter().map(|byte| Key::new(KeyId(*byte), [*byte; 32])).collect();
    KeyRing::new(keys).expect("a good ring")
}

fn jar(now: Micros) -> CookieJar {
    CookieJar::new(&ring(&[1]), 7, now)
}

fn echo(cookie: &Cookie, offer: &Offer) -> Echo {
    Echo { client_isn: CLIENT_ISN, isn: cookie.isn, tsecr: offer.timestamps.then_some(cookie.tsval) }
}

fn full_offer() -> Offer {
    Offer { mss: Some(1460), window_scale: Some(9), sack: true, timestamps: true, ecn: true }
}

#[test]
fn every_combination_of_options_comes_back() {
    let jar = jar(START);
    for mss in
        [None, Some(0), Some(535), Some(536), Some(1299), Some(1300), Some(1440), Some(1460), Some(9000)]
    {
        for shift in (0..=16).map(Some).chain([None, Some(255)]) {
            for flags in 0..8u8 {
                let (sack, timestamps, ecn) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
                let offer = Offer { mss, window_scale: shift, sack, timestamps, ecn };
                let cookie = jar.issue(&tuple(), CLIENT_ISN, &offer);
                assert_eq!(cookie.window_scale, shift.map(|_| 7));
                let kept = match mss.unwrap_or(536) {
                    0..1300 => 536,
                    1300..1440 => 1300,
                    1440..1460 => 1440,
                    1460.. => 1460,
                };
                let wscale = shift.map(|send: u8| tcp::WindowScale { send: send.min(14), receive: 7 });
                assert_eq!(
                    jar.check(&tuple(), &echo(&cookie, &offer)),
                    Some(Negotiated { mss: kept, wscale, sack, timestamps, ecn }),
                    "{offer:?}"
                );
            }
        }
    }
}

#[test]
fn a_cookie_is_honoured_for_two_minutes_at_least_and_two_epochs_at_most() {
    for offset_s in [0, 1, 64, 127] {
        let issued = Micros::from_secs(1_000 * 128 + offset_s);
        let mut jar = jar(issued);
        let cookie = jar.issue(&tuple(), CLIENT_ISN, &full_offer());
        jar.turn(issued.plus(Micros::from_secs(120)));
        assert!(jar.check(&tuple(), &echo(&cookie, &full_offer())).is_some(), "issued at {offset_s}");
        jar.turn(issued.plus(Micros::from_secs(256)));
        assert_eq!(jar.check(&tuple(), &echo(&cookie, &full_offer())), None, "issued at {offset_s}");
    }
}

#[test]
fn a_cookie_is_good_for_its_own_connection_only() {
    let jar = jar(START);
    let cookie = jar.issue(&tuple(), CLIENT_ISN, &full_offer());
    let good = echo(&cookie, &full_offer());
    let other_vip = FourTuple { vip: IpAddr::from([10, 60, 0, 101]), ..tuple() };
    let other_port = FourTuple { client_port: 33_334, ..tuple() };
    assert_eq!(jar.check(&other_vip, &good), None);
    assert_eq!(jar.check(&other_port, &good), None);
    assert_eq!(jar.check(&tuple(), &Echo { client_isn: CLIENT_ISN.add(1), ..good }), None);
    assert_eq!(jar.check(&tuple(), &Echo { tsecr: Some(cookie.tsval ^ 1), ..good }), None);
    assert_eq!(jar.check(&tuple(), &Echo { tsecr: None, ..good }), None, "timestamps were negotiated");
    for bit in 0..32 {
        let flipped = Echo { isn: Seq(cookie.isn.0 ^ 1 << bit), ..good };
        assert_eq!(jar.check(&tuple(), &flipped), None, "bit {bit}");
    }
}

#[test]
fn switches_share_cookies_while_their_rings_overlap() {
    let cookie = jar(START).issue(&tuple(), CLIENT_ISN, &full_offer());
    let good = echo(&cookie, &full_offer());
    let rotated = CookieJar::new(&ring(&[2, 1]), 7, START);
    assert!(rotated.check(&tuple(), &good).is_some());
    let foreign = CookieJar::new(&ring(&[2]), 7, START);
    assert_eq!(foreign.check(&tuple(), &good), None);
    let mut changing = jar(START);
    changing.set_keys(&ring(&[2, 1]));
    assert!(changing.check(&tuple(), &good).is_some());
}

#[test]
fn a_new_window_shift_counts_from_the_next_epoch_and_breaks_no_handshake() {
    let mut jar = jar(START);
    let before = jar.issue(&tuple(), CLIENT_ISN, &full_offer());
    jar.set_window_scale(10);
    assert_eq!(jar.issue(&tuple(), CLIENT_ISN, &full_offer()), before, "this epoch keeps its shift");
    jar.turn(START.plus(EPOCH));
    let after = jar.issue(&tuple(), CLIENT_ISN, &full_offer());
    assert_eq!(after.window_scale, Some(10));
    let shift = |cookie: &Cookie| {
        let negotiated = jar.check(&tuple(), &echo(cookie, &full_offer())).expect("not expired");
        negotiated.wscale.expect("offered").receive
    };
    assert_eq!((shift(&before), shift(&after)), (7, 10));
}

#[test]
fn a_switch_restarted_with_another_shift_rather_fails_than_scales_wrongly() {
    let cookie = jar(START).issue(&tuple(), CLIENT_ISN, &full_offer());
    let restarted = CookieJar::new(&ring(&[1]), 8, START);
    assert_eq!(restarted.check(&tuple(), &echo(&cookie, &full_offer())), None);
}

proptest! {
    #[test]
    fn no_guess_is_taken_without_the_key(isn: u32, tsecr: u32, client_isn: u32) {
        // 56 bits protect a client with timestamps; the 24 bits without would be guessed once in a while.
        let guess = Echo { client_isn: Seq(client_isn), isn: Seq(isn), tsecr: Some(tsecr) };
        prop_assert_eq!(jar(START).check(&tuple(), &guess), None);
    }
}
