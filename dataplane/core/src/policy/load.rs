//! What a backend has to do, as its agent last said.

use handoff_proto::Micros;

/// How old a report may be: three reports and a half. An older one is no report.
pub const FRESH: Micros = Micros::from_millis(350);

/// What control made of an agent's newest report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// When it came, by the switch's clock.
    pub reported: Micros,
    /// Established connections at the backend's VIPs.
    pub connections: u32,
    /// How full the accept queue of its fullest listener is, in thousandths.
    pub accept_queue_permille: u16,
    /// The share of its processors that was busy, in thousandths: those of the server's cgroup, else of the host.
    pub cpu_permille: u16,
    /// The share of the time some task waited for memory, in thousandths.
    pub memory_permille: u16,
    /// From request in to first byte out, on average since the report before; `None` if nothing was asked.
    pub response: Option<Micros>,
    /// Bytes sent and received for its VIPs per second.
    pub bytes_per_s: u64,
    /// Packets sent and received for its VIPs per second.
    pub packets_per_s: u64,
}

impl Load {
    /// Says whether it is still worth anything.
    pub const fn is_fresh(&self, now: Micros) -> bool {
        now.since(self.reported).0 <= FRESH.0
    }
}
