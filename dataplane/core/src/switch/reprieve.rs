//! Resets of clients that nobody serves, put off for a moment.
//!
//! What comes on such a connection may be the later part of a burst whose first segment, that of a new connection, has been
//! overtaken on its way. So the answer waits; the first data, or a backend that has the connection after all, makes it void.

use std::collections::VecDeque;

use handoff_proto::Micros;

use crate::flow::{FlowId, State};
use crate::metrics::Event;
use crate::switch::{Outbox, Switch};
use crate::wire::TcpAnswer;

/// How long a reset waits: longer than segments of one burst overtake each other, shorter than a client's shortest timer for
/// repeating one (200 ms with Linux) and a path of some length.
pub(super) const REPRIEVE: Micros = Micros::from_millis(200);
/// How many resets may wait. Where more would, clients are reset at once.
const COUNT_MAX: usize = 1024;
/// How many end in one `poll`.
const ENDS_MAX: usize = 32;

/// Resets in the order in which they are due.
#[derive(Debug)]
pub(super) struct Reprieves(VecDeque<Reprieve>);

#[derive(Clone, Copy, Debug)]
struct Reprieve {
    due: Micros,
    flow: FlowId,
    /// When that flow began: another one may have taken its place.
    created: Micros,
    answer: TcpAnswer,
}

impl Default for Reprieves {
    fn default() -> Self {
        Self(VecDeque::with_capacity(COUNT_MAX))
    }
}

impl Switch {
    /// Puts a reset off; says whether there was room to remember it.
    pub(super) fn put_off(&mut self, flow: FlowId, answer: TcpAnswer, now: Micros) -> bool {
        let Some(found) = self.flows.get_mut(flow) else { return false };
        if found.search.is_reprieved {
            return true;
        }
        let has_room = self.reprieves.0.len() < COUNT_MAX;
        if has_room {
            found.search.is_reprieved = true;
            let created = found.created;
            self.reprieves.0.push_back(Reprieve { due: now.plus(REPRIEVE), flow, created, answer });
        }
        has_room
    }

    /// Sends the resets that are due, as far as nothing has made them void.
    pub(super) fn end_reprieves(&mut self, now: Micros, out: &mut impl Outbox) {
        for _ in 0..ENDS_MAX {
            let Some(reprieve) = self.reprieves.0.front().copied().filter(|first| first.due <= now) else {
                return;
            };
            self.reprieves.0.pop_front();
            let is_still_nobodys = self
                .flows
                .get(reprieve.flow)
                .is_some_and(|(flow, state)| state == State::Unclaimed && flow.created == reprieve.created);
            if is_still_nobodys {
                self.counters.count(Event::FlowsUnowned);
                self.send_to_client(reprieve.flow, &reprieve.answer, Event::ResetsSent, out);
                self.forget(reprieve.flow);
            }
        }
    }
}
