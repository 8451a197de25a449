//! A capture from the request to the file, with a thread that plays the lcores' part of it.

use std::io::BufReader;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use baton_switch::runtime::{Tap, TapChange};
use handoff_proto::Micros;
use handoff_proto::admin::{CAPTURE_FRAMES_TRAILER, CAPTURE_LOST_TRAILER, EventKind, Events};

use super::http::{self, Answer};
use super::{World, await_that};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 50, 0, 11);
/// More frames than there is room for.
const FLOOD: u64 = 10_000;

/// A frame from a client to the VIP: Ethernet, IPv4, the beginning of TCP.
fn frame(client: Ipv4Addr, port: u16, size: usize) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend(client.octets());
    frame.extend([10, 60, 0, 100]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 80]);
    frame.resize(frame.len().max(size), 7);
    frame
}

/// What the lcores see once a tap is in them.
type Traffic = fn(lcore: u64, tap: &Tap);

/// Puts taps in and out as the lcores do, and lets each new one see the traffic.
fn play(world: &World, stop: &Arc<AtomicBool>, traffic: Traffic) -> JoinHandle<()> {
    let (mailboxes, stop) = (Arc::clone(&world.mailboxes), Arc::clone(stop));
    thread::spawn(move || {
        let mut taps: Vec<Option<Arc<Tap>>> = vec![None; mailboxes.len()];
        while !stop.load(Ordering::Relaxed) {
            for ((lcore, mailbox), tap) in (0..).zip(mailboxes.iter()).zip(&mut taps) {
                let Some(letters) = mailbox.letters() else { continue };
                if let Some(change) = letters.tap_change() {
                    let before = std::mem::replace(tap, change.tap);
                    // Before control may look: all lcores' traffic is there at its first look.
                    tap.iter().for_each(|tap| traffic(lcore, tap));
                    drop(change.reply.send(before));
                }
                letters.leave();
            }
            thread::sleep(Duration::from_micros(100));
        }
        assert!(taps.iter().all(Option::is_none), "every tap was taken out");
    })
}

fn request(frames: u64, seconds: u64) -> String {
    format!(
        r#"{{"client": "{CLIENT}", "client_port": 4000, "frames_max": {frames}, "seconds_max": {seconds}}}"#
    )
}

/// Reads a pcap file (little endian, microseconds) into times and frames.
fn read(file: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let field = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    assert_eq!((field(file, 0), field(file, 20)), (0xa1b2_c3d4, 1), "microseconds, Ethernet");
    let mut rest = &file[24..];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (seconds, micros, len) = (field(rest, 0), field(rest, 4), field(rest, 8) as usize);
        records.push((u64::from(seconds) * 1_000_000 + u64::from(micros), rest[16..16 + len].to_vec()));
        rest = &rest[16 + len..];
    }
    records
}

fn capture(world: &World, request: &str) -> Answer {
    let answer = world.request("POST", "/v1/capture", request);
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.header("content-type"), Some("application/vnd.tcpdump.pcap"));
    answer
}

fn end(world: &World, stop: &AtomicBool, lcores: JoinHandle<()>) {
    stop.store(true, Ordering::Relaxed);
    lcores.join().expect("ends");
    assert!(world.mailboxes.iter().all(|mailbox| mailbox.letters().is_none()));
}

#[test]
fn frames_of_all_lcores_come_in_the_order_of_their_time_until_the_limit() {
    let world = World::start();
    let stop = Arc::new(AtomicBool::new(false));
    let lcores = play(&world, &stop, |lcore, tap| {
        for turn in 0..3 {
            let time = Micros(1_700_000_000_000_000 + 10 * turn + lcore);
            tap.look_at(&frame(CLIENT, 4000, 60 + usize::try_from(lcore).expect("small")), time);
            tap.look_at(&frame(CLIENT, 4001, 60), time);
        }
    });
    let answer = capture(&world, &request(6, 3600));
    let records = read(&answer.body);
    let times: Vec<u64> = records.iter().map(|(time, _)| time - 1_700_000_000_000_000).collect();
    assert_eq!(times, [0, 1, 10, 11, 20, 21]);
    for (time, bytes) in &records {
        assert_eq!(*bytes, frame(CLIENT, 4000, 60 + usize::try_from(time % 10).expect("small")));
    }
    assert_eq!(answer.trailer(CAPTURE_FRAMES_TRAILER), Some("6"));
    assert_eq!(answer.trailer(CAPTURE_LOST_TRAILER), Some("0"));
    let fewer = capture(&world, &request(4, 3600));
    assert_eq!(read(&fewer.body).len(), 4);

    let events: Events = world.get("/v1/events?after=1");
    let texts: Vec<&str> = events.events.iter().map(|event| event.text.as_str()).collect();
    assert_eq!(texts[0], "capture of 10.50.0.11:4000 with * begins");
    assert_eq!(texts[1], "capture of 10.50.0.11:4000 with * ended: 6 frames, 0 more lost for lack of room");
    assert!(events.events.iter().all(|event| event.kind == EventKind::Capture));
    end(&world, &stop, lcores);
    world.control.stop();
}

#[test]
fn what_comes_too_fast_is_counted_as_lost() {
    let world = World::start();
    let stop = Arc::new(AtomicBool::new(false));
    let lcores = play(&world, &stop, |_, tap| {
        (0..FLOOD).for_each(|turn| tap.look_at(&frame(CLIENT, 4000, 60), Micros(turn)));
    });
    let answer = capture(&world, &request(1_000_000, 1));
    let number = |name| answer.trailer(name).expect("told").parse::<u64>().expect("a number");
    let (frames, lost) = (number(CAPTURE_FRAMES_TRAILER), number(CAPTURE_LOST_TRAILER));
    assert_eq!(frames + lost, 2 * FLOOD, "each frame is written or counted");
    assert!(lost > 0, "the flood was no flood");
    assert_eq!(read(&answer.body).len() as u64, frames);
    end(&world, &stop, lcores);
    world.control.stop();
}

#[test]
fn one_capture_runs_at_a_time_and_ends_when_its_reader_leaves() {
    let world = World::start();
    let stop = Arc::new(AtomicBool::new(false));
    let lcores = play(&world, &stop, |_, _| {});
    let mut reader = world.connect();
    http::send(&mut reader, "POST", "/v1/capture", &request(10, 3600));
    // The file begins at once, so that who captures knows that it does.
    let mut stream = BufReader::new(reader.try_clone().expect("a socket"));
    assert_eq!(http::head(&mut stream).0, 200);
    assert_eq!(http::chunk(&mut stream).expect("the file's beginning").len(), 24);
    let (status, why) = world.refusal("POST", "/v1/capture", &request(10, 1));
    assert_eq!(status, 409);
    assert!(why.contains("another capture runs"), "{why}");
    drop((reader, stream));
    await_that("seat for another capture", || {
        world.request("POST", "/v1/capture", &request(10, 1)).status == 200
    });
    end(&world, &stop, lcores);
    world.control.stop();
}

#[test]
fn without_its_lcores_a_capture_does_not_begin() {
    let world = World::start();
    let (status, why) = world.refusal("POST", "/v1/capture", &request(10, 1));
    assert_eq!(status, 503);
    assert!(why.contains("does not answer"), "{why}");
    // Whoever wakes late puts the tap in, and out again.
    let stop = Arc::new(AtomicBool::new(false));
    let mut kept = None;
    let letters = world.mailboxes[0].letters().expect("rung");
    while let Some(change) = letters.tap_change() {
        kept = change.tap;
    }
    assert!(kept.is_none());
    letters.leave();
    let lcores = play(&world, &stop, |_, tap| tap.look_at(&frame(CLIENT, 4000, 60), Micros(1)));
    assert_eq!(read(&capture(&world, &request(2, 3600)).body).len(), 2);
    end(&world, &stop, lcores);
    world.control.stop();
}

#[test]
fn who_leaves_while_a_capture_begins_leaves_no_tap_behind() {
    let world = World::start();
    let mut asker = world.connect();
    http::send(&mut asker, "POST", "/v1/capture", &request(10, 3600));
    let mut changes: Vec<TapChange> = Vec::new();
    let mut look = |wanted: fn(&TapChange) -> bool| {
        await_that("change of the tap", || {
            if let Some(letters) = world.mailboxes[0].letters() {
                changes.extend(std::iter::from_fn(|| letters.tap_change()));
            }
            changes.last().is_some_and(wanted)
        });
    };
    look(|change| change.tap.is_some());
    // The lcore has the tap and is about to say so; nobody listens any more.
    drop(asker);
    look(|change| change.tap.is_none());
    drop(changes);

    let stop = Arc::new(AtomicBool::new(false));
    let lcores = play(&world, &stop, |_, _| {});
    await_that("seat for another capture", || {
        world.request("POST", "/v1/capture", &request(10, 1)).status == 200
    });
    end(&world, &stop, lcores);
    world.control.stop();
}
