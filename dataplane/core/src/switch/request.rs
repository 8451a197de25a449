//! From the first data to the handoff: reading the head, holding it while it is unfinished, choosing a backend.

use handoff_proto::{Generation, Negotiated};

use crate::flow::{ATTEMPTS_MAX, Base, Event as Life, Flow, FlowId, RefusedBy, State};
use crate::frame::Frame;
use crate::http::{self, Head, Parsed};
use crate::ids::{BackendIndex, PoolIndex, VipIndex};
use crate::metrics::{DropReason, Event};
use crate::policy::Request;
use crate::switch::hold::Unfit;
use crate::switch::{Arrival, HEAD_BYTES_MAX, Outbox, Switch};
use crate::verdict::Verdict;

/// What a head says, once it is whole.
enum Decision {
    /// It goes to this pool.
    Dispatch(PoolIndex),
    /// More bytes are needed.
    Wait,
    /// It cannot be served.
    Refuse(DropReason),
}

impl Switch {
    /// Takes the first data of a connection whose cookie holds. Its checksum is verified.
    pub(super) fn first_data(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        negotiated: Negotiated,
        previous: Option<Generation>,
    ) -> Result<Verdict, DropReason> {
        let segment = &arrival.segment;
        let stamps = segment.timestamps;
        let flow = Flow {
            tuple: segment.tuple,
            backend: BackendIndex::default(),
            pool: PoolIndex(0),
            generation: Generation::next(previous, arrival.now),
            base: Base {
                negotiated,
                seq: segment.seq,
                ack: segment.ack,
                tsval: stamps.map_or(0, |stamps| stamps.value),
                tsecr: stamps.map_or(0, |stamps| stamps.echo),
            },
            hold: None,
            sent_until: segment.end(),
            client_mac: arrival.client_mac,
            reopened: None,
            refused_by: RefusedBy::default(),
            created: arrival.now,
            last_seen: arrival.now,
        };
        match self.decide_by_head(arrival.vip, segment.payload(frame.bytes())) {
            Decision::Refuse(reason) => self.refuse(frame, arrival, reason),
            Decision::Wait if segment.flags.fin => self.refuse(frame, arrival, DropReason::RequestMalformed),
            Decision::Wait => self.begin_hold(frame, arrival, flow),
            Decision::Dispatch(pool) => {
                let Some(backend) = self.choose(pool, &flow.refused_by) else {
                    return self.refuse(frame, arrival, DropReason::NoBackend);
                };
                let flow = Flow { pool, backend, ..flow };
                let Some(id) = self.insert(flow, State::Unconfirmed, arrival) else {
                    return self.refuse(frame, arrival, DropReason::TableFull);
                };
                self.counters.count(Event::Handoffs);
                if segment.flags.fin {
                    self.live(id, Life::Finish, arrival.now);
                }
                self.send_on(frame, arrival, id)
            }
        }
    }

    /// Takes another segment of a connection whose head is unfinished.
    pub(super) fn more_data(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let segment = &arrival.segment;
        arrival.verify(frame)?;
        let flow = self.flows.get_mut(id).ok_or(DropReason::UnknownFlow)?;
        let hold = flow.hold.ok_or(DropReason::UnknownFlow)?;
        let next = self.holds.next(hold).ok_or(DropReason::UnknownFlow)?;
        if segment.flags.rst {
            if segment.seq == next {
                self.forget(id);
            } else {
                self.counters.count(Event::FinUnbelieved);
            }
            return Ok(Verdict::Absorb);
        }
        // There is nothing yet but our SYN-ACK to acknowledge. The backend's kernel drops what acknowledges anything else:
        // taken into the head here, it would be parsed by the switch and never read by the server.
        if segment.ack != flow.base.ack {
            return Err(DropReason::UnknownFlow);
        }
        if segment.seq.after(next) {
            return Err(DropReason::HoldGap);
        }
        // A repeated segment may have grown: what is unacknowledged, a client puts together anew.
        let data_end = segment.seq.add(segment.payload_bytes);
        let is_old = segment.payload_bytes > 0 && data_end == next && !segment.flags.fin;
        if is_old || data_end.before(next) || segment.seq.before(flow.base.seq) {
            return Err(DropReason::HoldRepeat);
        }
        // The time for a head runs from its first byte: what comes of it piece by piece buys no more.
        flow.sent_until = segment.end();
        if segment.payload_bytes == 0 && !segment.flags.fin {
            return Ok(Verdict::Absorb);
        }
        if let Err(unfit) = self.holds.append(hold, segment.seq, frame.bytes(), segment.payload_at) {
            return self.give_up(frame, arrival, id, unfit.into());
        }
        match self.decide_by_head(arrival.vip, self.holds.payload(hold)) {
            Decision::Refuse(reason) => self.give_up(frame, arrival, id, reason),
            Decision::Wait if segment.flags.fin => {
                self.give_up(frame, arrival, id, DropReason::RequestMalformed)
            }
            Decision::Wait => {
                self.counters.count(Event::HeadsHeld);
                Ok(Verdict::Absorb)
            }
            Decision::Dispatch(pool) => self.finish_hold(frame, arrival, id, pool, out),
        }
    }

    fn begin_hold(
        &mut self,
        frame: &Frame<'_>,
        arrival: &Arrival,
        flow: Flow,
    ) -> Result<Verdict, DropReason> {
        let segment = &arrival.segment;
        let hold = self.holds.acquire(segment.seq).ok_or(DropReason::HoldsFull)?;
        if let Err(unfit) = self.holds.append(hold, segment.seq, frame.bytes(), segment.payload_at) {
            self.holds.release(hold);
            return Err(unfit.into());
        }
        if self.insert(Flow { hold: Some(hold), ..flow }, State::Holding, arrival).is_none() {
            self.holds.release(hold);
            return Err(DropReason::TableFull); // the client retransmits; there may be room by then
        }
        self.counters.count(Event::HeadsHeld);
        Ok(Verdict::Absorb)
    }

    /// Hands off a connection whose head is now whole: the segments held, in order, then the one in `frame`.
    fn finish_hold(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
        pool: PoolIndex,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let Some(backend) = self.choose(pool, &RefusedBy::default()) else {
            return self.give_up(frame, arrival, id, DropReason::NoBackend);
        };
        let flow = self.flows.get_mut(id).ok_or(DropReason::UnknownFlow)?;
        flow.pool = pool;
        flow.backend = backend;
        flow.last_seen = arrival.now;
        let hold = flow.hold.take().ok_or(DropReason::UnknownFlow)?;
        self.live(id, Life::Dispatch, arrival.now);
        if arrival.segment.flags.fin {
            self.live(id, Life::Finish, arrival.now);
        }
        self.counters.count(Event::Handoffs);
        self.send_held(id, hold, arrival.now, out);
        self.holds.release(hold);
        self.send_on(frame, arrival, id)
    }

    /// Ends a held connection: its client is reset because of `reason`.
    fn give_up(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
        reason: DropReason,
    ) -> Result<Verdict, DropReason> {
        self.forget(id);
        self.refuse(frame, arrival, reason)
    }

    fn decide_by_head(&self, vip: VipIndex, bytes: &[u8]) -> Decision {
        match http::parse(bytes) {
            Parsed::Complete(Head { bytes, .. }) if bytes > HEAD_BYTES_MAX => {
                Decision::Refuse(DropReason::HeadTooLarge)
            }
            Parsed::Complete(Head { host, path, .. }) => {
                match self.snapshot.rules.pool_for(&Request { vip, host, path }) {
                    Some(pool) => Decision::Dispatch(pool),
                    None => Decision::Refuse(DropReason::NoRule),
                }
            }
            Parsed::Partial => Decision::Wait,
            Parsed::TooManyFields => Decision::Refuse(DropReason::HeadTooLarge),
            Parsed::Malformed => Decision::Refuse(DropReason::RequestMalformed),
        }
    }

    /// Chooses a backend of the pool that may get a new connection, can be reached and has not refused this one.
    pub(super) fn choose(&mut self, pool: PoolIndex, refused_by: &RefusedBy) -> Option<BackendIndex> {
        let Self { snapshot, cursors, neighbors, paths, .. } = self;
        let position = usize::from(pool.0);
        let cursor = cursors.get_mut(position)?;
        cursor.choose(snapshot.pools.get(position)?, |member| {
            let at = usize::from(member.0);
            snapshot.backends.get(at).is_some_and(|backend| backend.usable)
                && !refused_by.contains(member)
                && paths.get(at).is_some_and(|path| neighbors.mac(path.hop).is_some())
        })
    }

    /// Adds a flow, at the expense of a quiet closing one if the table is full; `None` if that does not help.
    fn insert(&mut self, flow: Flow, state: State, arrival: &Arrival) -> Option<FlowId> {
        if let Ok(id) = self.flows.insert(flow, state) {
            return Some(id);
        }
        let quiet = self.flows.evict(arrival.now)?;
        self.forget(quiet);
        self.counters.count(Event::FlowsEvicted);
        self.flows.insert(flow, state).ok()
    }

    /// Removes a flow and what belongs to it.
    pub(super) fn forget(&mut self, id: FlowId) -> Option<Flow> {
        let flow = self.flows.remove(id)?;
        if let Some(hold) = flow.hold {
            self.holds.release(hold);
        }
        Some(flow)
    }
}

impl From<Unfit> for DropReason {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::TooLarge => Self::HeadTooLarge,
            Unfit::Differs => Self::RequestMalformed,
        }
    }
}

const _: () = assert!(ATTEMPTS_MAX > 1, "a refused handoff is offered to another backend at least once");
