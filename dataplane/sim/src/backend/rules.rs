//! What a backend does with a handoff, by what socket and what record its 4-tuple has: the table of `docs/PROTOCOL.md`,
//! "What a backend does with a message", written from that page and not from the BPF programs it describes.

use handoff_proto::Micros;
use handoff_proto::header::{Detail, Generation};

/// How long after a copy became *assigned* another one that would be refused is dropped instead.
const OVERTAKEN: Micros = Micros::from_millis(100);
/// How often a generation may reset an older socket.
const HEAL_COUNT_MAX: u8 = 3;

/// What became of the highest generation of a 4-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The kernel accepted the handoff.
    Assigned,
    /// A segment of its socket was seen.
    Born,
    /// It was refused, for this reason.
    Refused(Detail),
    /// An older socket was reset to make room, so many times.
    Healing(u8),
}

/// What a backend remembers of a 4-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The highest generation it has used.
    pub generation: Generation,
    /// What became of it.
    pub fate: Fate,
    /// Since when.
    pub since: Micros,
}

/// The socket of a 4-tuple, as far as the table tells sockets apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// None, or only the listener.
    Nobody,
    /// A connection.
    Live,
    /// One that both sides have closed, the server first.
    TimeWait,
}

/// What is known of a message when the table is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// Its generation.
    pub generation: Generation,
    /// It carries the base segment.
    pub is_base: bool,
    /// The records are younger than it may be, and its numbers fit the socket.
    pub fits_socket: bool,
}

/// What is done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a socket of it.
    Create,
    /// Give its packet to the socket.
    Deliver,
    /// Look at it again a little later.
    Requeue,
    /// End the old socket without a word to its client, and look at the message again.
    Heal,
    /// Send it back.
    Refuse(Detail),
    /// Say that there is no such flow.
    Gone(Detail),
    /// Forget it.
    Drop,
}

/// Looks the message up in the table.
#[must_use]
pub fn decide(handoff: Handoff, holder: Holder, record: Option<&Record>, now: Micros) -> Step {
    let Some(record) = record else { return without_record(handoff, holder) };
    if record.generation.newer_than(handoff.generation) {
        // Of a socket in TIME_WAIT, too, a newer record says whose it is; its peer's segments still go there.
        return if holder == Holder::TimeWait { Step::Deliver } else { Step::Gone(Detail::OldGeneration) };
    }
    if handoff.generation.newer_than(record.generation) {
        return match holder {
            Holder::Nobody if handoff.is_base => Step::Create,
            Holder::Nobody => Step::Drop,
            Holder::Live | Holder::TimeWait => heal(handoff, record, now),
        };
    }
    match (holder, record.fate) {
        (_, Fate::Refused(why)) => Step::Refuse(why),
        (Holder::Nobody, Fate::Born) => Step::Gone(Detail::NoSocket),
        (Holder::Nobody, Fate::Assigned | Fate::Healing(_)) if handoff.is_base => Step::Create,
        (Holder::Nobody, Fate::Assigned | Fate::Healing(_)) => Step::Requeue,
        (_, Fate::Assigned | Fate::Born) => Step::Deliver,
        (_, Fate::Healing(_)) => heal(handoff, record, now),
    }
}

const fn without_record(handoff: Handoff, holder: Holder) -> Step {
    match holder {
        Holder::Nobody if handoff.is_base => Step::Create,
        Holder::Nobody => Step::Drop,
        Holder::Live if handoff.fits_socket => Step::Deliver,
        Holder::Live => Step::Refuse(Detail::Occupied),
        Holder::TimeWait if handoff.is_base && !handoff.fits_socket => Step::Heal,
        Holder::TimeWait => Step::Deliver,
    }
}

/// Only a base segment ends a socket, and only so often.
fn heal(handoff: Handoff, record: &Record, now: Micros) -> Step {
    if !handoff.is_base {
        return Step::Drop;
    }
    match record.fate {
        Fate::Refused(Detail::Occupied) => refuse(record, Detail::Occupied, now),
        Fate::Healing(count) if record.generation == handoff.generation && count >= HEAL_COUNT_MAX => {
            Step::Refuse(Detail::Occupied)
        }
        _ => Step::Heal,
    }
}

/// Refuses, unless another copy has just been taken.
#[must_use]
pub fn refuse(record: &Record, why: Detail, now: Micros) -> Step {
    let is_overtaken = record.fate == Fate::Assigned && now.since(record.since) < OVERTAKEN;
    if is_overtaken { Step::Drop } else { Step::Refuse(why) }
}

/// Says how often a generation has reset a socket so far.
#[must_use]
pub fn heals(record: Option<&Record>, generation: Generation) -> u8 {
    match record {
        Some(Record { generation: known, fate: Fate::Healing(count), .. }) if *known == generation => *count,
        _ => 0,
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
