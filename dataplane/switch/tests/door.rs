//! The DPDK door from end to end, on a driver that reads and writes capture files: no root, no interface,
//! no hugepages. One test only: a process can start DPDK once.

use baton_switch::dpdk::{
    Burst, CopyError, DATA_ROOM_BYTES, DataOutOfBuffer, Dpdk, DpdkError, DpdkSettings, Frame, HEADROOM_BYTES,
    Idle, Tx, Worker,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

const HEADER: &[u8] = b"a header in front ";
const FRESH: &[u8] = b"a frame of our own, made from bytes, long enough for Ethernet";

/// Gives the first frame a header, keeps the second for another thread, sends the third as it is; then
/// tries the limits, once.
struct Prober {
    seen: usize,
    keep: SyncSender<Frame>,
    stop: Arc<AtomicBool>,
}

impl Worker for Prober {
    fn turn(&mut self, received: &mut Burst, tx: &mut Tx) {
        for mut frame in received {
            self.seen += 1;
            match self.seen {
                1 => {
                    let (buffer, start, len) = frame.buffer_mut();
                    assert_eq!((buffer.len(), start), (HEADROOM_BYTES + DATA_ROOM_BYTES, HEADROOM_BYTES));
                    let front = start - HEADER.len();
                    buffer[front..start].copy_from_slice(HEADER);
                    frame.set_data(front, HEADER.len() + len).expect("the headroom is large enough");
                    tx.send(frame);
                }
                2 => self.keep.send(frame).expect("the test waits for it"),
                _ => tx.send(frame),
            }
        }
        if self.seen == 3 {
            self.seen += 1;
            probe_limits(tx);
            tx.send_copy(FRESH).expect("buffers are free again");
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs into every limit there is and leaves no trace but the counters.
fn probe_limits(tx: &mut Tx) {
    let too_long = vec![0; DATA_ROOM_BYTES + 1];
    assert_eq!(tx.copy(&too_long).err(), Some(CopyError::TooLong { len: DATA_ROOM_BYTES + 1 }));

    let mut longest = tx.copy(&too_long[..DATA_ROOM_BYTES]).expect("it just fits");
    let buffer = HEADROOM_BYTES + DATA_ROOM_BYTES;
    for (start, len) in [(1, buffer), (buffer + 1, 0), (usize::MAX, 2), (2, usize::MAX)] {
        assert_eq!(longest.set_data(start, len), Err(DataOutOfBuffer { start, len, buffer }));
    }
    assert_eq!(longest.data().len(), DATA_ROOM_BYTES, "a refusal changes nothing");
    assert_eq!(longest.set_data(0, buffer), Ok(()));
    assert_eq!(longest.set_data(buffer, 0), Ok(()));

    let mut all: Vec<Frame> = Vec::new();
    let refused = loop {
        match tx.copy(b"") {
            Ok(frame) => all.push(frame),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, CopyError::PoolEmpty);
    assert!(all.len() > 1000, "only {} buffers", all.len());
}

/// A capture file (pcap 2.4, native byte order, Ethernet) of `frames`.
fn write_capture(path: &Path, frames: &[Vec<u8>]) {
    let mut file = Vec::new();
    file.extend(0xa1b2_c3d4_u32.to_ne_bytes());
    file.extend(2_u16.to_ne_bytes());
    file.extend(4_u16.to_ne_bytes());
    for field in [0, 0, 65_535, 1_u32] {
        file.extend(field.to_ne_bytes());
    }
    for frame in frames {
        let len = u32::try_from(frame.len()).expect("test frames are short");
        for field in [0, 0, len, len] {
            file.extend(field.to_ne_bytes());
        }
        file.extend(frame);
    }
    fs::write(path, file).expect("the temporary folder is writable");
}

/// The frames of a capture file.
fn read_capture(path: &Path) -> Vec<Vec<u8>> {
    const FILE_HEADER_BYTES: usize = 24;
    const RECORD_HEADER_BYTES: usize = 16;
    let file = fs::read(path).expect("the driver wrote a capture");
    let mut rest = &file[FILE_HEADER_BYTES..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_ne_bytes(rest[8..12].try_into().expect("four bytes")) as usize;
        frames.push(rest[RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + len].to_vec());
        rest = &rest[RECORD_HEADER_BYTES + len..];
    }
    frames
}

fn capture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}.pcap", std::process::id()))
}

#[test]
fn frames_pass_the_door_whole_and_every_loss_is_counted() {
    let (input, output) = (capture_path("in"), capture_path("out"));
    // The third is longer than a buffer: the driver makes it a chain of two.
    let frames = [vec![1; 60], vec![2; 1514], vec![3; 3000], vec![4; 64]];
    write_capture(&input, &frames);
    let dpdk = Dpdk::open(DpdkSettings {
        device: format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display()),
        main_lcore: 0,
        lcores: vec![0],
        rx_descriptors: 128,
        tx_descriptors: 128,
        hugepages: false,
        memory_mb: 32,
        mtu: 1500,
        idle: Idle::Nap,
    })
    .expect("DPDK starts on capture files");
    let port = dpdk.port().clone();
    let counters = dpdk.counters()[0].clone();
    let buffers = port.free_frames();
    assert!(port.stats().is_ok(), "an open port has statistics");

    let stop = Arc::new(AtomicBool::new(false));
    let (keep, kept) = sync_channel(1);
    let stop_of_worker = stop.clone();
    dpdk.run(stop, move |lcore| {
        assert_eq!((lcore.index, lcore.cpu), (0, 0));
        Prober { seen: 0, keep: keep.clone(), stop: stop_of_worker.clone() }
    })
    .expect("the worker runs and ends");

    let sent = read_capture(&output);
    assert_eq!(sent, [[HEADER, &frames[0]].concat(), frames[3].clone(), FRESH.to_vec()]);
    let counted = counters.snapshot();
    assert_eq!((counted.rx_frames, counted.rx_multi_segment), (4, 1));
    assert_eq!((counted.tx_frames, counted.tx_dropped), (3, 0));
    assert_eq!((counted.copy_too_long, counted.copy_pool_empty), (1, 1));

    assert!(matches!(port.stats(), Err(DpdkError::PortClosed)));
    assert_eq!(port.free_frames(), buffers - 1, "all but the kept frame are back");
    let late = kept.recv().expect("the second frame was kept");
    std::thread::spawn(move || assert_eq!(late.data(), [2; 1514])).join().expect("a frame outlives its port");
    assert_eq!(port.free_frames(), buffers, "and goes back to its pool from any thread");

    for path in [input, output] {
        fs::remove_file(path).expect("the capture is still there");
    }
}
