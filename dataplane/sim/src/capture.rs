//! Frames of a world in a file that tcpdump and Wireshark read.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use handoff_proto::Micros;
use smoltcp::phy::{PcapLinkType, PcapSink};
use smoltcp::time::Instant;

/// A capture that outlives its world, should that end in a panic.
pub type SharedCapture = Arc<Mutex<Capture>>;

/// Frames that are kept; later ones are left out and counted.
const FRAMES_MAX: usize = 500_000;

/// Frames in the order they arrived.
#[derive(Debug, Default)]
pub struct Capture {
    frames: Vec<(Micros, Vec<u8>)>,
    /// Frames that came when there was no room any more.
    pub left_out: u64,
}

impl Capture {
    /// Keeps a frame.
    pub fn add(&mut self, now: Micros, frame: &[u8]) {
        if self.frames.len() < FRAMES_MAX {
            self.frames.push((now, frame.to_vec()));
        } else {
            self.left_out += 1;
        }
    }

    /// Writes them in pcap form.
    ///
    /// # Errors
    /// What the file says.
    pub fn write(&self, file: &mut impl Write) -> io::Result<()> {
        // smoltcp writes the form, but knows no errors: memory has none.
        let mut bytes: Vec<u8> = Vec::new();
        PcapSink::global_header(&mut bytes, PcapLinkType::Ethernet);
        for (at, frame) in &self.frames {
            let at = Instant::from_micros(i64::try_from(at.0).unwrap_or(i64::MAX));
            PcapSink::packet(&mut bytes, at, frame);
        }
        file.write_all(&bytes)
    }
}
