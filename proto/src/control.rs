//! Messages between agent and switch, sealed one by one in a [`channel`](crate::channel).
//!
//! The agent dials, says [`FromAgent::Hello`] and is answered [`FromSwitch::Welcome`] or [`FromSwitch::Turned`] away. It then
//! reports every [`REPORT_INTERVAL`], and tells of TLS sessions when it learns of them; the switch answers each report with
//! its time. Silence for [`SILENCE_MAX`] means the other side is gone.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::addr::Vip;
use crate::time::Micros;
use crate::tls::TlsSessionId;

/// The version of these messages.
pub const CONTROL_VERSION: u16 = 2;
/// How often an agent reports.
pub const REPORT_INTERVAL: Micros = Micros::from_millis(100);
/// How long a peer may be silent before it counts as gone. A silent backend must get no new connection within one second;
/// an agent that a busy host holds up for half of one is not gone, though its load is old by then.
pub const SILENCE_MAX: Micros = Micros::from_millis(600);
/// How many VIPs one agent may serve.
pub const VIPS_MAX: usize = 64;
/// How many reasons a report may give, and how many bytes each may have.
pub const REASONS_MAX: usize = 16;
/// See [`REASONS_MAX`].
pub const REASON_BYTES_MAX: usize = 256;
/// How many TLS sessions one message may tell of.
pub const SESSIONS_MAX: usize = 256;

/// What an agent says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromAgent {
    /// First message: who this is.
    Hello {
        /// [`CONTROL_VERSION`] of the agent.
        version: u16,
        /// Name of the backend, as in the switch's configuration.
        name: String,
        /// The backend's address on the data network, to which handoffs are sent.
        address: IpAddr,
        /// The VIPs it serves.
        vips: Vec<Vip>,
        /// The agent's release, for the operator's eyes.
        release: String,
        /// The backend's wall clock when it wrote this. Nothing depends on it; it lets an operator see clocks that are wrong.
        time: Micros,
    },
    /// How the backend is doing.
    Report(Report),
    /// TLS sessions servers began or took up since the last such message; it is not answered.
    Sessions(Sessions),
    /// The agent stops on purpose: send nothing new.
    Goodbye,
}

/// How a backend is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Counts the reports of one connection.
    pub number: u64,
    /// Whether the host is fit to take handoffs; if not, `reasons` says why.
    pub ready: bool,
    /// What is missing or wrong, one sentence each; at most [`REASONS_MAX`].
    pub reasons: Vec<String>,
    /// Per VIP, whether the local server answers its health probe.
    pub health: Vec<VipHealth>,
    /// What the backend has to do.
    pub load: Load,
}

/// Whether the local server of one VIP is well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VipHealth {
    /// The VIP.
    pub vip: Vip,
    /// Whether the last probe succeeded.
    pub healthy: bool,
    /// What the failed probe said.
    pub why: Option<String>,
}

/// TLS sessions that a backend's servers at one VIP know: who names one when connecting is best served there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// The VIP.
    pub vip: Vip,
    /// Their ids, in the order they were seen; at most [`SESSIONS_MAX`].
    pub ids: Vec<TlsSessionId>,
}

/// What a backend has to do, read when the report was made. What cannot be read there is `None`, never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Established connections at its VIPs.
    pub established: Option<u64>,
    /// Handoffs that became sockets since the program was attached.
    pub born: Option<u64>,
    /// Handoffs refused since the program was attached.
    pub refused: Option<u64>,
    /// Of the listeners at its VIPs, the one whose queue of connections not yet accepted is fullest.
    pub accept_queue: Option<AcceptQueue>,
    /// Processor time that the control group of the servers used since the last report, in thousandths of what it may use.
    pub server_cpu_permille: Option<u16>,
    /// Share of the host's processors that was busy since the last report, in thousandths.
    pub cpu_busy_permille: Option<u16>,
    /// Share of the last ten seconds in which some task waited for memory, in thousandths: of the servers' control group,
    /// or of the host if they have none.
    pub memory_pressure_permille: Option<u16>,
    /// How fast its servers answered since the last report; `None` also if they answered nothing.
    pub response: Option<Response>,
    /// What its VIPs received and sent since the program was attached.
    pub traffic: Option<Traffic>,
    /// How much of that each second since the last report.
    pub rate: Option<Rate>,
    /// Bytes received on the data interface since boot.
    pub rx_bytes: Option<u64>,
    /// Bytes sent on the data interface since boot.
    pub tx_bytes: Option<u64>,
}

/// Connections that wait for their server to accept them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptQueue {
    /// How many there are.
    pub length: u32,
    /// With more than so many, the kernel takes no further one.
    pub limit: u32,
}

impl AcceptQueue {
    /// Returns how full the queue is, in thousandths; beyond its limit, 1000.
    pub fn permille(self) -> u16 {
        let share = u64::from(self.length) * 1_000 / u64::from(self.limit.max(1));
        u16::try_from(share.min(1_000)).unwrap_or(1_000)
    }
}

/// How fast servers answer: from the last bytes of a request that came in to the first byte that went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// The mean, in microseconds.
    pub mean_us: u32,
    /// Of how many answers.
    pub count: u32,
}

/// Traffic between VIPs and their clients: TCP payload, and packets as they are on the wire, repetitions included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Bytes of clients.
    pub bytes_in: u64,
    /// Packets of clients, those without payload included.
    pub packets_in: u64,
    /// Bytes of servers.
    pub bytes_out: u64,
    /// Packets of servers, those without payload included.
    pub packets_out: u64,
}

/// [`Traffic`] of both directions together, each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Bytes each second.
    pub bytes_per_s: u64,
    /// Packets each second.
    pub packets_per_s: u64,
}

/// What the switch says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromSwitch {
    /// Answers the hello: the agent belongs here.
    Welcome {
        /// [`CONTROL_VERSION`] of the switch.
        version: u16,
        /// The switch's address on the data network: handoffs come from it, answers go to it.
        address: IpAddr,
        /// The switch's clock when it wrote this.
        time: Micros,
    },
    /// Answers the hello: the agent does not belong here.
    Turned {
        /// Why, with a remedy.
        why: String,
    },
    /// Answers a report.
    Time {
        /// The report this answers.
        number: u64,
        /// The switch's clock when it wrote this.
        time: Micros,
    },
}
