//! Writing pcap files: the classic format, version 2.4, little endian, microseconds, Ethernet
//! (draft-ietf-opsawg-pcap).

use crate::runtime::{Captured, SNAP_BYTES};

/// Microseconds; read the other way round it would mean big endian.
const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: [u16; 2] = [2, 4];
const LINKTYPE_ETHERNET: u32 = 1;

/// Returns the beginning of a file.
pub(super) fn header() -> Vec<u8> {
    let mut file = MAGIC.to_le_bytes().to_vec();
    VERSION.iter().for_each(|part| file.extend(part.to_le_bytes()));
    // Two reserved fields.
    file.extend([0; 8]);
    file.extend(length(SNAP_BYTES).to_le_bytes());
    file.extend(LINKTYPE_ETHERNET.to_le_bytes());
    file
}

/// Appends a frame.
pub(super) fn append(file: &mut Vec<u8>, copy: &Captured) {
    let micros = copy.time.0 % 1_000_000;
    // Until the year 2106.
    let seconds = u32::try_from(copy.time.as_secs()).unwrap_or(u32::MAX);
    let fraction = u32::try_from(micros).unwrap_or_default();
    for field in [seconds, fraction, length(copy.bytes().len()), length(copy.frame_bytes)] {
        file.extend(field.to_le_bytes());
    }
    file.extend(copy.bytes());
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
