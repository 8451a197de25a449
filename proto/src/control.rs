//! Messages between agent and switch, sealed one by one in a [`channel`](crate::channel).
//!
//! The agent dials, says [`FromAgent::Hello`] and is answered [`FromSwitch::Welcome`] or [`FromSwitch::Turned`] away. It then
//! reports every [`REPORT_INTERVAL`]; the switch answers each report with its time. Silence for [`SILENCE_MAX`] means
//! the other side is gone.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::addr::Vip;
use crate::time::Micros;

/// The version of these messages.
pub const CONTROL_VERSION: u16 = 1;
/// How often an agent reports.
pub const REPORT_INTERVAL: Micros = Micros::from_millis(150);
/// How long a peer may be silent before it counts as gone. A silent backend must get no new connection within one
/// second, so three reports and some delay may be missed, no more.
pub const SILENCE_MAX: Micros = Micros::from_millis(600);
/// How many VIPs one agent may serve.
pub const VIPS_MAX: usize = 64;
/// How many reasons a report may give, and how many bytes each may have.
pub const REASONS_MAX: usize = 16;
/// See [`REASONS_MAX`].
pub const REASON_BYTES_MAX: usize = 256;

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

/// What a backend has to do, read when the report was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Established connections at its VIPs.
    pub established: u64,
    /// Handoffs that became sockets since the program was attached.
    pub born: u64,
    /// Handoffs refused since the program was attached.
    pub refused: u64,
    /// Share of the host's processors that was busy since the last report, in thousandths.
    pub cpu_busy_permille: u16,
    /// Bytes received on the data interface since boot.
    pub rx_bytes: u64,
    /// Bytes sent on the data interface since boot.
    pub tx_bytes: u64,
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
