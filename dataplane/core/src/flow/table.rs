//! The flow table of one lcore.

use handoff_proto::{FourTuple, Micros};
use thiserror::Error;

use crate::entropy::Entropy;
use crate::flow::index::Index;
use crate::flow::queue::{Class, Link, NIL, Queue};
use crate::flow::{Flow, FlowSettings, State};

/// How many flows of a kind are looked at to make room for one.
const EVICTION_LOOKS_MAX: usize = 16;
/// How long a closing flow must have been quiet to be given up early.
const EVICTION_QUIET: Micros = Micros::from_secs(1);
/// How long a flow with a backend must have been idle to be given up early.
const EVICTION_IDLE: Micros = Micros::from_secs(10);

/// Names a flow in the table; good until the flow is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId(u32);

impl FlowId {
    /// Names no flow.
    pub const NONE: Self = Self(NIL);
}

/// Every entry is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the flow table is full")]
pub struct Full;

#[derive(Debug)]
struct Slot {
    flow: Flow,
    state: State,
    link: Link,
}

/// The table. All memory is allocated by [`FlowTable::new`].
#[derive(Debug)]
pub struct FlowTable {
    index: Index,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    queues: [Queue; Class::ALL.len()],
}

impl FlowTable {
    /// Allocates a table.
    pub fn new(settings: &FlowSettings, entropy: &mut Entropy) -> Self {
        let count_max = u32::try_from(settings.count_max).unwrap_or(NIL - 1).min(NIL - 1);
        Self {
            index: Index::new(settings.count_max, entropy.key()),
            slots: (0..count_max).map(|_| None).collect(),
            free: (0..count_max).rev().collect(),
            queues: Class::ALL.map(|class| {
                Queue::new(match class {
                    Class::Asking => settings.asking,
                    Class::Holding => settings.holding,
                    Class::Unconfirmed => settings.unconfirmed,
                    Class::Established => settings.established,
                    Class::Closing => settings.closing,
                    Class::Answered => settings.answered,
                    Class::Unclaimed => settings.unclaimed,
                })
            }),
        }
    }

    /// Returns how many flows there are.
    pub const fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Says whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds the flow of a 4-tuple.
    pub fn find(&self, tuple: &FourTuple) -> Option<FlowId> {
        self.index.find(tuple, |slot| self.holds(slot, tuple)).map(FlowId)
    }

    /// Returns a flow and its state.
    pub fn get(&self, id: FlowId) -> Option<(&Flow, State)> {
        self.slot(id.0).map(|slot| (&slot.flow, slot.state))
    }

    /// Returns a flow for changing. Its 4-tuple must stay; its state is changed by [`FlowTable::set_state`].
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.slot_mut(id.0).map(|slot| &mut slot.flow)
    }

    /// Adds a flow, whose 4-tuple must not be in the table yet.
    ///
    /// # Errors
    /// [`Full`] when every entry is taken; [`FlowTable::evict`] may help.
    pub fn insert(&mut self, flow: Flow, state: State) -> Result<FlowId, Full> {
        debug_assert!(self.find(&flow.tuple).is_none(), "{} twice", flow.tuple);
        let at = self.free.pop().ok_or(Full)?;
        self.index.insert(&flow.tuple, at);
        let seen = flow.last_seen;
        if let Some(place) = self.slots.get_mut(usize_of(at)) {
            *place = Some(Slot { flow, state, link: Link::LOOSE });
        }
        self.enqueue(at, Class::of(state), seen);
        Ok(FlowId(at))
    }

    /// Removes a flow and returns it.
    pub fn remove(&mut self, id: FlowId) -> Option<Flow> {
        let Slot { flow, state, .. } = *self.slot(id.0)?;
        self.dequeue(id.0, Class::of(state));
        let Self { index, slots, .. } = self;
        index.remove(&flow.tuple, |slot| holds(slots, slot, &flow.tuple));
        *self.slots.get_mut(usize_of(id.0))? = None;
        self.free.push(id.0);
        Some(flow)
    }

    /// Moves a flow to another state, and so under another timeout.
    pub fn set_state(&mut self, id: FlowId, state: State, now: Micros) {
        let Some(slot) = self.slot_mut(id.0) else { return };
        let (from, to) = (Class::of(slot.state), Class::of(state));
        slot.state = state;
        if from != to {
            self.dequeue(id.0, from);
            self.enqueue(id.0, to, now);
        }
    }

    /// Starts a flow's timeout anew.
    pub fn renew(&mut self, id: FlowId, now: Micros) {
        let Some(slot) = self.slot_mut(id.0) else { return };
        slot.flow.last_seen = now;
        let class = Class::of(slot.state);
        self.dequeue(id.0, class);
        self.enqueue(id.0, class, now);
    }

    /// Returns a flow whose time is up; it must then be removed or renewed. `looks` is how many flows may be looked at and is lowered by
    /// those that were, so that a caller who asks again stays within its bound.
    pub fn expired(&mut self, now: Micros, looks: &mut usize) -> Option<FlowId> {
        for class in Class::ALL {
            while let Some((first, slot)) = self.first(class) {
                if slot.link.look_at > now {
                    break;
                }
                *looks = looks.checked_sub(1)?;
                if now.since(slot.flow.last_seen) >= self.queue(class).timeout {
                    return Some(FlowId(first));
                }
                self.dequeue(first, class);
                self.enqueue(first, class, now);
            }
        }
        None
    }

    /// Returns a flow to give up for the sake of a new one; it must then be removed. First go those that nobody has, then those whose
    /// owner is looked for, closing ones, and idle ones: backends are asked for any of them when its client goes on.
    pub fn evict(&mut self, now: Micros) -> Option<FlowId> {
        [
            (Class::Unclaimed, Micros(0)),
            (Class::Asking, Micros(0)),
            (Class::Closing, EVICTION_QUIET),
            (Class::Established, EVICTION_IDLE),
            (Class::Unconfirmed, EVICTION_IDLE),
        ]
        .into_iter()
        .find_map(|(class, quiet)| self.evict_from(class, quiet, now))
    }

    fn evict_from(&mut self, class: Class, quiet: Micros, now: Micros) -> Option<FlowId> {
        let Queue { first: mut at, timeout, .. } = *self.queue(class);
        for _ in 0..EVICTION_LOOKS_MAX {
            let slot = self.slot(at)?;
            let (idle, next) = (now.since(slot.flow.last_seen), slot.link.next);
            // A flow with bytes kept for it has something left to do.
            if idle >= quiet.min(timeout) && slot.flow.hold.is_none() {
                return Some(FlowId(at));
            }
            // Going to the back puts a flow's own end off: not when its time is up.
            if idle < timeout {
                self.dequeue(at, class);
                self.enqueue(at, class, now);
            }
            at = next;
        }
        None
    }

    /// Lists the flows, timeout by timeout, those to be looked at next first. Costs as much as there are flows taken from it,
    /// however large the table: an lcore lists them between two bursts.
    pub fn iter(&self) -> impl Iterator<Item = (&Flow, State)> {
        let in_queue = |class| {
            core::iter::successors(self.slot(self.queue(class).first), |slot| self.slot(slot.link.next))
        };
        Class::ALL.into_iter().flat_map(in_queue).map(|slot| (&slot.flow, slot.state))
    }

    fn holds(&self, slot: u32, tuple: &FourTuple) -> bool {
        holds(&self.slots, slot, tuple)
    }

    fn slot(&self, at: u32) -> Option<&Slot> {
        self.slots.get(usize_of(at))?.as_ref()
    }

    fn slot_mut(&mut self, at: u32) -> Option<&mut Slot> {
        self.slots.get_mut(usize_of(at))?.as_mut()
    }

    fn first(&self, class: Class) -> Option<(u32, &Slot)> {
        let first = self.queue(class).first;
        self.slot(first).map(|slot| (first, slot))
    }

    const fn queue(&self, class: Class) -> &Queue {
        let [asking, holding, unconfirmed, established, closing, answered, unclaimed] = &self.queues;
        match class {
            Class::Asking => asking,
            Class::Holding => holding,
            Class::Unconfirmed => unconfirmed,
            Class::Established => established,
            Class::Closing => closing,
            Class::Answered => answered,
            Class::Unclaimed => unclaimed,
        }
    }

    const fn queue_mut(&mut self, class: Class) -> &mut Queue {
        let [asking, holding, unconfirmed, established, closing, answered, unclaimed] = &mut self.queues;
        match class {
            Class::Asking => asking,
            Class::Holding => holding,
            Class::Unconfirmed => unconfirmed,
            Class::Established => established,
            Class::Closing => closing,
            Class::Answered => answered,
            Class::Unclaimed => unclaimed,
        }
    }

    fn enqueue(&mut self, at: u32, class: Class, now: Micros) {
        let queue = self.queue_mut(class);
        let link = Link { previous: queue.last, next: NIL, look_at: queue.next_look(now) };
        queue.last = at;
        if link.previous == NIL {
            queue.first = at;
        } else if let Some(before) = self.slot_mut(link.previous) {
            before.link.next = at;
        }
        if let Some(slot) = self.slot_mut(at) {
            slot.link = link;
        }
    }

    fn dequeue(&mut self, at: u32, class: Class) {
        let Some(slot) = self.slot_mut(at) else { return };
        let Link { previous, next, .. } = core::mem::replace(&mut slot.link, Link::LOOSE);
        match self.slot_mut(previous) {
            Some(before) => before.link.next = next,
            None => self.queue_mut(class).first = next,
        }
        match self.slot_mut(next) {
            Some(behind) => behind.link.previous = previous,
            None => self.queue_mut(class).last = previous,
        }
    }
}

fn holds(slots: &[Option<Slot>], slot: u32, tuple: &FourTuple) -> bool {
    slots.get(usize_of(slot)).and_then(Option::as_ref).is_some_and(|slot| slot.flow.tuple == *tuple)
}

/// Widens a slot number; a `usize` has at least 32 bits wherever DPDK runs.
fn usize_of(slot: u32) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}
