//! What happened, by name: the proof that there was weather, and that nothing vanished but what the weather took.

use std::time::Duration;

use serde::Serialize;

/// What the weather of one direction did, in frames.
///
/// At every moment `received + duplicated == delivered + lost + overflowed + queued`; a frame that waits and will be
/// doubled counts once until it goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Frames that met the weather.
    pub received: u64,
    /// Frames that came out of it, copies included.
    pub delivered: u64,
    /// Frames it took.
    pub lost: u64,
    /// Copies it added.
    pub duplicated: u64,
    /// Frames of which it changed a bit.
    pub corrupted: u64,
    /// Frames chosen to be overtaken.
    pub held_back: u64,
    /// Frames that really came out behind one that had come in later.
    pub reordered: u64,
    /// Frames that came out with a delay drawn for them: delay and jitter together above 0.
    pub delayed: u64,
    /// Frames dropped because as many as are allowed were waiting.
    pub overflowed: u64,
    /// Frames waiting now.
    pub queued: u64,
}

/// What happened around the weather of one direction, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PortCounters {
    /// Frames the filter did not match: they went on at once, untouched.
    pub passed: u64,
    /// Of those delivered and passed: frames the kernel would not send (a full backlog, longer than the MTU).
    pub refused: u64,
    /// Frames the kernel dropped before they were read, because the socket's buffer was full.
    pub missed: u64,
    /// Frames the kernel could not describe in a virtio header, or longer than any frame: dropped.
    pub unreadable: u64,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DirectionReport {
    /// What the weather did.
    #[serde(flatten)]
    pub weather: Counters,
    /// What happened around it.
    #[serde(flatten)]
    pub port: PortCounters,
}

/// All of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The seed all of this came from.
    pub seed: u64,
    /// How long the weather has lasted, in milliseconds.
    #[serde(rename = "uptime_ms", serialize_with = "milliseconds")]
    pub uptime: Duration,
    /// Frames that came in at A.
    pub a_to_b: DirectionReport,
    /// Frames that came in at B.
    pub b_to_a: DirectionReport,
}

fn milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
