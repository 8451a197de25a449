//! Captures: taps put into the lcores, and what they keep written as a pcap file that grows.

use core::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use handoff_proto::admin::{CAPTURE_FRAMES_MAX, CAPTURE_SECONDS_MAX, CaptureRequest, EventKind};
use handoff_proto::{Micros, Vip};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::answers::LCORE_ANSWER_MAX;
use super::operate::OperateFault;
use super::pcap;
use super::shared::Shared;
use crate::runtime::{Filter, Mailbox, Tap, TapChange};

/// How often the taps are emptied.
const INTERVAL: Duration = Duration::from_millis(10);
/// For how many frames all taps together have room, and one at least: 16 MiB, and 1 MiB.
const ROOM_ALL: usize = 8_192;
const ROOM_LEAST: usize = 512;
/// How many frames of one tap go into one part of the file.
const PART_FRAMES_MAX: usize = 256;
/// How many parts may wait for a reader that is slow. At the limit frames wait in the taps, and then are lost and counted.
const PARTS_MAX: usize = 4;

/// A part of the answer.
#[derive(Debug)]
pub(super) enum Part {
    /// Some more bytes of the file.
    Bytes(Vec<u8>),
    /// The file ends.
    End(Tally),
}

/// What became of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Frames in the file.
    pub(super) frames: u64,
    /// Frames that belong in it and found no room.
    pub(super) lost: u64,
}

/// Begins a capture; returns the file, part by part. It ends at its limits, and when the receiver is dropped.
///
/// # Errors
/// The limits are out of range, another capture runs, or an lcore does not answer.
pub(super) async fn begin(
    shared: &Arc<Shared>,
    request: &CaptureRequest,
) -> Result<mpsc::Receiver<Part>, OperateFault> {
    let filter = filter(request)?;
    let seat = Arc::clone(&shared.capture_seat).try_acquire_owned().map_err(|_| {
        OperateFault::Conflict(
            "another capture runs, or waits for a stuck lcore to end, and only one can; wait for its end"
                .to_owned(),
        )
    })?;
    let room = (ROOM_ALL / shared.mailboxes.len().max(1)).max(ROOM_LEAST);
    let lcores = u32::try_from(shared.mailboxes.len()).unwrap_or(u32::MAX);
    let taps = shared.mailboxes.iter().map(|_| Arc::new(Tap::new(filter, room))).collect();
    let (sender, receiver) = mpsc::channel(PARTS_MAX);
    let (shared, whose) = (Arc::clone(shared), whose(request));
    let capture = Capture { shared, taps, sender, whose, tally: Tally::default(), _seat: seat };
    // By a task of its own from the first tap on: an asker who leaves ends this wait, and must not leave taps behind.
    let (ready, is_ready) = oneshot::channel();
    let (frames_max, seconds_max) = (request.frames_max.into(), request.seconds_max.into());
    tokio::spawn(capture.run(ready, frames_max, seconds_max));
    // As long as all lcores may take to let a tap in and out again.
    let patience = LCORE_ANSWER_MAX.saturating_mul(lcores).saturating_mul(2);
    match timeout(patience, is_ready).await {
        Ok(Ok(())) => Ok(receiver),
        Ok(Err(_)) | Err(_) => {
            Err(OperateFault::Busy("an lcore does not answer at the moment; try again".to_owned()))
        }
    }
}

fn filter(request: &CaptureRequest) -> Result<Filter, OperateFault> {
    let CaptureRequest { client, client_port, vip, frames_max, seconds_max } = *request;
    let invalid = |why: String| Err(OperateFault::Invalid(why));
    if !(1..=CAPTURE_FRAMES_MAX).contains(&frames_max) {
        return invalid(format!("frames_max: allowed are 1 to {CAPTURE_FRAMES_MAX}"));
    }
    if !(1..=CAPTURE_SECONDS_MAX).contains(&seconds_max) {
        return invalid(format!("seconds_max: allowed are 1 to {CAPTURE_SECONDS_MAX}"));
    }
    match vip {
        None => Ok(Filter { client, client_port, vip: None }),
        Some(Vip { address: IpAddr::V4(address), port }) => {
            Ok(Filter { client, client_port, vip: Some((address, port)) })
        }
        Some(vip) => invalid(format!("vip: {vip} is no IPv4 address, and the switch forwards no other")),
    }
}

fn whose(request: &CaptureRequest) -> String {
    let port = request.client_port.map_or("*".to_owned(), |port| port.to_string());
    let vip = request.vip.map_or("*".to_owned(), |vip| vip.to_string());
    format!("{}:{port} with {vip}", request.client)
}

/// An lcore has not yet taken as many changes as may wait for it.
struct Crowded;

/// Puts a tap into an lcore or takes it out; says whether the lcore did so in time.
async fn change(mailbox: &Mailbox, tap: Option<Arc<Tap>>) -> Result<bool, Crowded> {
    let (reply, before) = oneshot::channel();
    if !mailbox.change_tap(TapChange { tap, reply }) {
        return Err(Crowded);
    }
    // What comes back is freed here.
    Ok(timeout(LCORE_ANSWER_MAX, before).await.is_ok_and(|before| before.map(drop).is_ok()))
}

/// A capture that runs.
struct Capture {
    shared: Arc<Shared>,
    /// Per lcore.
    taps: Vec<Arc<Tap>>,
    sender: mpsc::Sender<Part>,
    whose: String,
    tally: Tally,
    _seat: OwnedSemaphorePermit,
}

impl Capture {
    /// Puts the taps in, which `ready` is told of, writes down what they keep, and takes them out, whatever else happens.
    async fn run(mut self, ready: oneshot::Sender<()>, frames_max: u64, seconds_max: u64) {
        let is_tapped = self.put_in().await;
        if !is_tapped {
            self.take_out().await;
            return drop(ready);
        }
        self.shared.note(EventKind::Capture, None, &format!("capture of {} begins", self.whose));
        let end = Instant::now() + Duration::from_secs(seconds_max);
        // Nobody there any more is no fault.
        let is_awaited = ready.send(()).is_ok();
        let mut is_read = is_awaited && self.sender.send(Part::Bytes(pcap::header())).await.is_ok();
        while is_read && self.tally.frames < frames_max && Instant::now() < end {
            if let Some(part) = self.part(frames_max) {
                is_read = self.sender.send(Part::Bytes(part)).await.is_ok();
                continue;
            }
            tokio::select! {
                () = self.sender.closed() => is_read = false,
                () = sleep_until(end.min(Instant::now() + INTERVAL)) => {}
            }
        }
        self.take_out().await;
        while is_read && let Some(part) = self.part(frames_max) {
            is_read = self.sender.send(Part::Bytes(part)).await.is_ok();
        }
        self.tally.lost = self.taps.iter().map(|tap| tap.lost()).sum();
        let Tally { frames, lost } = self.tally;
        let text =
            format!("capture of {} ended: {frames} frames, {lost} more lost for lack of room", self.whose);
        self.shared.note(EventKind::Capture, None, &text);
        // Nobody there any more is no fault.
        drop(self.sender.send(Part::End(self.tally)).await);
    }

    /// Puts the taps in; says whether every lcore has its own.
    async fn put_in(&self) -> bool {
        for (mailbox, tap) in self.shared.mailboxes.iter().zip(&self.taps) {
            if !matches!(change(mailbox, Some(Arc::clone(tap))).await, Ok(true)) {
                return false;
            }
        }
        true
    }

    /// Takes the taps out of every lcore. One that does not answer finds the order when it wakes; while it has no room even for
    /// that, no other capture begins.
    async fn take_out(&self) {
        for mailbox in self.shared.mailboxes.iter() {
            while let Err(Crowded) = change(mailbox, None).await {
                sleep(INTERVAL).await;
            }
        }
    }

    /// Empties the taps, as far as one part goes; `None` if nothing is in them, or nothing more may be.
    fn part(&mut self, frames_max: u64) -> Option<Vec<u8>> {
        let mut found: Vec<(Micros, Vec<u8>)> = Vec::new();
        for tap in &self.taps {
            let record = || {
                tap.take(|copy| {
                    let mut record = Vec::new();
                    pcap::append(&mut record, copy);
                    (copy.time, record)
                })
            };
            found.extend(std::iter::from_fn(record).take(PART_FRAMES_MAX));
        }
        // Within one lcore the order is right already, and stays.
        found.sort_by_key(|(time, _)| *time);
        let wanted = usize::try_from(frames_max.saturating_sub(self.tally.frames)).unwrap_or(usize::MAX);
        found.truncate(wanted);
        self.tally.frames += found.len() as u64;
        (!found.is_empty()).then(|| found.into_iter().flat_map(|(_, record)| record).collect())
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 50, 0, 11);

    fn request() -> CaptureRequest {
        CaptureRequest { client: CLIENT, client_port: None, vip: None, frames_max: 10, seconds_max: 10 }
    }

    #[test]
    fn limits_are_held_and_only_ipv4_is_captured() {
        assert_eq!(filter(&request()), Ok(Filter { client: CLIENT, client_port: None, vip: None }));
        let vip = |address: IpAddr| Some(Vip { address, port: 80 });
        for (wrong, word) in [
            (CaptureRequest { frames_max: 0, ..request() }, "frames_max"),
            (CaptureRequest { frames_max: CAPTURE_FRAMES_MAX + 1, ..request() }, "frames_max"),
            (CaptureRequest { seconds_max: 0, ..request() }, "seconds_max"),
            (CaptureRequest { seconds_max: CAPTURE_SECONDS_MAX + 1, ..request() }, "seconds_max"),
            (CaptureRequest { vip: vip(IpAddr::from([0; 16])), ..request() }, "vip"),
        ] {
            let Err(OperateFault::Invalid(why)) = filter(&wrong) else { panic!("{wrong:?}") };
            assert!(why.starts_with(word), "{why}");
        }
    }

    #[test]
    fn a_file_reads_as_the_format_has_it() {
        // An Ethernet frame with the beginnings of IPv4 and TCP, padded beyond what is kept.
        let mut frame =
            [&[2; 12][..], &[0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0], &CLIENT.octets()].concat();
        frame.extend([10, 60, 0, 100, 0x82, 0x35, 0, 80]);
        let long = [&frame[..], &[9; 3_000]].concat();
        let tap = Tap::new(filter(&request()).expect("in range"), 4);
        tap.look_at(&frame, Micros(1_700_000_000_000_042));
        tap.look_at(&long, Micros(1_700_000_001_999_999));
        let mut file = pcap::header();
        while tap.take(|copy| pcap::append(&mut file, copy)).is_some() {}

        let field = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four"));
        assert_eq!((field(0), field(4), field(8), field(12)), (0xa1b2_c3d4, 2 | 4 << 16, 0, 0));
        assert_eq!((field(16), field(20)), (2048, 1));
        let short_len = frame.len() as u32;
        assert_eq!([field(24), field(28), field(32), field(36)], [1_700_000_000, 42, short_len, short_len]);
        let second = 40 + frame.len();
        assert_eq!(&file[40..second], &frame[..]);
        let record = [field(second), field(second + 4), field(second + 8), field(second + 12)];
        assert_eq!(record, [1_700_000_001, 999_999, 2048, short_len + 3_000]);
        assert_eq!(&file[second + 16..], &long[..2048]);
    }
}
