//! What a world is made of, as data.

use baton_core::policy::balance::PolicySettings;
use baton_weather::Conditions;
use handoff_proto::Micros;

use crate::client::script::Conversation;
use crate::fault::Timed;

/// What a world is made of; a seed and a scenario make one.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Lcores of the switch.
    pub lcores: u8,
    /// How every pool chooses among its backends.
    pub policy: PolicySettings,
    /// Entries of each lcore's flow table.
    pub flow_count_max: usize,
    /// Heads each lcore can hold.
    pub hold_count_max: usize,
    /// How long an established flow lives without a packet.
    pub established_timeout: Micros,
    /// Window shift the switch announces.
    pub window_scale: u8,
    /// Weather between clients and router.
    pub outside: Conditions,
    /// Weather of the backends' cables.
    pub at_backends: Conditions,
    /// Weather of the switch's cable and of the router's to the fabric.
    pub inside: Conditions,
    /// MTU of each client host's cable.
    pub client_mtus: Vec<u16>,
    /// What clients do.
    pub conversations: Vec<Conversation>,
    /// What goes wrong.
    pub faults: Vec<Timed>,
    /// How many frames between switch and backends come again, and from how long on to how long after they came first.
    pub replays: Option<Replays>,
    /// How many segments a stranger makes up who knows who talks to whom, and nothing of their numbers.
    pub forgeries: u64,
    /// How many of the frames that the switch sends beside others find no buffer, in a thousand.
    pub buffers_lacking: u64,
    /// How long messages between agents and switch take.
    pub control_delay: Micros,
}

/// Frames that somebody keeps and sends again.
#[derive(Clone, Copy, Debug)]
pub struct Replays {
    /// How many in a thousand.
    pub per_mille: u64,
    /// How long after the first time, at most.
    pub latest: Micros,
}
