//! The weather, scene by scene. Frames are single numbers; times are milliseconds.

use super::*;
use crate::Chance;

const SEED: u64 = 7;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn weather(conditions: Conditions) -> Weather<Vec<u8>> {
    Weather::new(SEED, 0, conditions, Bounds::default())
}

/// Everything due at `now`, a doubled frame twice.
fn delivered(weather: &mut Weather<Vec<u8>>, now: Duration) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(Delivery { frame, copies }) = weather.deliver(now) {
        out.extend(std::iter::repeat_n(frame[0], usize::from(copies)));
    }
    out
}

#[test]
fn a_clear_sky_lets_every_frame_on_at_once() {
    let mut weather = weather(Conditions::default());
    for number in 0..3 {
        assert_eq!(weather.take(vec![number], ms(5)), Taken::Due { at: ms(5), copies: 1 });
    }
    assert_eq!(weather.next_due(), Some(ms(5)));
    assert_eq!(delivered(&mut weather, ms(5)), [0, 1, 2]);
    assert_eq!(weather.next_due(), None);
    assert_eq!(weather.counters(), Counters { received: 3, delivered: 3, ..Counters::default() });
}

#[test]
fn a_delay_holds_each_frame_for_its_time() {
    let mut weather = weather(Conditions { delay: ms(5), ..Conditions::default() });
    weather.take(vec![1], ms(100));
    weather.take(vec![2], ms(102));
    assert_eq!(weather.next_due(), Some(ms(105)));
    assert_eq!(delivered(&mut weather, ms(104)), []);
    assert_eq!(delivered(&mut weather, ms(105)), [1]);
    assert_eq!(weather.counters().queued, 1);
    assert_eq!(weather.next_due(), Some(ms(107)));
    assert_eq!(delivered(&mut weather, ms(200)), [2]);
    assert_eq!(weather.counters(), Counters { received: 2, delivered: 2, delayed: 2, ..Counters::default() });
}

#[test]
fn what_is_lost_is_gone() {
    let mut weather = weather(Conditions { loss: Chance::ALWAYS, delay: ms(5), ..Conditions::default() });
    assert_eq!(weather.take(vec![1], ms(0)), Taken::Lost);
    assert_eq!(weather.next_due(), None);
    assert_eq!(weather.deliver(ms(1000)), None);
    assert_eq!(weather.counters(), Counters { received: 1, lost: 1, ..Counters::default() });
}

#[test]
fn a_copy_comes_right_behind() {
    let mut weather = weather(Conditions { duplicate: Chance::ALWAYS, ..Conditions::default() });
    assert_eq!(weather.take(vec![1], ms(0)), Taken::Due { at: ms(0), copies: 2 });
    weather.take(vec![2], ms(0));
    assert_eq!(delivered(&mut weather, ms(0)), [1, 1, 2, 2]);
    assert_eq!(
        weather.counters(),
        Counters { received: 2, delivered: 4, duplicated: 2, ..Counters::default() }
    );
}

/// Which of the first frames of SEED are held back at a half, as its own words say.
fn chosen(weather: &mut Weather<Vec<u8>>, count: u8, now: Duration) -> Vec<u8> {
    (0..count).filter(|&number| matches!(weather.take(vec![number], now), Taken::HeldBack { .. })).collect()
}

fn half_reordered(gap: u32, wait: Duration) -> Conditions {
    Conditions {
        reorder: Chance::percent(50.0).expect("a percentage"),
        reorder_gap: gap,
        reorder_wait: wait,
        ..Conditions::default()
    }
}

#[test]
fn a_frame_held_back_goes_on_behind_so_many_later_ones() {
    const GAP: usize = 2;
    let mut weather = weather(half_reordered(GAP as u32, ms(10)));
    let held = chosen(&mut weather, 40, ms(0));
    assert!((10..30).contains(&held.len()), "{held:?}");
    let out = delivered(&mut weather, ms(0));
    // Each that went on already has exactly so many later frames that were not held back in front of it.
    for (place, number) in out.iter().enumerate().filter(|(_, number)| held.contains(number)) {
        let overtakers = out[..place].iter().filter(|other| *other > number && !held.contains(other)).count();
        assert_eq!(overtakers, GAP, "{number} in {out:?}");
    }
    // Those that were not held back kept their order.
    assert!(out.iter().filter(|number| !held.contains(number)).is_sorted());
    let counters = weather.counters();
    assert_eq!(counters.held_back, held.len() as u64);
    assert_eq!(counters.reordered, out.iter().filter(|number| held.contains(number)).count() as u64);
    // The last ones had too few behind them: they wait, and no longer than they may.
    assert_eq!(out.len() as u64 + counters.queued, 40);
    assert!(counters.queued > 0, "else this tests nothing");
    assert_eq!(weather.next_due(), Some(ms(10)));
    assert_eq!(delivered(&mut weather, ms(10)).len() as u64, counters.queued);
}

#[test]
fn a_frame_nobody_follows_is_late_but_not_reordered() {
    let mut weather = weather(Conditions {
        reorder: Chance::ALWAYS,
        reorder_wait: ms(10),
        delay: ms(5),
        ..Conditions::default()
    });
    assert_eq!(weather.take(vec![1], ms(0)), Taken::HeldBack { at_the_latest: ms(15), copies: 1 });
    assert_eq!(delivered(&mut weather, ms(14)), []);
    assert_eq!(delivered(&mut weather, ms(15)), [1]);
    let counters = weather.counters();
    assert_eq!((counters.held_back, counters.reordered), (1, 0));
}

#[test]
fn late_frames_keep_their_turn_when_the_caller_comes_late() {
    let mut weather = weather(half_reordered(1000, ms(3)));
    let held = chosen(&mut weather, 10, ms(0));
    let (first, later) = (weather.take(vec![10], ms(4)), weather.take(vec![11], ms(4)));
    assert!([first, later].iter().all(|taken| *taken != Taken::Lost));
    // Asked only at 100 ms: those held back until 3 ms come before those that came at 4 ms.
    let out = delivered(&mut weather, ms(100));
    let place = |number: u8| out.iter().position(|other| *other == number).expect("all came");
    assert!(held.iter().all(|&number| place(number) < place(10) && place(number) < place(11)), "{out:?}");
}

#[test]
fn jitter_keeps_the_order_unless_told_otherwise() {
    let jitter = Conditions { jitter: ms(50), ..Conditions::default() };
    let mut kept = weather(jitter.clone());
    let mut free = weather(Conditions { jitter_reorders: true, ..jitter });
    let mut dues = Vec::new();
    for number in 0..100 {
        let now = ms(u64::from(number));
        let (Taken::Due { at, .. }, Taken::Due { at: earliest, .. }) =
            (kept.take(vec![number], now), free.take(vec![number], now))
        else {
            panic!("nothing is lost or held back here");
        };
        assert!(now <= earliest && earliest <= at && earliest < now + ms(50));
        dues.push(at);
    }
    assert!(dues.is_sorted());
    let (kept_out, free_out) = (delivered(&mut kept, ms(200)), delivered(&mut free, ms(200)));
    assert!(kept_out.is_sorted());
    assert!(!free_out.is_sorted());
    assert_eq!((kept_out.len(), free_out.len()), (100, 100));
    assert_eq!(kept.counters().reordered, 0);
    assert!(free.counters().reordered > 10, "{:?}", free.counters());
}

#[test]
fn what_does_not_fit_is_dropped_by_name() {
    let slow = Conditions { delay: ms(5), ..Conditions::default() };
    let few = Bounds { frames_max: 2, ..Bounds::default() };
    let mut by_frames = Weather::new(SEED, 0, slow.clone(), few);
    let small = Bounds { bytes_max: 10, ..Bounds::default() };
    let mut by_bytes = Weather::new(SEED, 0, slow, small);
    for weather in [&mut by_frames, &mut by_bytes] {
        for _ in 0..2 {
            assert!(matches!(weather.take(vec![0; 5], ms(0)), Taken::Due { .. }));
        }
        assert_eq!(weather.take(vec![0; 5], ms(0)), Taken::Overflowed);
        assert_eq!(delivered(weather, ms(5)).len(), 2);
        assert!(matches!(weather.take(vec![0; 5], ms(5)), Taken::Due { .. }), "there is room again");
        let counters = weather.counters();
        assert_eq!((counters.received, counters.overflowed, counters.queued), (4, 1, 1));
    }
}

#[test]
fn corruption_changes_one_bit_behind_the_ethernet_header_and_nothing_else() {
    let mut weather = weather(Conditions { corrupt: Chance::ALWAYS, ..Conditions::default() });
    for number in 0..200_u8 {
        let mut frame = vec![number; 14 + usize::from(number)];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        weather.take(frame.clone(), ms(0));
        let changed = weather.deliver(ms(0)).expect("nothing is lost").frame;
        assert_eq!(changed[..14], frame[..14], "addresses are guarded by the frame's own checksum");
        let bits: u32 = changed.iter().zip(&frame).map(|(new, old)| (new ^ old).count_ones()).sum();
        assert_eq!(bits, u32::from(number > 0), "a frame of {} bytes", frame.len());
    }
    assert_eq!(weather.counters().corrupted, 199);
    // ARP has no checksum of its own.
    let question = [&[0xff; 12][..], &[0x08, 0x06], &[0; 28]].concat();
    weather.take(question.clone(), ms(0));
    assert_eq!(weather.deliver(ms(0)).expect("nothing is lost").frame, question);
}
