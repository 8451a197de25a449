//! How a backend does, as far as is known: what its agent last reported, and what the switch counts.

use handoff_proto::admin::Backend;
use handoff_proto::control::AcceptQueue;

/// What tables show of a backend's load. `None` is not known, never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vitals {
    /// Connections: of the switch's counting, or else of the agent's.
    pub(crate) connections: Option<u64>,
    /// Handoffs that became sockets since the agent's program was attached.
    pub(crate) born: Option<u64>,
    /// Handoffs refused since then.
    pub(crate) refused: Option<u64>,
    /// Share of its processors that is busy, in thousandths.
    pub(crate) cpu_permille: Option<u16>,
    /// Share of the last ten seconds in which somebody there waited for memory, in thousandths.
    pub(crate) memory_permille: Option<u16>,
    /// Connections that wait for their server, in the fullest queue.
    pub(crate) accept_queue: Option<AcceptQueue>,
    /// From a request to the first byte of its answer, in microseconds.
    pub(crate) latency_us: Option<u64>,
    /// Bytes sent since it started.
    pub(crate) tx_bytes: Option<u64>,
}

impl Vitals {
    /// Takes out what is known.
    pub(crate) fn of(backend: &Backend) -> Self {
        let load = backend.load.as_ref();
        Self {
            connections: backend.connections.or_else(|| load?.established),
            born: load.and_then(|load| load.born),
            refused: load.and_then(|load| load.refused),
            cpu_permille: load.and_then(|load| load.server_cpu_permille.or(load.cpu_busy_permille)),
            memory_permille: load.and_then(|load| load.memory_pressure_permille),
            accept_queue: load.and_then(|load| load.accept_queue),
            latency_us: load.and_then(|load| Some(load.response?.mean_us.into())),
            tx_bytes: load.and_then(|load| Some(load.traffic?.bytes_out)),
        }
    }
}
